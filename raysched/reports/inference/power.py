"""How many seeds a difference takes: the paired t-test's power, from the spread that a sweep has shown so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit

from raysched.errors import MissingError
from raysched.reports.inference.claims import Opponents
from raysched.reports.inference.means import LEVEL, Comparison, compare, correlation
from raysched.reports.methods import Method
from raysched.reports.stats import summarise
from raysched.reports.sweep import Sweep
from raysched.study.values import MOST_SEEDS

EFFECTS = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Points, where no effect is asked for."""
TAIL = 1e-13
"""Of the distribution of a standard deviation that `power_of` leaves out."""
UPPER = 0.8
"""Confidence of the upper limit of a standard deviation, as for planning from a pilot study (Browne 1995)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Differences (points, above 0) that are to be found, by a two-sided test of `level`, with chance `power`."""

    effects: tuple[float, ...] = EFFECTS
    level: float = LEVEL
    power: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """What an effect (points) takes: seeds per method at the observed spread, and at its upper limit.

    None: more than `MOST_SEEDS`. Hours (`unit`) are of training the seeds of both methods that are not done yet.
    """

    effect: float
    seeds: int | None
    seeds_upper: int | None
    hours: float | None
    hours_upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A method against the reference on the target average of a test set.

    `std` is that of the paired differences (ddof 1) over `n` seeds, `std_upper` its upper limit, `std_unpaired` what
    it would be without pairing, `correlation` Pearson's between the two methods by seed (None below three).
    `smallest` is the smallest difference (points) that the sweep's `planned` seeds find with the power that is asked
    for, at `std` and at `std_upper`; None at one planned seed.
    """

    method: str
    test_set: str
    n: int
    planned: int
    difference: float
    std: float
    std_upper: float
    std_unpaired: float
    correlation: float | None
    smallest: float | None
    smallest_upper: float | None
    effects: tuple[Seeds, ...]


def power_of(*, std: float, effect: float, n: int, level: float) -> float:
    """Chance that the two-sided paired t-test of `n` seeds finds a difference of `effect` points (Cohen 1988).

    The noncentral t distribution, as an integral over the standard deviation that the test will see. statsmodels has
    the same numbers, but none where scipy's noncentral t gives up: at many seeds, or large differences.
    """
    df, shift = n - 1, effect / std * math.sqrt(n)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, high = stats.chi.ppf([TAIL, 1 - TAIL], df)
    seen = (high - low) / 2 * nodes + (high + low) / 2
    bound = stdtrit(df, 1 - level / 2) * seen / math.sqrt(df)
    found = ndtr(shift - bound) + ndtr(-shift - bound)
    return float((high - low) / 2 * (weights * stats.chi.pdf(seen, df) * found).sum())


def seeds_needed(*, std: float, effect: float, level: float, power: float) -> int | None:
    """Fewest seeds, at least two, with that power; None where `MOST_SEEDS` are too few."""

    def enough(n: int) -> bool:
        return power_of(std=std, effect=effect, n=n, level=level) >= power

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # one seed is no test; power grows with n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def smallest_effect(*, std: float, n: int, level: float, power: float) -> float | None:
    """Points that `n` seeds find with that power; None below two seeds."""
    if n < 2:
        return None
    high = 1.0
    while power_of(std=1.0, effect=high, n=n, level=level) < power:
        high *= 2
    found = brentq(lambda effect: power_of(std=1.0, effect=effect, n=n, level=level) - power, 1e-6, high)
    return std * float(found)


def upper_std(std: float, n: int, confidence: float = UPPER) -> float:
    """The one-sided upper confidence limit of a standard deviation of `n` values: s sqrt((n - 1) / chi²(1 - c))."""
    return std * math.sqrt((n - 1) / float(stats.chi2.ppf(1 - confidence, n - 1)))


def plans(who: Opponents, wanted: Wanted) -> list[Plan]:
    """A plan for every method and test set with a spread to plan from, in the order of the study.

    Raises:
        MissingError: none has two seeds whose differences are not the same.
    """
    found = []
    for test_set in who.sweep.study.test_sets:
        for method in who.others:
            pairs = compare(method.averages(who.metric, test_set), who.reference.averages(who.metric, test_set))
            if pairs.paired and pairs.std and pairs.difference is not None:
                found.append(_plan(who, method, test_set, pairs, pairs.std, pairs.difference, wanted))
    if not found:
        raise MissingError(
            f"no method of {who.sweep.layout.name} has two finished, tested seeds in common with "
            f"{who.reference.label}, with differences that are not the same",
            hint="let the sweep go on, or give it more seeds: a spread takes at least two",
        )
    return found


def _plan(
    who: Opponents, method: Method, test_set: str, pairs: Comparison, std: float, difference: float, wanted: Wanted
) -> Plan:
    upper, planned = upper_std(std, pairs.n), who.planned(method)
    own = [one.std or 0.0 for one in map(summarise, (pairs.a, pairs.b)) if one is not None]
    return Plan(
        method=method.label,
        test_set=test_set,
        n=pairs.n,
        planned=planned,
        difference=difference,
        std=std,
        std_upper=upper,
        std_unpaired=math.hypot(*own),
        correlation=correlation(pairs.a, pairs.b),
        smallest=smallest_effect(std=std, n=planned, level=wanted.level, power=wanted.power),
        smallest_upper=smallest_effect(std=upper, n=planned, level=wanted.level, power=wanted.power),
        effects=tuple(_seeds(who, method, one, (std, upper), wanted) for one in wanted.effects),
    )


def _seeds(who: Opponents, method: Method, effect: float, stds: tuple[float, float], wanted: Wanted) -> Seeds:
    needed = [seeds_needed(std=std, effect=effect, level=wanted.level, power=wanted.power) for std in stds]
    hours = [None if n is None else hours_left(method, n) + hours_left(who.reference, n) for n in needed]
    return Seeds(effect=effect, seeds=needed[0], seeds_upper=needed[1], hours=hours[0], hours_upper=hours[1])


def hours_left(method: Method, n_seeds: int) -> float:
    """GPU-hours or CPU-hours (`unit`) of training that a method's cell lacks to so many seeds, as its runs took."""
    seconds = summarise(record.train_seconds for record in method.records)
    each = seconds.mean / 3600 * unit(method.sweep)[1] if seconds is not None else 0.0
    return max(0, n_seeds - len(method.records)) * each


def unit(sweep: Sweep) -> tuple[str, float]:
    """What an hour of a run costs: GPU-hours, or CPU-hours where it has no GPU, and how many."""
    asked, resources = sweep.study.resources.gpu, sweep.study.resources
    gpus = (1.0 if sweep.resolved.device == "cuda" else 0.0) if asked == "auto" else float(asked)
    return ("GPU-hours", gpus) if gpus else ("CPU-hours", resources.cpu)
