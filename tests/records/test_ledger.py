"""The ledger: acknowledged entries survive anything; damage is refused; a stale driver writes nothing."""

from __future__ import annotations

import math
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysched.errors import DamageError, MissingError, StoppedError
from raysched.records.entries import (
    AttemptEnded,
    AttemptStarted,
    Ended,
    Note,
    Opened,
    PointTaken,
    Recorded,
    Takeover,
    Told,
)
from raysched.records.files import crc_line
from raysched.records.ledger import Ledger, LedgerReader, read
from raysched.records.state import SweepState

ENTRIES = [
    Opened(study={"task": "qa"}, resolved={"device": "cpu"}, provenance={"git": "0"}),
    Takeover(host="here", pid=7),
    PointTaken(
        number=0,
        params={"schedule": "gu", "lr": 1e-4, "k": 25},
        cell_id="c",
        run_ids={0: "r0", 11: "r1"},
    ),
    AttemptStarted(run_id="r0", attempt=0),
    AttemptEnded(run_id="r0", attempt=0, outcome="lost", cause="worker_lost", message="gone"),
    Recorded(run_id="r0", status="finished"),
    Told(number=0, state="complete", value=0.1 + 0.2),
    Told(number=1, state="fail"),
    Note(text="nan", run_id="r0"),
    Ended(outcome="stopped"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def written(path: Path, n: int = len(ENTRIES)) -> list[object]:
    with Ledger.open(path, 1, clock=lambda: 5) as ledger:
        return [ledger.append(entry) for entry in ENTRIES[:n]]


def test_entries_read_back_as_they_were_written(path: Path) -> None:
    assert read(path) == []
    entries = written(path)
    assert read(path) == entries
    assert [entry.kind for entry in read(path)] == [
        "opened", "takeover", "point", "attempt", "attempt_end", "recorded", "told", "told", "note", "ended",
    ]  # fmt: skip
    assert {(entry.epoch, entry.time_ms) for entry in read(path)} == {(1, 5)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_read_back(path: Path, value: float) -> None:
    with Ledger.open(path, 1) as ledger:
        ledger.append(Told(number=0, state="complete", value=value))
    assert b"Infinity" not in path.read_bytes()
    (told,) = read(path)
    assert isinstance(told, Told)
    assert told.value == value


def test_cut_at_every_byte_loses_only_what_was_not_acknowledged(path: Path) -> None:
    with Ledger.open(path, 1, clock=lambda: 5) as ledger:
        entries = [ledger.append(entry) for entry in ENTRIES[3:6:2]]
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert read(path) == entries[:kept]
        with Ledger.open(path, 1) as ledger:
            assert ledger.torn_bytes == cut - ([0, *ends])[kept]
            ledger.append(Note(text="after"))
        again = read(path)
        assert again[:-1] == entries[:kept]
        assert again[-1].kind == "note"


def test_damage_before_valid_lines_is_refused_and_nothing_is_changed(
    path: Path,
) -> None:
    written(path, 4)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n")
    for at in range(0, last, 7):
        broken = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
        path.write_bytes(broken)
        for attempt in (lambda: read(path), lambda: Ledger.open(path, 1)):
            with pytest.raises(DamageError, match="damaged at byte"):
                attempt()
        assert path.read_bytes() == broken


def test_a_valid_line_that_is_no_entry_is_damage(path: Path) -> None:
    path.write_bytes(crc_line({"kind": "mystery"}))
    with pytest.raises(DamageError, match="no ledger entry"):
        read(path)


def test_a_newer_schema_says_so(path: Path) -> None:
    path.write_bytes(crc_line({"kind": "opened", "schema_version": 99}))
    with pytest.raises(MissingError, match="newer raysched"):
        read(path)


def test_fields_of_a_later_version_are_passed_over(path: Path) -> None:
    path.write_bytes(crc_line({"kind": "note", "text": "a", "colour": "red"}))
    assert read(path) == [Note(text="a")]


def test_a_driver_that_lost_the_sweep_writes_nothing(path: Path) -> None:
    old = Ledger.take_over(path, host="a", pid=1)
    old.append(Note(text="old"))
    new = Ledger.take_over(path, host="b", pid=2)
    assert (old.epoch, new.epoch) == (1, 2)
    size = path.stat().st_size
    with pytest.raises(StoppedError, match="taken over: another driver holds epoch 2"):
        old.append(Note(text="late"))
    assert path.stat().st_size == size
    new.append(Note(text="new"))
    with pytest.raises(StoppedError, match="taken over"):
        Ledger.open(path, 1)
    old.close()
    new.close()


def test_a_stale_line_that_slipped_in_does_not_count(path: Path) -> None:
    with Ledger.take_over(path, host="a", pid=1) as ledger:
        stale = crc_line(Note(text="stale").model_dump())  # epoch 0
        with path.open("ab") as file:
            file.write(stale + stale[:20])
        ledger.append(Note(text="mine"))
    assert [entry.kind for entry in read(path)] == ["takeover", "note"]


def test_a_removed_ledger_stops_the_driver(path: Path) -> None:
    with Ledger.open(path, 1) as ledger:
        path.unlink()
        with pytest.raises(StoppedError, match="removed"):
            ledger.append(Note(text="a"))


def test_a_full_disk_leaves_no_torn_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(path, 1)
    ledger.append(Note(text="a"))
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:10]))
    with pytest.raises(StoppedError, match="cannot be written"):
        ledger.append(Note(text="b"))
    monkeypatch.undo()
    assert [line.count(b"\n") for line in [path.read_bytes()]] == [1]
    with pytest.raises(StoppedError, match="closed"):
        ledger.append(Note(text="c"))


