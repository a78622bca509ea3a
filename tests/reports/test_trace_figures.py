"""Figures of traces and orders: what is drawn, its labels and its bytes; and colours that colour-blind readers tell
apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations, product

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure

from raysched.reports.figures import canvas, fisher, orders

CURVES = {
    "standard": [{100: 1.0, 200: 2.0, 300: 3.0}, {100: 3.0, 200: 2.0, 300: 1.0}],
    "gu": [{100: 4.0, 200: 5.0, 300: 6.0}],
}
GROUPS = {
    ("gu", "fun"): ("gu 61.00, fun 60.20", {100: 0.0, 200: 1.0, 300: 0.5}, {100: 40.0, 300: 60.0}),
    ("standard",): ("standard 55.00", {100: 1.0, 300: 0.0}, {50: 20.0, 300: 80.0}),
}
MAPS = {
    "standard": {100: [1.0, 10.0, 100.0], 200: [2.0, 0.0, 3.0]},
    "gu": {100: [1.0, 1.0, 1.0], 200: [2.0, 2.0, 1000.0]},
}
FIGURES: dict[str, Callable[[], Figure]] = {
    "traces": lambda: fisher.traces({"": CURVES}),
    "traces of two sweeps": lambda: fisher.traces({"one": CURVES, "two": {"fun": CURVES["gu"]}, "three": CURVES}),
    "groups": lambda: fisher.groups(GROUPS, "F1"),
    "layers": lambda: fisher.layers(MAPS, {"gu": [{1: 100, 0: 150}, {1: 120, 0: 150}]}),
    "events": lambda: orders.events({"fun": [[0, 1, 2], [2, 1, 0]], "rand": [[1, 0]]}),
    "agreement": lambda: orders.agreement(["gu", "fun"], {("gu", "gu"): 1.0, ("gu", "fun"): -0.5, ("fun", "gu"): -0.5}),
}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def shown(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]


@pytest.mark.parametrize("name", FIGURES)
def test_bytes_are_whole_and_the_same_when_drawn_again(name: str) -> None:
    figure, again = FIGURES[name](), FIGURES[name]()
    png, pdf = canvas.png(figure), canvas.pdf(figure)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png.endswith(b"IEND\xaeB`\x82")
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert (png, pdf) == (canvas.png(again), canvas.pdf(again))
    assert b"tEXt" not in png
    assert b"Matplotlib" not in png + pdf
    assert b"Date" not in pdf
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_smaller_than_a_footnote_or_cut_off(name: str) -> None:
    figure = FIGURES[name]()
    canvas.png(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert width / figure.dpi <= canvas.TEXT
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for axes in shown(figure) for text in axes.findobj(matplotlib.text.Text) if text in texts]
    assert texts
    for text in texts:
        box = text.get_window_extent()
        assert text.get_fontsize() >= canvas.SMALL - 0.1, text
        inside = box.x0 > -1 and box.x1 < width + 1 and box.y0 > -1 and box.y1 < height + 1
        assert inside or text in _unseen_ticks(figure), text


def _unseen_ticks(figure: Figure) -> list[matplotlib.text.Text]:
    """Ticks outside of an axis' limits have labels that are not drawn."""
    return [
        tick.label1
        for axes in shown(figure)
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    ]


def test_bytes_do_not_depend_on_the_process() -> None:
    code = (
        "import hashlib; from raysched.reports.figures import canvas, fisher\n"
        "figure = fisher.traces({'': {'gu': [{1: 1.0, 2: 3.0}], 'fun': [{1: 2.0}]}})\n"
        "print(hashlib.sha256(canvas.png(figure) + canvas.pdf(figure)).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] != b""


def test_a_users_own_style_changes_nothing() -> None:
    plain = canvas.pdf(FIGURES["traces"]())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "pdf.fonttype": 3, "axes.grid": False}):
        assert canvas.pdf(FIGURES["traces"]()) == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_traces_have_a_line_per_method_and_a_band_where_there_are_seeds() -> None:
    figure = fisher.traces({"": CURVES})
    (axes,) = shown(figure)
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[2.0, 2.0, 2.0], [4.0, 5.0, 6.0]]
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).extents == pytest.approx([100, 1, 300, 3])
    assert axes.get_xlabel() == "step (completed optimizer steps)"
    assert axes.get_ylabel() == "tr(F) per trainable adapter (nats²)"
    assert legend(figure) == ["standard (n = 2)", "gu (n = 1)"]
    assert axes.get_ylim()[0] == 0
    assert axes.get_yscale() == "linear"


