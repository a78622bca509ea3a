"""Figures of scores, progress and differences: what is drawn, labelled and told apart; equal values, equal bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from raysched.reports.figures import canvas
from raysched.reports.figures.progress import Line, progress
from raysched.reports.figures.relative import Bar, relative
from raysched.reports.figures.scores import GREATEST, Seeds, against, dots, languages

AMONG = ("standard", "gu", "lpft")


def the_dots() -> Figure:
    gu = Seeds(scores={0: 70.0, 1: 74.0}, mean=72.0, interval=(46.6, 97.4))
    lpft = Seeds(scores={0: 60.0}, mean=60.0, interval=None)
    return dots({"target average": {"gu": gu, "lpft": lpft}, "source dev": {"gu": gu}}, "F1 (0-100)", AMONG)


def the_languages() -> Figure:
    return languages({"standard": [80.0, None], "gu": [90.0, 70.0]}, ["en\n(source)", "de"], "F1 (0-100)")


def the_differences() -> Figure:
    return languages({"gu": [2.0, -4.0]}, ["en", "de"], "less standard\n(points)", around_zero=True)


def the_scatter() -> Figure:
    panels = {
        "source dev, F1 (0-100)": {"gu": [(90.0, 70.0), (91.0, 71.0)], "standard": [(89.0, 69.0)]},
        "peak of tr(F) (nats²)": {"gu": [(0.1, 70.0), (0.2, 71.0)]},
        "step of the peak": {"gu": [(10.0, 70.0), (20.0, 71.0)]},
        "step of the fall": {"gu": [(30.0, 70.0), (40.0, 71.0)]},
    }
    return against(panels, "target average,\nF1 (0-100)", AMONG)


def line(*mean: float) -> Line:
    x = tuple(float(10 * place) for place in range(1, len(mean) + 1))
    return Line(x=x, mean=mean, low=tuple(y - 1 for y in mean), high=tuple(y + 1 for y in mean))


def the_progress() -> Figure:
    lines = {"standard": line(10.0, 80.0, 85.0, 90.0, 91.0), "gu": line(82.0, 84.0, 88.0, 92.0, 93.0)}
    return progress({"step": lines, "compute\n(standard steps)": lines}, "F1 on\nsource dev (0-100)", AMONG)


BARS = (
    Bar(panel="mBERT", group="XQuAD", method="standard", points=-2.7, low=-3.7, high=-1.7),
    Bar(panel="mBERT", group="XQuAD", method="gu", points=0.15, mark="†"),
    Bar(panel="XLM-R", group="XNLI", method="gu", points=0.01, low=-0.2, high=0.2),
)


def the_bars() -> Figure:
    return relative(BARS, "full fine-tuning", "error bars: made up", AMONG)


FIGURES = (the_dots, the_languages, the_differences, the_scatter, the_progress, the_bars)


@pytest.mark.parametrize("make", FIGURES)
def test_equal_values_give_equal_bytes(make: Callable[[], Figure]) -> None:
    assert canvas.png(make()) == canvas.png(make())


def test_equal_values_give_equal_bytes_as_pdf() -> None:
    assert canvas.pdf(the_bars()) == canvas.pdf(the_bars())


def legends(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def shown(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_dots_say_how_many_seeds_and_where_the_mean_is() -> None:
    figure = the_dots()
    left, right = shown(figure)
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["gu (n=2)", "lpft (n=1)"]
    assert [axes.get_title() for axes in (left, right)] == ["target average", "source dev"]
    assert {axes.get_xlabel() for axes in (left, right)} == {"F1 (0-100)"}
    assert legends(figure) == ["one seed", "mean, 95 % t interval of it"]
    offsets = [points.get_offsets() for points in left.collections if isinstance(points, PathCollection)]
    assert [[x for x, _ in points] for points in offsets] == [[70.0, 74.0], [60.0]]
    assert [mean.get_xdata()[0] for mean in left.lines] == [72.0, 60.0]
    colours = [to_hex(mean.get_color()).upper() for mean in left.lines]
    assert colours == [canvas.COLOURS[1], canvas.COLOURS[2]]  # those of the report, though standard is not here


def test_an_interval_is_drawn_only_where_there_is_one() -> None:
    left = shown(the_dots())[0]
    (bar,) = [one for one in left.collections if isinstance(one, LineCollection)]
    assert [segment[:, 0].tolist() for segment in bar.get_segments()] == [[46.6, 97.4]]


def test_a_heat_map_has_a_number_in_every_cell_that_has_one() -> None:
    axes, bar = the_languages().axes
    assert [text.get_text() for text in axes.texts] == ["80.0", "90.0", "70.0"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["en\n(source)", "de"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["standard", "gu"]
    assert (axes.get_xlabel(), bar.get_ylabel()) == ("tested language", "F1 (0-100)")


def test_differences_have_signs_and_colours_around_zero() -> None:
    axes, bar = the_differences().axes
    assert [text.get_text() for text in axes.texts] == ["+2.0", "−4.0"]
    assert axes.images[0].get_clim() == (-4.0, 4.0)
    assert bar.get_ylabel() == "less standard\n(points)"


def test_no_difference_anywhere_is_drawn_too() -> None:
    figure = languages({"gu": [0.0, -0.01]}, ["en", "de"], "points", around_zero=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.0", "0.0"]
    figure = languages({"gu": [0.0]}, ["en"], "points", around_zero=True)
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    assert canvas.png(figure)


def test_nothing_tested_is_a_hatched_map() -> None:
    assert canvas.png(languages({"gu": [None]}, ["en"], "points"))


def test_many_languages_are_broken_into_panels_with_the_same_colours() -> None:
    names = [f"l{place}" for place in range(GREATEST + 2)]
    figure = languages({"gu": [float(place) for place in range(len(names))]}, names, "F1 (0-100)")
    upper, lower, _ = figure.axes
    assert [len(axes.texts) for axes in (upper, lower)] == [GREATEST, 2]
    assert {axes.images[0].get_clim() for axes in (upper, lower)} == {(0.0, GREATEST + 1.0)}


def test_scatter_panels_share_the_target_and_are_labelled() -> None:
    figure = the_scatter()
    axes = shown(figure)
    assert [one.get_xlabel() for one in axes] == [
        "source dev, F1\n(0-100)",
        "peak of tr(F)\n(nats²)",
        "step of the peak",
        "step of the fall",
    ]
    assert [one.get_ylabel() for one in axes] == ["target average,\nF1 (0-100)", "", "", "target average,\nF1 (0-100)"]
    assert legends(figure) == ["gu", "standard"]
    assert len({one.get_ylim() for one in axes}) == 1


def test_progress_is_not_squeezed_by_early_scores() -> None:
    figure = the_progress()
    steps, compute = shown(figure)
    bottom, top = steps.get_ylim()
    assert 75 < bottom < 79 < 94 < top  # the 10 of the first evaluation is cut off
    assert steps.get_xlim()[0] == 0
    assert (steps.get_xlabel(), compute.get_xlabel()) == ("step", "compute\n(standard steps)")
    assert steps.get_ylabel() == "F1 on\nsource dev (0-100)"
    assert legends(figure) == ["standard", "gu"]
    assert len({line.get_linestyle() for line in steps.lines}) == 2


@pytest.mark.parametrize("mean", [(80.0, 81.0, 82.0, 83.0, 84.0), (50.0,), (0.0, 0.0)])
def test_progress_shows_everything_where_nothing_is_far_below(mean: tuple[float, ...]) -> None:
    figure = progress({"step": {"gu": line(*mean)}}, "F1")
    bottom, top = figure.axes[0].get_ylim()
    assert bottom < min(mean) - 1
    assert top > max(mean) + 1


def test_bars_stand_side_by_side_on_a_line_that_is_named() -> None:
    figure = the_bars()
    left, right = shown(figure)
    assert [axes.get_title() for axes in (left, right)] == ["mBERT", "XLM-R"]
    assert left.get_ylabel() == "target average less\nfull fine-tuning (points)"
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["XNLI"]
    standard, gu = left.patches
    assert (standard.get_height(), gu.get_height()) == (-2.7, 0.15)
    assert standard.get_x() + standard.get_width() < gu.get_x()
    assert standard.get_hatch() != gu.get_hatch()
    assert [text.get_text() for text in left.texts] == ["†"]
    assert legends(figure) == ["standard", "gu"]
    assert figure.legends[0].get_title().get_text() == "error bars: made up"


def test_a_figure_of_few_bars_is_narrow() -> None:
    few = relative(BARS[:1], "standard", "none")
    bars = [
        Bar(panel="m", group=str(group), method=str(method), points=1.0) for group in range(9) for method in range(9)
    ]
    many = relative(bars, "standard", "none")
    assert few.get_figwidth() < canvas.TEXT
    assert many.get_figwidth() == canvas.TEXT