def test_a_reader_gets_each_entry_once(path: Path) -> None:
    reader = LedgerReader(path)
    assert reader.new() == []
    with Ledger.open(path, 1) as ledger:
        first = ledger.append(ENTRIES[0])
        assert reader.new() == [first]
        second = ledger.append(ENTRIES[1])
        with path.open("ab") as file:
            file.write(b"00000000 {")
        assert reader.new() == [second]
        assert reader.new() == []


def test_reading_is_linear(path: Path) -> None:
    line = crc_line(AttemptStarted(run_id="r0", attempt=0).model_dump())
    seconds = []
    for n in (4_000, 16_000):
        path.write_bytes(line * n)
        start = time.process_time()
        assert len(read(path)) == n
        seconds.append(time.process_time() - start)
    assert seconds[1] < 12 * seconds[0]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from(["append", "crash", "torn", "takeover", "read"]), max_size=25))
def test_any_history_of_crashes_keeps_every_acknowledged_entry(tmp_path: Path, steps: list[str]) -> None:
    path = tmp_path / f"{time.monotonic_ns()}.jsonl"
    ledger = Ledger.take_over(path, host="h", pid=0)
    acknowledged = [entry.model_dump() for entry in read(path)]
    for at, step in enumerate(steps):
        if step == "append":
            acknowledged.append(ledger.append(Note(text=str(at))).model_dump())
        elif step == "torn":
            ledger.close()
            with path.open("ab") as file:
                file.write(crc_line({"kind": "note", "text": "lost"})[: 5 + at])
            ledger = Ledger.open(path, ledger.epoch)
        elif step == "crash":
            ledger.close()
            ledger = Ledger.open(path, ledger.epoch)
        elif step == "takeover":
            stale, ledger = ledger, Ledger.take_over(path, host="h", pid=at)
            with pytest.raises(StoppedError, match="taken over"):
                stale.append(Note(text="late"))
            stale.close()
            acknowledged.append(read(path)[-1].model_dump())
        assert [entry.model_dump() for entry in read(path)] == acknowledged
    ledger.close()


def test_the_state_is_the_fold_of_the_entries(path: Path) -> None:
    written(path)
    state = SweepState.of(read(path))
    assert state.opened is not None
    assert state.opened.study == {"task": "qa"}
    assert state.points[0].run_ids == {0: "r0", 11: "r1"}
    assert state.recorded["r0"].status == "finished"
    assert state.told[0].value == 0.1 + 0.2
    assert state.ended is not None
    assert not state.running("r0")
    with Ledger.take_over(path, host="h", pid=1) as ledger:
        ledger.append(AttemptStarted(run_id="r1", attempt=0))
    state = SweepState.of(read(path))
    assert (state.epoch, state.ended, state.running("r1"), state.n_attempts) == (
        2,
        None,
        True,
        {"r0": 1, "r1": 1},
    )
