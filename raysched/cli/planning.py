"""`plan`: every point and its runs, what is done already, and what the rest costs. Nothing is started or asked for."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from raysched.cli.terminal import terminal
from raysched.errors import DamageError
from raysched.records.layout import SweepLayout
from raysched.records.record import Record, read_record
from raysched.runners import changes
from raysched.study.identity import Resolved, run_id
from raysched.study.load import LoadedStudy, Suite
from raysched.study.model import Study
from raysched.study.space import Point, n_points, points

ADAPTER_PARAMETERS, BACKBONE_PARAMETERS = 900_000, 278_000_000
"""What a run trains: XLM-R base's task adapter at reduction 16, the largest of the shipped studies, or all of it."""
BYTES_PER_RUN_OVERHEAD = 1 << 20
"""History, manifests and the rows of the two databases, beside checkpoints and predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sweep has done and has still to do. `n_points` is what the budget allows of `space`, `records` the runs
    that are done, `bytes_per_run` measured on them, or an upper bound."""

    loaded: LoadedStudy
    space: list[Point]
    n_points: int
    records: dict[tuple[Point, int], Record]
    seconds_per_run: float | None
    bytes_per_run: float

    @property
    def n_runs(self) -> int:
        return self.n_points * len(self.loaded.study.seeds)

    @property
    def hours_left(self) -> float | None:
        """Of single runs, one after the other."""
        left = max(self.n_runs - len(self.records), 0)
        return None if self.seconds_per_run is None else left * self.seconds_per_run / 3600

    def to_json(self) -> dict[str, Any]:
        study = self.loaded.study
        gpu = study.resources.gpu
        return {
            "sweep": self.loaded.name,
            "points": self.n_points,
            "of_points": len(self.space),
            "seeds": list(study.seeds),
            "runs": self.n_runs,
            "runs_done": len(self.records),
            "sampler": study.search.sampler,
            "run_hours_left": self.hours_left,
            "gpu_per_run": gpu,
            "gpu_hours_left": self.hours_left * gpu if isinstance(gpu, float) and self.hours_left is not None else None,
            "disk_mib": self.n_runs * self.bytes_per_run / (1 << 20),
            "points_listed": [
                {**point.params(), "done": [seed for seed in study.seeds if (point, seed) in self.records]}
                for point in self.space
            ],
        }


def make(loaded: LoadedStudy, storage: str, step_seconds: float | None, steps: int | None = None) -> Plan:
    """Raises StudyError where the sweep of this name is of another study."""
    study = loaded.study
    space = points(study.search)
    layout = SweepLayout(storage, loaded.name)
    state = changes.previous(layout)
    changes.refuse_changes(loaded, state)
    resolved = changes.known_resolved(state)
    done = _records(layout, study, resolved, space) if resolved is not None else {}
    seconds = None
    finished = [record.train_seconds for record in done.values() if record.status == "finished"]
    if step_seconds is not None and (lengths := _steps(study, space, steps)):
        seconds = step_seconds * statistics.mean(lengths)
    elif finished:
        seconds = statistics.mean(finished)
    return Plan(
        loaded=loaded,
        space=space,
        n_points=n_points(study.search),
        records=done,
        seconds_per_run=seconds,
        bytes_per_run=_bytes_per_run(layout, loaded.study, space, done),
    )


def _steps(study: Study, space: Sequence[Point], given: int | None) -> list[int]:
    """Length of each point's runs; empty where one is counted in epochs, and `given` does not say."""
    known = [point.steps or (None if point.epochs else study.training.steps) or given for point in space]
    return [steps for steps in known if steps is not None] if None not in known else []


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


def _bytes_per_run(
    layout: SweepLayout, study: Study, space: Sequence[Point], done: dict[tuple[Point, int], Record]
) -> float:
    """As the runs that are done take them, else at most.

    A run keeps two checkpoints, each four times what it trains (weights, best, and two moments of AdamW); candidates
    of adapter runs lie in both, and beside the adapter.
    """
    if done:
        return statistics.mean(_size(layout.run(record.run_id).root) for record in done.values())
    candidates = min(study.evaluation.candidates, study.evaluation.dev_points)
    copies = {"adapters": 2 * 4 + 3 * candidates, "full": 2 * 4}
    trained = {"adapters": ADAPTER_PARAMETERS, "full": BACKBONE_PARAMETERS}
    return BYTES_PER_RUN_OVERHEAD + 4 * statistics.mean(copies[one.method] * trained[one.method] for one in space)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def show(
    loaded: LoadedStudy | Suite,
    storage: str,
    step_seconds: float | None,
    steps: int | None = None,
    as_json: bool = False,
) -> None:
    """Print the plan as a table, or as JSON for scripts."""
    parts = loaded.parts if isinstance(loaded, Suite) else (loaded,)
    plans = [make(part, storage, step_seconds, steps) for part in parts]
    if as_json:
        print(json.dumps(_suite_json(loaded, plans) if isinstance(loaded, Suite) else plans[0].to_json()))  # noqa: T201
    elif isinstance(loaded, Suite):
        _show_suite(loaded, plans)
    else:
        _show_study(plans[0])


