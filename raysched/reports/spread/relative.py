"""What Figure 2 of the paper shows: target averages less that of full fine-tuning, or of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from raysched.reports.asked import Asked
from raysched.reports.document import Picture
from raysched.reports.methods import Method, model_name, objective
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.comparison import recognise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER
from raysched.reports.traces.gathering import labels
from raysched.study.model import MAIN

FULL = "full fine-tuning"
PUBLISHED_METHODS = ("standard", "gu")
"""Of Figure 2; what it shows of LPFT is tabulated nowhere."""
INTERVALS = "error bars: 95 % t interval of the difference, over seeds"
PRINTED = "error bars: the method's printed standard deviation over runs (full fine-tuning has none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A method's target average less that of `base`, in points, on one dataset and model.

    `interval` is the 95 % interval where there is one, paired by seed; of published numbers one printed standard
    deviation to either side.
    """

    model: str
    dataset: str
    method: str
    base: str
    points: float
    interval: tuple[float, float] | None
    short: bool = False
    """Whether seeds are missing, of the method or of `base`."""


Place = list[tuple[Sweep, str]]
"""Sweeps whose methods may be compared (same task, training rows, model and test rows), with the test set's name."""


def differences(asked: Asked) -> list[Difference]:
    """Against full fine-tuning where any of the comparable sweeps has it, else against the reference."""
    places = _places(asked.sweeps)
    names = [(model_name(place[0][0]), _dataset(*place[0])) for place in places]
    taken = Counter(names)
    found = []
    for place, (model, dataset) in zip(places, names, strict=True):
        test_sets = {sweep.layout.name: test_set for sweep, test_set in place}
        candidates = [one for one in asked.methods if any(one.sweep is sweep for sweep, _ in place)]
        base, base_name = _base(asked, candidates)
        labels = Counter(one.label for one in candidates)
        for one in candidates:
            compared = None if base is None or one is base else _less(one, base, test_sets)
            if compared is not None and base is not None:
                name = one.label if labels[one.label] == 1 else one.name
                found.append(
                    Difference(
                        model=model,
                        dataset=dataset if taken[model, dataset] == 1 else _own_name(*place[0]),
                        method=name,
                        base=base_name,
                        points=compared[0],
                        interval=compared[1],
                        short=not (one.complete and base.complete),
                    )
                )
    return found


def _places(sweeps: Sequence[Sweep]) -> list[Place]:
    groups: dict[tuple[object, ...], Place] = {}
    for sweep in sweeps:
        data = sweep.study.data
        for name, test_set in sweep.study.test_sets.items():
            rows = (data.train, data.train_examples, data.subset, test_set.test)
            groups.setdefault((sweep.study.task, *rows, model_name(sweep)), []).append((sweep, name))
    return list(groups.values())


def _dataset(sweep: Sweep, test_set: str) -> str:
    """The paper's name of the test rows, or the sweep's own."""
    return recognise(sweep.study.test_sets[test_set].test) or _own_name(sweep, test_set)


def _own_name(sweep: Sweep, test_set: str) -> str:
    return sweep.layout.name if test_set == MAIN else f"{sweep.layout.name} {test_set}"


def _base(asked: Asked, candidates: Sequence[Method]) -> tuple[Method | None, str]:
    """Full fine-tuning with all layers from the start, else the report's reference; and what to call it."""
    full = next((one for one in candidates if (one.point.method, one.point.schedule) == ("full", "standard")), None)
    if full is not None:
        return full, FULL
    references = (asked.reference_of(one.sweep) for one in candidates)
    return next((one for one in references if one is not None), None), asked.reference


def _less(one: Method, base: Method, test_sets: dict[str, str]) -> tuple[float, tuple[float, float] | None] | None:
    from raysched.reports.inference.means import compare

    metric = objective(one.sweep)
    averages = (each.averages(metric, test_sets[each.sweep.layout.name]) for each in (one, base))
    compared = compare(*averages)
    if compared.difference is None:
        return None
    interval = compared.interval
    return compared.difference, None if interval is None else (interval.low, interval.high)


def published() -> list[Difference]:
    """Figure 2 from the paper's printed numbers: adapters and GU less full fine-tuning (F1, or accuracy)."""
    numbers = {
        (cell.model, cell.dataset, cell.method): number
        for cell, number in paper.by_cell().items()
        if cell.language == paper.AVERAGE and cell.train_size == paper.FULL_SIZE[cell.dataset] and cell.metric != "EM"
    }
    found = []
    for model in ("mBERT", "XLM-R"):
        for dataset in paper.TARGETS:
            base = numbers[model, dataset, "full_ft"]
            for method in PUBLISHED_METHODS:
                number = numbers[model, dataset, method]
                points = round(number.mean - base.mean, 2)
                std = number.std
                found.append(
                    Difference(
                        model=model,
                        dataset=dataset,
                        method=method,
                        base=FULL,
                        points=points,
                        interval=None if std is None else (points - std, points + std),
                    )
                )
    return found


def pictures(asked: Asked) -> list[Picture]:
    """One figure per zero line; and the paper's own beside it where a sweep is of one of its models and datasets."""
    everything = differences(asked)
    among = labels(asked)
    found = []
    for base in dict.fromkeys(one.base for one in everything):
        mine = [one for one in everything if one.base == base]
        note = "" if base == FULL else f" No sweep has {FULL}, which Figure 2 of the paper is relative to."
        found.append(_picture(f"relative-to-{_stem(base)}", base, mine, INTERVALS, among, note=note))
    if any(_is_the_papers(sweep, name) for sweep in asked.sweeps for name in sweep.study.test_sets):
        note = " Published numbers; LPFT is tabulated nowhere."
        found.append(_picture("relative-published", FULL, published(), PRINTED, among, note=note, title="As published"))
    return found


def _is_the_papers(sweep: Sweep, test_set: str) -> bool:
    return model_name(sweep) in paper.MODELS and recognise(sweep.study.test_sets[test_set].test) is not None


def _stem(name: str) -> str:
    return "full" if name == FULL else "".join(sign if sign.isalnum() else "-" for sign in name.lower())


def _picture(
    name: str, base: str, of: Sequence[Difference], errors: str, among: Sequence[str], *, note: str, title: str = ""
) -> Picture:
    best, worst = max(of, key=lambda one: one.points), min(of, key=lambda one: one.points)
    above = sum(one.points > 0 for one in of)
    return Picture(
        name=name,
        title=f"{title or 'Target average'} relative to {base}",
        caption=f"Target average of each method less that of {base}, in points, per dataset and model (Figure 2 of the "
        f"paper); {errors}.{f' {DAGGER}: fewer seeds than planned.' if any(one.short for one in of) else ''}{note}",
        alt=f"Bars of differences to {base}: {above} of {len(of)} are above zero. The largest is {_words(best)}, the "
        f"smallest {_words(worst)}.",
        draw=lambda: _draw(of, base, errors, among),
    )


def _words(one: Difference) -> str:
    return f"{one.points:+.2f} points for {one.method} on {one.dataset} with {one.model}"


def _draw(of: Sequence[Difference], base: str, errors: str, among: Sequence[str]) -> object:
    from raysched.reports.figures.relative import Bar, relative  # matplotlib takes a second

    bars = [
        Bar(
            panel=one.model,
            group=one.dataset,
            method=one.method,
            points=one.points,
            low=one.interval[0] if one.interval else None,
            high=one.interval[1] if one.interval else None,
            mark=DAGGER if one.short else "",
        )
        for one in of
    ]
    return relative(bars, base, errors, among)
