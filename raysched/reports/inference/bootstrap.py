"""Two methods over seeds and test questions together: a hierarchical test, and bootstrap intervals.

A difference is an array `(seeds, questions, languages)` of per-question differences in points (paired by seed and by
question; NaN where a language lacks a question). Seeds and questions are crossed: every seed answers the same
questions, and a parallel test set asks the same ones in every language. So a question is drawn, or counted, with all
of its languages, methods and seeds: questions are clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

from raysched.reports.inference.means import CONFIDENCE, SAME, Interval

Array = NDArray[np.float64]

N_RESAMPLES = 2000
SMALLEST_P = 1e-12
COVERAGE = {2: 0.50, 3: 0.75, 4: 0.79, 5: 0.84, 6: 0.85, 8: 0.89, 10: 0.90, 16: 0.92}
"""Seeds -> how often the 95 % percentile interval of `bootstrap` holds the true difference, in simulation.

With all of the spread between seeds, the worst case; made again, and compared, by `make bench`."""
COVERAGE_ONE_SEED = {20: 0.95, 50: 0.95, 100: 0.95}
"""Questions -> the same of an interval over the questions of one seed, for the difference of that seed's two runs."""
FEWEST_QUESTIONS = min(COVERAGE_ONE_SEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """A percentile bootstrap interval (95 % by name) and its `coverage` in simulation, which belongs to it in print."""

    estimate: float
    interval: Interval
    n_seeds: int
    n_questions: int
    n_resamples: int
    coverage: float

    def __str__(self) -> str:
        return f"{self.interval} (covers {100 * self.coverage:.0f} %)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """A test over seeds and questions (`crossed`). Variances are of the mean difference, in squared points."""

    difference: float
    interval: Interval
    p: float
    variance_seeds: float
    variance_questions: float

    @property
    def seed_share(self) -> float:
        """Of the uncertainty that more seeds would take away; the rest is the questions'."""
        return self.variance_seeds / (self.variance_seeds + self.variance_questions)


def by_seed(differences: Array) -> Array:
    """(seeds,): per seed the mean over languages of each language's mean over its questions."""
    with_question = ~np.isnan(differences)
    totals = np.where(with_question, differences, 0.0).sum(axis=1)
    means: Array = (totals / with_question.sum(axis=1)).mean(axis=1)
    return means


def by_question(differences: Array) -> Array:
    """(questions,): what each question contributes to the mean difference, which is their mean.

    In a test set with the same questions in all languages, its mean over seeds and languages; else every language
    counts as much as it does in `by_seed`, and the values are those of the linearised mean (Cochran 1977, 6.4).
    """
    there = ~np.isnan(differences[0])
    values = np.where(there, np.nan_to_num(differences).mean(axis=0), 0.0)
    counts = there.sum(axis=0)
    means = values.sum(axis=0) / counts
    centred = np.where(there, values - means, 0.0) * (len(there) / counts)
    found: Array = centred.mean(axis=1) + means.mean()
    return found


def crossed(differences: Array, confidence: float = CONFIDENCE) -> Crossed | None:
    """Whether two methods differ beyond these seeds and these questions.

    The variance of the mean difference is A + B: A = s²/S of the S per-seed means, B = s²/Q of the Q per-question means
    (as in Clark's min F', 1973; either holds the residual, so that their sum holds it twice). The interval is
    ± sqrt(t(S - 1)² A + t(Q - 1)² B), by Banerjee (1961), whose level holds whatever the shares of A and B are;
    Satterthwaite's degrees of freedom let false positives grow to 13 % at two seeds and over 6 % at four. It is never
    narrower than the interval over seeds alone. None below two seeds or questions, or without any spread.
    """
    n_seeds, n_questions = differences.shape[:2]
    if n_seeds < 2 or n_questions < 2:
        return None
    seeds, questions = by_seed(differences), by_question(differences)
    a, b = float(seeds.var(ddof=1)) / n_seeds, float(questions.var(ddof=1)) / n_questions
    if a + b <= SAME**2:
        return None

    def squared_half_width(p: float) -> float:
        t_seeds, t_questions = stdtrit(n_seeds - 1, p / 2), stdtrit(n_questions - 1, p / 2)
        return float(t_seeds**2 * a + t_questions**2 * b)

    difference, half = float(seeds.mean()), math.sqrt(squared_half_width(1 - confidence))
    return Crossed(
        difference=difference,
        interval=Interval(low=difference - half, high=difference + half),
        p=_where(squared_half_width, difference**2),
        variance_seeds=a,
        variance_questions=b,
    )


def _where(falling: Callable[[float], float], value: float) -> float:
    """The p in `[SMALLEST_P, 1]` at which a falling function of it has this value."""
    if falling(SMALLEST_P) <= value:
        return SMALLEST_P
    return float(brentq(lambda p: falling(p) - value, SMALLEST_P, 1.0))


def bootstrap(differences: Array, *, seed: int = 0, n_resamples: int = N_RESAMPLES) -> Resampled | None:
    """The percentile interval of the mean difference; the same arguments give the same interval.

    Each resample draws seeds, and within them questions: one draw of questions for all of its seeds, since all seeds
    answer the same ones. With one seed only its questions are drawn, and the interval says nothing of other seeds.
    Scores of one method instead of differences give the interval of its mean. None below `FEWEST_QUESTIONS`, for which
    no coverage is known.
    """
    n_seeds, n_questions = differences.shape[:2]
    if n_questions < FEWEST_QUESTIONS:
        return None
    rng = np.random.default_rng(seed)
    means = resampled_means(differences, *weights(rng, n_seeds, n_questions, n_resamples))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Resampled(
        estimate=float(by_seed(differences).mean()),
        interval=Interval(low=float(low), high=float(high)),
        n_seeds=n_seeds,
        n_questions=n_questions,
        n_resamples=n_resamples,
        coverage=coverage(n_seeds, n_questions),
    )


def weights(rng: np.random.Generator, n_seeds: int, n_questions: int, n_resamples: int) -> tuple[Array, Array]:
    """(resamples, seeds) and (resamples, questions): how often each is drawn, the rows adding up to their number."""
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), n_resamples)
    questions = rng.multinomial(n_questions, np.full(n_questions, 1 / n_questions), n_resamples)
    return seeds.astype(np.float64), questions.astype(np.float64)


def resampled_means(differences: Array, of_seeds: Array, of_questions: Array) -> Array:
    """(resamples,): the mean difference under each of the `weights`, without copying a single score."""
    n_seeds, n_questions, n_languages = differences.shape
    with_question = ~np.isnan(differences[0])
    flat = np.nan_to_num(differences).transpose(1, 0, 2).reshape(n_questions, n_seeds * n_languages)
    totals = (of_questions @ flat).reshape(-1, n_seeds, n_languages)
    drawn = of_questions @ with_question.astype(np.float64)
    means = totals / np.maximum(drawn, 1.0)[:, None, :]  # a language none of whose questions was drawn adds 0
    found: Array = (of_seeds * means.mean(axis=2)).sum(axis=1) / n_seeds
    return found


def coverage(n_seeds: int, n_questions: int) -> float:
    """In simulation, of the 95 % interval over so many seeds and questions: that of the next smaller size tried."""
    table, n = (COVERAGE_ONE_SEED, n_questions) if n_seeds == 1 else (COVERAGE, n_seeds)
    return table[max(size for size in table if size <= n)]
