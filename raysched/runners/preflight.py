"""Preflight: every input of a study found, pinned and hashed once, before Ray starts and before anything is written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raysched import hub, mini
from raysched.errors import MissingError, StudyError
from raysched.mini.languages import LANGUAGES as MINI_LANGUAGES
from raysched.records import files
from raysched.runners.adapter_origin import check_origin
from raysched.study.identity import Content, Resolved
from raysched.study.inputs import LanguageAdapterConfig, Model, TaskAdapter
from raysched.study.model import MAIN, Study
from raysched.study.space import points
from raysched.study.values import form
from raysched.tasks import sources
from raysched.tasks.local import Role
from raysched.training.schedules import schedule_config

MIN_FREE_BYTES = 200 * 1024**2
SPECIAL_TOKENS = 4
"""Of a pair of texts, as XLM-R has them."""
UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Environment variable that makes torch run whatever code a file holds."""
WAYS = "give a folder, a hub name owner/name, or mini"


def resolve(study: Study, *, device: str, known: Resolved | None = None) -> Resolved:
    """Pin every input of `study`; the hub is asked here and nowhere later.

    With `known` (what the ledger holds of an earlier start) hub revisions are taken from there, so a sweep never
    changes its inputs half-way; local files are hashed again.

    Raises:
        MissingError: a file, a hub repository or the hub itself is not there.
        StudyError: a file is not what it should be, or torch is told to trust every file.
    """
    refuse_unsafe_loading()
    data = sources.resolve(study, known=_data_of(known))
    return Resolved(
        train=data.train,
        dev=data.dev,
        test=data.tests.pop(MAIN),
        also=data.tests,
        backbone=backbone(study.model.backbone, known.backbone if known else None),
        language_adapters=_language_adapters(study, known),
        replay=_replay(study),
        device="cuda" if device == "cuda" else "cpu",
    )


def resolve_tests(study: Study, *, device: str, known: Resolved | None = None, full: Path | None = None) -> Resolved:
    """What scoring a saved adapter needs, pinned: no training data. `full` holds a backbone that was trained itself.

    Raises as `resolve` does.
    """
    refuse_unsafe_loading()
    tests = sources.resolve_tests(study, known=_data_of(known))
    nothing = Content(where="not looked at", revision="")
    return Resolved(
        train=nothing,
        dev=nothing,
        test=tests.pop(MAIN),
        also=tests,
        backbone=_folder(str(full), full, "ADAPTER")
        if full is not None
        else backbone(study.model.backbone, known.backbone if known else None),
        language_adapters={} if full is not None else _language_adapters(study, known),
        device="cuda" if device == "cuda" else "cpu",
    )


def _data_of(known: Resolved | None) -> list[Content]:
    """Every data set that was resolved before."""
    if known is None:
        return []
    tests = [content for name in (MAIN, *known.also) for content in known.tests(name).values()]
    return [known.train, known.dev, *tests]


def _language_adapters(study: Study, known: Resolved | None) -> dict[str, Content]:
    before = known.language_adapters if known is not None else {}
    languages = study.languages if study.uses_adapters else ()
    return {language: _language_adapter(study.model, language, before.get(language)) for language in languages}


def fetch(resolved: Resolved, study: Study) -> None:
    """Download what lies on the hub, so that no worker ever needs the network.

    Raises:
        MissingError: the hub does not give it.
        StudyError: downloaded rows are not what they should be.
    """
    for content in (resolved.backbone, *resolved.language_adapters.values()):
        hub.local_folder(content)
    check_fit(resolved, study)
    source = study.model.source_language
    inputs: list[tuple[Content, Role, str]] = [(resolved.train, "train", source), (resolved.dev, "dev", source)]
    tests = [resolved.tests(name) for name in study.test_sets]
    inputs += [(content, "test", language) for one in tests for language, content in one.items()]
    for content, role, language in inputs:
        if _on_hub(content):
            sources.rows(content, study, role, language)


def check_fit(resolved: Resolved, study: Study) -> None:
    """Refuse now what would fail in every run: settings that do not fit the backbone or the language adapters.

    Raises:
        MissingError: the backbone's or an adapter's configuration is not there.
        StudyError: an order (given, published or recorded) or surgical layers of another number of layers, a task
            adapter that does not fit the width, windows that are too long or leave no room for a question, language
            adapters that are not what the study says or were trained on another backbone.
    """
    folder = hub.local_folder(resolved.backbone)
    try:
        config = json.loads((folder / "config.json").read_text())
        n_layers, hidden = int(config["num_hidden_layers"]), int(config["hidden_size"])
        positions = int(config["max_position_embeddings"])
    except FileNotFoundError as error:
        raise MissingError(f"no config.json in the backbone's folder {folder}", key="model.backbone") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{folder}/config.json is not that of an encoder: {error}", key="model.backbone") from error
    for point in points(study.search):
        schedule_config(study, resolved, point, n_layers, seed=0, total=1)
    if study.uses_adapters:
        _check_task_adapter(study.model.task_adapter, hidden)
    data = study.data
    if str(config.get("model_type", "")).endswith("roberta"):  # counts positions from the padding id on
        positions -= int(config.get("pad_token_id") or 0) + 1
    if data.max_length > positions:
        raise StudyError(
            f"must be at most the {positions} positions of the backbone, but got {data.max_length}",
            key="data.max_length",
            hint=f"--set data.max_length={positions}",
        )
    if form(study.task) == "qa" and data.max_length - data.doc_stride < SPECIAL_TOKENS + 2:
        raise StudyError(
            f"must leave room for a question beside max_length={data.max_length}, but got {data.doc_stride}",
            key="data.doc_stride",
            hint="a third of data.max_length is customary",
        )
    _check_language_adapters(resolved, study, config)


