"""Where rows come from: the mini world, local files, or data sets of the hub.

A value of `data.train`, `data.dev` or `data.test` is `mini`, a local file (it starts with `./`, `../`, `/` or `~`, or
ends in `.json` or `.json.gz`; `data.test` holds `{language}`), or a hub name `owner/name`. With `data.folder`, hub
names are looked up among the published files below that folder, and the hub is never asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysched import hub
from raysched.errors import DamageError, MissingError, StudyError
from raysched.study.identity import Content, digest
from raysched.study.model import Study
from raysched.tasks import local, squad
from raysched.tasks.local import Role
from raysched.tasks.squad import Row

MINI = "mini"
CONVERTED = "refs/convert/parquet"
"""Branch on which the hub keeps data sets that were uploaded in another form."""
MINI_ROWS: Mapping[Role, int] = MappingProxyType({"train": 6000, "dev": 400, "test": 400})
Parts = set[tuple[str, str]]
"""(config, split) pairs of a data set on the hub."""
Asked = dict[str, tuple[str, Parts]]
SUBSET_SEED = 20230
"""Stream of `data.subset: random`. Fixed: every seed of every study trains on the same n rows, n=1000 within n=5000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The data of a study, resolved: what `study.identity.Resolved` holds of it."""

    train: Content
    dev: Content
    tests: dict[str, dict[str, Content]]
    """By test set and language."""


def resolve(study: Study, *, check: bool = True, known: Iterable[Content] = ()) -> Sources:
    """Each input of the study with the revision or SHA-256 it has now; `known` data sets of the hub keep theirs.

    With `check`, local files are read and validated, and the number of training rows is compared with
    `data.train_examples` where that needs no download. Raises `StudyError` for malformed values and data,
    `MissingError` for what is not there.
    """
    source = study.model.source_language
    asked: Asked = {}
    pinned = {content.where: content for content in known if content.path is None and content.where != MINI}
    train = _content(study, study.data.train, "train", source, asked, pinned)
    dev = _content(study, study.data.dev, "dev", source, asked, pinned)
    tests = {
        name: {
            language: _content(study, test_set.test, "test", language, asked, pinned) for language in test_set.languages
        }
        for name, test_set in study.test_sets.items()
    }
    if check:
        if train.where == MINI or train.path is not None:
            rows(train, study, "train", source)
        if dev.path is not None:
            _all_rows(dev, "dev", source)
        for test in tests.values():
            for language, content in test.items():
                if content.path is not None:
                    _all_rows(content, "test", language)
    return Sources(train=train, dev=dev, tests=tests)


def rows(
    content: Content,
    study: Study,
    role: Role,
    language: str,
    *,
    seed_for_subset: int = SUBSET_SEED,
    limit: int | None = None,
) -> list[Row]:
    """Checked rows of one input, in data order, cut as the study says: `data.train_examples` by `data.subset` for
    `train`, the first `evaluation.dev_limit` or `evaluation.test_limit` otherwise; `limit` cuts further.

    Raises `DamageError` where a local file is no longer what was resolved.
    """
    found = _all_rows(content, role, language)
    if role == "train":
        found = _subset(found, study, seed_for_subset)
    else:
        found = found[: study.evaluation.dev_limit if role == "dev" else study.evaluation.test_limit]
    return found[:limit]


def identity(
    content: Content, study: Study, role: Role, language: str, *, seed_for_subset: int = SUBSET_SEED
) -> dict[str, Any]:
    """All that decides what `rows` gives: part of the key of cached features."""
    cut: dict[str, Any] = {"limit": study.evaluation.dev_limit if role == "dev" else study.evaluation.test_limit}
    if role == "train":
        cut = {"n": study.data.train_examples, "subset": study.data.subset, "seed": seed_for_subset}
    return {"revision": content.revision, "role": role, "language": language, **cut}


def _subset(found: list[Row], study: Study, seed: int) -> list[Row]:
    n = study.data.train_examples
    if n is None:
        return found
    if n > len(found):
        raise StudyError(
            f"train_examples must be at most the {len(found)} rows of {study.data.train}, but got {n}",
            key="data.train_examples",
            hint="leave it out to train on all rows",
        )
    if study.data.subset == "first_n":
        return found[:n]
    order = list(range(len(found)))
    random.Random(seed).shuffle(order)
    return [found[index] for index in sorted(order[:n])]


def _content(
    study: Study, value: str, role: Role, language: str, asked: Asked, pinned: Mapping[str, Content]
) -> Content:
    """`asked` remembers what the hub said: each repository is asked for once, so all its parts are of one commit."""
    if value == MINI:
        return _mini(role, language)
    if local.is_local(value):
        return local.named(value, role, language)
    if not hub.REPOSITORY.fullmatch(value):
        raise StudyError(
            f"must name data, but got {value!r}",
            key=f"data.{role}",
            choices=["mini", "owner/name on the hub", "./file.json", "./file.json.gz"],
        )
    if study.data.folder is not None:
        return local.published(study.data.folder, value, role, language)
    if value in pinned:
        return pinned[value]
    return _hub(value, role, language, asked)


def _all_rows(content: Content, role: Role, language: str) -> list[Row]:
    if content.where == MINI:
        return _mini_rows(role, language)
    if content.path is None:
        config, split = _hub_part(content.where, _parts(content.where, content.revision), role, language)
        found = hub.parquet_rows(content.where, config, split, content.revision)
        return squad.check_rows(map(_plain, found), f"{content.where} {config} {split}")
    found, sha256 = squad.read(Path(content.path))
    if sha256 != content.revision:
        raise DamageError(
            f"the file has changed: SHA-256 {sha256[:12]}…, but {content.revision[:12]}… when the sweep was opened",
            key=content.path,
            hint="restore the file, or start another sweep with --name",
        )
    return found


# The mini world


def _mini(role: Role, language: str) -> Content:
    from raysched.mini import world

    if language not in world.LANGUAGES:
        raise local.no_language("the mini world", language, role, world.LANGUAGES)
    return Content(where=MINI, revision=digest(_mini_rows(role, language), length=64))


def _mini_rows(role: Role, language: str) -> list[Row]:
    from raysched.mini import world

    return squad.check_rows(world.qa_rows(language, role, MINI_ROWS[role]), f"mini {role} {language}")


# The hub


def _hub(repo: str, role: Role, language: str, asked: Asked) -> Content:
    try:
        if repo not in asked:
            asked[repo] = _commit(repo)
        commit, parts = asked[repo]
        _hub_part(repo, parts, role, language)
    except (MissingError, StudyError) as error:
        if error.key is not None:
            raise
        raise type(error)(error.what, key=f"data.{role}", choices=error.choices, hint=error.hint) from error
    return Content(where=repo, revision=commit)


def _commit(repo: str) -> tuple[str, Parts]:
    """The commit of `main`, or of the hub's own conversion where `main` holds no Parquet files."""
    commit = hub.resolve(repo, "dataset")
    parts = _parts(repo, commit)
    if not parts:
        commit = hub.resolve(repo, "dataset", CONVERTED)
        parts = _parts(repo, commit)
    return commit, parts


