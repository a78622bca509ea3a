"""tr(F) as a proxy of transfer (the paper, section 5.2): which signal without target labels picks the better one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysched.reports.asked import Asked
from raysched.reports.document import Picture, Section, Table
from raysched.reports.methods import objective
from raysched.reports.sweep import Sweep
from raysched.reports.tables import contender, metric_name
from raysched.reports.traces.features import DEFINITIONS, NAMES
from raysched.reports.traces.gathering import labels, stem, titled, under
from raysched.reports.traces.observed import SIGNALS, SOURCE_DEV, Features, features, run_signals, signal_name
from raysched.reports.traces.proxy_tables import choice_table, feature_table, rank_table
from raysched.reports.traces.signals import Run, rank

QUESTION = (
    "Signals that need no label of a target language, and how well each tells which configuration transfers best. "
    "A configuration is a point of the search with all of its seeds; the target average is looked at only here, after "
    "training and selection. Which way a feature of tr(F) points is not fixed beforehand, so both are shown: the "
    "better of two ways, picked after looking at the targets, is no longer free of target labels."
)


def proxy(asked: Asked) -> Section | None:
    """Features of tr(F), their correlation with transfer, and what choosing by them gives; None without tr(F)."""
    tables: list[Table] = []
    pictures: list[Picture] = []
    smoothing: dict[str, str] = {}
    for sweep in asked.sweeps:
        found = features(asked, sweep)
        if not found.hills:
            continue
        tables.append(feature_table(asked, sweep, found))
        smoothing[titled(asked, sweep)] = _smoothing(found)
        for test_set in sweep.study.test_sets:
            runs = run_signals(sweep, found, test_set)
            if runs:
                tables += [rank_table(asked, sweep, test_set, runs), choice_table(asked, sweep, test_set, runs)]
                pictures += _picture(asked, sweep, test_set, runs)
    if not tables:
        return None
    same = len(set(smoothing.values())) == 1
    curves = list(smoothing.values())[:1] if same else [under(title, text) for title, text in smoothing.items()]
    definitions = "\n".join(f"- {one}" for one in DEFINITIONS)
    return Section(
        title="tr(F) as a proxy of transfer",
        text=(QUESTION, definitions, *curves),
        tables=tuple(tables),
        pictures=tuple(pictures),
    )


def _smoothing(found: Features) -> str:
    how = "is not smoothed" if found.window == 1 else f"is a centred moving average over {found.window} measurements"
    return f"The smoothed curve of tr(F) {how}; without a number: not defined within the steps that were measured."


def _picture(asked: Asked, sweep: Sweep, test_set: str, runs: Sequence[Run]) -> list[Picture]:
    """Every signal that three runs have against the target average; none where no signal has."""
    metric = metric_name(objective(sweep))
    kinds = {str(point): contender(point) for point in sweep.points.values()}
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for signal in SIGNALS:
        of: dict[str, list[tuple[float, float]]] = {}
        for run in runs:
            value = run.signals[signal]
            if value is not None:
                of.setdefault(kinds[run.cell], []).append((value, run.target))
        if sum(map(len, of.values())) > 2:
            label = f"source dev, {metric} (0-100)" if signal == SOURCE_DEV else NAMES[signal]
            panels[label] = of
    if not panels:
        return []
    return [
        Picture(
            name=stem(asked, f"proxy-{test_set}", sweep),
            title=under(titled(asked, sweep), "Signals without target labels, and transfer"),
            caption=f"Each run's signal against its {metric} averaged over the targets of {test_set}; a marker is a "
            "run, of any configuration.",
            alt=_words(runs),
            draw=lambda: _draw(panels, f"target average,\n{metric} (0-100)", labels(asked)),
        )
    ]


def _words(runs: Sequence[Run]) -> str:
    """The correlations, in words."""
    ranks = {signal_name(signal): found.spearman for signal in SIGNALS if (found := rank(runs, signal)) is not None}
    if not ranks:
        return f"Scatter plots of {len(runs)} runs, too few or too alike for a rank correlation."
    each = ", ".join(f"{name} {value:+.2f}" for name, value in ranks.items())
    strongest = max(ranks, key=lambda name: abs(ranks[name]))
    return (
        f"Scatter plots of {len(runs)} runs. The target average goes most clearly with {strongest}. "
        f"Spearman's rank correlations with it: {each}."
    )


def _draw(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], metric: str, among: Sequence[str]) -> Any:
    from raysched.reports.figures.scores import against  # matplotlib takes a second

    return against(panels, metric, among)
