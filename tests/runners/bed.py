"""A sweep without models: a real ledger and a real search database, attempts whose results are made up."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysched.records import ledger as ledgers
from raysched.records.entries import AnyEntry, AttemptStarted, PointTaken, Recorded, Told
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.record import AttemptResult, Record, read_record, write_result
from raysched.runners.assignment import Assignment
from raysched.runners.driver import Driver
from raysched.search.optuna_study import OptunaStudy, study_name
from raysched.study.identity import Content, Resolved
from raysched.study.load import load_study
from raysched.study.model import Study

NAME = "demo"
CONTENT = Content(where="mini", revision="0" * 64)
LANGUAGES = ("vel", "orl")


def study(**settings: Any) -> Study:
    """Two cells of two seeds; keys are dotted study keys, with `__` for each dot."""
    values = {
        "search.schedule": ["standard", "gu"],
        "seeds": 2,
        "evaluation.languages": list(LANGUAGES),
    } | {key.replace("__", "."): value for key, value in settings.items()}
    return load_study("xquad-mini", [f"{key}={json.dumps(value)}" for key, value in values.items()]).study


RESOLVED = Resolved(
    train=CONTENT,
    dev=CONTENT,
    test=dict.fromkeys(LANGUAGES, CONTENT),
    backbone=CONTENT,
    language_adapters=dict.fromkeys(LANGUAGES, CONTENT),
    device="cpu",
)


class Killed(BaseException):
    """The driver's process ended here."""


class MortalLedger(Ledger):
    """Its process is killed at the `die_at`-th append, before or after the line is on disk."""

    die_at: int | None = None
    before = False
    appends = 0

    def append(self, entry: AnyEntry) -> AnyEntry:
        self.appends += 1
        if self.appends == self.die_at and self.before:
            raise Killed
        stamped = super().append(entry)
        if self.appends == self.die_at:
            raise Killed
        return stamped


def score(assignment: Assignment) -> float:
    """What every attempt of a run scores."""
    return int(assignment.spec.run_id[:4], 16) / 1000


def result(assignment: Assignment, **changes: Any) -> AttemptResult:
    values: dict[str, Any] = {
        "run_id": assignment.spec.run_id,
        "epoch": assignment.epoch,
        "attempt": assignment.number,
        "status": "finished",
        "steps": 10,
        "selected_step": 10,
        "source_dev": {"f1": score(assignment), "em": 0.0},
        "tests": {evaluation: {} for evaluation in assignment.spec.evaluation_ids.values()},
    }
    return AttemptResult(**values | changes)


def claim(assignment: Assignment, **changes: Any) -> None:
    """The worker's own word that the attempt finished."""
    write_result(assignment.layout.create().result, result(assignment, **changes))


End = tuple[str, str | None]
Play = Callable[[Assignment], End]


def succeed(assignment: Assignment) -> End:
    claim(assignment)
    return "finished", None


@dataclass
class Bed:
    """One sweep's folder, and the drivers that come to it."""

    root: Path
    study: Study
    template: Path | None = None
    resolved: Resolved = RESOLVED
    executed: list[tuple[str, int, int]] = field(default_factory=list)
    """(run_id, epoch, attempt) in the order of their ends."""
    names: list[str] = field(default_factory=list)
    """The search's studies, the newest last."""
    driver_now: Driver | None = None

    def __post_init__(self) -> None:
        self.layout = SweepLayout(self.root, NAME).create()
        if self.template is not None:  # making the tables takes Optuna a second
            shutil.copy(self.template, self.layout.optuna)

    def driver(self, *, die_at: int | None = None, before: bool = False, **options: Any) -> Driver:
        """The next driver of the sweep; the one before it is gone, whatever it left."""
        self.bury()
        kind = type("Ledger", (MortalLedger,), {"die_at": die_at, "before": before})
        self.ledger = kind.take_over(self.layout.ledger, host="here", pid=1)
        name = study_name(NAME, self.study.search)
        self.optuna = OptunaStudy(self.layout.optuna, name, self.study.search, earlier=self.names[::-1])
        self.names.append(name)
        self.ledger.entries = tuple(ledgers.read(self.layout.ledger))
        self.driver_now = Driver(self.layout, self.study, self.resolved, self.ledger, self.optuna, **options)
        return self.driver_now

    def bury(self) -> None:
        for thing in (getattr(self, "ledger", None), getattr(self, "optuna", None)):
            if thing is not None:
                thing.close()
        self.ledger = self.optuna = None  # type: ignore[assignment]

    def work(self, driver: Driver, play: Play = succeed, *, slots: int = 1, ends: int = 10_000) -> None:
        """Execute what the driver hands out, `slots` at a time, the oldest ends first; leave after `ends` ends."""
        open_ones: list[Assignment] = []
        while not driver.done and ends > 0:
            while len(open_ones) < slots and (assignment := driver.next()) is not None:
                open_ones.append(assignment)
            if not open_ones:
                continue  # now the driver knows that it is done
            assignment = open_ones.pop(0)
            outcome, cause = play(assignment)
            self.executed.append((assignment.spec.run_id, assignment.epoch, assignment.number))
            driver.ended(assignment.key, outcome, cause, "made up")
            ends -= 1

    def sweep(self, play: Play = succeed, *, slots: int = 1, **options: Any) -> Driver:
        """A driver from its start to its leaving."""
        driver = self.driver(**options)
        self.work(driver, play, slots=slots)
        driver.close()
        return driver

    # -- what is on disk ------------------------------------------------------------------------------------------

    def entries(self) -> list[AnyEntry]:
        return ledgers.read(self.layout.ledger)

    def records(self) -> list[Record]:
        return [read_record(path) for path in sorted(self.layout.runs.glob("*/record.json"))]

    def attempts(self) -> list[tuple[str, int, int]]:
        return [(e.run_id, e.epoch, e.attempt) for e in self.entries() if isinstance(e, AttemptStarted)]

    def told(self) -> dict[int, tuple[str, float | None]]:
        """State and mean of every trial in the search database."""
        assert self.optuna is not None
        return {trial.number: (trial.state, trial.mean) for trial in self.optuna.asked()}

    def check_whole(self) -> None:
        """Every run once in the records, the ledger and the search; attempts numbered from 1 in growing epochs."""
        entries, seeds = self.entries(), len(self.study.seeds)
        points = {entry.number: entry for entry in entries if isinstance(entry, PointTaken)}
        runs = [run_id for point in points.values() for run_id in point.run_ids.values()]
        assert len(runs) == len(set(runs)) == seeds * len(self.study.search.schedule)
        once = dict.fromkeys(runs, 1)
        assert Counter(record.run_id for record in self.records()) == once
        assert Counter(entry.run_id for entry in entries if isinstance(entry, Recorded)) == once
        assert Counter(entry.number for entry in entries if isinstance(entry, PointTaken)) == dict.fromkeys(points, 1)
        assert Counter(entry.number for entry in entries if isinstance(entry, Told)) == dict.fromkeys(points, 1)
        scores = {record.run_id: record.source_dev["f1"] for record in self.records()}
        for number, (state, mean) in self.told().items():
            values = [scores[run_id] for run_id in points[number].run_ids.values()]
            assert (state, mean) == ("told", sum(values) / seeds)
        for run_id in runs:
            mine = [(epoch, attempt) for other, epoch, attempt in self.attempts() if other == run_id]
            assert [attempt for _, attempt in mine] == list(range(1, len(mine) + 1))
            assert [epoch for epoch, _ in mine] == sorted(epoch for epoch, _ in mine)
