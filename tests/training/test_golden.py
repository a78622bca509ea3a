"""Every schedule still gives the numbers it gave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raysched.training.bench import Bench
from tests.training.golden import FILE, golden_bench, golden_run
from tests.training.tiny_training import SCHEDULES, Tiny

GOLDEN: dict[str, Any] = json.loads(FILE.read_text())
TOLERANCE = 1e-6
"""Relative. Never loosened: another number is another result."""


@pytest.fixture(scope="module")
def double(tiny: Tiny) -> Bench:
    return golden_bench(tiny)


def numbers(run: dict[str, Any]) -> list[float]:
    traces = [value for _, values in run["traces"] for value in values]
    return [*run["losses"], *traces, *(f1 for _, f1 in run["f1"])]


def steps(run: dict[str, Any]) -> dict[str, Any]:
    return {"unfroze": run["unfroze"], **{name: [step for step, _ in run[name]] for name in ("traces", "f1")}}


def test_every_schedule_has_one() -> None:
    assert tuple(GOLDEN) == SCHEDULES
    assert all(len(run["losses"]) == 20 for run in GOLDEN.values())
    losses = {tuple(run["losses"]) for name, run in GOLDEN.items() if name != "fun"}  # which may choose another's order
    assert len(losses) == len(SCHEDULES) - 1
    for run in GOLDEN.values():
        assert sum(run["losses"][-5:]) < 0.97 * sum(run["losses"][:5]), "a golden run learns something"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_golden_run(tiny: Tiny, double: Bench, schedule: str) -> None:
    found = golden_run(tiny, double, schedule)
    assert steps(found) == steps(GOLDEN[schedule])
    assert numbers(found) == pytest.approx(numbers(GOLDEN[schedule]), rel=TOLERANCE, abs=0)
