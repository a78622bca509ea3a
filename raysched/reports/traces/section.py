"""The report's section on tr(F): Figures 3 and 4 of the paper, and heat maps; that on orders is named here too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from raysched.reports.asked import Asked
from raysched.reports.document import Picture, Section
from raysched.reports.methods import objective
from raysched.reports.stats import groups
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, METRICS
from raysched.reports.traces import words
from raysched.reports.traces.curves import BANDS, Curve, mean, normalised, per_layer
from raysched.reports.traces.gathering import (
    Traced,
    labels,
    pair,
    seeds_text,
    stem,
    titled,
    traced,
    transfer,
    under,
    window_text,
)
from raysched.reports.traces.order_section import orders
from raysched.reports.traces.orders import wakes

__all__ = ["orders", "traces"]

MEANING = (
    "tr(F) is the trace of the Fisher information (the paper's equation 1): the expected squared gradient of the "
    "log-probability of a label that the model itself draws, summed over the weights of a layer's task adapter. It is "
    "measured beside training and changes nothing. The mean is over the adapters that are trainable at that step."
)
Learning = dict[tuple[str, ...], tuple[str, Curve, Curve]]
"""Methods of a group -> its text, normalised tr(F) and validation score."""
Found = Sequence[tuple[Sweep, Sequence[Traced]]]


def traces(asked: Asked) -> Section | None:
    """Figures 3 and 4 and the heat maps; None where no finished run logged tr(F)."""
    found = [(sweep, [one for one in traced(asked, sweep) if one.traces]) for sweep in asked.sweeps]
    found = [(sweep, methods) for sweep, methods in found if methods]
    if not found:
        return None
    pictures = []
    if pairs := [(sweep, pair(methods)) for sweep, methods in found if pair(methods)]:
        title = "tr(F) during training: standard and gradual unfreezing"
        pictures.append(_curves(asked, pairs, "fisher-standard-gu", title))
    if any(len(pair(methods)) < len(methods) for _, methods in found):
        pictures.append(_curves(asked, found, "fisher-methods", "tr(F) during training: all methods"))
    for sweep, methods in found:
        drawn = _groups(asked, sweep, methods)
        pictures += [drawn] if drawn is not None else []
        pictures.append(_layers(asked, sweep, methods))
    return Section(title="Fisher traces", text=(MEANING,), pictures=tuple(pictures))


def _curves(asked: Asked, found: Found, name: str, title: str) -> Picture:
    panels = {titled(asked, sweep): {one.label: one.traces for one in methods} for sweep, methods in found}
    each = [
        under(titled(asked, sweep), f"{seeds_text([one.method for one in methods])}, {window_text(methods)}")
        for sweep, methods in found
    ]
    few = f" (where a panel has {BANDS} methods at most)" if any(len(of) > BANDS for of in panels.values()) else ""
    scales = " Each panel has a scale of its own." if len(panels) > 1 else ""
    return Picture(
        name=name,
        title=title,
        caption="Mean tr(F) per trainable task adapter against the step (the paper's Figure 3). Line: mean over seeds; "
        f"band: lowest to highest seed{few}, both after smoothing. {'; '.join(each)}.{scales}",
        alt=words.curves(panels),
        draw=partial(_draw_curves, panels, labels(asked)),
    )


def _groups(asked: Asked, sweep: Sweep, methods: Sequence[Traced]) -> Picture | None:
    """Figure 4 of one sweep; None where no method was both measured and tested."""
    scored = {one.label: value for one in methods if (value := transfer(one.method)) is not None}
    of = {one.label: one for one in methods}
    learning: Learning = {}
    for names in groups(scored):
        inside = [of[name] for name in names]
        trace = normalised(mean([mean(one.traces) for one in inside]))
        scores = mean([mean(one.validation) for one in inside])
        if trace and scores:
            marks = ["" if one.method.complete else f" {DAGGER}" for one in inside]
            each = [f"{name} {scored[name]:.2f}{mark}" for name, mark in zip(names, marks, strict=True)]
            learning[tuple(names)] = (", ".join(each), trace, scores)
    if not learning:
        return None
    metric = METRICS.get(objective(sweep), objective(sweep))
    return Picture(
        name=stem(asked, "fisher-groups", sweep),
        title=under(titled(asked, sweep), "tr(F) and validation score of methods that transfer alike"),
        caption="Above, tr(F) scaled to [0, 1] line by line; below, the score on the source language's dev set (the "
        "paper's Figure 4). A line is the mean over the methods of a group, and of each over its seeds. Numbers are "
        f"each method's mean {metric} over the targets. Groups by the paper's footnote 9, the best first: all within 1 "
        f"point of the best one left. {seeds_text([of[name].method for name in scored])}; tr(F): "
        f"{window_text(methods)}; scores as measured, on straight lines between measurements.",
        alt=words.groups(list(learning.values()), metric),
        draw=partial(_draw_groups, learning, metric, labels(asked)),
    )


def _layers(asked: Asked, sweep: Sweep, methods: Sequence[Traced]) -> Picture:
    maps = {one.label: per_layer(list(one.logs.values())) for one in methods}
    woken = {one.label: [wakes(record) for record in one.method.records] for one in methods}
    return Picture(
        name=stem(asked, "fisher-layers", sweep),
        title=under(titled(asked, sweep), "tr(F) of every layer, by step"),
        caption="Colour: tr(F) of each layer's task adapter, trainable or not, mean over seeds, not smoothed, on one "
        "logarithmic scale for all panels. Dots: the steps at which the seeds woke a layer, a bar spans them. A layer "
        f"without dots was awake from the start, or never. {seeds_text([one.method for one in methods])}.",
        alt=words.layers(maps, woken),
        draw=partial(_draw_layers, maps, woken),
    )


def _draw_curves(panels: Mapping[str, Mapping[str, Sequence[Curve]]], among: Sequence[str]) -> Any:
    from raysched.reports.figures import fisher  # matplotlib takes a second

    return fisher.traces(panels, among)


def _draw_groups(learning: Learning, metric: str, among: Sequence[str]) -> Any:
    from raysched.reports.figures import fisher

    return fisher.groups(learning, metric, among)


def _draw_layers(maps: Mapping[str, Mapping[int, Sequence[float]]], woken: Mapping[str, list[dict[int, int]]]) -> Any:
    from raysched.reports.figures import fisher

    return fisher.layers(maps, woken)
