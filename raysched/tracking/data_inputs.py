"""The data sets of a run, as MLflow names them: where they are from, what they held, and what they were for. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from raysched.study.identity import Content, Resolved
from raysched.study.model import MAIN, Study
from raysched.tracking.rows import mask

DIGEST = 36
"""Characters of a digest that MLflow takes: of a SHA-256 the first ones, of a commit all but four."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInput:
    """`digest` is the content's revision, `source` JSON of the kind `source_type`, `context` train, dev or test."""

    name: str
    digest: str
    source_type: str
    source: str
    context: str


def data_inputs(study: Study, resolved: Resolved) -> list[DataInput]:
    """Training data, source dev, and the rows of every test set: once where all its languages are of one content."""
    return list(_inputs(study, resolved))


def _inputs(study: Study, resolved: Resolved) -> Iterator[DataInput]:
    yield _input(resolved.train, "train")
    yield _input(resolved.dev, "dev")
    for name, test_set in study.test_sets.items():
        contents = resolved.tests(name)
        context = "test" if name == MAIN else f"test/{name}"
        if len({content.revision for content in contents.values()}) == 1:
            yield _input(next(iter(contents.values())), context)
            continue
        for language in test_set.languages:
            yield _input(contents[language], context, language)


def _input(content: Content, context: str, language: str = "") -> DataInput:
    where = mask(content.where)
    source: dict[str, str] = {"uri": where, "revision": content.revision}
    kind = "local" if content.path is not None else "raysched"
    if content.path is None and _REPOSITORY.fullmatch(content.where):
        kind, source = "hugging_face", {"path": where, "revision": content.revision}
    named = where.replace("{language}", language) if language else where
    return DataInput(
        name=" ".join(filter(None, (named, context, language if named == where else ""))),
        digest=content.revision[:DIGEST],
        source_type=kind,
        source=json.dumps(source),
        context=context,
    )