def test_traces_of_sweeps_share_a_legend_and_their_looks() -> None:
    figure = fisher.traces({"one": CURVES, "two": {"fun": CURVES["gu"], "gu": CURVES["gu"]}}, among=["fun"])
    first, second = shown(figure)
    assert [first.get_title(), second.get_title()] == ["one", "two"]
    assert legend(figure) == ["standard", "gu", "fun"]
    colours = {line.get_label(): line.get_color() for axes in (first, second) for line in axes.get_lines()}
    assert colours == {"fun": canvas.COLOURS[0], "standard": canvas.COLOURS[1], "gu": canvas.COLOURS[2]}
    assert first.get_lines()[1].get_marker() == second.get_lines()[1].get_marker()


def test_traces_that_differ_a_hundredfold_are_logarithmic() -> None:
    (axes,) = shown(fisher.traces({"": {"gu": [{1: 1.0, 2: 101.0}]}}))
    assert axes.get_yscale() == "log"
    (axes,) = shown(fisher.traces({"": {"gu": [{1: 0.0, 2: 101.0}]}}))
    assert axes.get_yscale() == "linear"


def test_bands_of_many_methods_are_left_out() -> None:
    many = {f"schedule-{number}": CURVES["standard"] for number in range(7)}
    (axes,) = shown(fisher.traces({"": many}))
    assert len(axes.get_lines()) == 7
    assert not axes.collections


def test_long_curves_have_few_markers_and_all_their_points() -> None:
    (axes,) = shown(fisher.traces({"": {"gu": [dict.fromkeys(range(400), 1.0)]}}))
    (line,) = axes.get_lines()
    start, between = line.get_markevery()
    assert len(line.get_xdata()) == 400
    assert len(range(start, 400, between)) == 8


def test_groups_have_both_curves_in_the_look_of_their_best_method() -> None:
    figure = fisher.groups(GROUPS, "F1", among=["standard", "gu", "fun"])
    upper, lower = shown(figure)
    for axes in (upper, lower):
        assert [line.get_color() for line in axes.get_lines()] == [canvas.COLOURS[1], canvas.COLOURS[0]]
    assert [list(line.get_ydata()) for line in upper.get_lines()] == [[0.0, 1.0, 0.5], [1.0, 0.0]]
    assert [list(line.get_xdata()) for line in lower.get_lines()] == [[100, 300], [50, 300]]
    assert upper.get_ylabel() == "tr(F), scaled to [0, 1]"
    assert lower.get_ylabel() == "dev F1 (0-100)"
    assert lower.get_xlabel() == "step (completed optimizer steps)"
    low, high = upper.get_ylim()
    assert low < 0 < 1 < high
    assert legend(figure) == ["gu 61.00, fun 60.20", "standard 55.00"]
    assert upper.get_xlim() == lower.get_xlim()


def test_noise_does_not_fill_the_axis_of_scores() -> None:
    of = {("gu",): ("gu 61.00", {1: 0.0, 2: 1.0}, {1: 93.0, 2: 93.5})}
    low, high = shown(fisher.groups(of, "accuracy"))[1].get_ylim()
    assert (low, high) == pytest.approx((90.75, 95.75))


def test_layers_have_one_scale_for_all_maps_and_a_dot_for_each_seed_that_woke_one() -> None:
    figure = FIGURES["layers"]()
    standard, gu = shown(figure)
    meshes = [next(one for one in axes.collections if isinstance(one, QuadMesh)) for axes in (standard, gu)]
    assert all(isinstance(mesh.norm, LogNorm) for mesh in meshes)
    assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes} == {(1.0, 1000.0)}
    assert np.ma.getmaskarray(meshes[0].get_array()).tolist() == [[False, False], [False, True], [False, False]]
    assert not standard.get_lines()
    dots = [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in gu.get_lines()]
    assert dots == [[(150, 0), (150, 0)], [(100, 1), (120, 1)]]
    assert standard.get_ylabel() == "layer (0 = lowest)"
    assert gu.get_xlim() == (0.0, 250.0)
    (bar,) = (axes for axes in figure.axes if axes.get_label() == "<colorbar>")
    assert bar.get_ylabel() == "tr(F) of the layer's adapter (nats²)"


def test_a_cell_reaches_half_way_to_its_neighbours() -> None:
    (axes,) = shown(fisher.layers({"gu": {100: [1.0], 200: [2.0], 400: [1.0]}}, {}))
    (mesh,) = axes.collections
    assert sorted({x for x, _ in mesh.get_coordinates().reshape(-1, 2).tolist()}) == [50, 150, 300, 500]
    (axes,) = shown(fisher.layers({"gu": {100: [1.0, 2.0]}}, {}))
    assert axes.get_xlim()[0] == 0


