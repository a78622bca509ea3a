"""Natural-language-inference data in the forms of XNLI (Conneau et al. 2018) and MultiNLI (Williams et al. 2018).

A row is `{"id", "premise", "hypothesis", "label"}`, where `label` is a position in `LABELS`. Its id is the number of
the row among those of its language, from 0: XNLI's copies name none, and MultiNLI's `pairID` repeats.

Forms: JSON lines; a table with a header, parted by tabs or in CSV; a table without one, of premise, hypothesis and
label, parted by tabs. Rows on which the annotators did not agree (label `-`, on the hub -1) are left out. Of a file
that names the language of each row, as the original XNLI does, the rows of one language are taken.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from raysched.errors import StudyError
from raysched.tasks import stored
from raysched.tasks.stored import Row

LABELS = ("entailment", "neutral", "contradiction")
NO_MAJORITY = ("-", -1)
WRITTEN = {str(number): number for number in (-1, *range(len(LABELS)))}
"""Labels that are positions, as text: a table holds nothing else."""
BARE = ("premise", "hypothesis", "label")
"""Columns of a table without a header."""
PREMISE, HYPOTHESIS, LABEL = ("premise", "sentence1"), ("hypothesis", "sentence2"), ("gold_label", "label")
"""Names of the three columns, ours and those of MultiNLI; of two that are there the first is taken."""


def parse(content: bytes, path: Path, language: str) -> Iterator[Row | None]:
    """Checked rows of a file in one language, in order; None for each without a majority label."""
    found = stored.json_lines(content, path) if re.match(rb"(\xef\xbb\xbf)?\s*\{", content) else _table(content, path)
    others: set[str] = set()
    number = 0
    for line, value in found:
        if value.get("language", language) != language:
            others.add(str(value["language"]))
            continue
        yield row(value, number, path, f"line {line}")
        number += 1
    if others and not number:
        raise StudyError(f"has no rows in language {language!r}", key=str(path), choices=sorted(others))


def row(value: Mapping[str, Any], number: int, source: object, place: str) -> Row | None:
    """The checked row of a published one, `number` from 0; None where it has no majority label.

    A text may be blank, since hypotheses were typed in by many hands. Raises `StudyError`.
    """
    given = _get(value, LABEL, source, place)
    if isinstance(given, str):
        given = WRITTEN.get(given, given)
    if given in NO_MAJORITY:
        return None
    if isinstance(given, str) and given in LABELS:
        label = LABELS.index(given)
    elif isinstance(given, int) and not isinstance(given, bool) and given in range(len(LABELS)):
        label = given
    else:
        raise StudyError(
            f"{place}: label is {given!r}",
            key=str(source),
            choices=[*LABELS, *range(len(LABELS)), "- (no majority, left out)"],
        )
    texts = {"premise": _get(value, PREMISE, source, place), "hypothesis": _get(value, HYPOTHESIS, source, place)}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise StudyError(f"{place}: {name} is {text!r}, but must be text", key=str(source))
    return {"id": str(number), **texts, "label": label}


def _get(value: Mapping[str, Any], names: tuple[str, ...], source: object, place: str) -> Any:
    for name in names:
        if name in value:
            return value[name]
    raise StudyError(f"{place}: has no {' or '.join(map(repr, names))}", key=str(source))


def _table(content: bytes, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and named cells of a table, with or without a header."""
    opening = io.BytesIO(content).readline()
    commas = b"\t" not in opening and any(name.encode() in opening for name in PREMISE)
    rows = stored.comma_separated(content, path) if commas else stored.tab_separated(content, path)
    first = next(rows, None)
    if first is None:
        return
    columns: tuple[str, ...] = BARE
    if any(name in first[1] for name in PREMISE):
        columns = tuple(first[1])
    else:
        rows = chain([first], rows)
    fewest = len(columns)
    while re.fullmatch(r"label\d", columns[fewest - 1]):
        fewest -= 1  # rows of MultiNLI end at the last annotator they had
    for line, cells in rows:
        if not fewest <= len(cells) <= len(columns):
            raise StudyError(
                f"line {line}: has {len(cells)} column{'s' * (len(cells) != 1)}, but must have {len(columns)}: "
                + (", " if commas else " TAB ").join(columns),
                key=str(path),
            )
        yield line, dict(zip(columns, cells, strict=False))
