"""Figures of the Fisher trace tr(F): Figures 3 and 4 of the paper, and the heat map of layers and steps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from raysched.reports.figures.canvas import (
    GREY,
    MISSING,
    Style,
    grid,
    legend,
    look,
    panels,
    styled,
    title,
    whole_numbers,
)
from raysched.reports.traces.curves import BANDS, Curve, band

Wakes = Mapping[int, int]
"""Layer -> step at which it woke, in one run."""
STEP = "step (completed optimizer steps)"
TRACE = "tr(F) per trainable adapter (nats²)"
MARKS = 8
"""So many markers per line at most: they tell lines apart, the line shows the measurements."""
LEAST = 5.0
"""Points that an axis of scores spans at least."""
WRAP = 90
"""Characters per line of a legend."""
MAP = "viridis"
"""Even in lightness, so that it keeps its order in grey and for colour-blind readers."""
LAYER = "layer (0 = lowest)"
_WOKEN: dict[str, Any] = {
    "color": "white",
    "linewidth": 1.2,
    "marker": "o",
    "markersize": 2.2,
    "path_effects": [patheffects.withStroke(linewidth=2.6, foreground="black")],
}


def traces(sweeps: Mapping[str, Mapping[str, Sequence[Curve]]], among: Sequence[str] = ()) -> Figure:
    """Figure 3: mean tr(F) per trainable adapter against the step, a line (mean) and a band (range) over seeds.

    A panel per sweep, by title; each holds, per method, a curve (nats² by step) per seed, smoothed or not. `among` are
    all methods of a report: they keep their colours. The axis is logarithmic where values differ 100-fold. Panels of
    more than `BANDS` methods have no bands.
    """
    columns = min(2, len(sweeps))
    rows = -(-len(sweeps) // columns)
    names = list(dict.fromkeys(name for methods in sweeps.values() for name in methods))
    figure, array = grid(rows, columns, height=2.4 * rows + 0.5 + 0.05 * len(names))
    looks = dict(zip(names, styled(names, among), strict=True))
    handles: dict[str, Any] = {}
    axes_of = panels(array, len(sweeps), y=TRACE)
    for axes, (sweep, methods) in zip(axes_of, sweeps.items(), strict=True):
        for place, (name, runs) in enumerate(methods.items()):
            label = f"{name} (n = {len(runs)})" if len(sweeps) == 1 else name
            line = _line(axes, runs, looks[name], label, place, banded=len(methods) <= BANDS)
            handles.setdefault(name, line)
        _scale(axes)
        axes.set_xlabel(STEP)
        title(axes, sweep)
    legend(figure, list(handles.values()), below=True)
    return figure


def groups(of: Mapping[tuple[str, ...], tuple[str, Curve, Curve]], metric: str, among: Sequence[str] = ()) -> Figure:
    """Figure 4: normalised tr(F) above, the validation score on source dev below, a line per group of methods.

    Per group, by its methods: its label, tr(F) scaled to [0, 1] and the score (0-100), by step. The best group, and in
    a group the best method, come first; a line looks like that of its best method. `metric` is the score's name.
    """
    figure, array = grid(2, 1, height=3.7 + 0.15 * len(of), sharex=True, heights=(1.2, 1))
    upper, lower = panels(array, 2, x=STEP)
    looks = styled([names[0] for names in of], among)
    handles = []
    for place, ((label, trace, scores), style) in enumerate(zip(of.values(), looks, strict=True)):
        handles.append(_line(upper, [trace], style, textwrap.fill(label, WRAP), place))
        _line(lower, [scores], style, label, place)
    upper.set(ylabel="tr(F), scaled to [0, 1]", ylim=(-0.05, 1.05))
    lower.set(ylabel=f"dev {metric} (0-100)")
    _at_least(lower, LEAST)
    figure.align_ylabels()
    legend(figure, handles, title="groups of methods, with their mean over targets (0-100)", columns=1, below=True)
    return figure


def layers(maps: Mapping[str, Mapping[int, Sequence[float]]], woken: Mapping[str, Sequence[Wakes]]) -> Figure:
    """Heat map of tr(F), layer by step, a panel per method; one logarithmic scale of colours for all of them.

    `maps` hold tr(F) (nats²) of every layer (L,) by step, `woken` per seed the step at which each layer woke: a dot
    for each seed, a bar that spans them. Hatched: steps before the first measurement, and traces that are not positive.
    """
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure, array = grid(rows, columns, height=1.8 * rows + 0.9, sharex=True, sharey=True)
    values = [value for steps in maps.values() for layer in steps.values() for value in layer if value > 0]
    norm = LogNorm(min(values, default=0.1), max(values, default=1.0))
    axes_of = panels(array, len(maps), x="step (optimizer steps)" if columns > 2 else STEP, y=LAYER)
    for axes, (name, steps) in zip(axes_of, maps.items(), strict=True):
        _mesh(axes, steps, norm)
        _woken(axes, woken.get(name, ()))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12 // columns - 1))
        title(axes, name)
        whole_numbers(axes, y=True)
    with look():
        bar = figure.colorbar(ScalarMappable(norm, MAP), ax=array, aspect=30, pad=0.01, format="{x:g}")
        bar.set_label("tr(F) of the layer's adapter (nats²)")
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    legend(figure, _map_handles(), below=True)
    return figure


def _line(axes: Axes, runs: Sequence[Curve], style: Style, label: str, place: int, *, banded: bool = True) -> Any:
    """The mean of the curves, with their range as a band; its markers stand elsewhere than those of other lines."""
    places = band(runs)
    steps = [one.step for one in places]
    between = max(1, len(steps) // MARKS)
    (line,) = axes.plot(
        steps,
        [one.mean for one in places],
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markevery=(place % between, between),
        label=label,
    )
    if banded and len(runs) > 1:
        low, high = [one.low for one in places], [one.high for one in places]
        axes.fill_between(steps, low, high, color=style.colour, alpha=0.13, linewidth=0)
    return line


def _scale(axes: Axes) -> None:
    """From zero, or logarithmic and said so where the values differ 100-fold."""
    low, high = axes.dataLim.intervaly
    if 0 < low < high / 100:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _at_least(axes: Axes, span: float) -> None:
    """Noise shall not fill the axis: it spans at least so much."""
    low, high = axes.get_ylim()
    if high - low < span:
        middle = (low + high) / 2
        axes.set_ylim(middle - span / 2, middle + span / 2)


def _mesh(axes: Axes, traces: Mapping[int, Sequence[float]], norm: LogNorm) -> None:
    steps = sorted(traces)
    matrix = np.array([traces[step] for step in steps], dtype=float).T
    axes.grid(False)
    axes.patch.set(facecolor=MISSING, hatch="////", edgecolor=GREY)
    edges = np.arange(len(matrix) + 1) - 0.5
    shown = np.ma.masked_less_equal(matrix, 0)
    axes.pcolormesh(_edges(steps), edges, shown, norm=norm, cmap=MAP, rasterized=True)


def _map_handles() -> list[Artist]:
    return [
        Line2D([], [], label="a seed wakes the layer; bar: first seed to last", **_WOKEN),
        Patch(facecolor=MISSING, hatch="////", edgecolor=GREY, linewidth=0, label="not measured"),
    ]


def _woken(axes: Axes, seeds: Sequence[Wakes]) -> None:
    for layer in sorted({layer for of in seeds for layer in of}):
        steps = [of[layer] for of in seeds if layer in of]
        axes.plot(steps, [layer] * len(steps), clip_on=False, **_WOKEN)


def _edges(steps: Sequence[int]) -> NDArray[Any]:
    """A measurement's cell reaches half-way to its neighbours."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = [(one + other) / 2 for one, other in pairwise(steps)]
    return np.array([steps[0] - (middle[0] - steps[0]), *middle, steps[-1] + (steps[-1] - middle[-1])])
