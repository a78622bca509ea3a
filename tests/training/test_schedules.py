"""A study's k and orders on a given backbone and length: `early`, `even`, published schedules, surgical layers."""

from __future__ import annotations

from typing import Any

import pytest

from raysched.errors import StudyError
from raysched.study.identity import Content, Resolved
from raysched.study.load import load_study
from raysched.study.space import points
from raysched.training.schedules import interval, schedule_config
from raysched.training.timetable import dev_steps
from raysched.unfreezing.config import ScheduleConfig
from raysched.unfreezing.schedule import Unfreezing

NOWHERE = Content(where="mini", revision="0")
RESOLVED = Resolved(train=NOWHERE, dev=NOWHERE, test={}, backbone=NOWHERE, language_adapters={}, device="cpu")


def configs(*overrides: str, n_layers: int = 12, total: int = 1200) -> list[ScheduleConfig]:
    study = load_study("xquad-mini", ["search.lr=[1e-3]", *overrides]).study
    return [schedule_config(study, RESOLVED, point, n_layers, 0, total) for point in points(study.search)]


@pytest.mark.parametrize(
    ("k", "n_layers", "total", "expected"),
    [
        (None, 12, 1200, None),
        (7, 12, 1200, 7),
        ("even", 12, 1200, 100),
        ("early", 12, 1200, 10),
        ("even", 12, 1211, 100),
        ("early", 12, 1319, 10),
        ("even", 4, 10, 2),
        ("early", 4, 10, 1),
        ("even", 24, 10, 1),  # never 0: with fewer steps than layers, not all of them wake
        ("even", 1, 10, 10),
        ("even", 12, 46_020, 3835),
        ("early", 12, 46_020, 383),
    ],
)
def test_intervals(k: Any, n_layers: int, total: int, expected: int | None) -> None:
    assert interval(k, n_layers, total) == expected


@pytest.mark.parametrize(("k", "last"), [("early", 120), ("even", 1200)])
@pytest.mark.parametrize("schedule", ["gu", "rand", "fun", "reverse", "schedule-3"])
def test_early_ends_within_a_tenth_and_even_spans_the_run(schedule: str, k: str, last: int) -> None:
    """kL << N against k = N/L; gu's twelfth event is the last one, the others have eleven."""
    (config,) = configs(f"search.schedule=[{schedule}]", f"search.k=[{k}]")
    state = Unfreezing(config)
    events = 12 if schedule == "gu" else 11
    assert state.last_event_step(1200) == events * last // 12
    fired = []
    for step in range(1, 1201):
        if state.due(step):
            fired.append(state.fire(step, [float(layer) for layer in range(12)]).step)
    assert fired == [last // 12 * event for event in range(1, events + 1)]
    assert state.frozen() == ()
    assert max(dev_steps(1200, state.last_event_step(1200), 20)) == 1200


def test_every_length_has_its_own_k() -> None:
    """A word is resolved per run: arms of unequal length get unequal intervals."""
    text = "search.arms=[{schedule: gu, lr: 1e-3, k: even, steps: 120}, {schedule: gu, lr: 1e-3, k: even, steps: 240}]"
    study = load_study("xquad-mini", ["search.schedule=[]", "search.lr=[]", text, "search.sampler=grid"]).study
    found = [schedule_config(study, RESOLVED, point, 12, 0, point.steps or 0).k for point in points(study.search)]
    assert found == [10, 20]


def test_a_published_schedule_needs_no_permutation() -> None:
    (config,) = configs("search.schedule=[schedule-7]", "search.k=[5]")
    assert (config.permutation, config.fixed_order) == (None, (10, 1, 0, 3, 9, 6, 8, 2, 5, 7, 4))
    with pytest.raises(StudyError, match="schedule-7 is an order for 12 layers, but the backbone has 4"):
        configs("search.schedule=[schedule-7]", "search.k=[5]", n_layers=4)


def test_surgical_layers_are_those_of_the_study() -> None:
    surgical, gu = configs("search.schedule=[surgical, gu]", "search.k=[5]", "training.surgical=[0, 3]")
    assert (surgical.surgical, surgical.k, gu.surgical, gu.k) == ((0, 3), None, None, 5)
    assert Unfreezing(surgical).awake() == {0, 3}
    with pytest.raises(StudyError, match=r"training\.surgical: .*backbone's 3, each once, but got \[0, 3\]"):
        configs("search.schedule=[surgical]", "training.surgical=[0, 3]", n_layers=3)
