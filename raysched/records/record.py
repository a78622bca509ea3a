"""A worker's claim (`result.json`) and the driver's word (`record.json`) on one run."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from raysched.errors import DamageError, MissingError
from raysched.records import mirror
from raysched.records.files import make_folder, read_checked, write_checked
from raysched.records.history import Sealed

SCHEMA = 1

Scores = dict[str, float]
"""Metric -> 0..100, such as {"f1": 81.2, "em": 70.0}."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"must be a relative path inside the attempt's folder, but got {name!r}")
    return name


Inside = Annotated[str, AfterValidator(_inside)]


class AttemptResult(BaseModel):
    """How one attempt ended. Files are named relative to the attempt's folder, with their SHA-256."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: int = SCHEMA
    run_id: str
    epoch: int
    attempt: int
    status: Literal["finished", "failed", "diverged"]
    cause: str | None = None
    message: str = ""
    steps: int = 0
    selected_step: int | None = None
    source_dev: Scores = {}
    tests: dict[str, dict[str, Scores]] = {}
    """evaluation_id -> language -> scores of the selected checkpoint."""
    unfreeze_order: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(step, layers) of every event; step 0 holds the layers awake from the start."""
    segments: tuple[Sealed, ...] = ()
    files: dict[Inside, str] = {}
    started_ms: int = 0
    ended_ms: int = 0
    train_seconds: float = 0.0
    provenance: dict[str, Any] = {}

    def to_record(self, *, cell_id: str, params: dict[str, Any], seed: int) -> Record:
        return Record(
            **self.model_dump(),
            cell_id=cell_id,
            params=params,
            seed=seed,
            attempt_folder=f"attempt-{self.epoch}-{self.attempt}",
        )


class Record(AttemptResult):
    """A run that is done: the accepted attempt's result, and what only the driver knows."""

    cell_id: str
    params: dict[str, Any]
    seed: int
    attempt_folder: Inside


T = TypeVar("T", bound=BaseModel)


def read_as(path: Path, kind: type[T], schema: int = SCHEMA) -> T:
    """Raises DamageError where the file is not what was written, MissingError where a newer raysched wrote it."""
    value = read_checked(path)
    if value.get("schema_version", 1) > schema:
        raise MissingError(
            f"was written by a newer raysched (schema {value['schema_version']}, this one reads up to {schema})",
            key=str(path),
            hint="install the version that wrote it",
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamageError(f"is no {kind.__name__}: {where}: {first['msg']}", key=str(path)) from error


def _sound(path: Path, kind: type[T]) -> T:
    """What is stored, where a working copy is damaged."""
    try:
        return read_as(path, kind)
    except DamageError:
        if (copy := mirror.of(path)) is None:
            raise
        copy.anew(path)
        return read_as(path, kind)


def read_record(path: Path) -> Record:
    """Raises DamageError where the file is not what was written, FileNotFoundError where the run is not done.

    On an object store, whoever has read the ledger has every record that it speaks of.
    """
    return _sound(path, Record)


def read_result(path: Path) -> AttemptResult:
    """Like `read_record`; on an object store it is fetched first."""
    copy = mirror.of(path)
    if copy is not None:
        copy.pull(path)
    return _sound(path, AttemptResult)


def write_record(path: Path, record: Record) -> None:
    """On disk, and stored, when this returns; what it names must have been stored before."""
    _write(path, record)


def write_result(path: Path, result: AttemptResult) -> None:
    """Like `write_record`."""
    _write(path, result)


def _write(path: Path, value: AttemptResult) -> None:
    make_folder(path.parent)
    write_checked(path, value.model_dump())
    copy = mirror.of(path)
    if copy is not None:
        copy.push(path)
