"""Figures of scores: a dot per seed, languages as a heat map, and a signal against the target average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raysched.reports.figures import canvas

DIVERGING = "PuOr_r"
"""Purple below zero, orange above: told apart with every common colour blindness."""
GREATEST = 15
"""Languages that a row of a heat map holds with readable numbers; a longer row is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """One method's scores by seed, and the interval of their mean (low, high) where there is one."""

    scores: Mapping[int, float]
    mean: float
    interval: tuple[float, float] | None


def dots(panels: Mapping[str, Mapping[str, Seeds]], metric: str, among: Sequence[str] = ()) -> Figure:
    """Panel title -> method -> its seeds: a dot per seed, above it the mean and its interval. Methods stand in rows.

    `metric` is the label of the axes, such as `F1 (0-100)`; `among` gives methods the looks of the report.
    """
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    figure, array = canvas.grid(1, len(panels), height=0.9 + 0.34 * len(names), sharey=True)
    looks = dict(zip(names, canvas.styled(names, among), strict=True))
    with canvas.look():
        for axes, (title, methods) in zip(array.flat, panels.items(), strict=True):
            for name, seeds in methods.items():
                row, look = names.index(name), looks[name]
                values = [seeds.scores[seed] for seed in sorted(seeds.scores)]
                heights = [row + 0.17 + 0.03 * (place % 3) for place in range(len(values))]  # equal scores stay visible
                axes.scatter(values, heights, s=12, marker=look.marker, color=look.colour, alpha=0.7, linewidth=0)
                if seeds.interval is not None:
                    axes.hlines(row - 0.14, *seeds.interval, color=look.colour, linewidth=1.6)
                axes.plot([seeds.mean], [row - 0.14], marker="|", ms=9, mew=1.8, color=look.colour)
            axes.set_title(title)
            axes.set_xlabel(metric)
            axes.margins(x=0.06)
        counts = {name: max(len(m[name].scores) for m in panels.values() if name in m) for name in names}
        array.flat[0].set_yticks(range(len(names)), [f"{name} (n={counts[name]})" for name in names])
        array.flat[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=canvas.COLOURS[3], ms=3.5, label="one seed"),
        Line2D([], [], marker="|", ms=9, mew=1.8, color=canvas.COLOURS[3], label="mean, 95 % t interval of it"),
    ]
    canvas.legend(figure, handles, below=True)
    return figure


def languages(
    values: Mapping[str, Sequence[float | None]],
    columns: Sequence[str],
    label: str,
    *,
    around_zero: bool = False,
) -> Figure:
    """A heat map, methods by `columns`, the number in every cell; None is a hatched cell.

    `label` is that of the colours, with its unit. `around_zero`: differences, white where there is none. Many columns
    are broken into rows of panels; all panels share their colours.
    """
    rows = list(values)
    parts = [range(start, min(start + GREATEST, len(columns))) for start in range(0, len(columns), GREATEST)]
    known = [one for row in values.values() for one in row if one is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if around_zero:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    figure, array = canvas.grid(len(parts), 1, height=len(parts) * (0.65 + 0.27 * len(rows)))
    image = None
    for axes, part in zip(array.flat, parts, strict=True):
        image = canvas.heat(
            axes,
            [[values[row][place] for place in part] for row in rows],
            rows=rows,
            columns=[columns[place] for place in part],
            limits=(low, high),
            decimals=1,
            **({"colours": DIVERGING} if around_zero else {}),
        )
        for number in axes.texts if around_zero else ():
            value = float(number.get_text())
            number.set_text(f"{value:+.1f}".replace("-", "−") if value else "0.0")
    with canvas.look():
        assert image is not None, "a test set has a language"
        image.set_norm(Normalize(low, high))
        array.flat[-1].set_xlabel("tested language")
        figure.colorbar(image, ax=list(array.flat), label=label, pad=0.015, aspect=14)
    return figure


def against(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], metric: str, among: Sequence[str] = ()
) -> Figure:
    """Label of a signal -> method -> (signal, target average) of its runs: a panel per signal, three in a row.

    `metric` labels the target average, such as `target average, F1 (0-100)`.
    """
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    looks = dict(zip(names, canvas.styled(names, among), strict=True))
    wide = min(3, len(panels))
    high = -(-len(panels) // wide)
    figure, array = canvas.grid(high, wide, height=0.35 + 1.9 * high, sharey=True)
    with canvas.look():
        for axes, (label, methods) in zip(array.flat, panels.items(), strict=False):
            for name, points in methods.items():
                look = looks[name]
                x, y = zip(*points, strict=True)
                axes.scatter(x, y, s=16, marker=look.marker, color=look.colour, alpha=0.8, linewidth=0)
            axes.set_xlabel(label.replace(" (", "\n("))
            axes.margins(0.08)
            axes.xaxis.get_major_locator().set_params(nbins=5)
        for axes in array.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in array[:, 0]:
            axes.set_ylabel(metric)
    handles = [
        Line2D([], [], linestyle="", marker=looks[name].marker, color=looks[name].colour, label=name) for name in names
    ]
    canvas.legend(figure, handles, below=True)
    return figure
