"""Unfreeze orders, and how alike two of them are, by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations

import pytest

from raysched.reports.traces.orders import Agreement, Order, agreement, agreements, one_by_one, order, tau, wakes
from raysched.study.space import Point
from tests.reports.conftest import MadeUp


def single(*layers: int) -> Order:
    return tuple((layer,) for layer in layers)


@pytest.mark.parametrize(
    ("schedule", "expected", "steps"),
    [
        ("standard", (), {}),
        ("gu", single(2, 1, 0), {2: 50, 1: 75, 0: 100}),
        ("lpft", ((0, 1, 2, 3),), {0: 25, 1: 25, 2: 25, 3: 25}),
    ],
)
def test_an_order_is_what_events_woke(
    schedule: str, expected: Order, steps: dict[int, int], made_up: Callable[..., MadeUp]
) -> None:
    """GU's first event wakes nothing; its top layer is awake from the start."""
    made = made_up()
    made.take(0, point := Point(schedule=schedule, lr=1e-3, **({} if schedule == "standard" else {"k": 25})))
    record = made.finish(made.specs(point)[0])
    assert order(record) == expected
    assert wakes(record) == steps


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (single(0, 1, 2), single(0, 1, 2), 1.0),
        (single(0, 1, 2), single(2, 1, 0), -1.0),
        (single(0, 1, 2), single(0, 2, 1), 1 / 3),
        (single(3, 1, 2, 0), single(1, 3, 0, 2), 2 / 6),
        # 0 and 1 are ties in the first: two concordant pairs of 3, tau-b = 2 / sqrt((3 - 1) * 3)
        (((0, 1), (2,)), single(0, 1, 2), 2 / math.sqrt(6)),
        # in both, the same pair: two pairs are left, both concordant
        (((0, 1), (2,)), ((1, 0), (2,)), 1.0),
        # 7 and 9 are in one only; 2, 1 and 0 are compared
        (single(7, 2, 1, 0), single(0, 9, 1, 2), -1.0),
        (((5,), (2, 1), (0,)), single(0, 1, 2), -2 / math.sqrt(6)),
    ],
)
def test_kendalls_tau_by_hand(one: Order, other: Order, expected: float) -> None:
    assert tau(one, other) == pytest.approx(expected)
    assert tau(other, one) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((), single(0, 1)),
        (single(0), single(0)),
        (single(0, 1), single(2, 3)),
        (single(0, 1), single(1, 2)),
        (((0, 1, 2),), single(0, 1, 2)),
        (((0, 1), (5,)), single(0, 1)),  # all that both have are ties in the first
    ],
)
def test_undefined_stays_undefined(one: Order, other: Order) -> None:
    assert tau(one, other) is None
    assert tau(other, one) is None


@pytest.mark.parametrize("seed", range(10))
def test_tau_without_ties_counts_pairs(seed: int) -> None:
    """Against the definition: concordant minus discordant, of all pairs."""
    rng = random.Random(seed)
    one, other = (rng.sample(range(11), 11) for _ in range(2))
    pairs = list(combinations(range(11), 2))
    signs = [(one.index(a) - one.index(b)) * (other.index(a) - other.index(b)) > 0 for a, b in pairs]
    assert tau(single(*one), single(*other)) == pytest.approx((2 * sum(signs) - len(pairs)) / len(pairs))


UP, DOWN, ODD = single(0, 1, 2), single(2, 1, 0), single(0, 2, 1)


def test_between_seeds_every_pair_counts_once() -> None:
    """UP and ODD 1/3, UP and DOWN -1, ODD and DOWN -1/3."""
    found = agreement({0: UP, 1: ODD, 2: DOWN})
    assert found is not None
    assert (found.mean, found.low, found.high, found.pairs) == (pytest.approx(-1 / 3), -1.0, pytest.approx(1 / 3), 3)


def test_between_methods_seeds_differ() -> None:
    """Seed 0 with 1 (-1/3) and 1 with 0 (1); the pairs 0 with 0 and 1 with 1 share their random numbers."""
    found = agreement({0: ODD, 1: UP}, {0: UP, 1: DOWN})
    assert found is not None
    assert (found.mean, found.pairs) == (pytest.approx((-1 / 3 + 1) / 2), 2)


def test_with_one_seed_its_runs_are_compared() -> None:
    assert agreement({3: UP}, {3: DOWN}) == Agreement(mean=-1.0, low=-1.0, high=-1.0, pairs=1)
    assert agreement({3: UP}) is None


def test_undefined_pairs_do_not_count() -> None:
    together: Order = ((0, 1, 2),)
    assert agreement({0: UP, 1: together, 2: UP}) == Agreement(mean=1.0, low=1.0, high=1.0, pairs=1)
    assert agreement({0: together, 1: together}) is None
    assert agreement({0: ()}, {1: UP}) is None


def test_agreements_go_both_ways_and_leave_out_what_is_undefined() -> None:
    found = agreements({"up": {0: UP, 1: UP}, "down": {0: DOWN}, "all": {0: ((0, 1, 2),), 1: ((0, 1, 2),)}})
    assert {key: one.mean for key, one in found.items()} == {
        ("up", "up"): 1.0,
        ("up", "down"): -1.0,
        ("down", "up"): -1.0,
    }


@pytest.mark.parametrize(
    ("orders", "expected"),
    [([], False), ([()], False), ([UP, DOWN], True), ([UP, ()], True), ([UP, ((0, 1),)], False)],
)
def test_one_layer_at_a_time(orders: list[Order], expected: bool) -> None:
    assert one_by_one(orders) is expected
