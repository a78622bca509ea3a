"""Seeds and questions together: naive twins, closed forms, and what is drawn with what."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from raysched.reports.inference.bootstrap import (
    COVERAGE,
    COVERAGE_ONE_SEED,
    SMALLEST_P,
    bootstrap,
    by_question,
    by_seed,
    coverage,
    crossed,
    resampled_means,
    weights,
)
from raysched.reports.inference.means import compare

Array = NDArray[np.float64]


def made(n_seeds: int = 4, n_questions: int = 30, n_languages: int = 3, *, gaps: bool = False) -> Array:
    rng = np.random.default_rng(n_seeds)
    found: Array = rng.normal(1.0, 20.0, (n_seeds, n_questions, n_languages)) + rng.normal(0, 3, (n_seeds, 1, 1))
    if gaps:
        found[:, rng.random((n_questions, n_languages)) < 0.2] = np.nan
    return found


@pytest.mark.parametrize("gaps", [False, True])
def test_a_resample_is_what_a_loop_over_drawn_seeds_and_questions_gives(gaps: bool) -> None:
    data = made(gaps=gaps)
    of_seeds, of_questions = weights(np.random.default_rng(1), 4, 30, 20)
    found = resampled_means(data, of_seeds, of_questions)
    for index in range(20):
        seeds = np.repeat(np.arange(4), of_seeds[index].astype(int))
        questions = np.repeat(np.arange(30), of_questions[index].astype(int))
        assert (len(seeds), len(questions)) == (4, 30)
        assert found[index] == pytest.approx(np.nanmean(data[seeds][:, questions], axis=1).mean())


def test_percentiles_are_those_of_the_resamples() -> None:
    data = made()
    found = bootstrap(data, seed=7, n_resamples=300)
    assert found is not None
    means = resampled_means(data, *weights(np.random.default_rng(7), 4, 30, 300))
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert found.estimate == pytest.approx(data.mean())
    assert found.coverage == COVERAGE[4]
    assert str(found) == f"{found.interval} (covers {100 * COVERAGE[4]:.0f} %)"


def test_the_same_seed_gives_the_same_interval() -> None:
    data = made()
    assert bootstrap(data, seed=1) == bootstrap(data, seed=1) != bootstrap(data, seed=2)


def test_seeds_are_drawn_as_well_as_questions() -> None:
    """All spread between two seeds: a resample has one of them twice with probability 1/2."""
    data = np.broadcast_to(np.array([0.0, 10.0])[:, None, None], (2, 50, 3))
    found = bootstrap(data)
    assert found is not None
    assert (found.interval.low, found.interval.high) == (0.0, 10.0)


def test_a_question_is_drawn_with_all_its_languages_and_seeds() -> None:
    """Were languages or seeds drawn apart, twelve values of a question would average out to a narrower interval."""
    one = np.random.default_rng(0).normal(0, 10, (1, 100, 1))
    alone, together = bootstrap(one), bootstrap(np.broadcast_to(one, (4, 100, 3)))
    assert alone is not None
    assert together is not None
    assert together.interval.low == pytest.approx(alone.interval.low, abs=0.3)
    assert together.interval.high == pytest.approx(alone.interval.high, abs=0.3)


def test_one_seed_is_a_paired_bootstrap_over_questions() -> None:
    data = made(1, 200, 1)
    found = bootstrap(data)
    assert found is not None
    error = data.std() / math.sqrt(200)
    assert found.interval.low == pytest.approx(data.mean() - 1.96 * error, abs=0.15 * error)
    assert found.coverage == COVERAGE_ONE_SEED[100]


def test_no_interval_where_no_coverage_is_known() -> None:
    assert bootstrap(made(4, 19)) is None
    assert bootstrap(made(1, 20)) is not None


@pytest.mark.parametrize(
    ("n_seeds", "n_questions", "expected"),
    [
        (2, 9, COVERAGE[2]),
        (7, 9, COVERAGE[6]),
        (99, 9, COVERAGE[16]),
        (1, 60, COVERAGE_ONE_SEED[50]),
        (1, 20, COVERAGE_ONE_SEED[20]),
    ],
)
def test_coverage_is_that_of_the_next_smaller_size(n_seeds: int, n_questions: int, expected: float) -> None:
    assert coverage(n_seeds, n_questions) == expected


def test_four_seeds_cover_about_80_percent() -> None:
    assert COVERAGE[4] == pytest.approx(0.80, abs=0.03)


@pytest.mark.parametrize("gaps", [False, True])
def test_contributions_of_seeds_and_questions_have_the_same_mean(gaps: bool) -> None:
    data = made(gaps=gaps)
    every = np.mean([[np.nanmean(data[seed, :, place]) for place in range(3)] for seed in range(4)])
    assert by_seed(data).mean() == pytest.approx(every)
    assert by_question(data).mean() == pytest.approx(every)
    if not gaps:
        assert by_question(data) == pytest.approx(data.mean(axis=(0, 2)))


def test_crossed_by_hand() -> None:
    """Seeds 0 and 4, questions 1 and 3: A = 8 / 2, B = 2 / 2, both with one degree of freedom."""
    data = (np.array([0.0, 4.0])[:, None] + np.array([-1.0, 1.0]))[:, :, None]
    found = crossed(data)
    assert found is not None
    assert (found.difference, found.variance_seeds, found.variance_questions) == pytest.approx((2.0, 4.0, 1.0))
    assert found.seed_share == pytest.approx(0.8)
    half = stats.t.ppf(0.975, 1) * math.sqrt(5)
    assert (found.interval.low, found.interval.high) == pytest.approx((2 - half, 2 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(2 / math.sqrt(5), 1))


@pytest.mark.parametrize("n_seeds", [2, 4, 8])
def test_interval_and_p_say_the_same_and_are_wider_than_over_seeds_alone(n_seeds: int) -> None:
    data = made(n_seeds)
    both = crossed(data)
    alone = compare(dict(enumerate(by_seed(data).tolist())), dict.fromkeys(range(n_seeds), 0.0))
    assert both is not None
    assert alone.p is not None
    assert alone.interval is not None
    assert both.p > alone.p
    assert both.interval.high - both.interval.low > alone.interval.high - alone.interval.low
    at_level = crossed(data - both.interval.low)  # zero is now the lower end of the interval
    assert at_level is not None
    assert at_level.p == pytest.approx(0.05)


@pytest.mark.parametrize("shape", [(1, 30, 3), (4, 1, 3)])
def test_one_seed_or_question_is_not_tested(shape: tuple[int, int, int]) -> None:
    assert crossed(np.random.default_rng(0).normal(size=shape)) is None


def test_extremes() -> None:
    assert crossed(np.full((4, 5, 2), 3.0)) is None
    sure = crossed(1e9 + made())
    assert sure is not None
    assert sure.p == SMALLEST_P
    nothing = crossed(made() - by_seed(made()).mean())
    assert nothing is not None
    assert nothing.p == pytest.approx(1.0)
