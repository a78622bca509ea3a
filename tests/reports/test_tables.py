"""Rows per cell, from a sweep on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from raysched.errors import MissingError
from raysched.records.layout import SweepLayout
from raysched.reports.sweep import read_sweep
from raysched.reports.tables import cell_rows, layer_text, markdown, param_names, selected
from raysched.study.space import Point

GU = Point(schedule="gu", lr=1e-3, k=25)
STANDARD = Point(schedule="standard", lr=1e-3)
LPFT = Point(schedule="lpft", lr=1e-3, k=25)


def test_means_by_hand(made_up: Callable[..., Any]) -> None:
    """gu: base 49 and 51, so de 69 and 71, th 49 and 51; the source language is in no target average."""
    sweep = made_up()
    sweep.all()
    rows = {row.point.schedule: row for row in cell_rows(read_sweep(sweep.layout), "f1")}
    gu = rows["gu"]
    assert (gu.n, gu.planned, gu.complete, gu.n_failed) == (2, 2, True, 0)
    assert gu.source_dev is not None
    assert gu.average is not None
    assert gu.tests["de"] is not None
    assert (gu.source_dev.mean, gu.tests["de"].mean, gu.average.mean) == (81.0, 70.0, 60.0)
    assert gu.average.std == pytest.approx(math.sqrt(2))
    assert gu.lowest == ("th", 50.0)
    em = next(row for row in cell_rows(read_sweep(sweep.layout), "em") if row.point.schedule == "gu")
    assert em.average is not None
    assert em.average.mean == 50.0


def test_a_short_cell_says_so(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    first, second = sweep.take(0, LPFT)
    sweep.finish(first)
    sweep.fail(second)
    (row,) = cell_rows(read_sweep(sweep.layout), "f1")
    assert (row.n, row.n_failed, row.planned, row.complete) == (1, 1, 2, False)


def test_a_language_missing_in_one_run_is_over_the_other(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    first, second = sweep.take(0, GU)
    sweep.finish(first)
    sweep.finish(second, tests={second.evaluation_ids["test"]: {"en": {"f1": 99.0}}, "another": {"de": {"f1": 99.0}}})
    (row,) = cell_rows(read_sweep(sweep.layout), "f1")
    assert row.average is not None
    assert (row.average.n, row.average.mean) == (1, 59.0)
    assert row.tests["de"] is not None
    assert (row.tests["de"].n, row.tests["de"].mean) == (1, 69.0)


def test_selection_looks_at_source_dev_of_complete_cells_only(made_up: Callable[..., Any]) -> None:
    sweep = made_up(schedules=("gu",), lr=(1e-3, 2e-3, 3e-3))
    for number, lr in enumerate((1e-3, 2e-3, 3e-3)):
        first, second = sweep.take(number, Point(schedule="gu", lr=lr, k=25))
        sweep.finish(first)
        if lr != 1e-3:  # 1e-3 scores best, but is not complete
            sweep.finish(second, tests={second.evaluation_ids["test"]: {"de": {"f1": 100 * lr}}})
    rows = cell_rows(read_sweep(sweep.layout), "f1")
    assert [row.point.lr for row in selected(rows)] == [2e-3]
    assert [row.point.lr for row in selected(rows[:1])] == [1e-3]


@pytest.mark.parametrize(
    ("layers", "text"),
    [((), ""), ((7,), "7"), ((3, 1), "3,1"), ((1, 0), "1,0"), ((0, 1, 2, 3), "0-3"), ((0, 2, 4), "0,2,4")],
)
def test_layers(layers: tuple[int, ...], text: str) -> None:
    assert layer_text(layers) == text


def test_parameters_in_the_order_in_which_they_are_shown() -> None:
    assert param_names([STANDARD, Point(schedule="gu", lr=1e-3, k=25, steps=7)]) == ["schedule", "lr", "k", "steps"]


def test_markdown_survives_any_text() -> None:
    assert markdown(["a|b", "c"], [["1\n2", "|"]], left=1) == "| a\\|b | c |\n| :--- | ---: |\n| 1 2 | \\| |\n"


def test_no_sweep_names_those_there_are(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    with pytest.raises(MissingError, match=r"no sweep other(.|\n)*valid: made-up"):
        read_sweep(SweepLayout(sweep.layout.storage, "other"))
