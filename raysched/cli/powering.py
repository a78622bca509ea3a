"""`power`: how many seeds a difference takes, and what they cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from raysched.cli.looking import find
from raysched.cli.terminal import terminal
from raysched.errors import MissingError, StudyError

if TYPE_CHECKING:
    from raysched.reports.inference.claims import Opponents
    from raysched.reports.inference.power import Plan, Wanted


def power(
    name: str | None,
    storage: str,
    *,
    effect: float | None,
    level: float,
    target: float,
    reference: str,
    as_json: bool,
) -> None:
    """Print it for every method of a sweep against `reference`.

    Raises:
        StudyError: the effect is not above 0, the power not above the level, or the sweep has no such method.
        MissingError: there is no such sweep, or too few of its runs are done.
    """
    if effect is not None and effect <= 0:
        raise StudyError(f"must be above 0, but got {effect:g}", key="--effect", hint="give points, such as 1.0")
    if target <= level:
        raise StudyError(
            f"must be above --level, but got {target:g} at a level of {level:g}",
            key="--power",
            hint="0.8 is customary: a test finds as much as its level where there is nothing",
        )
    layout = find(name, storage)
    from raysched.reports.inference.power import EFFECTS, Wanted, plans

    who = _opponents(layout.name, storage, reference)
    wanted = Wanted(effects=EFFECTS if effect is None else (effect,), level=level, power=target)
    found = plans(who, wanted)
    if as_json:
        print(json.dumps(_to_json(who, wanted, found)))  # noqa: T201
    else:
        _show(who, wanted, found)


def _opponents(name: str, storage: str, reference: str) -> Opponents:
    from raysched.records.layout import SweepLayout
    from raysched.reports.asked import Asked
    from raysched.reports.inference.claims import Opponents
    from raysched.reports.sweep import read_sweep

    sweep = read_sweep(SweepLayout(storage, name))
    asked = Asked(sweeps=(sweep,), reference=reference)
    labels = [one.label for one in asked.methods]
    if not labels:
        raise MissingError(f"{name} has taken no point yet", key="SWEEP", hint="let the sweep go on first")
    if reference not in labels:
        raise StudyError(
            f"{name} has no method {reference!r}",
            key="--reference",
            choices=labels,
            hint="name the method that the others are compared with",
        )
    who = Opponents.of(asked, sweep)
    if who is None:
        raise MissingError(f"{name} has no method beside {reference}", key="SWEEP", hint="let the sweep go on first")
    return who


def _to_json(who: Opponents, wanted: Wanted, found: list[Plan]) -> dict[str, object]:
    from raysched.reports.inference.means import rank_test_floor, rank_test_seeds
    from raysched.reports.inference.power import UPPER, unit

    planned = min(plan.planned for plan in found)
    return {
        "sweep": who.sweep.layout.name,
        "reference": who.reference.label,
        "metric": who.metric,
        "level": wanted.level,
        "power": wanted.power,
        "upper_confidence": UPPER,
        "hours": unit(who.sweep)[0],
        "rank_test": {
            "seeds": planned,
            "smallest_p": rank_test_floor(planned),
            "seeds_needed": rank_test_seeds(wanted.level),
        },
        "methods": [asdict(plan) for plan in found],
    }


def _show(who: Opponents, wanted: Wanted, found: list[Plan]) -> None:
    from raysched.reports.inference.means import rank_test_floor, rank_test_seeds
    from raysched.reports.inference.power import UPPER, unit
    from raysched.reports.tables import metric_name

    console, metric = terminal(), metric_name(who.metric)
    console.print(
        f"{who.sweep.layout.name}: {metric} on the target average against {who.reference.label}; paired t-test, "
        f"level {wanted.level:g}, power {wanted.power:g}",
        highlight=False,
    )
    console.print(_spreads(who, found))
    console.print()
    console.print(_seeds(who, wanted, found))
    console.print(
        f"std: of the differences by seed (ddof 1); up to: its upper {100 * UPPER:.0f} % confidence limit, since few "
        f"seeds tell a spread poorly. {unit(who.sweep)[0]}: training of the seeds of both methods that are not done.",
        highlight=False,
    )
    planned, enough = min(plan.planned for plan in found), rank_test_seeds(wanted.level)
    if planned < enough:
        console.print(
            f"p < {wanted.level:g} is impossible by a rank test at n = {planned}: its smallest two-sided p is "
            f"{rank_test_floor(planned):g}; it takes {enough} seeds.",
            highlight=False,
        )


def _spreads(who: Opponents, found: list[Plan]) -> Table:
    """What was seen, and what the planned seeds find."""
    several = len(who.sweep.study.test_sets) > 1
    table = Table(box=None, pad_edge=False)
    for column in ("method", *(["test set"] if several else []), "pairs", "difference", "std", "up to"):
        table.add_column(column)
    for column in ("without pairing", "correlation", "planned seeds find", "up to"):
        table.add_column(column)
    for plan in found:
        table.add_row(
            plan.method,
            *([plan.test_set] if several else []),
            str(plan.n),
            f"{plan.difference:+.2f}",
            f"{plan.std:.2f}",
            f"{plan.std_upper:.2f}",
            f"{plan.std_unpaired:.2f}",
            "-" if plan.correlation is None else f"{plan.correlation:.2f}",
            f"{_points(plan.smallest)} with {plan.planned}",
            _points(plan.smallest_upper),
        )
    return table


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _seeds(who: Opponents, wanted: Wanted, found: list[Plan]) -> Table:
    """A row per method and effect."""
    from raysched.reports.inference.power import unit

    several = len(who.sweep.study.test_sets) > 1
    hours = unit(who.sweep)[0]
    table = Table(box=None, pad_edge=False)
    for column in ("method", *(["test set"] if several else []), "difference", "seeds", "up to", hours, "up to"):
        table.add_column(column)
    for plan in found:
        for one in plan.effects:
            table.add_row(
                plan.method,
                *([plan.test_set] if several else []),
                f"{one.effect:g}",
                _number(one.seeds),
                _number(one.seeds_upper),
                _points(one.hours),
                _points(one.hours_upper),
            )
    return table


def _number(seeds: int | None) -> str:
    from raysched.study.values import MOST_SEEDS

    return f"over {MOST_SEEDS}" if seeds is None else str(seeds)
