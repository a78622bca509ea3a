"""Where a sweep is, cell by cell: what `raysched status` shows, from any process that sees the storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.records.state import SweepState
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.study.space import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """`step` is the last completed step that is safe in a checkpoint or a record."""

    run_id: str
    seed: int
    state: Literal["pending", "running", "finished", "failed"]
    step: int
    attempts: int
    cause: str | None
    message: str
    """Why it failed; empty where it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStatus:
    """One cell. `step` is that of its furthest running run; `total` the steps of one run; both None if unknown.

    `source_dev` is over the seeds done so far, in the search's objective.
    """

    number: int
    point: Point
    seeds: int
    done: int
    failed: int
    running: int
    source_dev: Summary | None
    step: int | None
    total: int | None
    eta_s: float | None
    runs: tuple[RunStatus, ...]

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        return {**value, "point": self.point.params(), "runs": [asdict(run) for run in self.runs]}


def cells_status(sweep: Sweep, steps: Mapping[str, int], *, driver_alive: bool = True) -> list[CellStatus]:
    """A row for every cell of the ledger, in the order of the study; `steps` as `checkpoint_steps` gives them.

    Without a live driver nothing runs, whatever the ledger says.
    """
    metric = sweep.study.search.objective.partition("/")[2]
    finished = [record for record in sweep.records.values() if record.status == "finished"]
    rows = []
    for number, point in sweep.points.items():
        alike = [record for record in finished if _length(Point(**record.params)) == _length(point)]
        total = _total(sweep, point) or max((record.steps for record in alike), default=None)
        run_s = summarise((record.ended_ms - record.started_ms) / 1000 for record in alike)
        runs = tuple(
            _run(sweep.state, run_id, seed, sweep.records.get(run_id), steps.get(run_id, 0), driver_alive)
            for seed, run_id in sorted(sweep.state.points[number].run_ids.items())
        )
        done = [record for record in sweep.cell(number) if record.status == "finished"]
        running = [run.step for run in runs if run.state == "running"]
        rows.append(
            CellStatus(
                number=number,
                point=point,
                seeds=len(runs),
                done=len(done),
                failed=sum(run.state == "failed" for run in runs),
                running=len(running),
                source_dev=summarise(record.source_dev[metric] for record in done if metric in record.source_dev),
                step=max(running, default=None),
                total=total,
                eta_s=_eta(runs, total, run_s),
                runs=runs,
            )
        )
    return rows


def _length(point: Point) -> tuple[int | None, int | None]:
    """What decides how long a point's runs are, among the points of one study."""
    return point.epochs, point.steps


def _total(sweep: Sweep, point: Point) -> int | None:
    """Steps of a run; None where it counts epochs."""
    return point.steps or (None if point.epochs else sweep.study.training.steps)


def _run(state: SweepState, run_id: str, seed: int, record: Record | None, step: int, driver_alive: bool) -> RunStatus:
    name: Literal["pending", "running", "finished", "failed"]
    if record is not None:
        name, step = "finished" if record.status == "finished" else "failed", record.steps
    else:
        name = "running" if driver_alive and state.executing(run_id) else "pending"
    return RunStatus(
        run_id=run_id,
        seed=seed,
        state=name,
        step=step,
        attempts=state.n_attempts.get(run_id, 0),
        cause=record.cause if record else None,
        message=record.message if record else "",
    )


def _eta(runs: tuple[RunStatus, ...], total: int | None, run_s: Summary | None) -> float | None:
    """Seconds until a cell is complete, at the mean time of a run and the cell's present number of running runs."""
    open_runs = [run for run in runs if run.state in ("pending", "running")]
    if not open_runs:
        return 0.0
    if run_s is None or not total:
        return None
    at_once = max(1, sum(run.state == "running" for run in open_runs))
    return sum(1 - min(run.step, total) / total for run in open_runs) * run_s.mean / at_once


def checkpoint_steps(layout: SweepLayout, state: SweepState) -> dict[str, int]:
    """run_id -> step of its furthest checkpoint, for every run that was started and has no record yet."""
    steps = {}
    for run_id in state.attempts.keys() - state.recorded.keys():
        attempts = [attempt for _, _, attempt in layout.run(run_id).attempts()]
        steps[run_id] = max((step for attempt in attempts for step in attempt.saved_steps()), default=0)
    return steps
