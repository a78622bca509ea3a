"""Statistics on per-seed means: closed forms, scipy's and statsmodels' answers, and what cannot be tested."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from raysched.reports.inference.means import (
    Comparison,
    Interval,
    compare,
    correlation,
    equivalence,
    judge,
    mean_interval,
    p_text,
    rank_test_floor,
    rank_test_seeds,
)
from raysched.reports.stats import holm, summarise

SCORES = st.lists(st.floats(0, 100).map(lambda value: round(value, 2)), min_size=2, max_size=12)


def at(*values: float, seed: int = 0) -> dict[int, float]:
    return dict(enumerate(values, seed))


@given(SCORES)
def test_std_is_numpys_with_ddof_1(values: list[float]) -> None:
    summary = summarise(values)
    assert summary is not None
    assert summary.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert summary.mean == pytest.approx(np.mean(values))


@given(SCORES)
def test_interval_of_a_mean_is_scipys(values: list[float]) -> None:
    found = mean_interval(values)
    if max(values) == min(values):
        assert found is None
        return
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_interval_by_hand() -> None:
    """t(1) at 97.5 % is 12.7062, and std / sqrt(2) of 70 and 72 is 1."""
    found = mean_interval([70.0, 72.0])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((71 - 12.7062, 71 + 12.7062), abs=1e-4)
    assert str(Interval(low=-1.0, high=2.345)) == "[-1.00, +2.35]"


def test_paired_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, std 1, t = 2 sqrt(3), and p of t(2) has a closed form."""
    found = compare(at(51, 42, 63), at(50, 40, 60))
    t = 2 * math.sqrt(3)
    assert (found.paired, found.n, found.difference, found.std) == (True, 3, 2.0, 1.0)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert found.effect == pytest.approx(2.0)
    # J(2) = Γ(1) / (sqrt(1) Γ(1/2)) = 1 / sqrt(π)
    assert found.g == pytest.approx(2.0 / math.sqrt(math.pi))
    assert found.interval is not None
    half = 4.302653 / math.sqrt(3)
    assert (found.interval.low, found.interval.high) == pytest.approx((2 - half, 2 + half), abs=1e-5)


def test_pairs_are_of_the_same_seed_whatever_the_order() -> None:
    one = compare({3: 10.0, 1: 20.0, 7: 31.0}, {1: 19.0, 9: 0.0, 3: 7.0, 7: 30.5})
    assert one.n == 3
    assert (one.a, one.b) == ((20.0, 10.0, 31.0), (19.0, 7.0, 30.5))
    assert one.difference == pytest.approx(1.5)


def test_pairing_takes_away_what_seeds_share() -> None:
    seeds = [0.0, 10.0, -20.0, 15.0]
    method, reference = [50 + s + e for s, e in zip(seeds, (2.0, 2.2, 1.8, 2.1), strict=True)], [50 + s for s in seeds]
    paired = compare(at(*method), at(*reference))
    unpaired = compare(at(*method), at(*reference, seed=100))
    assert paired.p is not None
    assert unpaired.p is not None
    assert paired.p < 0.001 < 0.5 < unpaired.p
    assert (paired.paired, unpaired.paired) == (True, False)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_paired_tests_are_scipys_and_statsmodels(n: int) -> None:
    chance = random.Random(n)
    for _ in range(50):
        a, b = ([chance.gauss(50, 3) for _ in range(n)] for _ in range(2))
        found, expected = compare(at(*a), at(*b)), stats.ttest_rel(a, b)
        assert found.p == pytest.approx(expected.pvalue)
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == pytest.approx(tuple(expected.confidence_interval()))
        margin = chance.uniform(0.1, 10)
        tested = equivalence(found, margin)
        assert tested is not None
        both, (_, lower, _), _ = ttost_paired(np.array(a), np.array(b), -margin, margin)
        assert (tested.p, tested.p_no_worse) == pytest.approx((both, lower))


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 8), (5, 5)])
def test_unpaired_is_welchs_statistic_and_never_more_certain(n: int, m: int) -> None:
    chance = random.Random(n)
    for _ in range(50):
        a, b = [chance.gauss(50, 3) for _ in range(n)], [chance.gauss(50, 1) for _ in range(m)]
        found, welch = compare(at(*a), at(*b, seed=100)), stats.ttest_ind(a, b, equal_var=False)
        assert found.p is not None
        assert found.p == pytest.approx(2 * stats.t.sf(abs(welch.statistic), min(n, m) - 1))
        assert found.p >= welch.pvalue - 1e-12
        tested = equivalence(found, 1.0)
        assert tested is not None
        assert tested.p >= ttost_ind(np.array(a), np.array(b), -1, 1, usevar="unequal")[0] - 1e-12 or tested.p > 0.5


def test_effect_of_unpaired_methods_by_hand() -> None:
    """Means 2 apart, variances 1 and 3: d is 2 / sqrt(2), and J(4) = Γ(2) / (sqrt(2) Γ(3/2))."""
    found = compare(at(51, 52, 53), at(50 - math.sqrt(3), 50, 50 + math.sqrt(3), seed=9))
    assert found.effect == pytest.approx(math.sqrt(2))
    assert found.g == pytest.approx(math.sqrt(2) / (math.sqrt(2) * math.sqrt(math.pi) / 2))


