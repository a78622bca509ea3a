"""Records: exact, tolerant of old files, intolerant of damaged ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from raysched.errors import DamageError, MissingError
from raysched.records.files import write_checked
from raysched.records.history import Sealed
from raysched.records.record import (
    AttemptResult,
    Record,
    read_record,
    read_result,
    write_record,
    write_result,
)

RESULT = AttemptResult(
    run_id="r0",
    epoch=2,
    attempt=1,
    status="finished",
    steps=600,
    selected_step=550,
    source_dev={"f1": 1 / 3, "em": math.inf},
    tests={"e": {"de": {"f1": 50.0, "em": 40.0}}},
    unfreeze_order=((0, ()), (20, (3, 1))),
    segments=(Sealed(name="00000000-00000600.jsonl", sha256="a" * 64),),
    files={"predictions/de.parquet": "b" * 64},
    started_ms=1,
    ended_ms=2,
    train_seconds=1.5,
    provenance={"git": {"commit": "0"}},
)


def test_result_and_record_read_back(tmp_path: Path) -> None:
    write_result(tmp_path / "a" / "result.json", RESULT)
    assert read_result(tmp_path / "a" / "result.json") == RESULT
    record = RESULT.to_record(cell_id="c", params={"schedule": "gu", "lr": 1e-4, "k": 20}, seed=3)
    assert record.attempt_folder == "attempt-2-1"
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json") == record


def test_no_record_means_not_done(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="record"):
        read_record(tmp_path / "record.json")


def test_an_older_record_reads_with_defaults_and_a_newer_one_says_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record.json"
    old = {"run_id": "r", "epoch": 1, "attempt": 0, "status": "failed", "cell_id": "c", "params": {}, "seed": 0,
           "attempt_folder": "attempt-1-0", "gone": 1}  # fmt: skip
    write_checked(path, old)
    assert read_record(path).tests == {}
    write_checked(path, {**old, "schema_version": 9})
    with pytest.raises(MissingError, match="newer raysched"):
        read_record(path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ""])
def test_files_stay_inside_the_attempt(tmp_path: Path, name: str) -> None:
    value = RESULT.to_record(cell_id="c", params={}, seed=0).model_dump()
    for broken in ({"files": {name: "0" * 64}}, {"attempt_folder": name}):
        write_checked(tmp_path / "record.json", {**value, **broken})
        with pytest.raises(DamageError, match="no Record"):
            read_record(tmp_path / "record.json")


@pytest.mark.parametrize("cut", [0, 1, 50, -2])
def test_a_torn_record_is_damage(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "record.json"
    write_record(path, RESULT.to_record(cell_id="c", params={}, seed=0))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamageError, match=r"record\.json"):
        read_record(path)


def test_a_flipped_bit_anywhere_in_a_record_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, record := RESULT.to_record(cell_id="c", params={}, seed=0))
    content = path.read_bytes()
    unchanged = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert read_record(path) == record  # a space between two values means as much as another one
            unchanged += 1
        except DamageError:
            pass
    assert unchanged < len(content) / 10


def test_a_record_is_a_result() -> None:
    assert issubclass(Record, AttemptResult)
