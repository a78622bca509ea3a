"""When source dev is scored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysched.training.timetable import dev_steps, spread, total_steps


@given(total=st.integers(1, 400), last_event=st.integers(0, 500), points=st.integers(1, 60))
def test_dev_steps(total: int, last_event: int, points: int) -> None:
    steps = dev_steps(total, last_event, points)
    assert total in steps
    assert len(steps) <= points
    assert all(1 <= step <= total for step in steps)
    assert steps == dev_steps(total, last_event, points)
    if 0 < last_event < total and points > 1:
        assert sum(step <= last_event for step in steps) >= min(points // 2, last_event)
        assert last_event in steps
        assert any(step > last_event for step in steps)
    if points <= total and last_event in (0, total):
        assert len(steps) == points


@given(total=st.integers(50, 400), points=st.integers(2, 25), share=st.floats(0.05, 0.95))
def test_never_sparser_before_the_last_event_than_after_it(total: int, points: int, share: float) -> None:
    last_event = round(total * share)
    steps = dev_steps(total, last_event, points)
    early = sum(step <= last_event for step in steps)
    # One point less than its share of the time at most: the last step has to have one too.
    assert early >= min(last_event, round(points * last_event / total)) - 1


@pytest.mark.parametrize(
    ("total", "last_event", "points", "expected"),
    [
        (10, 0, 5, {2, 4, 6, 8, 10}),
        (10, 10, 2, {5, 10}),
        (10, 99, 2, {5, 10}),
        (100, 20, 4, {10, 20, 60, 100}),
        (100, 80, 5, {20, 40, 60, 80, 100}),
        (100, 50, 1, {100}),
        (3, 1, 20, {1, 2, 3}),
        (1, 0, 1, {1}),
    ],
)
def test_examples(total: int, last_event: int, points: int, expected: set[int]) -> None:
    assert dev_steps(total, last_event, points) == expected


@given(first=st.integers(0, 50), last=st.integers(0, 90), count=st.integers(1, 40))
def test_spread(first: int, last: int, count: int) -> None:
    steps = spread(first, last, count)
    assert len(steps) == max(0, min(count, last - first))
    assert all(first < step <= last for step in steps)
    assert last in steps or last <= first


@pytest.mark.parametrize(
    ("n", "batch", "epochs", "steps", "expected"),
    [(50, 8, 2, None, (14, 7)), (48, 8, 2, None, (12, 6)), (50, 8, None, 3, (3, 7)), (5, 8, 3, None, (3, 1))],
)
def test_total_steps(n: int, batch: int, epochs: int | None, steps: int | None, expected: tuple[int, int]) -> None:
    assert total_steps(n, batch, epochs=epochs, steps=steps) == expected