def _show_study(plan: Plan) -> None:
    console = terminal()
    seeds = plan.loaded.study.seeds
    found = {name for point in plan.space for name in point.params()}
    columns = [name for name in ("schedule", "method", "lr", "k", "epochs", "steps") if name in found or name == "k"]
    table = Table(box=None, pad_edge=False)
    for column in ("#", *columns, "seeds", "done"):
        table.add_column(column)
    for number, point in enumerate(plan.space):
        done = sum((point, seed) in plan.records for seed in seeds)
        values = {"method": point.method, **point.params(), "lr": f"{point.lr:g}"}
        cells = [str(values.get(column, "-")) for column in columns]
        table.add_row(str(number), *cells, " ".join(map(str, seeds)), str(done))
    console.print(table)
    sampler = plan.loaded.study.search.sampler
    chosen = "all of them" if plan.n_points == len(plan.space) else f"{plan.n_points} of them, chosen by {sampler}"
    runs = f"{plan.n_runs} runs with {len(seeds)} seeds each, {len(plan.records)} done"
    console.print(f"{len(plan.space)} points, {chosen}; {runs}.")
    _show_cost([plan])


def _show_suite(suite: Suite, plans: Sequence[Plan]) -> None:
    console = terminal()
    if suite.description:
        console.print(suite.description, highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("part", "task", "backbone", "tested on", "schedules", "points", "seeds", "runs", "done"):
        table.add_column(column)
    for plan in plans:
        study = plan.loaded.study
        table.add_row(
            plan.loaded.name,
            study.task,
            study.model.backbone,
            ", ".join(one.test for one in study.test_sets.values()),
            _few(study.schedules),
            *map(str, (plan.n_points, len(study.seeds), plan.n_runs, len(plan.records))),
        )
    console.print(table)
    done = sum(len(plan.records) for plan in plans)
    console.print(f"{len(plans)} parts, {suite.n_points} points; {suite.n_runs} runs, {done} done.")
    _show_cost(plans)
    console.print(f"points: raysched plan {plans[0].loaded.name}", highlight=False)


def _few(schedules: Sequence[str]) -> str:
    return ", ".join(schedules) if len(schedules) <= 5 else f"{', '.join(schedules[:3])} ... ({len(schedules)})"


def _suite_json(suite: Suite, plans: Sequence[Plan]) -> dict[str, Any]:
    parts = [plan.to_json() for plan in plans]
    hours = [part["run_hours_left"] for part in parts]
    return {
        "suite": suite.name,
        "points": suite.n_points,
        "runs": suite.n_runs,
        "runs_done": sum(part["runs_done"] for part in parts),
        "run_hours_left": None if None in hours else sum(hours),
        "disk_mib": sum(part["disk_mib"] for part in parts),
        "parts": parts,
    }


def _show_cost(plans: Sequence[Plan]) -> None:
    """Hours and disk of what is left, in all."""
    console = terminal()
    hours = [plan.hours_left for plan in plans]
    gpus = {plan.loaded.study.resources.gpu for plan in plans}
    if None in hours:
        counted = all(_steps(plan.loaded.study, plan.space, None) for plan in plans)
        missing = "--step-seconds" if counted else "--step-seconds and --steps (of one run)"
        console.print(f"hours:  not known before a run is done; give {missing}", highlight=False)
    else:
        total = sum(hour for hour in hours if hour is not None)
        gpu = gpus.pop() if len(gpus) == 1 else "auto"
        unit = "run-hours" if gpu == "auto" else f"GPU-hours at {gpu:g} GPU a run" if gpu else "run-hours on CPU"
        amount = total * gpu if isinstance(gpu, float) and gpu else total
        console.print(f"hours:  {amount:.2f} {unit} are left", highlight=False)
    disk = sum(plan.n_runs * plan.bytes_per_run for plan in plans) / (1 << 20)
    console.print(f"disk:   about {disk:.0f} MiB", highlight=False)
