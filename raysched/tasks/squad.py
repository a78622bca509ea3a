"""Reads and checks question-answering data in the SQuAD v1.1 form.

A row is `{"id", "context", "question", "answers": {"text": [...], "answer_start": [...]}}`; `answer_start` counts
Unicode characters of the context.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from raysched.errors import MissingError, StudyError

Row = dict[str, Any]
SHOWN = 60
"""Characters of an answer or a context that an error shows."""


def read(path: Path) -> tuple[list[Row], str]:
    """Rows of a `.json` or `.json.gz` file and the hex SHA-256 of its bytes, from one reading.

    Raises `MissingError` where it cannot be read and `StudyError` where it is not SQuAD v1.1.
    """
    stored = read_bytes(path)
    document = parse(stored, path)
    return check_rows(flatten(document, path), path), hashlib.sha256(stored).hexdigest()


def sha256(path: Path) -> str:
    """Hex SHA-256 of the bytes of a file."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingError(
            "no such file", key=str(path), hint="check the path (data.train, data.dev, data.test)"
        ) from None
    except OSError as error:
        raise MissingError(f"cannot be read: {error.strerror}", key=str(path)) from error


def parse(stored: bytes, path: Path) -> Any:
    """The JSON value in `stored`, unpacked first where the name ends in `.gz`."""
    try:
        if path.name.endswith(".gz"):
            stored = gzip.decompress(stored)
        return json.loads(stored)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StudyError(f"not a whole gzip file: {error}", key=str(path), hint="fetch the file again") from error
    except UnicodeDecodeError as error:
        raise StudyError(f"not UTF-8 text: {error}", key=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise StudyError(f"not JSON: {error}", key=str(path), hint="fetch the file again") from error


def flatten(document: Any, path: Path) -> Iterator[Row]:
    """Questions of `data[] > paragraphs[] > qas[]`, in file order."""
    for a, article in enumerate(_get(document, "data", list, "the file", path)):
        for p, paragraph in enumerate(_get(article, "paragraphs", list, f"data[{a}]", path)):
            place = f"data[{a}].paragraphs[{p}]"
            context = _get(paragraph, "context", str, place, path)
            for q, question in enumerate(_get(paragraph, "qas", list, place, path)):
                yield _row(question, context, f"{place}.qas[{q}]", path)


def _row(question: Any, context: str, place: str, path: Path) -> Row:
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


def check_rows(rows: Iterable[Row], source: object) -> list[Row]:
    """The rows, once every id is new and every answer stands in its context; `source` is named in errors."""
    checked: list[Row] = []
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            raise StudyError(f"id {row['id']!r} occurs twice", key=str(source))
        seen.add(row["id"])
        _check_answers(row, source)
        checked.append(row)
    if not checked:
        raise StudyError("holds no question", key=str(source))
    return checked


def _check_answers(row: Row, source: object) -> None:
    texts, starts, context = row["answers"]["text"], row["answers"]["answer_start"], row["context"]
    if not texts or len(texts) != len(starts):
        raise StudyError(
            f"question {row['id']!r} must have at least one answer with a start, but has {len(texts)} texts and "
            f"{len(starts)} starts",
            key=str(source),
            hint="unanswerable questions (SQuAD v2) are not supported",
        )
    for text, start in zip(texts, starts, strict=True):
        found = context[start : start + len(text)] if start >= 0 else ""
        if not text.strip() or found != text:
            raise StudyError(
                f"the answer of question {row['id']!r} is not in its context: answer {_short(text)} "
                f"at answer_start={start}, where the context has {_short(found)}",
                key=str(source),
                hint="correct answer_start (it counts Unicode characters) or remove the question",
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