def test_holm_is_statsmodels() -> None:
    chance = random.Random(0)
    for size in (1, 2, 3, 8, 40):
        p_values = [round(chance.random() ** 3, 3) for _ in range(size)]
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("method", "reference", "difference", "why_not"),
    [
        ({}, {}, None, "not testable with 0 shared seeds"),
        ({}, at(1, 2), None, "not testable with 0 shared seeds"),
        (at(53.0), at(50.0, 51.0), 3.0, "not testable with 1 shared seed"),
        (at(53.0, 54.0), at(50.0, 51.0), 3.0, "not testable with 2 seeds: all differ by the same"),
        (at(0.1 + 0.2, 1.3), at(0.3, 1.3), 0.0, "not testable with 2 seeds: all differ by the same"),
        (at(50, 51), at(52, seed=5), -1.5, "not testable with 2 and 1 seeds, none of them shared"),
        (at(50, 51, 52), at(7, 7, 7, seed=5), 44.0, "not testable with 3 seeds: all of one method score the same"),
    ],
)
def test_not_testable_is_said(
    method: dict[int, float], reference: dict[int, float], difference: float | None, why_not: str
) -> None:
    found = compare(method, reference)
    assert found.difference == (None if difference is None else pytest.approx(difference, abs=1e-12))
    assert (found.p, found.interval, found.effect, found.g) == (None,) * 4
    assert equivalence(found, 1.0) is None
    (judged,) = judge([found], 1.0)
    assert (judged.p, judged.equivalence, judged.different) == (None, None, False)
    assert judged.verdict == found.why_not == why_not


def test_two_pairs_have_no_corrected_effect() -> None:
    found = compare(at(52, 51), at(50, 50))
    assert found.effect == pytest.approx(1.5 / math.sqrt(0.5))
    assert found.g is None
    assert found.p is not None


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ((5.0, 5.1, 4.9, 5.0), 1.0, "different (higher)"),
        ((-5.0, -5.1, -4.9, -5.0), 1.0, "different (lower)"),
        ((0.50, 0.51, 0.49, 0.50), 1.0, "different (higher), but equivalent within 1 point"),
        ((0.1, -0.1, 0.05, -0.06), 1.0, "equivalent within 1 point"),
        ((0.1, -0.1, 0.05, -0.06), 0.5, "equivalent within 0.5 points"),
        ((1.6, -0.2, 2.2, 0.4), 1.0, "no worse, within 1 point"),
        ((4.0, -4.0, 2.0, -3.0), 1.0, "undecided"),
    ],
)
def test_verdicts(differences: tuple[float, ...], margin: float, verdict: str) -> None:
    (judged,) = judge([compare(at(*(50 + d for d in differences)), at(*[50.0] * 4))], margin)
    assert judged.verdict == verdict


def test_a_family_asks_for_more() -> None:
    """p = 0.023 alone is a difference; beside two tests that find nothing it is none."""
    first, nothing = compare(at(52, 52.5, 51, 53.5), at(*[50.0] * 4)), compare(at(51, 49, 50.5, 49), at(*[50.0] * 4))
    assert first.p == pytest.approx(0.0228, abs=1e-4)
    assert [one.verdict for one in judge([first], 0.1)] == ["different (higher)"]
    family = judge([first, nothing, nothing], 0.1)
    assert family[0].p == pytest.approx(3 * first.p)
    assert family[0].verdict != "different (higher)"


@pytest.mark.parametrize("n", range(1, 11))
def test_rank_tests_cannot_be_small_with_few_pairs(n: int) -> None:
    best = stats.wilcoxon(np.arange(1.0, n + 1), method="exact").pvalue
    assert rank_test_floor(n) == pytest.approx(best)


def test_rank_tests_need_six() -> None:
    assert rank_test_floor(4) == 0.125
    assert (rank_test_seeds(), rank_test_seeds(0.01)) == (6, 8)


@pytest.mark.parametrize(("p", "text"), [(None, "-"), (0.0004, "< 0.001"), (0.0421, "0.042"), (1.0, "1.000")])
def test_p_text(p: float | None, text: str) -> None:
    assert p_text(p) == text


def test_correlation() -> None:
    assert correlation([1.0, 2.0, 4.0], [3.0, 5.0, 9.0]) == pytest.approx(1.0)
    assert correlation([1.0, 2.0], [3.0, 5.0]) is None
    assert correlation([1.0, 1.0, 1.0], [3.0, 5.0, 4.0]) is None


@given(SCORES, st.floats(-50, 50), st.sampled_from([1e-12, 1e-3, 1.0]))
def test_nothing_warns(values: list[float], shift: float, scale: float) -> None:
    """Also next to no spread: warnings are errors here."""
    method = {seed: value + shift + scale * seed**2 for seed, value in enumerate(values)}
    found = compare(method, dict(enumerate(values)))
    assert isinstance(found, Comparison)
    assert (found.p is None) == bool(found.why_not)
    judge([found] * 3, 1.0)
