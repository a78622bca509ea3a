"""The checker: what must hold of a sweep after any amount of violence, whatever the seed of it.

Three independent witnesses are compared with what the sweep left: the runs of an undisturbed sweep (what there must
be), a `Witness` that followed ledger and records from outside while things were killed (what was acknowledged), and
the search database and MLflow, read with their own libraries.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raysched.records import ledger as ledgers
from raysched.records.entries import PointTaken, Recorded, Told
from raysched.records.files import parse_crc_line, sha256_file
from raysched.records.layout import SweepLayout
from tests.runners.world import (
    Left,
    check_equal,
    check_exactly_once,
    check_no_step_twice,
    mlflow_runs,
    records,
    search_trials,
)

LOOK_EVERY_S = 0.05


@dataclass
class Witness:
    """Follows a sweep from outside: whatever it has seen whole was acknowledged, and must still be there at the end."""

    layout: SweepLayout
    lines: list[bytes] = field(default_factory=list)
    """Whole lines of the ledger, in order."""
    recorded: dict[str, str] = field(default_factory=dict)
    """run_id -> SHA-256 of its record when it was first seen."""
    _offset: int = 0

    def look(self) -> None:
        if self.layout.ledger.exists():
            with self.layout.ledger.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not _whole(line):
                        break
                    self.lines.append(line)
                    self._offset += len(line)
        for path in self.layout.runs.glob("*/record.json"):
            if path.parent.name not in self.recorded:
                self.recorded[path.parent.name] = sha256_file(path)

    def check(self) -> None:
        """Acknowledged is present exactly once, in its order and unchanged."""
        content = self.layout.ledger.read_bytes().splitlines(keepends=True)
        assert content[: len(self.lines)] == self.lines
        assert max(Counter(content).values()) == 1
        for run_id, digest in self.recorded.items():
            assert sha256_file(self.layout.run(run_id).record) == digest, run_id


def _whole(line: bytes) -> bool:
    try:
        parse_crc_line(line.removesuffix(b"\n"))
    except ValueError:
        return False
    return line.endswith(b"\n")


@contextlib.contextmanager
def witness(layout: SweepLayout) -> Iterator[Witness]:
    """Looks again and again while the block lasts, and once more at its end."""
    one, end = Witness(layout), threading.Event()

    def follow() -> None:
        while not end.wait(LOOK_EVERY_S):
            one.look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        end.set()
        thread.join()
        one.look()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many runs, cells and trials are not what they must be; `+` sums over sweeps."""

    lost: int = 0
    duplicated: int = 0
    running: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            lost=self.lost + other.lost,
            duplicated=self.duplicated + other.duplicated,
            running=self.running + other.running,
        )

    def __str__(self) -> str:
        return f"{self.lost} lost, {self.duplicated} duplicated, {self.running} left RUNNING"


def tally(layout: SweepLayout, expected: Sequence[str], optuna_uri: str | None = None) -> Tally:
    """Of the runs in `expected`, in each of the four places: ledger, records, search and MLflow."""
    entries = ledgers.read(layout.ledger)
    points = {entry.number: entry for entry in entries if isinstance(entry, PointTaken)}
    trials = search_trials(layout, optuna_uri)
    told = [trial.number for trial in trials if trial.state.name == "COMPLETE"]
    logged = mlflow_runs(layout)
    places = (
        Counter(entry.run_id for entry in entries if isinstance(entry, Recorded)),
        Counter(records(layout).keys()),
        Counter(run_id for number in told for run_id in points[number].run_ids.values()),
        Counter(run.tags["raysched.run_id"] for run in logged if run.level == "run" and run.status == "FINISHED"),
    )
    return Tally(
        lost=sum(run_id not in place for place in places for run_id in expected),
        duplicated=sum((place - Counter(expected)).total() for place in places),
        running=sum(trial.state.name in ("RUNNING", "WAITING") for trial in trials)
        + sum(run.status == "RUNNING" for run in logged),
    )


def check_told(layout: SweepLayout, objective: str, optuna_uri: str | None = None) -> None:
    """What the search and the ledger were told is the mean, computed anew from the records."""
    entries = ledgers.read(layout.ledger)
    there = records(layout)
    trials = {trial.number: trial for trial in search_trials(layout, optuna_uri)}
    told = {entry.number: entry.value for entry in entries if isinstance(entry, Told)}
    for point in (entry for entry in entries if isinstance(entry, PointTaken)):
        values = [there[run_id].source_dev[objective] for run_id in point.run_ids.values()]
        mean = sum(values) / len(values)
        assert (told[point.number], trials[point.number].value) == (mean, mean), point.number
        assert {key: trials[point.number].params[key] for key in point.params} == point.params


def check_no_canary(folder: Path, canaries: Sequence[str]) -> None:
    """No file below `folder` holds one of these secrets."""
    words = [canary.encode() for canary in canaries]
    found = [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(word in content for content in [path.read_bytes()] for word in words)
    ]
    assert found == []


def check_history(
    layout: SweepLayout,
    undisturbed: Mapping[str, Left],
    *,
    seen: Witness | None = None,
    optuna_uri: str | None = None,
    canaries: Sequence[str] = (),
    objective: str = "f1",
) -> None:
    """Everything that the suite promises of a sweep that came to its end, whatever happened on the way."""
    points = {repr(sorted(run.point.items())) for run in undisturbed.values()}
    check_exactly_once(layout, len(undisturbed), len(points), optuna_uri)
    check_told(layout, objective, optuna_uri)
    check_no_step_twice(layout)
    check_equal(layout, dict(undisturbed))
    if seen is not None:
        seen.check()
    check_no_canary(layout.root, canaries)
