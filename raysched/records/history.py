"""History: what a run's worker saw, row by row, in segments that a checkpoint seals.

A row that no checkpoint's manifest covers does not exist: a resumed attempt continues where its weights are. On an
object store, segments that are read and not here are fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from raysched.errors import DamageError
from raysched.records import mirror
from raysched.records.files import (
    crc_line,
    make_folder,
    parse_crc_line,
    sha256_bytes,
    write_atomic,
)

NUMBERS: dict[str, tuple[str, ...]] = {
    "metrics": ("values",),
    "evaluated": ("scores",),
    "unfroze": (),
    "fisher": ("traces", "se", "lead"),
    "tested": ("scores",),
    "note": (),
}
"""Every kind of row, and the fields of its data that hold floats (a language may be called "nan")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that happened at `step` completed steps, at `time_ms` since 1970.

    metrics    values {"train/loss": 1.2, ...}
    evaluated  language, scores {"f1", "em"} (0-100, source dev), best
    unfroze    event, layers (those that woke now), awake (all that are awake); at step 0 the initial ones
    fisher     purpose "select" | "log", traces (L,), se (L,), awake, n_batches, n_examples, labels, estimator,
               scale (of one released batch to B * ||mean g||^2), lead [difference, se] of an adaptive measurement
    tested     evaluation_id, language, scores
    note       text
    """

    kind: str
    step: int
    time_ms: int
    data: dict[str, Any]

    def __post_init__(self) -> None:
        assert self.kind in NUMBERS, f"a row's kind is one of {', '.join(NUMBERS)}, but got {self.kind!r}"


class Sealed(BaseModel):
    """A segment's name and content, as a checkpoint's manifest lists it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(pattern=r"^\d{8,}-\d{8,}(\.\d+)?\.jsonl$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SegmentWriter:
    """Collects rows in memory; nothing reaches the disk before `seal`, so training never waits for a row."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)
        self._lines: list[bytes] = []

    def append(self, row: Row) -> None:
        self._lines.append(
            crc_line(
                {
                    "kind": row.kind,
                    "step": row.step,
                    "time_ms": row.time_ms,
                    "data": row.data,
                }
            )
        )

    def seal(self, from_step: int, to_step: int) -> Sealed:
        """Write the rows since the last seal as one whole file. Call it before the manifest that names it."""
        content = b"".join(self._lines)
        stem = f"{from_step:08d}-{to_step:08d}"
        path = self.folder / f"{stem}.jsonl"
        again = 0
        while path.exists():  # two seals at one step: the last checkpoint, and the tests after it
            again += 1
            path = self.folder / f"{stem}.{again}.jsonl"
        write_atomic(path, content)
        self._lines.clear()
        return Sealed(name=path.name, sha256=sha256_bytes(content))


def _content(folder: Path, sealed: Sealed) -> bytes:
    path = folder / sealed.name
    copy = mirror.of(path)
    if copy is not None and not mirror.holds(path, sealed.sha256):
        copy.anew(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DamageError("is missing, though a checkpoint names it", key=str(path)) from error
    if sha256_bytes(content) != sealed.sha256:
        raise DamageError("does not hold what its checkpoint sealed", key=str(path))
    return content


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, str) else value


def parse_row(line: bytes) -> Row:
    """The row of one line without its newline. Raises ValueError."""
    value = parse_crc_line(line)
    data = value["data"]
    for field in NUMBERS.get(value["kind"], ()):
        if field in data:
            data[field] = _floats(data[field])
    return Row(kind=value["kind"], step=value["step"], time_ms=value["time_ms"], data=data)


def read_segments(folder: Path, sealed: Iterable[Sealed]) -> Iterator[Row]:
    """The rows of the sealed segments, in order; each file is verified before its first row is given.

    Raises DamageError. Rows of kinds that this version does not know are passed over.
    """
    for segment in sealed:
        for line in _content(folder, segment).splitlines():
            value = parse_crc_line(line)
            if value["kind"] in NUMBERS:
                yield parse_row(line)


def copy_sealed(from_folder: Path, to_folder: Path, sealed: Sequence[Sealed]) -> None:
    """Copy the sealed segments a resumed attempt starts from, verified. Raises DamageError."""
    make_folder(to_folder)
    for segment in sealed:
        write_atomic(to_folder / segment.name, _content(from_folder, segment))
