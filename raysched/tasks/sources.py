"""Where rows come from: the mini world, local files, or data sets of the hub, in the form that the study's task reads.

A value of `data.train`, `data.dev` or `data.test` is `mini`, a local file (it starts with `./`, `../`, `/` or `~`, or
ends in one of `forms.SUFFIXES`; `data.test` holds `{language}`), or a hub name `owner/name`. With `data.folder`, hub
names are looked up among the published files below that folder, and the hub is never asked.

Published data are taken as they are: `copa` tells of a defect of XCOPA that is kept, `inference` of the rows of
MultiNLI that have no label and are left out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysched import hub
from raysched.errors import DamageError, MissingError, StudyError
from raysched.study.identity import Content, digest
from raysched.study.model import MAIN, Study
from raysched.tasks import copa, forms, hosted, local
from raysched.tasks.forms import Form
from raysched.tasks.local import Role
from raysched.tasks.stored import Row

MINI = "mini"
MINI_ROWS: Mapping[Role, int] = MappingProxyType({"train": 6000, "dev": 400, "test": 400})
logger = logging.getLogger(__name__)
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
    source, find = study.model.source_language, _finder(study, known)
    train, dev = find(study.data.train, "train", source), find(study.data.dev, "dev", source)
    tests = _tests(study, find)
    if check:
        _check(study, train, "train", source)
        _check(study, dev, "dev", source)
        _check_tests(study, tests)
    return Sources(train=train, dev=dev, tests=tests)


def resolve_tests(study: Study, *, known: Iterable[Content] = ()) -> dict[str, dict[str, Content]]:
    """The test sets alone, by name and language: what scoring a saved adapter needs. Raises as `resolve` does."""
    tests = _tests(study, _finder(study, known))
    _check_tests(study, tests)
    return tests


Find = Callable[[str, Role, str], Content]


def _finder(study: Study, known: Iterable[Content]) -> Find:
    form, asked = forms.form_of(study.task), hosted.Asked()
    pinned = {content.where: content for content in known if content.path is None and content.where != MINI}
    return lambda value, role, language: _content(study, form, value, role, language, asked, pinned)


def _tests(study: Study, find: Find) -> dict[str, dict[str, Content]]:
    return {
        name: {language: _test(name, test_set.test, language, find) for language in test_set.languages}
        for name, test_set in study.test_sets.items()
    }


def _test(name: str, value: str, language: str, find: Find) -> Content:
    """One language of a test set; what is wrong with one of `evaluation.also` is told under its own keys."""
    try:
        return find(value, "test", language)
    except (StudyError, MissingError) as error:
        if name == MAIN:
            raise
        section = f"evaluation.also.{name}"
        keys = {"data.test": f"{section}.test", "evaluation.languages": f"{section}.languages"}
        raise type(error)(
            error.what,
            key=keys.get(error.key or "", error.key),
            choices=error.choices,
            hint=error.hint and error.hint.replace("data.test", keys["data.test"]),
        ) from error


def _check(study: Study, content: Content, role: Role, language: str) -> None:
    """Reads what lies here and now; what the hub has is looked at when it was fetched."""
    if content.path is None and not (content.where == MINI and role == "train"):
        return
    found, dropped = _all_rows(content, forms.form_of(study.task), role, language)
    _cut(found, study, role, SUBSET_SEED)
    if dropped:
        logger.warning("%s: %d rows without a majority label are left out", content.path, dropped)


def _check_tests(study: Study, tests: dict[str, dict[str, Content]]) -> None:
    for test in tests.values():
        for language, content in test.items():
            _check(study, content, "test", language)


def notes(study: Study) -> list[str]:
    """What a report must say of the published data of a study."""
    found = (copa.note(one.languages) for one in study.test_sets.values() if one.test == copa.XCOPA)
    return [note for note in found if note is not None]


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
    found, _ = _all_rows(content, forms.form_of(study.task), role, language)
    return _cut(found, study, role, seed_for_subset)[:limit]


def identity(
    content: Content, study: Study, role: Role, language: str, *, seed_for_subset: int = SUBSET_SEED
) -> dict[str, Any]:
    """All that decides what `rows` gives: part of the key of cached features."""
    cut: dict[str, Any] = {"limit": study.evaluation.dev_limit if role == "dev" else study.evaluation.test_limit}
    if role == "train":
        cut = {"n": study.data.train_examples, "subset": study.data.subset, "seed": seed_for_subset}
    return {"revision": content.revision, "role": role, "language": language, **cut}


def _cut(found: list[Row], study: Study, role: Role, seed: int) -> list[Row]:
    if role != "train":
        return found[: study.evaluation.dev_limit if role == "dev" else study.evaluation.test_limit]
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
    study: Study,
    form: Form,
    value: str,
    role: Role,
    language: str,
    asked: hosted.Asked,
    pinned: Mapping[str, Content],
) -> Content:
    if value == MINI:
        return _mini(form, role, language)
    if local.is_local(value):
        return local.named(value, role, language)
    if not hub.REPOSITORY.fullmatch(value):
        raise StudyError(
            f"must name data, but got {value!r}",
            key=f"data.{role}",
            choices=["mini", "owner/name on the hub", *(f"./file{suffix}" for suffix in forms.SUFFIXES)],
        )
    known = local.PUBLISHED.get(value)
    if known is not None and known.form != form.name:
        raise forms.mismatch(form, known.form, f"{value}, {forms.FORMS[known.form].described}", key=f"data.{role}")
    if role == "test" and language != local.TESTED_ON_DEV.get(value, language):
        raise local.no_language(value, language, role, [local.TESTED_ON_DEV[value]])
    if study.data.folder is not None:
        return local.published(study.data.folder, value, role, language, form)
    if value in pinned:
        return pinned[value]
    return hosted.resolve(value, role, language, asked)


def _all_rows(content: Content, form: Form, role: Role, language: str) -> tuple[list[Row], int]:
    """All rows of one input that have a label, and how many of a local file have none."""
    if content.where == MINI:
        return _mini_rows(form, role, language), 0
    if content.path is None:
        return hosted.rows(content, form, role, language), 0
    found = forms.read(Path(content.path), form, language)
    if found.sha256 != content.revision:
        raise DamageError(
            f"the file has changed: SHA-256 {found.sha256[:12]}…, but {content.revision[:12]}… "
            "when the sweep was opened",
            key=content.path,
            hint="restore the file, or start another sweep with --name",
        )
    return found.rows, found.dropped


def _mini(form: Form, role: Role, language: str) -> Content:
    from raysched.mini import world

    if language not in world.LANGUAGES:
        raise local.no_language("the mini world", language, role, world.LANGUAGES)
    return Content(where=MINI, revision=digest(_mini_rows(form, role, language), length=64))


def _mini_rows(form: Form, role: Role, language: str) -> list[Row]:
    from raysched.mini import world

    tell = {"qa": world.qa_rows, "choice": world.choice_rows, "nli": world.nli_rows}[form.name]
    return forms.published_rows(tell(language, role, MINI_ROWS[role]), form, f"mini {role} {language}")[0]
