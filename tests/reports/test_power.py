"""Seeds for an effect: by hand, by statsmodels, and as the command tells them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from raysched.errors import BAD_INPUT, OUTSIDE_MISSING
from raysched.reports.asked import Asked
from raysched.reports.inference.claims import Opponents
from raysched.reports.inference.power import (
    Wanted,
    hours_left,
    plans,
    power_of,
    seeds_needed,
    smallest_effect,
    unit,
    upper_std,
)
from raysched.reports.sweep import read_sweep
from raysched.study.space import points
from raysched.study.values import MOST_SEEDS
from tests.cli.conftest import Raysched, raysched

__all__ = ["raysched"]

NOISE = (0.0, 1.0, -1.0, 2.0, -2.0)
"""Differences beside their mean, by seed: their variance is 10 / 4."""
STD = math.sqrt(2.5)


@pytest.fixture
def noisy(made_up: Callable[..., Any]) -> Any:
    """Five seeds of two methods; `gu` is 3 points and `NOISE` above `standard`, whose seeds are one apart."""
    sweep = made_up(schedules=("standard", "gu"), seeds=tuple(range(5)))
    for number, point in enumerate(points(sweep.study.search)):
        for spec in sweep.take(number, point):
            gain = 3.0 + NOISE[spec.seed] if point.schedule == "gu" else 0.0
            scores = {name: {"f1": 50.0 + spec.seed + gain, "em": 30.0} for name in ("en", "de", "th")}
            sweep.finish(spec, tests={spec.evaluation_ids["test"]: scores})
    return sweep


def opponents(made: Any) -> Opponents:
    sweep = read_sweep(made.layout)
    who = Opponents.of(Asked(sweeps=(sweep,)), sweep)
    assert who is not None
    return who


@pytest.mark.parametrize("n", [2, 3, 4, 10, 200])
@pytest.mark.parametrize("effect", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("level", [0.01, 0.05])
def test_power_is_statsmodels(n: int, effect: float, level: float) -> None:
    expected = TTestPower().power(effect, n, level)
    assert power_of(std=2.0, effect=2.0 * effect, n=n, level=level) == pytest.approx(expected, abs=1e-10)


def test_power_by_hand() -> None:
    """Of nothing it is the level. With very many seeds the test is that of a normal distribution: at 2.8016 = 1.96 +
    0.8416 standard errors it finds the difference in 80 % of cases."""
    assert power_of(std=1.0, effect=0.0, n=4, level=0.05) == pytest.approx(0.05)
    assert power_of(std=1.0, effect=2.8016 / 100, n=10_000, level=0.05) == pytest.approx(0.8, abs=1e-3)


def test_seeds_by_cohens_table() -> None:
    """Cohen 1988: a paired difference of half a standard deviation takes 34 pairs at 5 % two-sided and power 0.8."""
    assert seeds_needed(std=2.0, effect=1.0, level=0.05, power=0.8) == 34
    assert seeds_needed(std=1.0, effect=1.0, level=0.05, power=0.8) == 10


@pytest.mark.parametrize("effect", [0.3, 1.0, 2.5, 20.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_seeds_are_the_fewest(effect: float, power: float) -> None:
    n = seeds_needed(std=1.0, effect=effect, level=0.05, power=power)
    assert n is not None
    assert power_of(std=1.0, effect=effect, n=n, level=0.05) >= power
    assert n == 2 or power_of(std=1.0, effect=effect, n=n - 1, level=0.05) < power


def test_no_number_of_seeds() -> None:
    assert seeds_needed(std=1.0, effect=0.01, level=0.05, power=0.8) is None


@pytest.mark.parametrize(("n", "effect"), [(4, 4.0), (4, 100.0), (250, 2.5), (1000, 1e4)])
def test_power_where_scipys_noncentral_t_gives_up(n: int, effect: float) -> None:
    assert 0.998 < power_of(std=1.0, effect=effect, n=n, level=0.05) <= 1 + 1e-12


@pytest.mark.parametrize("n", [2, 4, 30])
def test_smallest_effect_is_found_with_just_the_power(n: int) -> None:
    effect = smallest_effect(std=1.5, n=n, level=0.05, power=0.8)
    assert effect is not None
    assert power_of(std=1.5, effect=effect, n=n, level=0.05) == pytest.approx(0.8, abs=1e-6)
    assert smallest_effect(std=1.5, n=1, level=0.05, power=0.8) is None


def test_upper_limit_of_a_std() -> None:
    """chi² with two degrees of freedom is exponential: its 20 % quantile is -2 ln 0.8."""
    assert upper_std(2.0, 3) == pytest.approx(2.0 * math.sqrt(2 / (-2 * math.log(0.8))))
    assert upper_std(2.0, 1000) == pytest.approx(2.0, rel=0.03)


def test_plan_of_a_sweep(noisy: Any) -> None:
    (plan,) = plans(opponents(noisy), Wanted(effects=(1.0, 3.0, 0.001)))
    assert (plan.method, plan.test_set, plan.n, plan.planned) == ("gu", "test", 5, 5)
    assert (plan.difference, plan.std) == (pytest.approx(3.0), pytest.approx(STD))
    gu, standard = [3 + seed + NOISE[seed] for seed in range(5)], [float(seed) for seed in range(5)]
    assert plan.correlation == pytest.approx(stats.pearsonr(gu, standard).statistic)
    assert plan.std_unpaired == pytest.approx(math.sqrt(stats.tvar(gu) + 2.5))
    one, three, tiny = plan.effects
    assert one.seeds == math.ceil(TTestPower().solve_power(effect_size=1 / STD, alpha=0.05, power=0.8))
    assert one.seeds_upper is not None
    assert one.seeds_upper > one.seeds
    # A run trains for a quarter of an hour, and five of each method are done.
    assert one.hours == pytest.approx((one.seeds - 5) * 2 * 0.25)
    assert three.seeds is not None
    assert three.seeds <= 5
    assert three.hours == 0.0
    assert (tiny.seeds, tiny.hours) == (None, None)


def test_hours_are_of_what_a_run_takes(made_up: Callable[..., Any]) -> None:
    for gpu, cpu, expected in ((0.5, 1, ("GPU-hours", 0.5)), (0, 2, ("CPU-hours", 2)), ("auto", 1, ("CPU-hours", 1))):
        sweep = made_up(schedules=("standard", "gu"), resources={"gpu": gpu, "cpu": cpu})
        sweep.all()
        who = opponents(sweep)
        assert unit(who.sweep) == expected
        assert hours_left(who.reference, 6) == pytest.approx(4 * 0.25 * expected[1])
        assert hours_left(who.reference, 1) == 0.0
        sweep.ledger.close()


def test_command(noisy: Any, raysched: Raysched) -> None:
    storage = noisy.layout.storage
    shown = raysched("power", "made-up", "--storage", storage, "--effect", "1")
    assert shown.code == 0
    needed = seeds_needed(std=STD, effect=1.0, level=0.05, power=0.8)
    upper = seeds_needed(std=upper_std(STD, 5), effect=1.0, level=0.05, power=0.8)
    assert [*filter(lambda line: line.split()[:4] == ["gu", "1", str(needed), str(upper)], shown.out.splitlines())]
    assert "impossible by a rank test at n = 5" in shown.out
    assert "0.0625; it takes 6 seeds" in shown.out
    assert "CPU-hours" in shown.out
    table = raysched("power", "--storage", storage).out
    assert [line.split()[1] for line in table.splitlines() if line.startswith("gu")][1:] == ["0.5", "1", "2", "3", "5"]
    wide = raysched("power", "--storage", storage, "--power", "0.9", "--level", "0.01", "--json")
    told = json.loads(wide.out)
    assert (told["level"], told["power"], told["reference"], told["metric"]) == (0.01, 0.9, "standard", "f1")
    assert told["methods"][0]["std"] == pytest.approx(STD)
    assert told["rank_test"] == {"seeds": 5, "smallest_p": 0.0625, "seeds_needed": 8}


def test_beyond_all_seeds(noisy: Any, raysched: Raysched) -> None:
    shown = raysched("power", "--storage", noisy.layout.storage, "--effect", "0.001")
    assert f"over {MOST_SEEDS}" in shown.out


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--effect", "0"], BAD_INPUT, ["--effect", "above 0"]),
        (["--power", "0.04"], BAD_INPUT, ["--power", "above --level"]),
        (["--reference", "gruyere"], BAD_INPUT, ["--reference", "gruyere", "valid: standard, gu"]),
    ],
)
def test_bad_input(noisy: Any, raysched: Raysched, options: list[str], code: int, told: list[str]) -> None:
    refused = raysched("power", "made-up", "--storage", noisy.layout.storage, *options)
    assert refused.code == code
    for part in told:
        assert part in refused.err


def test_no_such_sweep(noisy: Any, raysched: Raysched) -> None:
    refused = raysched("power", "nowhere", "--storage", noisy.layout.storage)
    assert refused.code == OUTSIDE_MISSING
    assert "valid: made-up" in refused.err


def test_too_few_seeds(made_up: Callable[..., Any], raysched: Raysched) -> None:
    sweep = made_up(schedules=("standard", "gu"))
    storage = sweep.layout.storage
    nothing = raysched("power", "--storage", storage)
    assert (nothing.code, "no point yet" in nothing.err) == (OUTSIDE_MISSING, True)
    standard, gu = points(sweep.study.search)
    (first, *_) = sweep.take(0, standard)
    alone = raysched("power", "--storage", storage)
    assert (alone.code, "no method beside standard" in alone.err) == (OUTSIDE_MISSING, True)
    sweep.finish(first)
    sweep.finish(sweep.take(1, gu)[0])
    few = raysched("power", "--storage", storage)
    assert few.code == OUTSIDE_MISSING
    assert "two finished, tested seeds in common with standard" in few.err
    assert "next:" in few.err