def _check_task_adapter(adapter: TaskAdapter, hidden: int) -> None:
    name = "rank" if adapter.kind == "lora" else "reduction"
    if getattr(adapter, name) > hidden:
        raise StudyError(
            f"must be at most the backbone's hidden size {hidden}, but got {getattr(adapter, name)}",
            key=f"model.task_adapter.{name}",
            hint={
                "rank": "8 is customary; larger values make a larger adapter",
                "reduction": "16 is the paper's; smaller values make a larger adapter",
            }[name],
        )


def _check_language_adapters(resolved: Resolved, study: Study, backbone: Mapping[str, Any]) -> None:
    expected = study.model.language_adapter_config
    shipped = {study.model.backbone, study.model.language_adapters, *study.model.language_adapter_overrides.values()}
    if shipped == {"mini"} and expected == LanguageAdapterConfig():
        return  # they are what they are: no need for the seconds that the import below takes
    from raysched.madx import check_language_adapter

    for language, content in resolved.language_adapters.items():
        folder = hub.local_folder(content)
        check_language_adapter(language, folder, expected, backbone)
        check_origin(language, folder, resolved.backbone, _adapter(study.model, language)[1])


def _on_hub(content: Content) -> bool:
    return content.path is None and content.where != "mini"


def backbone(where: str, known: Content | None, key: str = "model.backbone") -> Content:
    """What `mini`, a folder or a hub name means now; a hub name keeps the commit of `known`. `key` is for errors.

    Raises:
        MissingError: there is no such folder, or the hub does not have it or cannot be reached.
    """
    if where == "mini":
        return _folder(where, mini.backbone_path(), key)
    return _model(where, key, known)


def _language_adapter(model: Model, language: str, known: Content | None) -> Content:
    """Raises MissingError, with the command that trains one, where the language has no adapter."""
    where, key = _adapter(model, language)
    try:
        if where == "mini":
            return _mini_adapter(language, key)
        return _model(where.replace("{language}", language), key, known)
    except (MissingError, StudyError) as error:
        hint = f"{error.hint}; {_training(model, language)}"
        raise type(error)(error.what, key=error.key, choices=error.choices, hint=hint) from error


def _adapter(model: Model, language: str) -> tuple[str, str]:
    """What the study says of a language's adapter, and the key that says it."""
    if language in model.language_adapter_overrides:
        return model.language_adapter_overrides[language], f"model.language_adapter_overrides.{language}"
    return model.language_adapters, "model.language_adapters"


def _mini_adapter(language: str, key: str) -> Content:
    if language not in MINI_LANGUAGES:
        raise StudyError(f"the mini world has no adapter for {language!r}", key=key, choices=MINI_LANGUAGES, hint=WAYS)
    return _folder(f"mini:{language}", mini.adapter_path(language), key)


def _training(model: Model, language: str) -> str:
    """How to come by a language adapter that nobody has published."""
    folder = f"./adapters/{language}"
    return (
        f"where {language} has no adapter, train one: raysched pretrain language --backbone {model.backbone} "
        f"--language {language} --text FILE --to ./adapters, and use it: "
        f"--set model.language_adapter_overrides.{language}={folder}"
    )


def _model(where: str, key: str, known: Content | None) -> Content:
    if where.startswith(("./", "../", "/", "~")) or Path(where).is_dir():
        return _folder(where, Path(where).expanduser(), key)
    if known is not None and known.where == where and _on_hub(known):
        return known
    try:
        return Content(where=where, revision=hub.resolve(where, "model"))
    except (MissingError, StudyError) as error:
        hint = error.hint or WAYS
        raise type(error)(error.what, key=key, choices=error.choices, hint=hint) from error


def _folder(where: str, path: Path, key: str) -> Content:
    """Content of a local folder, named by the hash of its files."""
    if not path.is_dir():
        raise MissingError(f"there is no folder {path}", key=key, hint=WAYS)
    return Content(where=where, revision=files.sha256_tree(path), path=str(path.resolve()))


def _replay(study: Study) -> Content | None:
    if "replay" not in study.schedules or study.training.replay is None:
        return None
    path = Path(study.training.replay).expanduser()
    if not path.is_file():
        raise MissingError(f"there is no file {path}", key="training.replay")
    return Content(where=study.training.replay, revision=files.sha256_file(path), path=str(path.resolve()))


def refuse_unsafe_loading() -> None:
    """Raises StudyError where the environment turns off what keeps a file of weights from running code."""
    if os.environ.get(UNSAFE):
        raise StudyError(
            f"must not be set, but got {os.environ[UNSAFE]}: files of weights could run any code",
            key=UNSAFE,
            hint=f"unset {UNSAFE}",
        )


def check_disk(folder: Path) -> None:
    """Refuse to start where the disk is all but full.

    Raises:
        MissingError: less than `MIN_FREE_BYTES` are free.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < MIN_FREE_BYTES:
        raise MissingError(
            f"only {free / 1024**2:.0f} MiB are free on the disk of {there}; a sweep needs {MIN_FREE_BYTES >> 20} MiB",
            key="--storage",
            hint="free some space, or give another folder with --storage",
        )


@contextlib.contextmanager
def without_hub() -> Iterator[None]:
    """The hub is asked nothing, by processes that are started meanwhile neither: what they need was fetched."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
