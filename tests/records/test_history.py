"""Segments: rows read back exactly, and only if they are what a checkpoint sealed."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from raysched.errors import DamageError
from raysched.records.history import (
    Row,
    Sealed,
    SegmentWriter,
    copy_sealed,
    read_segments,
)

ROWS = [
    Row(kind="unfroze", step=0, time_ms=1, data={"event": 0, "layers": [], "awake": []}),
    Row(kind="metrics", step=1, time_ms=2, data={"values": {"train/loss": 0.1 + 0.2, "train/lr": 5e-324}}),
    Row(kind="metrics", step=2, time_ms=3, data={"values": {"train/loss": math.inf, "train/grad_norm": -math.inf}}),
    Row(
        kind="fisher",
        step=2,
        time_ms=4,
        data={"purpose": "log", "traces": [1e-9, math.inf], "se": [0.0, 1 / 3], "awake": [1], "n_batches": 2,
              "n_examples": 64, "labels": "noise"},
    ),
    Row(kind="evaluated", step=2, time_ms=5, data={"language": "nan", "scores": {"f1": 81.25}, "best": True}),
    Row(kind="tested", step=2, time_ms=6, data={"evaluation_id": "e", "language": "de", "scores": {"f1": 1.5}}),
    Row(kind="note", step=2, time_ms=7, data={"text": "inf"}),
]  # fmt: skip


def test_rows_read_back_exactly(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments")
    for row in ROWS[:3]:
        writer.append(row)
    assert os.listdir(tmp_path / "segments") == []
    first = writer.seal(0, 2)
    for row in ROWS[3:]:
        writer.append(row)
    second = writer.seal(2, 2)
    third = writer.seal(2, 2)
    assert [first.name, second.name, third.name] == [
        "00000000-00000002.jsonl",
        "00000002-00000002.jsonl",
        "00000002-00000002.1.jsonl",
    ]
    assert list(read_segments(tmp_path / "segments", [first, second, third])) == ROWS


def test_nan_reads_back_as_nan(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(Row(kind="metrics", step=1, time_ms=1, data={"values": {"train/loss": math.nan}}))
    (row,) = read_segments(tmp_path, [writer.seal(0, 1)])
    assert math.isnan(row.data["values"]["train/loss"])


def sealed(folder: Path) -> Sealed:
    writer = SegmentWriter(folder)
    for row in ROWS:
        writer.append(row)
    return writer.seal(0, 2)


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "delete"])
def test_damage_gives_no_row_at_all(tmp_path: Path, damage: str) -> None:
    segment = sealed(tmp_path)
    path = tmp_path / segment.name
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flip":
        data[-3] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(DamageError, match=segment.name):
        next(read_segments(tmp_path, [segment]))
    with pytest.raises(DamageError, match=segment.name):
        copy_sealed(tmp_path, tmp_path / "to", [segment])


def test_a_copy_holds_the_sealed_part_alone(tmp_path: Path) -> None:
    segment = sealed(tmp_path / "from")
    SegmentWriter(tmp_path / "from").seal(2, 4)
    copy_sealed(tmp_path / "from", tmp_path / "to", [segment])
    assert os.listdir(tmp_path / "to") == [segment.name]
    assert list(read_segments(tmp_path / "to", [segment])) == ROWS


@pytest.mark.parametrize(
    "name",
    [
        "../00000000-00000001.jsonl",
        "/etc/passwd",
        "a.jsonl",
        "00000000-00000001.jsonl/x",
    ],
)
def test_a_segments_name_is_a_segments_name(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        Sealed(name=name, sha256="0" * 64)


def test_a_row_has_a_known_kind() -> None:
    with pytest.raises(AssertionError, match="metrics"):
        Row(kind="metric", step=0, time_ms=0, data={})
