"""What every figure shares: size, fonts, colours, line styles and markers; and its bytes as PNG and PDF.

Figures are matplotlib's, made without pyplot: no global state, no display. Equal values give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

COLUMN, TEXT = 3.03, 6.30
"""Widths in inches: one column, and both columns, of a paper of the ACL."""
DPI = 200
"""Of a PNG: a figure of the width `TEXT` is 1260 pixels wide."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
"""Told apart with every common colour blindness (Okabe and Ito 2008). Yellow is left out: on white it is not seen."""
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1.2, 1, 1.2, 1, 1.2)))
"""Solid, dashed, dotted, dash-dot, dash-dot-dot: their number has no divisor in common with that of the colours."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, MISSING = "#BBBBBB", "#E8E8E8"
"""Reference lines, and cells of a heat map without a value."""
SMALLEST, SMALL, NORMAL = 5.0, 7.0, 8.0
"""Font sizes in points: of numbers in narrow cells, of numbers and legends, of labels."""

_LOOK: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "hatch.linewidth": 0.4,
    "pdf.fonttype": 42,  # TrueType, embedded: text stays text, and publishers take it
    "savefig.dpi": DPI,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one method is drawn. Colour is never alone: the line's pattern and the marker differ too."""

    colour: str
    line: Any
    marker: str


def styled(names: Sequence[str], among: Sequence[str] = ()) -> list[Style]:
    """A style per name. `among` are all names of a report in its order: a method looks alike in all of its figures."""
    order = list(dict.fromkeys([*among, *names]))
    looks = zip(order, cycle(COLOURS), cycle(LINES), cycle(MARKERS), strict=False)
    of = {name: Style(colour=colour, line=line, marker=marker) for name, colour, line, marker in looks}
    return [of[name] for name in names]


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib's settings for figures of this package, whatever the user's own are; they come back afterwards."""
    with style.context(["default", _LOOK]):
        yield


def axes(width: float = TEXT, height: float = 2.8) -> tuple[Figure, Axes]:
    """An empty figure of so many inches, with one pair of axes. Nothing is cut: the layout is constrained."""
    figure, array = grid(1, 1, width=width, height=height)
    return figure, array[0, 0]


def grid(
    rows: int,
    columns: int,
    *,
    width: float = TEXT,
    height: float | None = None,
    sharex: bool = False,
    sharey: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, NDArray[Any]]:
    """Axes as an array (rows, columns). `height` is the whole figure's, 2.2 inches per row where it is not given.

    `heights` are the rows' shares of it.
    """
    with look():
        size = (width, 2.2 * rows if height is None else height)
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        ratios = None if heights is None else list(heights)
        array = figure.subplots(
            rows, columns, squeeze=False, sharex=sharex, sharey=sharey, gridspec_kw={"height_ratios": ratios}
        )
        for one in array.flat:
            one.spines[["top", "right"]].set_visible(False)
            one.grid(alpha=0.3, linewidth=0.5)
            one.set_axisbelow(True)
    return figure, array


def panels(array: NDArray[Any], used: int, *, x: str = "", y: str = "") -> list[Axes]:
    """The first so many axes of a grid whose axes are shared; the others go. The outer ones have the labels."""
    shown: list[Axes] = list(array.flat)[:used]
    for one in list(array.flat)[used:]:
        one.set_visible(False)
    columns = array.shape[1]
    for place, one in enumerate(shown):
        if place + columns >= used:  # the lowest of its column
            one.set_xlabel(x)
            one.tick_params(labelbottom=True)
        if place % columns == 0:
            one.set_ylabel(y)
    return shown


def title(axes: Axes, text: str) -> None:
    """What a panel shows."""
    axes.set_title(text, fontsize=NORMAL)


def legend(
    figure: Figure, handles: Sequence[Artist], title: str = "", *, columns: int | None = None, below: bool = False
) -> None:
    """One legend for the whole figure, outside of the axes: right of them, or below. It covers no data.

    Below, it has as many columns as the figure's width takes, `columns` at most.
    """
    longest = max((len(line) for one in handles for line in str(one.get_label()).splitlines()), default=1)
    fitting = max(1, int(figure.get_figwidth() / (0.75 + 0.06 * longest)))  # inches: line and gaps, a letter
    with look():
        figure.legend(
            handles=list(handles),
            title=title or None,
            loc="outside lower center" if below else "outside right upper",
            ncols=min(fitting, columns or len(handles)) if below else columns or 1,
            frameon=False,
            handlelength=3.4,
            alignment="left",
        )


def whole_numbers(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Ticks at whole numbers only: layers, events, seeds."""
    for wanted, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if wanted:
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def heat(
    axes: Axes,
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    colours: str = "viridis",
    limits: tuple[float, float] | None = None,
    decimals: int = 2,
) -> AxesImage:
    """Cells with their number in them, (rows, columns); None is a hatched cell without a number.

    `limits` of the colours are those of the values where they are not given.
    """
    with look():
        matrix = np.array([[np.nan if one is None else one for one in row] for row in values], dtype=float)
        known = matrix[~np.isnan(matrix)]
        low, high = limits or (float(known.min(initial=np.inf)), float(known.max(initial=-np.inf)))
        axes.grid(False)
        axes.patch.set(facecolor=MISSING, hatch="////", edgecolor=GREY)
        image = axes.imshow(matrix, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        size = _fitting(axes, len(columns), [f"{one:.{decimals}f}" for one in known])
        for (row, column), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                ink, text = _ink(image, value), f"{value:.{decimals}f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
    return image


def _fitting(axes: Axes, columns: int, texts: Sequence[str]) -> float:
    """The font size (points) at which the texts stay within their cells, roughly; never too small to be read."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    cell = 72 * 0.9 * figure.get_figwidth() * axes.get_position().width / columns
    return min(SMALL, max(SMALLEST, cell / (0.65 * max(map(len, texts), default=1))))


def _ink(image: AxesImage, value: float) -> str:
    """Black or white, whichever is read better on the colour of a value."""
    rgb = np.asarray(image.cmap(image.norm(np.array([value]))), dtype=float)[0, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "black" if luminance > 0.179 else "white"  # where both have the same contrast (WCAG 2)


def png(figure: Figure) -> bytes:
    """The figure as PNG, without a date or a version of software in it."""
    return _written(figure, FigureCanvasAgg, "png", {"Software": None})


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, its fonts embedded, without a date or a version of software in it."""
    return _written(figure, FigureCanvasPdf, "pdf", {"CreationDate": None, "Producer": None, "Creator": None})


def _written(figure: Figure, canvas: type[Any], kind: str, metadata: Mapping[str, None]) -> bytes:
    file = io.BytesIO()
    with look():
        canvas(figure)
        figure.savefig(file, format=kind, metadata=dict(metadata))
    return file.getvalue()
