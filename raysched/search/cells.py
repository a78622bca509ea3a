"""Cells: points with all their seeds. What runs next, when a cell is complete, and what the search is told.

Pure bookkeeping. Every answer is a function of the calls made so far, in whatever order they came, so replaying
the ledger and the records gives the same book. Seeds are replicates (decision 2): a cell counts only whole.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from raysched.errors import DamageError, StudyError

if TYPE_CHECKING:
    from raysched.study.space import Point

State = Literal["pending", "running", "finished", "failed"]
ROLE = "source_dev"
"""The role in a metric's name that may steer; every other role is refused (decision 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDevScore:
    """One run's score on the source language's dev set (0-100), and nothing else: all that can steer a search."""

    value: float

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not math.isfinite(self.value):
            raise ValueError(f"a source-dev score must be a finite number, but got {self.value!r}")

    @classmethod
    def of(cls, source_dev: Mapping[str, float], objective: str) -> SourceDevScore:
        """The score that `objective` (`source_dev/<metric>`) names among a record's source-dev scores.

        Raises StudyError for an objective of any other role, or of a metric that the task has not.
        """
        role, _, metric = objective.partition("/")
        if role != ROLE or metric not in source_dev:
            raise StudyError(
                f"only a source-language dev score can steer, but got {objective!r}",
                key="search.objective",
                choices=[f"{ROLE}/{name}" for name in sorted(source_dev)],
                hint="target-language scores are reported, never searched",
            )
        return cls(value=source_dev[metric])


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """One run as its cell sees it. `attempts` counts launches; `cause` is set where `state` is failed."""

    run_id: str
    number: int
    seed: int
    state: State = "pending"
    attempts: int = 0
    score: SourceDevScore | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A complete cell. `mean` (over all its seeds) is None where a seed finally failed: the cell is told FAIL.

    `scores` and `causes` are by seed; `std` has ddof 1 and is None below two scores.
    """

    number: int
    point: Point
    mean: float | None
    std: float | None
    n: int
    n_failed: int
    scores: dict[int, float]
    causes: dict[int, str]

    def attrs(self) -> dict[str, Any]:
        """What is stored beside the mean in the search's own database, as JSON values."""
        return {
            "seed_scores": {str(seed): score for seed, score in self.scores.items()},
            "seed_failures": {str(seed): cause for seed, cause in self.causes.items()},
            "std": self.std,
            "n": self.n,
            "n_failed": self.n_failed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A snapshot of one cell: its runs in the order of the study's seeds."""

    number: int
    point: Point
    runs: tuple[CellRun, ...]

    @property
    def started(self) -> bool:
        return any(run.state != "pending" for run in self.runs)

    @property
    def left(self) -> int:
        """Runs without an end yet."""
        return sum(run.state in ("pending", "running") for run in self.runs)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict once every seed has ended, None before."""
        if self.left:
            return None
        scores = {run.seed: run.score.value for run in self.runs if run.score is not None}
        causes = {run.seed: run.cause for run in self.runs if run.cause is not None}
        values = [scores[seed] for seed in sorted(scores)]
        return Verdict(
            number=self.number,
            point=self.point,
            mean=None if causes else math.fsum(values) / len(values),
            std=statistics.stdev(values) if len(values) > 1 else None,
            n=len(values),
            n_failed=len(causes),
            scores=scores,
            causes=causes,
        )


class CellBook:
    """All cells of a sweep. Ends may be reported before their cell is opened: such a run is never launched."""

    def __init__(self) -> None:
        self._points: dict[int, Point] = {}
        self._run_ids: dict[int, tuple[str, ...]] = {}
        self._runs: dict[str, CellRun] = {}
        self._early: dict[str, SourceDevScore | str] = {}  # ends of runs whose cell is not open yet

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(self.cell(number) for number in sorted(self._points))

    def cell(self, number: int) -> Cell:
        runs = tuple(self._runs[run_id] for run_id in self._run_ids[number])
        return Cell(number=number, point=self._points[number], runs=runs)

    def run(self, run_id: str) -> CellRun:
        """Raises ValueError for a run of no open cell."""
        if run_id not in self._runs:
            raise ValueError(f"run {run_id} belongs to no open cell")
        return self._runs[run_id]

    def open(self, number: int, point: Point, runs: Mapping[int, str]) -> Verdict | None:
        """Add a cell with {seed: run_id}; its verdict if every run had ended before. Repeating a call is harmless.

        Raises DamageError where `number` was opened with something else, or a run belongs to another cell.
        """
        if not runs or len(set(runs.values())) != len(runs):
            raise ValueError(f"a cell must have runs, each its own, but got {dict(runs)}")
        if number in self._points:
            known = {self._runs[run_id].seed: run_id for run_id in self._run_ids[number]}
            if (self._points[number], known) != (point, dict(runs)):
                was, now = f"{self._points[number]} with runs {known}", f"{point} with runs {dict(runs)}"
                raise DamageError(f"cell {number} was opened as {was}, now as {now}")
            return self.cell(number).verdict
        for run_id in runs.values():
            if run_id in self._runs:
                raise DamageError(f"run {run_id} of cell {number} belongs to cell {self._runs[run_id].number} already")
        for seed, run_id in runs.items():
            self._runs[run_id] = CellRun(run_id=run_id, number=number, seed=seed)
        self._run_ids[number] = tuple(runs.values())
        self._points[number] = point  # last: a screen in another thread may look at the cells at any moment
        for run_id in runs.values():
            if run_id in self._early:
                self._end(run_id, self._early.pop(run_id))
        return self.cell(number).verdict

    def next_run(self) -> CellRun | None:
        """The next run to launch, None if nothing is pending now.

        Started cells come first, the one nearest to completion before the others: the table is publishable at any
        moment. Among cells not started yet, the schedule with the fewest started cells is served.
        """
        pending = [cell for cell in self.cells if any(run.state == "pending" for run in cell.runs)]
        if not pending:
            return None
        started = Counter(cell.point.schedule for cell in self.cells if cell.started)

        def order(cell: Cell) -> tuple[bool, int, int]:
            return (not cell.started, cell.left if cell.started else started[cell.point.schedule], cell.number)

        return next(run for run in min(pending, key=order).runs if run.state == "pending")

    def launched(self, run_id: str) -> None:
        """An attempt of a pending run starts."""
        run = self._expect(run_id, "pending")
        self._runs[run_id] = dataclasses.replace(run, state="running", attempts=run.attempts + 1)

    def requeue(self, run_id: str) -> None:
        """The run's attempt brought no end, or its failure is to be retried: the same seed again, as a new attempt."""
        run = self._expect(run_id, "running", "failed")
        self._runs[run_id] = dataclasses.replace(run, state="pending", cause=None)

    def finished(self, run_id: str, score: SourceDevScore) -> Verdict | None:
        """A run is recorded as finished; returns the verdict if that completes its cell.

        Raises DamageError where the run was recorded with another end.
        """
        if type(score) is not SourceDevScore:  # the one gate of decision 3: a bare number could be any language's
            raise TypeError(f"only a SourceDevScore enters the book, but got {type(score).__name__}")
        return self._end(run_id, score)

    def failed(self, run_id: str, cause: str) -> Verdict | None:
        """A run has finally failed; returns the verdict if that completes its cell. Raises as `finished`."""
        return self._end(run_id, cause)

    def _end(self, run_id: str, end: SourceDevScore | str) -> Verdict | None:
        run = self._runs.get(run_id)
        known = self._early.get(run_id) if run is None else run.score or run.cause
        if known is not None and known != end:
            raise DamageError(f"run {run_id} ended with {known}, now it is said to have ended with {end}")
        if run is None:
            self._early[run_id] = end
            return None
        if isinstance(end, SourceDevScore):
            self._runs[run_id] = dataclasses.replace(run, state="finished", score=end)
        else:
            self._runs[run_id] = dataclasses.replace(run, state="failed", cause=end)
        return self.cell(run.number).verdict

    def _expect(self, run_id: str, *states: State) -> CellRun:
        run = self.run(run_id)
        if run.state not in states:
            raise ValueError(f"run {run_id} must be {' or '.join(states)}, but is {run.state}")
        return run
