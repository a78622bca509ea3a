"""How often the tests of a report find what is not there, and how often its intervals hold the truth, in simulation.

`make bench`; fails where a bound is broken. Four seeds and eleven languages unless said otherwise. A seed's languages
share a part of the variance of a difference: 10, 25 or 50 %. Every figure is of the functions that a report calls; the
pooled test beside them, which no report has, takes the 44 seed-language pairs for independent.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from raysched.reports.inference.bootstrap import (
    COVERAGE,
    COVERAGE_ONE_SEED,
    FEWEST_QUESTIONS,
    Resampled,
    bootstrap,
    crossed,
)
from raysched.reports.inference.means import (
    Comparison,
    Interval,
    compare,
    equivalence,
    judge,
    mean_interval,
    rank_test_floor,
)
from raysched.reports.inference.power import power_of

Array = NDArray[np.float64]

SEEDS, LANGUAGES, QUESTIONS, METHODS = 4, 11, 100, 3
SHARES = (0.10, 0.25, 0.50)
LEVEL, MOST = 0.05, 0.06
"""Of every test, and the share of false positives that it may show here."""
MANY, FEW = 10_000, 1_000
MARGIN = 1.0


@dataclass(frozen=True)
class Figure:
    """A measured share between bounds; no bounds for what stands there for contrast."""

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = MANY

    @property
    def broken(self) -> bool:
        return (self.low is not None and self.value < self.low) or (self.high is not None and self.value > self.high)

    def __str__(self) -> str:
        bounds = "for contrast"
        if self.low is not None or self.high is not None:
            low, high = (f"{100 * one:.0f}" if one is not None else "" for one in (self.low, self.high))
            bounds = f"{low}-{high} %" if low else f"at most {high} %"
        return f"{self.what:<74} {100 * self.value:6.1f} %  {self.n:>6}  {bounds}{'  BROKEN' if self.broken else ''}"


def shared(rng: np.random.Generator, share: float, *shape: int) -> Array:
    """(*shape, seeds, languages): differences of variance 1, `share` of which is common to the languages of a seed."""
    common = rng.standard_normal((*shape, SEEDS, 1))
    own = rng.standard_normal((*shape, SEEDS, LANGUAGES))
    found: Array = math.sqrt(share) * common + math.sqrt(1 - share) * own
    return found


def by_questions(rng: np.random.Generator, share: float, questions: float) -> Array:
    """(seeds, questions, languages): `shared` differences, plus what is a question's own in all languages and seeds
    (`questions` times the variance of the seeds, in that of the mean), plus noise."""
    seeds = shared(rng, share)
    of_seeds = (share + (1 - share) / LANGUAGES) / SEEDS
    own = rng.standard_normal((1, QUESTIONS, 1)) * math.sqrt(questions * of_seeds * QUESTIONS)
    noise = rng.standard_normal((SEEDS, QUESTIONS, LANGUAGES))
    found: Array = seeds[:, None, :] + own + noise
    return found


def of(differences: Sequence[float] | Array) -> Comparison:
    """The comparison of a method with a reference that scores 50 with every seed."""
    return compare({seed: 50.0 + float(one) for seed, one in enumerate(differences)}, dict.fromkeys(range(SEEDS), 50.0))


def rate(hits: Iterator[bool]) -> float:
    return float(np.mean(list(hits)))


def seed_tests(rng: np.random.Generator) -> Iterator[Figure]:
    """Two methods that do not differ, by their per-seed means; and the power to find those that do."""
    for share in SHARES:
        data = shared(rng, share, MANY)
        means = data.mean(axis=2)
        told = f"{100 * share:.0f} % shared"
        yield Figure(f"paired t-test on per-seed means, {told}", rate(_found(of(row)) for row in means), None, MOST)
        pooled = stats.ttest_1samp(data.reshape(MANY, -1), 0.0, axis=1).pvalue
        yield Figure(f"  pooled t-test on 44 seed-language pairs, {told}", float((pooled <= LEVEL).mean()))
        for sigmas in (1.0, 2.0, 3.0):
            moved = means + sigmas * math.sqrt(share + (1 - share) / LANGUAGES)
            power = rate(_found(of(row)) for row in moved[:FEW])
            planned = power_of(std=1.0, effect=sigmas, n=SEEDS, level=LEVEL)
            low, high = planned - 0.05, planned + 0.05
            yield Figure(f"  its power at a difference of {sigmas:g} std, {told}", power, low, high, FEW)
    yield Figure(f"  smallest p of any rank test at {SEEDS} seeds", rank_test_floor(SEEDS), n=1)
    for sizes in ((2, 2), (4, 4), (3, 8)):
        for ratio in (1.0, 3.0, 1 / 3):
            hits = (_found(_unpaired(rng, sizes, ratio)) for _ in range(MANY))
            yield Figure(
                f"Welch's test, {sizes[0]} and {sizes[1]} other seeds, std {ratio:.2g} : 1", rate(hits), None, MOST
            )


def _found(comparison: Comparison) -> bool:
    return comparison.p is not None and comparison.p <= LEVEL


def _unpaired(rng: np.random.Generator, sizes: tuple[int, int], ratio: float) -> Comparison:
    a, b = rng.standard_normal(sizes[0]) * ratio, rng.standard_normal(sizes[1])
    return compare(dict(enumerate(a.tolist())), dict(enumerate(b.tolist(), 100)))


def margins(rng: np.random.Generator) -> Iterator[Figure]:
    """Two methods that differ by just the margin: told to be within it."""
    for std in (0.2, 0.5, 1.0):
        worse = [equivalence(of(row - MARGIN), MARGIN) for row in std * rng.standard_normal((MANY, SEEDS))]
        told = f"std {std:g} of {MARGIN:g} point"
        equal = rate(one is not None and one.p <= LEVEL for one in worse)
        yield Figure(f"equivalence (TOST), true difference at the margin, {told}", equal, None, MOST)
        no_worse = rate(one is not None and one.p_no_worse <= LEVEL for one in worse)
        yield Figure(f"no worse, true difference at the margin, {told}", no_worse, None, MOST)


def families(rng: np.random.Generator) -> Iterator[Figure]:
    """Any false verdict in a family of methods x languages."""
    tests = f"{METHODS} methods x {LANGUAGES} languages"
    for share in SHARES:
        wrong = rate(_any_verdict(shared(rng, share, METHODS), "different") for _ in range(FEW))
        yield Figure(f"Holm, any of {tests} 'different', {100 * share:.0f} % shared", wrong, None, MOST, FEW)
    wrong = rate(_any_verdict(0.3 * shared(rng, 0.25, METHODS) - MARGIN, "within") for _ in range(FEW))
    yield Figure(f"Holm, any of {tests} 'equivalent' or 'no worse'", wrong, None, MOST, FEW)
    for n in (2, 10):
        wrong = rate(_wrongly_within(rng, n) for _ in range(MANY // 2))
        told = f"any of {n} methods 'equivalent' or 'no worse', half of them past either margin"
        yield Figure(told, wrong, None, MOST, MANY // 2)


def _wrongly_within(rng: np.random.Generator, n: int) -> bool:
    """Half of the methods are worse by the margin, which neither verdict may say is none; half better by it."""
    truths = np.where(np.arange(n) % 2, MARGIN, -MARGIN)
    judged = judge([of(row) for row in truths[:, None] + 0.3 * rng.standard_normal((n, SEEDS))], MARGIN)
    return any(
        "equivalent" in one.verdict or (truth < 0 and "no worse" in one.verdict)
        for one, truth in zip(judged, truths, strict=True)
    )


def _any_verdict(data: Array, word: str) -> bool:
    """`data` is (methods, seeds, languages)."""
    comparisons = [of(method[:, language]) for method in data for language in range(LANGUAGES)]
    return any(word in one.verdict for one in judge(comparisons, MARGIN))


def question_tests(rng: np.random.Generator) -> Iterator[Figure]:
    """Two methods that do not differ beyond these seeds and questions."""
    for share in SHARES:
        for questions in (0.0, 0.5, 2.0):
            found = [by_questions(rng, share, questions) for _ in range(FEW)]
            tests = [crossed(one) for one in found]
            told = f"{100 * share:.0f} % shared, questions {questions:g} x seeds"
            wrong = rate(one is not None and one.p <= LEVEL for one in tests)
            yield Figure(f"test over seeds and questions, {told}", wrong, None, MOST, FEW)
            strong = rate(bool((one := crossed(data + 2.0)) and one.p <= LEVEL) for data in found[:200])
            yield Figure("  its power at a difference of 2", strong, n=200)
            held = rate(_holds(bootstrap(one, n_resamples=500)) for one in found[:400])
            yield Figure("  the bootstrap's interval holds the truth", held, n=400)
    for n in (2, 3, 4):
        wrong = rate(_small(rng, n) for _ in range(FEW))
        yield Figure(f"test over seeds and questions, {n} seeds, seeds' share 90 %, no noise", wrong, None, MOST, FEW)


def _small(rng: np.random.Generator, n: int) -> bool:
    """The hardest case: so few seeds, and nothing that is counted twice."""
    seeds = rng.standard_normal((n, 1, 1)) * math.sqrt(0.9 * n)
    test = crossed(seeds + rng.standard_normal((1, QUESTIONS, 1)) * math.sqrt(0.1 * QUESTIONS))
    return test is not None and test.p <= LEVEL


def _holds(found: Interval | Resampled | None) -> bool:
    assert found is not None, "there is spread, and there are questions enough"
    interval = found.interval if isinstance(found, Resampled) else found
    return interval.low <= 0 <= interval.high


def coverages(rng: np.random.Generator) -> Iterator[Figure]:
    """Intervals that are to hold the truth in 95 % of cases; of the bootstrap's, how often they do."""
    for n in (2, 3, 4, 10):
        held = rate(_holds(mean_interval(row.tolist())) for row in rng.standard_normal((MANY, n)))
        yield Figure(f"t interval of a mean, {n} seeds", held, 0.93, 0.97)
    for n, told in COVERAGE.items():
        held = rate(_holds(bootstrap(_seeds_only(rng, n))) for _ in range(2 * FEW))
        yield Figure(
            f"percentile bootstrap, {n} seeds (told: {100 * told:.0f} %)", held, told - 0.03, told + 0.03, 2 * FEW
        )
    for n, told in COVERAGE_ONE_SEED.items():
        held = rate(_holds(bootstrap(_one_seed(rng, n))) for _ in range(2 * FEW))
        name = f"percentile bootstrap, {n} questions of 1 seed (told: {100 * told:.0f} %)"
        yield Figure(name, held, told - 0.03, told + 0.03, 2 * FEW)


def _seeds_only(rng: np.random.Generator, n: int) -> Array:
    """(seeds, questions, 1): all of the spread is between seeds."""
    found: Array = np.broadcast_to(rng.standard_normal((n, 1, 1)), (n, FEWEST_QUESTIONS, 1))
    return found


def _one_seed(rng: np.random.Generator, n: int) -> Array:
    """(1, questions, 1): one in five answers changes from right to wrong or back."""
    return rng.choice([-100.0, 0.0, 100.0], size=(1, n, 1), p=[0.1, 0.8, 0.1])


def main() -> int:
    rng = np.random.default_rng(20240613)
    broken = 0
    parts: tuple[Callable[[np.random.Generator], Iterator[Figure]], ...] = (
        seed_tests, margins, families, question_tests, coverages,
    )  # fmt: skip
    for part in parts:
        started = time.monotonic()
        print(f"\n{(part.__doc__ or '').strip()}")
        for figure in part(rng):
            print(figure)
            broken += figure.broken
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
    print(f"\n{broken} bounds are broken" if broken else "\nall bounds hold")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