def test_events_have_the_mean_the_range_each_seed_and_the_diagonal() -> None:
    figure = FIGURES["events"]()
    fun, rand = shown(figure)
    diagonal, mean = fun.get_lines()
    assert list(diagonal.get_ydata()) == [2, 1, 0]
    assert list(mean.get_ydata()) == [1.0, 1.0, 1.0]
    (dots,) = (one for one in fun.collections if isinstance(one, PathCollection))
    assert sorted(map(tuple, np.asarray(dots.get_offsets()).tolist())) == [
        (1, 0),
        (1, 2),
        (2, 1),
        (2, 1),
        (3, 0),
        (3, 2),
    ]
    assert [list(line.get_ydata()) for line in rand.get_lines()] == [[1, 0], [1.0, 0.0]]
    assert [fun.get_title(), rand.get_title()] == ["fun (n = 2)", "rand (n = 1)"]
    assert fun.get_xlabel() == "event (layers woken so far)"
    assert fun.get_ylabel() == "layer woken (0 = lowest)"
    assert legend(figure) == ["GU (top-down)", "mean over seeds", "lowest to highest seed", "each seed"]


def test_events_take_runs_of_different_length() -> None:
    (axes,) = shown(orders.events({"fun": [[0, 1, 2], [2, 1]]}))
    assert list(axes.get_lines()[1].get_ydata()) == [1.0, 1.0, 2.0]


def test_agreement_has_its_numbers_in_the_cells_and_a_scale_from_reverse_to_same() -> None:
    (axes,) = shown(FIGURES["agreement"]())
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "1.00",
        (1, 0): "-0.50",
        (0, 1): "-0.50",
    }
    (image,) = axes.get_images()
    assert image.get_clim() == (-1.0, 1.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["gu", "fun"]


@pytest.mark.parametrize(("columns", "size"), [(2, 7.0), (14, 6.0), (60, 5.0)])
def test_numbers_get_smaller_with_their_cells(columns: int, size: float) -> None:
    _, axes = canvas.axes()
    canvas.heat(axes, [[0.5] * columns], rows=["gu"], columns=["fun"] * columns)
    assert axes.texts[0].get_fontsize() == pytest.approx(size, abs=1.0)


@pytest.mark.parametrize(("values", "inks"), [([[0.0, 1.0]], ["white", "black"]), ([[2.0]], ["white"])])
def test_numbers_are_read_on_their_colour(values: list[list[float]], inks: list[str]) -> None:
    _, axes = canvas.axes()
    canvas.heat(axes, values, rows=["gu"], columns=["fun"] * len(values[0]))
    assert [text.get_color() for text in axes.texts] == inks


def test_styles_differ_in_line_and_marker_and_keep_to_their_method() -> None:
    names = [f"method-{number}" for number in range(30)]
    styles = canvas.styled(names)
    assert len({(style.colour, str(style.line), style.marker) for style in styles}) == 30
    for one, other in combinations(styles[:5], 2):
        assert one.colour != other.colour
        assert one.line != other.line
        assert one.marker != other.marker
    assert canvas.styled(["method-7", "method-3"], among=names) == [styles[7], styles[3]]


NORMAL = np.eye(3)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
"""On linear RGB, severity 1.0: Machado, Oliveira and Fernandes 2009."""


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = seen @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    x = to_xyz @ np.clip(linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", [NORMAL, PROTANOPIA, DEUTERANOPIA], ids=["all cones", "protanopia", "deuteranopia"])
def test_the_first_six_colours_are_told_apart(seen: np.ndarray) -> None:
    """A difference (CIE 1976) of 2.3 is just noticed; lines that cross need several times that. The green and
    the red of matplotlib's own colours are 7 apart for a deuteranope."""
    distances = {
        pair: float(np.linalg.norm(lab(pair[0], seen) - lab(pair[1], seen)))
        for pair in combinations(canvas.COLOURS[:6], 2)
    }
    assert min(distances.values()) > 15, distances


@pytest.mark.parametrize(("seen", "colour"), list(product([NORMAL, PROTANOPIA, DEUTERANOPIA], canvas.COLOURS)))
def test_every_colour_is_seen_on_white(seen: np.ndarray, colour: str) -> None:
    assert np.linalg.norm(lab(colour, seen) - lab("#FFFFFF", seen)) > 30


def test_the_heat_map_keeps_its_order_in_grey() -> None:
    lightness = [
        lab(matplotlib.colors.to_hex(matplotlib.colormaps[fisher.MAP](x)), NORMAL)[0] for x in np.linspace(0, 1, 20)
    ]
    assert lightness == sorted(lightness)
    assert lightness[-1] - lightness[0] > 60
