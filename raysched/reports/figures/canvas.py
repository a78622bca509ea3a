"""Figures of a sweep, as PNG. The only file that knows matplotlib; it takes plain values."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raysched.reports.stats import summarise

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Told apart with every common colour blindness (Okabe and Ito 2008); line styles tell them apart in print."""
STYLES = ("-", "--", "-.", ":")

Value = TypeVar("Value")
Curve = Mapping[int, float]
"""Step -> value, of one run."""
Wakes = Sequence[int]
"""The layer woken at event 1, 2, ... of one run."""


def trace_figure(curves: Mapping[str, Sequence[Curve]]) -> bytes:
    """Mean tr(F) per awake adapter against the step: a line (mean over seeds) and a band (their range) per schedule."""
    figure, axes = _axes()
    lowest, highest = float("inf"), 0.0
    for (schedule, runs), colour, style in _styled(curves):
        values = {step: [run[step] for run in runs if step in run] for step in sorted({s for run in runs for s in run})}
        means = [summary.mean for seeds in values.values() if (summary := summarise(seeds)) is not None]
        axes.plot(list(values), means, color=colour, linestyle=style, label=f"{schedule} (n={len(runs)})")
        bottom, top = [min(seeds) for seeds in values.values()], [max(seeds) for seeds in values.values()]
        axes.fill_between(list(values), bottom, top, color=colour, alpha=0.15, linewidth=0)
        lowest, highest = min([lowest, *bottom]), max([highest, *top])
    if 0 < lowest < highest / 100:
        axes.set_yscale("log")
    axes.set_xlabel("step (completed optimizer steps)")
    axes.set_ylabel("tr(F) per awake task adapter (nats²)")
    figure.legend(title="mean over seeds;\nband: their range", loc="outside right upper", fontsize="small")
    return _png(figure)


def order_figure(orders: Mapping[str, Sequence[Wakes]], n_layers: int) -> bytes:
    """The layer woken at each event: dots per run, a line for the mean over runs, and the top-down diagonal of GU."""
    figure, axes = _axes()
    axes.plot(range(1, n_layers), range(n_layers - 2, -1, -1), color="#BBBBBB", linewidth=4, label="GU diagonal")
    for (schedule, runs), colour, style in _styled(orders):
        events = range(max(map(len, runs)))
        woken = [[run[event] for run in runs if event < len(run)] for event in events]
        means = [summary.mean for layers in woken if (summary := summarise(layers)) is not None]
        label = f"{schedule} (n={len(runs)})"
        axes.plot([event + 1 for event in events], means, color=colour, linestyle=style, marker="o", ms=4, label=label)
        dots = [(event + 1, layer) for event in events for layer in woken[event]]
        axes.scatter([x for x, _ in dots], [y for _, y in dots], color=colour, s=14, alpha=0.35, linewidth=0)
    axes.set_xlabel("event (number of layers woken)")
    axes.set_ylabel("layer woken (0 is nearest the embeddings)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(title="mean over seeds;\ndots: each seed", loc="outside right upper", fontsize="small")
    return _png(figure)


def _styled(of: Mapping[str, Sequence[Value]]) -> list[tuple[tuple[str, Sequence[Value]], str, str]]:
    colours, styles = islice(cycle(COLOURS), len(of)), islice(cycle(STYLES), len(of))
    return list(zip(of.items(), colours, styles, strict=True))


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.2), dpi=150, layout="constrained")  # no pyplot: no global state, no display
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
