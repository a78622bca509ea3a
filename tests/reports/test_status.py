"""Where a sweep is, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from raysched.reports.status import cells_status, checkpoint_steps
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point

GU = Point(schedule="gu", lr=1e-3, k=25)
STANDARD = Point(schedule="standard", lr=1e-3)


def test_cells(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    for spec in sweep.take(0, GU):
        sweep.start(spec, 100)
    done, running = sweep.take(1, STANDARD)
    sweep.start(done)
    sweep.finish(done)
    sweep.start(running, 150)
    (sweep.layout.run(running.run_id).attempt(1, 1).checkpoints / "step-00000175").mkdir()  # no manifest yet
    seen = read_sweep(sweep.layout)
    steps = checkpoint_steps(sweep.layout, seen.state)
    assert steps[running.run_id] == 150
    assert done.run_id not in steps
    standard, gu = cells_status(seen, steps)
    assert (standard.number, standard.seeds, standard.done, standard.failed, standard.running) == (1, 2, 1, 0, 1)
    assert (standard.step, standard.total) == (150, 200)
    assert standard.source_dev is not None
    assert standard.source_dev.mean == 70.0
    assert standard.eta_s == 1800 * 0.25
    assert [run.state for run in standard.runs] == ["finished", "running"]
    assert (gu.running, gu.step, gu.source_dev, gu.eta_s) == (2, 100, None, 1800 * 0.5)
    assert json.loads(json.dumps(gu.to_json()))["point"] == {"schedule": "gu", "lr": 1e-3, "k": 25}


def test_nothing_runs_without_a_driver(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    first, second = sweep.take(0, GU)
    sweep.start(first, 50)
    sweep.fail(second, "oom")
    seen = read_sweep(sweep.layout)
    (cell,) = cells_status(seen, checkpoint_steps(sweep.layout, seen.state), driver_alive=False)
    assert [(run.state, run.step, run.cause) for run in cell.runs] == [("pending", 50, None), ("failed", 17, "oom")]
    assert (cell.running, cell.failed, cell.step, cell.eta_s) == (0, 1, None, None)


def test_an_arm_has_a_length_of_its_own(made_up: Callable[..., Any]) -> None:
    arms = [{"schedule": "standard", "lr": 1e-3, "steps": 400}, {"schedule": "standard", "lr": 1e-3, "epochs": 9}]
    sweep = made_up(schedules=("standard",), search={"arms": arms})
    points = [STANDARD, *(Point(**arm) for arm in arms)]
    for number, point in enumerate(points):
        done, running = sweep.take(number, point)
        if point.steps is None:
            sweep.finish(done, steps=900 if point.epochs else 200)
        sweep.start(running, 100)
    seen = read_sweep(sweep.layout)
    cells = cells_status(seen, checkpoint_steps(seen.layout, seen.state))
    assert [cell.total for cell in cells] == [200, 400, 900]
    assert [cell.eta_s for cell in cells] == [1800 * 0.5, None, 1800 * (1 - 100 / 900)]


def test_a_complete_cell_needs_no_time(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    sweep.all()
    assert {cell.eta_s for cell in cells_status(read_sweep(sweep.layout), {})} == {0.0}
