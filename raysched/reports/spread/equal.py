"""Source-dev scores at equal steps and at equal compute: pictures, and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Picture, Row, Table
from raysched.reports.methods import Method, objective
from raysched.reports.spread.compute import Progress, progress
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import metric_name
from raysched.reports.traces.curves import Curve, band
from raysched.reports.traces.gathering import labels, titled, under

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the smallest compute that a method's whole run took."""
STEPS, COMPUTE = "step (completed\noptimizer steps)", "compute\n(standard steps)"
SECONDS = "measured seconds, with\nevaluation and logging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A method's runs, by seed, as far as their histories could be read."""

    method: Method
    by_seed: Mapping[int, Progress]


def runs(asked: Asked, sweep: Sweep) -> list[Runs]:
    """The methods of a sweep with at least one run that was evaluated; damaged histories are named in `asked`."""
    found = []
    for method in (one for one in asked.methods if one.sweep is sweep):
        by_seed = {}
        for record in method.records:
            rows = asked.history(sweep, record)
            made = progress(sweep, record, rows, objective(sweep)) if rows is not None else None
            if made is not None:
                by_seed[record.seed] = made
        if by_seed:
            found.append(Runs(method=method, by_seed=by_seed))
    return found


def comparable(sweep: Sweep, of: Sequence[Runs]) -> bool:
    """Whether seconds may be set beside each other: none was interrupted, and all ran on the same kind of machine."""
    machines = set()
    for each in of:
        for record in each.method.records:
            machines.add(repr([record.provenance.get(key) for key in ("host", "cpu", "gpus", "cores", "threads")]))
    return len(machines) == 1 and all(one.seconds is not None for each in of for one in each.by_seed.values())


def picture(asked: Asked, sweep: Sweep, of: Sequence[Runs], name: str) -> Picture:
    """The score against steps, compute and, where comparable, seconds."""
    metric = metric_name(objective(sweep))
    axes: dict[str, Callable[[Progress], Sequence[float]]] = {
        STEPS: lambda one: one.steps,
        COMPUTE: lambda one: one.compute,
    }
    timed = comparable(sweep, of)
    if timed:
        axes[SECONDS] = lambda one: one.seconds or ()
    panels = {label: {each.method.label: _curves(each, x) for each in of} for label, x in axes.items()}
    seconds = (
        "; right: against the seconds since a run's start, which hold what else the machine did"
        if timed
        else "; seconds are not drawn, for runs were interrupted or ran on different machines"
    )
    return Picture(
        name=name,
        title=under(titled(asked, sweep), "Source dev at equal steps and at equal compute"),
        caption=f"{metric} on source dev, mean over seeds and their range; against completed steps, and against "
        f"compute in standard steps{seconds}. Scores of the first quarter may lie below the axis.",
        alt=_words(of, metric),
        draw=lambda: _draw(panels, f"{metric} on\nsource dev (0-100)", labels(asked)),
    )


def _curves(each: Runs, x: Callable[[Progress], Sequence[float]]) -> list[Curve]:
    """Per seed, score by x; x in thousandths, for a curve's keys are whole numbers."""
    return [
        {round(1000 * at): score for at, score in zip(x(one), one.scores, strict=True)} for one in each.by_seed.values()
    ]


def _draw(panels: Mapping[str, Mapping[str, Sequence[Curve]]], score: str, among: Sequence[str]) -> Any:
    from raysched.reports.figures.progress import Line, progress  # matplotlib takes a second

    lines: dict[str, dict[str, Line]] = {}
    for label, methods in panels.items():
        lines[label] = {}
        for name, curves in methods.items():
            places = band(curves)
            places = places[:: max(1, len(places) // max(map(len, curves)))]  # seeds differ in seconds: one of each n
            lines[label][name] = Line(
                x=tuple(one.step / 1000 for one in places),
                mean=tuple(one.mean for one in places),
                low=tuple(one.low for one in places),
                high=tuple(one.high for one in places),
            )
    return progress(lines, score, among)


def _words(of: Sequence[Runs], metric: str) -> str:
    """Who leads at a quarter of the smallest compute, and at the end of it."""
    budget = smallest(of)
    parts = []
    for share, when in ((SHARES[0], "a quarter of"), (1.0, "all of")):
        means = {each.method.label: one.mean for each in of if (one := _within(each, share * budget)) is not None}
        if means:
            order = sorted(means, key=lambda name: -means[name])
            scores = ", ".join(f"{name} {means[name]:.1f}" for name in order)
            parts.append(f"within {when} the compute of the cheapest method: {scores}")
    return f"Lines of {metric} on source dev rising with training, one per method. Best checkpoint {'; '.join(parts)}."


def smallest(of: Sequence[Runs]) -> float:
    """The least compute that a method's whole run takes, mean over its seeds, in standard steps."""
    totals = [summarise(one.total for one in each.by_seed.values()) for each in of]
    return min(summary.mean for summary in totals if summary is not None)


def _within(each: Runs, budget: float) -> Summary | None:
    """The score of the best checkpoint by then; None unless every run was evaluated by then."""
    scores = [one.within(budget) for one in each.by_seed.values()]
    return None if None in scores else summarise(score for score in scores if score is not None)


def _one_digit(of: Summary | None) -> str:
    if of is None:
        return "-"
    return f"{of.mean:.1f}" if not of.std else f"{of.mean:.1f} ± {of.std:.1f}"


def table(asked: Asked, sweep: Sweep, of: Sequence[Runs], name: str) -> Table:
    """Per method: compute and seconds of a whole run, source dev within shares of the smallest, targets at the end."""
    metric, budget = objective(sweep), smallest(of)
    targets = [(name_, test_set) for name_, test_set in sweep.study.test_sets.items() if sweep.targets(name_)]
    timed = comparable(sweep, of)
    rows = []
    for each in of:
        planned = each.method.planned
        total = summarise(one.total for one in each.by_seed.values())
        seconds = summarise(record.train_seconds for record in each.method.records)
        cells = [
            Cell(text=_one_digit(total)),
            Cell(text=_one_digit(seconds) if timed else "-"),
            *(Cell(scores=(_within(each, share * budget),), planned=planned) for share in SHARES),
            *(
                Cell(scores=(summarise(each.method.averages(metric, test_set).values()),), planned=planned)
                for test_set, _ in targets
            ),
        ]
        rows.append(Row(labels=(each.method.label,), cells=tuple(cells)))
    ends = ["target average" if len(targets) == 1 else f"target average ({test_set})" for test_set, _ in targets]
    return Table(
        name=name,
        title=under(titled(asked, sweep), f"{metric_name(metric)} on source dev at equal compute"),
        stub=("method",),
        columns=(
            "compute (standard steps)",
            "seconds",
            *(f"source dev at {100 * share:.0f} %" for share in SHARES),
            *(f"{end}, at the end" for end in ends),
        ),
        blocks=(tuple(rows),),
        notes=(
            f"100 % is the compute of the cheapest method's whole run, {budget:.1f} standard steps. A score is that of "
            "the best checkpoint by then; - where a run was not evaluated so early.",
            "Targets are tested on the checkpoint that the whole run selects, never before.",
            "Seconds are those of whole attempts, with evaluation and tests."
            if timed
            else "Seconds are not set beside each other: runs were interrupted, or ran on different machines.",
        ),
        metrics=(metric,),
    )
