"""Multiple-choice data in the form of COPA (Roemmele et al. 2011) and XCOPA (Ponti et al. 2020): JSON lines.

A row is `{"id", "premise", "choices": [first, second], "question": "cause" | "effect", "label": 0 | 1}`; its id is the
published `idx`, or where there is none the number of the row, from 0.

The `question` of XCOPA is wrong, as published, in the rows that `DEFECTS` counts: it differs from that of English COPA,
of which each row is a translation. The labels are right. The question is part of the prompt, hence of the score, so it
is kept as it is published: never repaired. `note` says so for a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysched.errors import StudyError
from raysched.tasks import stored
from raysched.tasks.stored import Row

XCOPA = "cambridgeltl/xcopa"
QUESTIONS = ("cause", "effect")
DEFECTS: Mapping[str, int] = MappingProxyType({"id": 4, "it": 4, "sw": 37, "th": 250, "tr": 51})
"""Language -> how many of XCOPA's 500 test rows have another `question` than English COPA."""


def parse(content: bytes, path: Path, language: str) -> Iterator[Row]:
    """Checked rows of a file, in order; a file holds one language."""
    for number, (line, value) in enumerate(stored.json_lines(content, path)):
        yield row(value, number, path, f"line {line}")


def row(value: Mapping[str, Any], number: int, source: object, place: str) -> Row:
    """The checked row of a published one, `number` from 0. Raises `StudyError`; its other columns are left out."""
    question, label = value.get("question"), value.get("label")
    if question not in QUESTIONS:
        raise StudyError(f"{place}: question is {question!r}", key=str(source), choices=QUESTIONS)
    if type(label) is not int or label not in (0, 1):
        raise StudyError(
            f"{place}: label is {label!r}",
            key=str(source),
            choices=(0, 1),
            hint="0: choice1 is right, 1: choice2; -1 marks a hidden label, take a split that has them",
        )
    return {
        "id": str(value.get("idx", number)),
        "premise": _text(value, "premise", source, place),
        "choices": [_text(value, name, source, place) for name in ("choice1", "choice2")],
        "question": question,
        "label": label,
    }


def note(languages: Iterable[str]) -> str | None:
    """What a report on XCOPA must say of the tested languages; None where their questions are right."""
    wrong = [f"{language} {DEFECTS[language]}" for language in languages if language in DEFECTS]
    if not wrong:
        return None
    return (
        "XCOPA's `question` differs from English COPA's, as published and kept here, in so many of 500 test rows: "
        f"{', '.join(wrong)}"
    )


def _text(value: Mapping[str, Any], name: str, source: object, place: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found.strip():
        wrong = "is empty" if isinstance(found, str) else f"is {found!r}" if name in value else "is missing"
        raise StudyError(f"{place}: {name} {wrong}, but must be text", key=str(source))
    return found
