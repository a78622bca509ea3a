"""Curves of tr(F) and of source-dev scores, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from raysched.records.history import Row
from raysched.reports.sweep import read_sweep
from raysched.reports.traces import curves
from raysched.reports.traces.curves import Log, Place
from raysched.study.space import Point
from tests.reports.conftest import MadeUp


def fisher(step: int, traces: list[float], awake: list[int], purpose: str = "log") -> Row:
    return Row(kind="fisher", step=step, time_ms=1, data={"purpose": purpose, "traces": traces, "awake": awake})


def dev(step: int, f1: float, language: str = "en") -> Row:
    data = {"language": language, "scores": {"f1": f1, "em": f1 - 10}, "best": True}
    return Row(kind="evaluated", step=step, time_ms=1, data=data)


LOG = Log.of(
    [
        Row(kind="metrics", step=1, time_ms=1, data={"values": {"train/loss": 1.0}}),
        fisher(100, [1.0, 2.0, 6.0], [2]),
        fisher(150, [9.0, 9.0, 9.0], [0, 1, 2], purpose="select"),
        fisher(200, [1.0, 3.0, 5.0], [1, 2]),
        fisher(300, [math.nan, 3.0, 5.0], [1, 2]),
        fisher(400, [1.0, math.inf, 5.0], [0, 1, 2]),
        fisher(500, [7.0, 7.0, 7.0], []),
        dev(120, 50.0),
        dev(120, 10.0, language="de"),
        dev(240, 70.0),
    ],
    source="en",
)


def test_the_log_holds_finite_measurements_made_for_it_and_the_source_language() -> None:
    assert LOG.traces == {100: (1.0, 2.0, 6.0), 200: (1.0, 3.0, 5.0), 500: (7.0, 7.0, 7.0)}
    assert LOG.awake == {100: (2,), 200: (1, 2), 500: ()}
    assert LOG.scores("f1") == {120: 50.0, 240: 70.0}
    assert LOG.scores("em") == {120: 40.0, 240: 60.0}
    assert LOG.scores("accuracy") == {}


def test_the_mean_is_over_awake_adapters_and_needs_one() -> None:
    assert LOG.mean_awake() == {100: 6.0, 200: 4.0}


def test_the_curve_of_a_run(made_up: Callable[..., MadeUp]) -> None:
    """gu at step 100: all four awake, traces 100, 200, 300, 400 plus the seed; never FUN's own measurements."""
    made = made_up()
    made.take(0, point := Point(schedule="gu", lr=1e-3, k=25))
    record = made.finish(made.specs(point)[1])
    assert Log.of(read_sweep(made.layout).history(record), "en").mean_awake() == {100: 251.0, 200: 501.0}


@pytest.mark.parametrize(
    ("lengths", "window"),
    [([], 1), ([4, 2], 1), ([5], 3), ([10, 4], 3), ([79], 3), ([80], 5), ([119], 5), ([120], 7), ([415], 21)],
)
def test_the_window_is_a_twentieth_of_the_longest_curve_and_odd(lengths: list[int], window: int) -> None:
    assert curves.window_of([dict.fromkeys(range(length), 1.0) for length in lengths]) == window


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (1, [1.0, 2.0, 6.0, 4.0, 7.0]),
        (3, [1.0, 3.0, 4.0, 17 / 3, 7.0]),
        (5, [1.0, 3.0, 4.0, 17 / 3, 7.0]),
        (7, [1.0, 3.0, 4.0, 17 / 3, 7.0]),
    ],
)
def test_the_moving_average_is_centred_and_narrower_at_the_ends(window: int, expected: list[float]) -> None:
    """So that neither end is drawn towards the middle, and no peak is moved."""
    curve = {50: 7.0, 10: 1.0, 20: 2.0, 30: 6.0, 40: 4.0}
    assert curves.smooth(curve, window) == pytest.approx(dict(zip([10, 20, 30, 40, 50], expected, strict=True)))


def test_a_window_of_five_takes_five() -> None:
    assert curves.smooth({step: float(step**2) for step in range(5)}, 5)[2] == (0 + 1 + 4 + 9 + 16) / 5


def test_smoothing_nothing_is_nothing() -> None:
    assert curves.smooth({}, 3) == {}


@pytest.mark.parametrize(("step", "value"), [(10, 1.0), (12, 1.4), (20, 3.0), (25, 2.5), (30, 2.0)])
def test_between_two_steps_the_value_is_on_a_straight_line(step: int, value: float) -> None:
    assert curves.at({30: 2.0, 10: 1.0, 20: 3.0}, step) == pytest.approx(value)


def test_a_band_over_runs_measured_at_the_same_steps() -> None:
    assert curves.band([{1: 1.0, 2: 5.0}, {1: 2.0, 2: 3.0}, {1: 6.0, 2: 4.0}]) == [
        Place(step=1, mean=3.0, low=1.0, high=6.0),
        Place(step=2, mean=4.0, low=3.0, high=5.0),
    ]


def test_a_band_over_runs_measured_at_other_steps_covers_what_all_of_them_do() -> None:
    """At 4 only the second is measured, and the first is not yet; the mean must not jump there."""
    found = curves.band([{10: 1.0, 30: 3.0}, {4: 0.0, 10: 8.0, 20: 8.0, 40: 0.0}])
    assert [(place.step, place.low, place.high) for place in found] == [(10, 1.0, 8.0), (20, 2.0, 8.0), (30, 3.0, 4.0)]
    assert curves.mean([{10: 1.0, 30: 3.0}, {4: 0.0, 10: 8.0, 20: 8.0, 40: 0.0}]) == {10: 4.5, 20: 5.0, 30: 3.5}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ([], {}),
        ([{}], {}),
        ([{}, {5: 2.0}], {5: 2.0}),
        ([{5: 2.0}, {6: 2.0}], {}),
        ([{5: 2.0, 7: 3.0}, {5: 4.0}], {5: 3.0}),
    ],
)
def test_a_mean_of_few_or_short_curves(of: list[dict[int, float]], expected: dict[int, float]) -> None:
    assert curves.mean(of) == expected


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ({1: 2.0, 2: 6.0, 3: 3.0}, {1: 0.0, 2: 1.0, 3: 0.25}),
        ({1: -1.0, 2: 1.0}, {1: 0.0, 2: 1.0}),
        ({1: 2.0, 2: 2.0}, {}),
        ({1: 2.0}, {}),
        ({}, {}),
    ],
)
def test_normalised_to_zero_and_one_or_undefined(curve: dict[int, float], expected: dict[int, float]) -> None:
    assert curves.normalised(curve) == expected


def test_the_trace_of_each_layer_is_the_mean_over_runs_measured_then() -> None:
    other = Log.of([fisher(100, [3.0, 2.0, 0.0], [0, 1, 2]), fisher(600, [1.0, 1.0, 1.0], [0])], "en")
    assert curves.per_layer([LOG, other]) == {
        100: (2.0, 2.0, 3.0),
        200: (1.0, 3.0, 5.0),
        500: (7.0, 7.0, 7.0),
        600: (1.0, 1.0, 1.0),
    }
    assert curves.per_layer([]) == {}


def test_the_peak_is_the_first_highest_step() -> None:
    assert curves.peak({30: 5.0, 10: 1.0, 20: 5.0}) == 20
    assert curves.peak({}) is None


def test_above_counts_common_steps() -> None:
    assert curves.above({1: 2.0, 2: 2.0, 3: 2.0, 4: 9.0}, {1: 1.0, 2: 2.0, 3: 3.0}) == (1, 3)
