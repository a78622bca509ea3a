"""Figure 2 of the paper: every method's target average less that of one method, in bars per dataset and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from raysched.reports.figures import canvas

NARROWEST = 4.4
"""Inches that the legend takes."""
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Points (0-100) above or below the zero line; `low` and `high` are the ends of its error bar, if any.

    `mark` stands at its end.
    """

    panel: str
    group: str
    method: str
    points: float
    low: float | None = None
    high: float | None = None
    mark: str = ""


def relative(bars: Sequence[Bar], against: str, errors: str, among: Sequence[str] = ()) -> Figure:
    """A panel per `panel` (a model), bars side by side within a `group` (a dataset).

    `against` names the zero line, `errors` says what the error bars are.
    """
    panels = list(dict.fromkeys(bar.panel for bar in bars))
    methods = list(dict.fromkeys(bar.method for bar in bars))
    looks = dict(zip(methods, canvas.styled(methods, among), strict=True))
    order = list(dict.fromkeys([*among, *methods]))
    hatches = {name: HATCHES[order.index(name) % len(HATCHES)] for name in methods}
    places = len({(bar.panel, bar.group) for bar in bars})
    figure, array = canvas.grid(
        1, len(panels), width=min(canvas.TEXT, NARROWEST + 0.35 * (places - 1) * len(methods)), height=2.9, sharey=True
    )
    width = 0.8 / len(methods)
    with canvas.look():
        for axes, panel in zip(array.flat, panels, strict=True):
            groups = list(dict.fromkeys(bar.group for bar in bars if bar.panel == panel))
            for bar in (bar for bar in bars if bar.panel == panel):
                x = groups.index(bar.group) + (methods.index(bar.method) - (len(methods) - 1) / 2) * width
                look, hatch = looks[bar.method], hatches[bar.method]
                axes.bar(
                    x, bar.points, 0.92 * width, facecolor=look.colour, hatch=hatch, edgecolor="white", linewidth=0
                )
                if bar.low is not None and bar.high is not None:
                    axes.vlines(x, bar.low, bar.high, color="white", linewidth=2.6)  # seen on a black bar too
                    axes.vlines(x, bar.low, bar.high, color="#444444", linewidth=1.2)
                if bar.mark:
                    ends = [bar.points, *(end for end in (bar.low, bar.high) if end is not None)]
                    axes.annotate(bar.mark, (x, max(ends)), (0, 2), textcoords="offset points", ha="center")
            axes.axhline(0, color="black", linewidth=0.8)
            axes.set_xticks(range(len(groups)), groups)
            axes.set_xlim(-0.55, len(groups) - 0.45)
            axes.grid(False, axis="x")
            axes.set_title(panel)
        array.flat[0].set_ylabel(f"target average less\n{against} (points)")
    handles = [
        Patch(facecolor=looks[name].colour, hatch=hatches[name], edgecolor="white", label=name) for name in methods
    ]
    canvas.legend(figure, handles, errors, below=True)
    return figure
