"""`plan`: every point and its runs, what is done already, and what the rest costs. Nothing is started or asked for."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from raysched.cli.terminal import terminal
from raysched.errors import DamageError
from raysched.records.layout import SweepLayout
from raysched.records.record import Record, read_record
from raysched.runners import sweep as service
from raysched.study.identity import Resolved, run_id
from raysched.study.load import LoadedStudy
from raysched.study.model import Study
from raysched.study.space import Point, n_points, points

ADAPTER_PARAMETERS = 900_000
"""Task adapter of XLM-R base at reduction 16, the largest of the shipped studies."""
BYTES_PER_RUN_OVERHEAD = 1 << 20
"""History, manifests and the rows of the two databases, beside checkpoints and predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`n_points` is what the budget allows of `space`; `records` the runs that are done."""

    space: list[Point]
    n_points: int
    records: dict[tuple[Point, int], Record]
    seconds_per_run: float | None


def make(loaded: LoadedStudy, storage: str, step_seconds: float | None, steps: int | None = None) -> Plan:
    """Raises StudyError where the sweep of this name is of another study."""
    study = loaded.study
    space = points(study.search)
    layout = SweepLayout(storage, loaded.name)
    state = service.previous(layout)
    service.refuse_changes(loaded, state)
    resolved = service.known_resolved(state)
    done = _records(layout, study, resolved, space) if resolved is not None else {}
    seconds = None
    steps = study.training.steps or steps
    if step_seconds is not None and steps is not None:
        seconds = step_seconds * steps
    elif finished := [record.train_seconds for record in done.values() if record.status == "finished"]:
        seconds = statistics.mean(finished)
    return Plan(space=space, n_points=n_points(study.search), records=done, seconds_per_run=seconds)


def _records(
    layout: SweepLayout, study: Study, resolved: Resolved, space: list[Point]
) -> dict[tuple[Point, int], Record]:
    found = {}
    for point in space:
        for seed in study.seeds:
            try:
                found[point, seed] = read_record(layout.run(run_id(study, resolved, point, seed)).record)
            except (FileNotFoundError, DamageError):
                continue
    return found


def show(
    loaded: LoadedStudy, storage: str, step_seconds: float | None, steps: int | None = None, as_json: bool = False
) -> None:
    """Print the plan as a table, or as JSON for scripts."""
    plan = make(loaded, storage, step_seconds, steps)
    seeds = loaded.study.seeds
    n_runs = plan.n_points * len(seeds)
    left = max(n_runs - len(plan.records), 0)
    gpu = loaded.study.resources.gpu
    total: dict[str, Any] = {
        "sweep": loaded.name,
        "points": plan.n_points,
        "of_points": len(plan.space),
        "seeds": list(seeds),
        "runs": n_runs,
        "runs_done": len(plan.records),
        "sampler": loaded.study.search.sampler,
        "run_hours_left": None if plan.seconds_per_run is None else left * plan.seconds_per_run / 3600,
        "gpu_per_run": gpu,
        "gpu_hours_left": left * plan.seconds_per_run / 3600 * gpu
        if isinstance(gpu, float) and plan.seconds_per_run is not None
        else None,
        "disk_mib": _disk(plan, n_runs, SweepLayout(storage, loaded.name)) / (1 << 20),
    }
    if as_json:
        rows = [{**point.params(), "done": [s for s in seeds if (point, s) in plan.records]} for point in plan.space]
        print(json.dumps({**total, "points_listed": rows}))  # noqa: T201
        return
    console = terminal()
    table = Table(box=None, pad_edge=False)
    for column in ("#", "schedule", "lr", "k", "seeds", "done"):
        table.add_column(column)
    for number, point in enumerate(plan.space):
        done = sum((point, seed) in plan.records for seed in seeds)
        k = "-" if point.k is None else str(point.k)
        table.add_row(str(number), point.schedule, f"{point.lr:g}", k, " ".join(map(str, seeds)), str(done))
    console.print(table)
    chosen = (
        "all of them" if plan.n_points == len(plan.space) else f"{plan.n_points} of them, chosen by {total['sampler']}"
    )
    console.print(
        f"{len(plan.space)} points, {chosen}; {n_runs} runs with {len(seeds)} seeds each, {len(plan.records)} done."
    )
    if plan.seconds_per_run is None:
        missing = "--step-seconds" if loaded.study.training.steps else "--step-seconds and --steps (of one run)"
        console.print(f"hours:  not known before a run is done; give {missing}", highlight=False)
    else:
        hours = left * plan.seconds_per_run / 3600
        unit = "run-hours" if gpu == "auto" else f"GPU-hours at {gpu:g} GPU a run" if gpu else "run-hours on CPU"
        amount = hours * gpu if isinstance(gpu, float) and gpu else hours
        console.print(f"hours:  {amount:.2f} {unit} are left", highlight=False)
    console.print(f"disk:   about {total['disk_mib']:.0f} MiB", highlight=False)


def _disk(plan: Plan, n_runs: int, layout: SweepLayout) -> float:
    """Bytes of the whole sweep: as the runs that are done take them, else at most.

    A run keeps two checkpoints, each four times its adapter (weights, best, and two moments of AdamW).
    """
    sizes = [_size(layout.run(record.run_id).root) for record in plan.records.values()]
    per_run = statistics.mean(sizes) if sizes else BYTES_PER_RUN_OVERHEAD + 2 * 4 * 4 * ADAPTER_PARAMETERS
    return n_runs * per_run


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
