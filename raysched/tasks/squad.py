"""Question-answering data in the form of SQuAD v1.1, which is also that of XQuAD and MLQA.

A row is `{"id", "context", "question", "answers": {"text": [...], "answer_start": [...]}}`; `answer_start` counts
Unicode characters of the context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raysched.errors import StudyError
from raysched.tasks import stored
from raysched.tasks.stored import Row

SHOWN = 60
"""Characters of an answer or a context that an error shows."""


def parse(content: bytes, path: Path, language: str) -> Iterator[Row]:
    """Checked questions of `data[] > paragraphs[] > qas[]`, in file order; a file holds one language."""
    for a, article in enumerate(_get(stored.json_value(content, path), "data", list, "the file", path)):
        for p, paragraph in enumerate(_get(article, "paragraphs", list, f"data[{a}]", path)):
            place = f"data[{a}].paragraphs[{p}]"
            context = _get(paragraph, "context", str, place, path)
            for q, question in enumerate(_get(paragraph, "qas", list, place, path)):
                yield _checked(_question(question, context, f"{place}.qas[{q}]", path), path)


def row(value: Mapping[str, Any], number: int, source: object, place: str) -> Row:
    """The checked row of a flat one, as the hub gives it. Raises `StudyError`; its other columns are left out."""
    try:
        answers = value["answers"]
        texts, starts = list(answers["text"]), list(answers["answer_start"])
        found = {
            "id": str(value["id"]),
            "context": value["context"],
            "question": value["question"],
            "answers": {"text": texts, "answer_start": starts},
        }
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"{place}: the data set has no column {error}; it must have those of rajpurkar/squad", key=str(source)
        ) from error
    return _checked(found, source)


def _question(question: Any, context: str, place: str, path: Path) -> Row:
    answers = _get(question, "answers", list, place, path)
    return {
        "id": _get(question, "id", str, place, path),
        "context": context,
        "question": _get(question, "question", str, place, path),
        "answers": {
            "text": [_get(answer, "text", str, f"{place}.answers[{n}]", path) for n, answer in enumerate(answers)],
            "answer_start": [
                _get(answer, "answer_start", int, f"{place}.answers[{n}]", path) for n, answer in enumerate(answers)
            ],
        },
    }


def _get(value: Any, name: str, kind: type, place: str, path: Path) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise StudyError(f"{place} has no {name!r}", key=str(path), hint="the file must have the form of SQuAD v1.1")
    found = value[name]
    if not isinstance(found, kind) or isinstance(found, bool):
        raise StudyError(f"{place}.{name} must be {kind.__name__}, but is {type(found).__name__}", key=str(path))
    return found


def _checked(found: Row, source: object) -> Row:
    """The row, once every answer stands in its context; `source` is named in errors."""
    texts, starts, context = found["answers"]["text"], found["answers"]["answer_start"], found["context"]
    if not texts or len(texts) != len(starts):
        raise StudyError(
            f"question {found['id']!r} must have at least one answer with a start, but has {len(texts)} texts and "
            f"{len(starts)} starts",
            key=str(source),
            hint="unanswerable questions (SQuAD v2) are not supported",
        )
    for text, start in zip(texts, starts, strict=True):
        there = context[start : start + len(text)] if start >= 0 else ""
        if not text.strip() or there != text:
            raise StudyError(
                f"the answer of question {found['id']!r} is not in its context: answer {_short(text)} "
                f"at answer_start={start}, where the context has {_short(there)}",
                key=str(source),
                hint="correct answer_start (it counts Unicode characters) or remove the question",
            )
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