def _parts(repo: str, commit: str) -> Parts:
    return set(hub.parquet_files(hub.files(repo, "dataset", commit)))


def _hub_part(repo: str, parts: Parts, role: Role, language: str) -> tuple[str, str]:
    """Config and split that play `role` in a data set of the hub."""
    configs = sorted({config for config, _ in parts})
    config = _test_config(repo, configs, language) if role == "test" else _train_config(repo, configs, role)
    for split in {"train": ("train",), "dev": ("validation", "dev"), "test": ("test", "validation")}[role]:
        if (config, split) in parts:
            return config, split
    raise StudyError(
        f"{repo} has no split for {role} in its config {config}",
        key=f"data.{role}",
        choices=sorted(split for name, split in parts if name == config),
    )


def _train_config(repo: str, configs: list[str], role: Role) -> str:
    if len(configs) == 1:
        return configs[0]
    for name in ("plain_text", "default", "data"):
        if name in configs:
            return name
    raise StudyError(f"{repo} has no single config to take {role} rows from", key=f"data.{role}", choices=configs)


def _test_config(repo: str, configs: list[str], language: str) -> str:
    name = repo.partition("/")[2]
    forms = ("{0}", f"{name}.{{0}}", f"{name}.{{0}}.{{0}}")
    for form in forms:
        if form.format(language) in configs:
            return form.format(language)
    last = {config.rpartition(".")[2] for config in configs}
    valid = sorted(one for one in last if any(form.format(one) in configs for form in forms))
    raise local.no_language(repo, language, "test", valid)


def _plain(row: dict[str, Any]) -> Row:
    """The columns of a row that the task reads."""
    try:
        answers = row["answers"]
        texts, starts = list(answers["text"]), list(answers["answer_start"])
        return {
            "id": str(row["id"]),
            "context": row["context"],
            "question": row["question"],
            "answers": {"text": texts, "answer_start": starts},
        }
    except (KeyError, TypeError) as error:
        raise StudyError(f"the data set has no column {error}; it must have those of rajpurkar/squad") from error
