"""Predictions of one model on one language, in Parquet: one schema for every task.

| column | type | meaning |
|---|---|---|
| run_id, evaluation_id | string | which run's selected checkpoint, asked by which evaluation (null on source dev) |
| language, split | string | `en`, `th`, ...; `dev` or `test` |
| example_id | string | id of the example in its data set; rows are sorted by it |
| prediction | string | the answer text; the name of the label where a task classifies |
| score | double | logit of the start plus logit of the end; the logit of the label where a task classifies |
| start, end | int32 | characters `[start, end)` of the original context; null where the answer is no span of it |
| gold | list<string> | gold answers, in the order of the data set |
| f1, em | double | 0 to 100, best over the gold answers; where a task classifies, em is 0 or 100 and f1 null |
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysched.errors import DamageError, MissingError

VERSION = b"1"
VERSION_KEY = b"raysched.predictions"
SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("evaluation_id", pa.string()),
        pa.field("language", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("prediction", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("gold", pa.list_(pa.field("element", pa.string())), nullable=False),
        pa.field("f1", pa.float64()),
        pa.field("em", pa.float64(), nullable=False),
    ],
    metadata={VERSION_KEY: VERSION},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer to one example; the columns of the same names."""

    example_id: str
    prediction: str
    score: float
    start: int | None
    end: int | None
    gold: tuple[str, ...]
    f1: float | None
    em: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a file of predictions belongs to; `evaluation_id` is None on source dev."""

    run_id: str
    evaluation_id: str | None
    language: str
    split: str


ORIGIN = tuple(field.name for field in fields(Origin))
ANSWER = tuple(field.name for field in fields(Prediction))


def write(path: Path, predictions: Iterable[Prediction], origin: Origin) -> None:
    """Sorted by example id, beside and then renamed; the same predictions give the same bytes (one pyarrow version)."""
    ordered = sorted(predictions, key=lambda prediction: prediction.example_id)
    if not ordered:
        raise ValueError("at least one prediction must be given, but got none")
    columns = {name: [getattr(origin, name)] * len(ordered) for name in ORIGIN}
    columns |= {name: [getattr(prediction, name) for prediction in ordered] for name in ANSWER}
    table = pa.table(
        {name: pa.array(columns[name], type=SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as file:
            pq.write_table(table, file, compression="zstd", version="2.6")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> tuple[Origin, list[Prediction]]:
    """What `write` stored. Raises `MissingError` for no file and `DamageError` for anything but this schema."""
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()), memory_map=False)
    except FileNotFoundError:
        raise MissingError("no such file of predictions", key=str(path)) from None
    except (pa.ArrowException, OSError) as error:
        raise DamageError(f"not a whole Parquet file: {error}", key=str(path)) from error
    if table.num_rows == 0 or not table.schema.equals(SCHEMA) or _version(table) != VERSION:
        raise DamageError("not predictions of this version", key=str(path))
    rows = table.to_pylist()
    origin = Origin(**{name: rows[0][name] for name in ORIGIN})
    made = [Prediction(**{name: row[name] for name in ANSWER} | {"gold": tuple(row["gold"])}) for row in rows]
    return origin, made


def _version(table: pa.Table) -> bytes | None:
    return (table.schema.metadata or {}).get(VERSION_KEY)
