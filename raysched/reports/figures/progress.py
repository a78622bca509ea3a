"""Source-dev scores against steps, compute and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raysched.reports.figures import canvas

MARKS = 8
"""So many markers per line, about."""
EARLY = 0.25
"""Share of a line that may lie below the axis: at first scores are so low that the rest would not be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A method's mean score at `x`, and the range over its seeds there."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def progress(panels: Mapping[str, Mapping[str, Line]], score: str, among: Sequence[str] = ()) -> Figure:
    """Label of the x axis -> method -> its line. `score` labels the y axis, such as `F1 on source dev (0-100)`."""
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    looks = dict(zip(names, canvas.styled(names, among), strict=True))
    figure, array = canvas.grid(1, len(panels), height=2.7, sharey=True)
    with canvas.look():
        for axes, (label, methods) in zip(array.flat, panels.items(), strict=True):
            for name, line in methods.items():
                look = looks[name]
                axes.fill_between(line.x, line.low, line.high, color=look.colour, alpha=0.1, linewidth=0)
                axes.plot(
                    line.x,
                    line.mean,
                    color=look.colour,
                    linestyle=look.line,
                    marker=look.marker,
                    ms=3,
                    markevery=max(1, len(line.x) // MARKS),
                )
            axes.set_xlabel(label)
            axes.set_xlim(left=0)
        array.flat[0].set_ylabel(score)
        array.flat[0].set_ylim(_limits([line for methods in panels.values() for line in methods.values()]))
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker, ms=3, label=name)
        for name, look in looks.items()
    ]
    canvas.legend(figure, handles, "mean over seeds; band: their range", below=True)
    return figure


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    """From a little below the lowest score that is not early, or of all where the early ones are not much lower."""
    late = min(low for line in lines for at, low in zip(line.x, line.low, strict=True) if at >= EARLY * line.x[-1])
    lowest, highest = min(low for line in lines for low in line.low), max(high for line in lines for high in line.high)
    bottom = lowest if highest - late > 0.7 * (highest - lowest) else late
    margin = 0.06 * (highest - bottom) or 1.0
    return bottom - margin, highest + margin
