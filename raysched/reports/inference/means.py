"""Statistics on per-seed means: intervals, two methods compared by seed, effect sizes, equivalence, and a verdict.

The unit is a seed: one number per run (a score, or the run's own mean over languages). Languages and questions of one
seed share its initialisation and its data order, so they are no further evidence: pooling 4 seeds x 11 languages as 44
pairs rejects a true null in 17 to 45 % of cases at a level of 5 % (`tests/benchmarks/false_positives.py`).

What cannot be tested is said in words instead of by a p-value: see `Comparison.why_not`. Distributions are scipy's, by
its quick functions (a report makes hundreds of tests); the tests of this file hold every result against the tests of
scipy and statsmodels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import gammaln, stdtr, stdtrit

from raysched.reports.stats import holm, summarise

LEVEL = 0.05
"""Of every test: the most often that a true null hypothesis is to be rejected."""
CONFIDENCE = 0.95
SAME = 1e-9
"""Points within which values are the same: the rounding of sums of scores, far below one question of a test set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From `low` to `high`, in points."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A method `a` against a reference `b`: their values by seed, and the difference of the means in points.

    `paired`: `a[i]` and `b[i]` are of one seed, and the test is the paired t-test; else no seed is shared, and it is
    Welch's, with the degrees of freedom of the smaller sample (Welch's own let false positives grow to 7 % at 3 and 8
    seeds). `n` is the number of pairs, or of the smaller sample. `std` is that of the paired differences (ddof 1),
    `error` the standard error of the difference, `df` the degrees of freedom.

    `effect` is the difference in standard deviations: Cohen's dz = mean / std of the paired differences (Lakens 2013,
    eq. 7), or over the root of the mean variance where unpaired (d_av, Bonett 2008). `g` is `effect` times Hedges'
    correction for few values (1981); None at two pairs, where that is 0.

    `why_not` says why there is no interval, test and effect: then `interval`, `p`, `effect` and `g` are None.
    """

    paired: bool
    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: float | None
    std: float | None = None
    error: float | None = None
    df: int = 0
    interval: Interval | None = None
    p: float | None = None
    effect: float | None = None
    g: float | None = None
    why_not: str = ""

    @property
    def n(self) -> int:
        return min(len(self.a), len(self.b))


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """`p` of the two one-sided tests (Schuirmann 1987) that the difference is within the margin; `p_no_worse` of the
    lower one alone: the method is not worse than the reference by the margin."""

    p: float
    p_no_worse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A comparison within its family: p-values by Holm (1979), and what they amount to, in words."""

    comparison: Comparison
    p: float | None
    equivalence: Equivalence | None
    verdict: str

    @property
    def different(self) -> bool:
        return self.p is not None and self.p <= LEVEL


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The t interval of a mean over seeds: mean ± t(n - 1) std / sqrt(n), with ddof 1.

    None where there is no spread to make it from: below two values, or all of them the same.
    """
    found = list(values)
    summary = summarise(found)
    if summary is None or summary.std is None or _same(found):
        return None
    return _interval(summary.mean, summary.std / math.sqrt(summary.n), summary.n - 1, confidence)


def _interval(middle: float, error: float, df: int, confidence: float = CONFIDENCE) -> Interval:
    half = float(stdtrit(df, (1 + confidence) / 2)) * error
    return Interval(low=middle - half, high=middle + half)


def compare(method: Mapping[int, float], reference: Mapping[int, float]) -> Comparison:
    """Seed -> value of two methods. Paired by the seeds they share; unpaired only where they share none."""
    shared = sorted(method.keys() & reference.keys())
    if shared or not method or not reference:
        return _paired([method[seed] for seed in shared], [reference[seed] for seed in shared])
    return _unpaired([method[seed] for seed in sorted(method)], [reference[seed] for seed in sorted(reference)])


def _paired(a: Sequence[float], b: Sequence[float]) -> Comparison:
    differences = [one - other for one, other in zip(a, b, strict=True)]
    summary = summarise(differences)
    found = Comparison(paired=True, a=tuple(a), b=tuple(b), difference=summary.mean if summary else None)
    if summary is None or summary.std is None:
        return replace(found, why_not=f"not testable with {len(a)} shared {'seed' if len(a) == 1 else 'seeds'}")
    if _same(differences):
        return replace(found, std=0.0, why_not=f"not testable with {len(a)} seeds: all differ by the same")
    error, effect = summary.std / math.sqrt(len(a)), summary.mean / summary.std
    return _tested(replace(found, std=summary.std, error=error, df=len(a) - 1), summary.mean, effect, len(a) - 1)


def _unpaired(a: Sequence[float], b: Sequence[float]) -> Comparison:
    one, other = summarise(a), summarise(b)
    assert one is not None, a
    assert other is not None, b
    difference = one.mean - other.mean
    found = Comparison(paired=False, a=tuple(a), b=tuple(b), difference=difference)
    if one.std is None or other.std is None:
        return replace(found, why_not=f"not testable with {len(a)} and {len(b)} seeds, none of them shared")
    if _same(a) or _same(b):
        return replace(found, why_not=f"not testable with {found.n} seeds: all of one method score the same")
    error = math.sqrt(one.std**2 / len(a) + other.std**2 / len(b))
    effect = difference / math.sqrt((one.std**2 + other.std**2) / 2)
    return _tested(replace(found, error=error, df=found.n - 1), difference, effect, len(a) + len(b) - 2)


def _tested(found: Comparison, difference: float, effect: float, effect_df: int) -> Comparison:
    """With interval, p-value and effect of a comparison whose error is known."""
    assert found.error, found
    return replace(
        found,
        interval=_interval(difference, found.error, found.df),
        p=2 * float(stdtr(found.df, -abs(difference) / found.error)),
        effect=effect,
        g=_hedges(effect, effect_df),
    )


def _same(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= SAME * max(1.0, *map(abs, values))


def _hedges(effect: float, df: int) -> float | None:
    """`effect` times J(df) = Γ(df/2) / (sqrt(df/2) Γ((df - 1)/2)), which takes the bias of few values off."""
    if df <= 1:
        return None
    return effect * math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2))) / math.sqrt(df / 2)


def equivalence(comparison: Comparison, margin: float) -> Equivalence | None:
    """Whether the difference lies within `margin` points (> 0); None where the comparison is not testable."""
    if comparison.difference is None or comparison.error is None:
        return None
    lower = float(stdtr(comparison.df, -(comparison.difference + margin) / comparison.error))
    upper = float(stdtr(comparison.df, (comparison.difference - margin) / comparison.error))
    return Equivalence(p=max(lower, upper), p_no_worse=lower)


def judge(comparisons: Sequence[Comparison], margin: float) -> list[Judged]:
    """One family, adjusted over all of it for each question: different? equivalent? no worse?

    So "different" stands anywhere in the family without cause in at most 5 % of families, and so does "equivalent" or
    "no worse", the two together: a difference cannot be past both margins at once, so that of the two one-sided tests
    of a comparison at most one is wrong, and those of a family need to be divided by its comparisons alone (Shaffer
    1986), less those that are found equivalent.
    """
    tests = [equivalence(one, margin) for one in comparisons]
    different = holm([one.p for one in comparisons])
    equal = holm([None if test is None else test.p for test in tests])
    left = max(1, sum(p is not None and p > LEVEL for p in equal))
    no_worse = [None if test is None else min(1.0, left * test.p_no_worse) for test in tests]
    found = []
    for comparison, p, p_equal, p_no_worse in zip(comparisons, different, equal, no_worse, strict=True):
        test = None if p_equal is None or p_no_worse is None else Equivalence(p=p_equal, p_no_worse=p_no_worse)
        verdict = _verdict(comparison, p, test, margin)
        found.append(Judged(comparison=comparison, p=p, equivalence=test, verdict=verdict))
    return found


def points(margin: float) -> str:
    """Such as `1 point` and `0.5 points`."""
    return f"{margin:g} {'point' if margin == 1 else 'points'}"


def _verdict(comparison: Comparison, p: float | None, test: Equivalence | None, margin: float) -> str:
    if p is None or test is None or comparison.difference is None:
        return comparison.why_not
    near = f"within {points(margin)}"
    within = f"equivalent {near}"
    if p <= LEVEL:
        direction = "higher" if comparison.difference > 0 else "lower"
        return f"different ({direction}), but {within}" if test.p <= LEVEL else f"different ({direction})"
    if test.p <= LEVEL:
        return within
    return f"no worse, {near}" if test.p_no_worse <= LEVEL else "undecided"


def rank_test_floor(n: int) -> float:
    """Smallest two-sided p that a signed-rank, sign or sign-flip test of `n` pairs can give: 2 / 2^n, at most 1."""
    return min(1.0, 2.0 ** (1 - n))


def rank_test_seeds(level: float = LEVEL) -> int:
    """Fewest pairs at which such a test can reach `level`; six at 5 %."""
    return next(n for n in range(1, 1025) if rank_test_floor(n) <= level)


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's, of the values of two methods by seed: what pairing gains. None below three, or without spread."""
    if len(a) < 3 or _same(a) or _same(b):
        return None
    return statistics.correlation(a, b)


def p_text(p: float | None) -> str:
    """`0.032`, `< 0.001`, or `-` where there is none."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
