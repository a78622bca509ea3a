"""Figures of unfreeze orders: Figure 5 of the paper, and how alike orders are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from raysched.reports.figures import canvas
from raysched.reports.figures.canvas import (
    GREY,
    TEXT,
    Style,
    grid,
    heat,
    legend,
    look,
    panels,
    styled,
    title,
    whole_numbers,
)
from raysched.reports.stats import summarise

Wakes = Sequence[int]
"""The layer woken at event 1, 2, ... of one run."""
EVENT = "event (layers woken so far)"
LAYER = "layer woken (0 = lowest)"


def events(methods: Mapping[str, Sequence[Wakes]], among: Sequence[str] = ()) -> Figure:
    """Figure 5: the layer woken at each event, a panel per method, against the diagonal of gradual unfreezing (GU).

    Each panel holds the runs of one method: a line for their mean, a band for their range, a dot for each seed. The
    diagonal is top-down over the layers that these runs woke.
    """
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    width = TEXT if columns > 1 else 0.62 * TEXT
    figure, array = grid(rows, columns, width=width, height=1.9 * rows + 0.7, sharex=True, sharey=True)
    axes_of = panels(array, len(methods), x=EVENT, y=LAYER)
    for axes, (name, runs), style in zip(axes_of, methods.items(), styled(list(methods), among), strict=True):
        _panel(axes, runs, style)
        title(axes, f"{name} (n = {len(runs)})")
        whole_numbers(axes, x=True, y=True)
    neutral = "#555555"  # every panel has the colour of its method
    handles = [
        Line2D([], [], color=GREY, linewidth=3, label="GU (top-down)"),
        Line2D([], [], color=neutral, marker="D", markersize=3, label="mean over seeds"),
        Patch(color=neutral, alpha=0.2, linewidth=0, label="lowest to highest seed"),
        Line2D([], [], color=neutral, linestyle="none", marker="o", markersize=3, alpha=0.6, label="each seed"),
    ]
    legend(figure, handles, below=True)
    return figure


def agreement(names: Sequence[str], taus: Mapping[tuple[str, str], float]) -> Figure:
    """Kendall's tau between the orders of methods as a heat map with its numbers; on the diagonal, between seeds.

    Colours span -1 (reverse) to 1 (same); what is undefined is hatched.
    """
    width = min(TEXT, 2.7 + 0.55 * len(names))
    figure, axes = canvas.axes(width=width, height=max(1.9, 0.72 * width))
    values = [[taus.get((row, column)) for column in names] for row in names]
    image = heat(axes, values, rows=names, columns=names, colours="PuOr_r", limits=(-1.0, 1.0))
    if max(map(len, names)) > 6:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    with look():
        figure.colorbar(image, ax=axes, label="Kendall's tau-b", ticks=[-1, -0.5, 0, 0.5, 1])
    return figure


def _panel(axes: Axes, runs: Sequence[Wakes], style: Style) -> None:
    top_down = sorted({layer for run in runs for layer in run}, reverse=True)
    axes.plot(range(1, len(top_down) + 1), top_down, color=GREY, linewidth=3)
    woken = [[run[event] for run in runs if event < len(run)] for event in range(max(map(len, runs)))]
    at = list(range(1, len(woken) + 1))
    means = [summary.mean for layers in woken if (summary := summarise(layers)) is not None]
    axes.plot(at, means, color=style.colour, marker="D", markersize=3)
    low, high = [min(layers) for layers in woken], [max(layers) for layers in woken]
    axes.fill_between(at, low, high, color=style.colour, alpha=0.13, linewidth=0)
    points = [(event, layer) for event, layers in zip(at, woken, strict=True) for layer in layers]
    x, y = [event for event, _ in points], [layer for _, layer in points]
    axes.scatter(x, y, color=style.colour, s=9, alpha=0.45, linewidth=0)
