"""The forms that rows of data have, one per kind of task, and how a file, a hub data set and the mini world give them.

| form | row | published as |
|---|---|---|
| `qa` | `tasks.squad` | SQuAD, XQuAD, MLQA |
| `choice` | `tasks.copa` | COPA, XCOPA |
| `nli` | `tasks.inference` | MultiNLI, XNLI |

A task says which one it reads (`Task.form`). A file is read by what stands in it, not by its name; one that is
recognised as another form is refused with the name of the task that reads it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from raysched.errors import StudyError
from raysched.study import plugins
from raysched.tasks import copa, inference, squad, stored
from raysched.tasks.stored import Row

SUFFIXES = tuple(kind + packed for kind in (".json", ".jsonl", ".tsv", ".csv", ".txt") for packed in ("", ".gz"))
"""How the names of data files end."""
OPENING = 65_536
"""Bytes of a file that are enough to recognise it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of rows."""

    name: str
    described: str
    parse: Callable[[bytes, Path, str], Iterator[Row | None]]
    """Checked rows of a file's content in one language; None for a row that is left out."""
    row: Callable[[Mapping[str, Any], int, object, str], Row | None]
    """The same for one row by its published columns: its number from 0, its source and its place are for errors."""


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "qa": Form(name="qa", described="SQuAD JSON", parse=squad.parse, row=squad.row),
        "choice": Form(name="choice", described="COPA JSON lines", parse=copa.parse, row=copa.row),
        "nli": Form(
            name="nli", described="XNLI or MultiNLI (TSV, CSV, JSON lines)", parse=inference.parse, row=inference.row
        ),
    }
)
SIGNS: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("qa", "SQuAD JSON", frozenset({"paragraphs"})),
    ("qa", "rows of SQuAD", frozenset({"context", "answers"})),
    ("choice", "rows of COPA", frozenset({"choice1", "choice2"})),
    ("nli", "rows of MultiNLI", frozenset({"sentence1", "sentence2"})),
    ("nli", "rows of XNLI", frozenset({"premise", "hypothesis"})),
)
"""Form, its data in words, and the names of columns or keys that give it away."""
COLUMNS = frozenset(
    {"id", "context", "question", "answers", "premise", "choice1", "choice2", "idx", "hypothesis", "label"}
    | {"sentence1", "sentence2", "gold_label"}
)
"""Columns of a hub data set that any form reads."""


class Read(NamedTuple):
    """What was read: the rows in order, the hex SHA-256 of the file's bytes, how many rows were left out."""

    rows: list[Row]
    sha256: str
    dropped: int


def form_of(task: str) -> Form:
    """The form of a task's rows, by the name of the task. Raises `StudyError` where a plug-in's is unknown."""
    name = task if task in FORMS else str(getattr(plugins.load("task", task), "form", None))
    if name not in FORMS:
        raise StudyError(f"task {task!r} has form {name!r}", key="task", choices=FORMS, hint="correct the plug-in")
    return FORMS[name]


def read(path: Path, form: Form, language: str) -> Read:
    """The checked rows of a file in one language, from one reading of it.

    Raises `MissingError` where it cannot be read, and `StudyError` where it is malformed or of another form.
    """
    file = stored.read(path)
    content = stored.unpacked(file, path)
    other = recognised(_names(content[:OPENING]))
    if other is not None and other[0] != form.name:
        raise mismatch(form, *other, key=str(path))
    rows, dropped = checked(form.parse(content, path, language), path)
    return Read(rows, hashlib.sha256(file).hexdigest(), dropped)


def checked(rows: Iterable[Row | None], source: object) -> tuple[list[Row], int]:
    """The rows that are not left out, once every id is new, and the number of those that are."""
    kept: list[Row] = []
    seen: set[str] = set()
    dropped = 0
    for row in rows:
        if row is None:
            dropped += 1
            continue
        if row["id"] in seen:
            raise StudyError(f"id {row['id']!r} occurs twice", key=str(source), hint="give every row an id of its own")
        seen.add(row["id"])
        kept.append(row)
    if not kept:
        why = f"holds no row with a label: all {dropped} are marked as without one" if dropped else "holds no row"
        raise StudyError(why, key=str(source))
    return kept, dropped


def published_rows(found: Iterable[Mapping[str, Any]], form: Form, source: str) -> tuple[list[Row], int]:
    """As `checked`, of rows by their published columns: those of the hub and of the mini world."""

    def rows() -> Iterator[Row | None]:
        for number, value in enumerate(found):
            other = recognised(value) if number == 0 else None
            if other is not None and other[0] != form.name:
                raise mismatch(form, *other, key=source)
            yield form.row(value, number, source, f"row {number}")

    return checked(rows(), source)


def recognised(names: Collection[str]) -> tuple[str, str] | None:
    """The form that columns or keys of these names give away, and its data in words."""
    return next(((form, words) for form, words, signs in SIGNS if signs <= set(names)), None)


def mismatch(form: Form, other: str, words: str, key: str) -> StudyError:
    return StudyError(
        f"looks like {words}, which task {other} reads, but this study's task reads {form.described}",
        key=key,
        hint=f"set task: {other}, or name data of the right form",
    )


def _names(opening: bytes) -> set[str]:
    """Names of columns or keys in the first bytes of a file; those that a table without a header is read with."""
    text = opening.decode(errors="replace").removeprefix("\ufeff").lstrip()
    if text.startswith(("{", "[")):
        return set(re.findall(r'"(\w+)"\s*:', text))
    cells = text.split("\n", 1)[0].rstrip("\r").split("\t")
    if len(cells) == len(inference.BARE) and cells[2] in inference.LABELS:
        return set(inference.BARE)
    return set(cells if len(cells) > 1 else cells[0].split(","))
