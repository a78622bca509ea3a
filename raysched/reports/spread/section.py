"""How scores spread: over seeds, over languages, over steps and compute; and Figure 2 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysched.reports.asked import Asked
from raysched.reports.document import Picture, Section, Table, counted
from raysched.reports.methods import Method, objective
from raysched.reports.spread import equal, relative
from raysched.reports.spread.compute import COST
from raysched.reports.stats import summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, metric_name
from raysched.reports.traces.gathering import labels, seeds_text, stem, titled, under

DOTS = "Dots are seeds; the bar above them is the 95 % t interval of their mean (ddof 1), none where seeds are alike."


def spread(asked: Asked) -> Section | None:
    """Pictures of every sweep, a table of scores at equal compute, and Figure 2; None where no run is finished."""
    pictures: list[Picture] = []
    tables: list[Table] = []
    text: list[str] = []
    for sweep in asked.sweeps:
        for test_set in sweep.study.test_sets:
            pictures += _dots(asked, sweep, test_set) + _languages(asked, sweep, test_set)
        found = equal.runs(asked, sweep)
        if found:
            pictures.append(equal.picture(asked, sweep, found, stem(asked, "progress", sweep)))
            tables.append(equal.table(asked, sweep, found, stem(asked, "equal-compute", sweep)))
            text = [COST]
    pictures += relative.pictures(asked)
    if not pictures:
        return None
    return Section(
        title="Seeds, languages, and equal compute", text=tuple(text), tables=tuple(tables), pictures=tuple(pictures)
    )


def _tested(asked: Asked, sweep: Sweep, test_set: str) -> list[Method]:
    """Methods with a score on any language of the test set."""
    metric, languages = objective(sweep), sweep.study.test_sets[test_set].languages
    mine = [one for one in asked.methods if one.sweep is sweep]
    return [one for one in mine if any(one.scores(metric, language, test_set) for language in languages)]


def _dots(asked: Asked, sweep: Sweep, test_set: str) -> list[Picture]:
    metric, methods = objective(sweep), [one for one in asked.methods if one.sweep is sweep]
    named = "target average" if len(sweep.study.test_sets) == 1 else f"target average ({test_set})"
    panels = {
        named: {one.label: scores for one in methods if (scores := one.averages(metric, test_set))},
        "source dev": {one.label: scores for one in methods if (scores := one.source_dev(metric))},
    }
    panels = {title: of for title, of in panels.items() if of}
    if named not in panels:
        return []
    label = f"{metric_name(metric)} (0-100)"
    return [
        Picture(
            name=stem(asked, f"seeds-{test_set}", sweep),
            title=under(titled(asked, sweep), f"{metric_name(metric)} of every seed on {test_set}"),
            caption=f"{DOTS} {seeds_text(methods)}.",
            alt=_dots_in_words(panels[named], metric_name(metric)),
            draw=lambda: _draw_dots(panels, label, labels(asked)),
        )
    ]


def _dots_in_words(of: Mapping[str, Mapping[int, float]], metric: str) -> str:
    """Means and ranges, the best first."""
    means = {name: summary.mean for name, scores in of.items() if (summary := summarise(scores.values())) is not None}
    order = sorted(means, key=lambda name: -means[name])
    each = [
        f"{name} {means[name]:.1f} ({min(of[name].values()):.1f} to {max(of[name].values()):.1f})" for name in order
    ]
    return f"Dots of each seed's target average in {metric}, a row per method. Means, and lowest to highest seed: " + (
        "; ".join(each) + "."
    )


def _draw_dots(panels: Mapping[str, Mapping[str, Mapping[int, float]]], label: str, among: Sequence[str]) -> Any:
    from raysched.reports.figures.scores import Seeds, dots  # matplotlib takes a second
    from raysched.reports.inference.means import mean_interval

    drawn: dict[str, dict[str, Seeds]] = {}
    for title, of in panels.items():
        drawn[title] = {}
        for name, scores in of.items():
            summary, interval = summarise(scores.values()), mean_interval(scores.values())
            assert summary is not None, "a method without scores is in no panel"
            ends = None if interval is None else (interval.low, interval.high)
            drawn[title][name] = Seeds(scores=scores, mean=summary.mean, interval=ends)
    return dots(drawn, label, among)


def _languages(asked: Asked, sweep: Sweep, test_set: str) -> list[Picture]:
    """Scores, and differences to the reference where it was tested and has company."""
    methods = _tested(asked, sweep, test_set)
    if not methods:
        return []
    metric, source = objective(sweep), sweep.study.model.source_language
    languages = sweep.study.test_sets[test_set].languages
    columns = [f"{one}\n(source)" if one == source else one for one in languages]
    title = titled(asked, sweep)
    scores = {_label(one): [_mean(one.scores(metric, language, test_set)) for language in languages] for one in methods}
    unit = f"{metric_name(metric)} (0-100)"
    found = [
        Picture(
            name=stem(asked, f"languages-{test_set}", sweep),
            title=under(title, f"{metric_name(metric)} per language of {test_set}"),
            caption=f"{unit}, mean over seeds. {seeds_text(methods)}.",
            alt=_languages_in_words(scores, languages, "scores"),
            draw=lambda: _draw_languages(scores, columns, unit, False),
        )
    ]
    reference = asked.reference_of(sweep)
    others = [one for one in methods if one is not reference]
    if reference in methods and others:
        less = {_label(one): _less(one, reference, metric, languages, test_set) for one in others}
        points = f"{metric_name(metric)} less {reference.label} (points)"
        found.append(
            Picture(
                name=stem(asked, f"languages-less-{reference.label.replace(' ', '-')}-{test_set}", sweep),
                title=under(title, f"Difference to {reference.label} per language of {test_set}"),
                caption=f"{points}, mean over the seeds that both have. {seeds_text(methods)}.",
                alt=_languages_in_words(less, languages, "differences", signed=True),
                draw=lambda: _draw_languages(less, columns, f"less {reference.label}\n(points)", True),
            )
        )
    return found


def _label(method: Method) -> str:
    return method.label if method.complete else f"{method.label} {DAGGER}"


def _mean(scores: Mapping[int, float]) -> float | None:
    summary = summarise(scores.values())
    return None if summary is None else summary.mean


def _less(one: Method, reference: Method, metric: str, languages: Sequence[str], test_set: str) -> list[float | None]:
    found = []
    for language in languages:
        mine, its = one.scores(metric, language, test_set), reference.scores(metric, language, test_set)
        found.append(_mean({seed: mine[seed] - its[seed] for seed in mine.keys() & its.keys()}))
    return found


def _languages_in_words(
    values: Mapping[str, Sequence[float | None]], languages: Sequence[str], what: str, *, signed: bool = False
) -> str:
    known = [
        (value, method, language)
        for method, row in values.items()
        for language, value in zip(languages, row, strict=True)
        if value is not None
    ]
    if not known:
        return f"A heat map of {what} by method and language, without a number yet."
    ends = " and ".join(
        f"{value:+.1f} ({method}, {language})" if signed else f"{value:.1f} ({method}, {language})"
        for value, method, language in (min(known), max(known))
    )
    size = f"{counted(len(values), 'method')} by {counted(len(languages), 'language')}"
    return f"A heat map of {what}, {size}. Lowest and highest: {ends}."


def _draw_languages(
    values: Mapping[str, Sequence[float | None]], columns: Sequence[str], label: str, around_zero: bool
) -> Any:
    from raysched.reports.figures.scores import languages  # matplotlib takes a second

    return languages(values, columns, label, around_zero=around_zero)
