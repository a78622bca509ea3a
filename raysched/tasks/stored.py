"""Data files as bytes: read, hashed and unpacked, then cut into JSON values, lines or table rows.

Everything cut knows its line, counted from 1, and an error names it.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysched.errors import MissingError, StudyError

Row = dict[str, Any]
"""One row of data, in the form that its task reads (`tasks.forms`)."""
AGAIN = "fetch the file again"


def read(path: Path) -> bytes:
    """The bytes of a file. Raises `MissingError` where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingError(
            "no such file", key=str(path), hint="check the path (data.train, data.dev, data.test)"
        ) from None
    except OSError as error:
        raise MissingError(f"cannot be read: {error.strerror}", key=str(path)) from error


def sha256(path: Path) -> str:
    """Hex SHA-256 of the bytes of a file, as it is stored."""
    return hashlib.sha256(read(path)).hexdigest()


def unpacked(stored: bytes, path: Path) -> bytes:
    """The content of a file: unpacked where the name ends in `.gz`."""
    if not path.name.endswith(".gz"):
        return stored
    try:
        return gzip.decompress(stored)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StudyError(f"not a whole gzip file: {error}", key=str(path), hint=AGAIN) from error


def json_value(content: bytes, path: Path) -> Any:
    """The one JSON value of a file."""
    try:
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise StudyError(f"not UTF-8 text: {error}", key=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise StudyError(f"not JSON: {error}", key=str(path), hint=AGAIN) from error


def lines(content: bytes, path: Path) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the lines that are not empty, without their ends.

    Only a line feed ends a line: published sentences hold other characters that Unicode counts as line ends.
    """
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise StudyError(f"line {number}: not UTF-8 text: {error}", key=str(path)) from error
        text = text.removesuffix("\n").removesuffix("\r")
        if text:
            yield number, text


def json_lines(content: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a file with one JSON object per line."""
    for number, text in lines(content, path):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StudyError(f"line {number}: not JSON: {error}", key=str(path), hint=AGAIN) from error
        if not isinstance(value, dict):
            raise StudyError(f"line {number}: must be a JSON object, but is {type(value).__name__}", key=str(path))
        yield number, value


def tab_separated(content: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of a table: a tab always parts two cells, and a quotation mark means nothing."""
    for number, text in lines(content, path):
        yield number, text.split("\t")


def comma_separated(content: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers of the last lines, and cells, of the rows of a CSV table with quotation marks."""
    table = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=""), strict=True)
    try:
        for cells in table:
            if cells:
                yield table.line_num, cells
    except UnicodeDecodeError as error:
        raise StudyError(f"after line {table.line_num}: not UTF-8 text: {error}", key=str(path)) from error
    except csv.Error as error:
        raise StudyError(f"line {table.line_num}: not CSV: {error}", key=str(path)) from error
