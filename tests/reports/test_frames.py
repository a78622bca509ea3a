"""Frames of made-up sweeps, whose values can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raysched.errors import DamageError, MissingError, StudyError
from raysched.reports.frames import NOT_DONE, POINT, RUN
from raysched.reports.results import Results, SweepResults
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point, points
from tests.reports.conftest import LANGUAGES, MadeUp, study

GU = Point(schedule="gu", lr=1e-3, k=25)


def results(*beds: MadeUp) -> Results:
    found = [read_sweep(bed.layout) for bed in beds]
    return SweepResults(found) if len(found) == 1 else Results(found)


def texts(values: Sequence[Any]) -> list[Any]:
    """Missing ones as None."""
    return [None if pd.isna(value) else value for value in values]


@pytest.fixture
def half(made_up: Callable[..., MadeUp]) -> MadeUp:
    """`gu` is complete, of `standard` one seed diverged and one is not done."""
    bed = made_up(schedules=("standard", "gu"))
    standard, gu = (bed.take(number, point) for number, point in enumerate(points(bed.study.search)))
    bed.fail(standard[1])
    for spec in gu:
        bed.finish(spec)
    return bed


def test_runs(half: MadeUp) -> None:
    runs = results(half).runs
    assert list(runs.columns)[: len(RUN)] == list(RUN)
    assert list(zip(runs["schedule"], runs["seed"], runs["status"], runs["finished"], strict=True)) == [
        ("standard", 0, NOT_DONE, False),
        ("standard", 1, "diverged", False),
        ("gu", 0, "finished", True),
        ("gu", 1, "finished", True),
    ]
    assert texts(runs["k"]) == [None, None, 25, 25]
    assert texts(runs["cause"]) == [None, "nan", None, None]
    assert texts(runs["steps"]) == [None, 17, 200, 200]
    assert texts(runs["source_dev/f1"]) == [None, None, 80.0, 82.0]
    assert texts(runs["test/en/em"]) == [None, None, 69.0, 71.0]
    assert texts(runs["test/average/f1"]) == [None, None, 59.0, 61.0]  # of de and th
    assert runs["unfreeze_order"][2] == "start: 3 · 50: 2 · 75: 1 · 100: 0"
    assert runs["train_seconds"].sum() == 2 * 900 + 900
    assert set(runs["sweep"]) == {"made-up"}
    assert set(runs["method"]) == {"adapters"}
    assert {str(kind) for kind in runs.filter(like="test/").dtypes} == {"float64"}


def test_cells(half: MadeUp) -> None:
    standard, gu = results(half).cells.to_dict("records")
    assert (standard["planned"], standard["n"], standard["n_failed"], standard["complete"]) == (2, 0, 1, False)
    assert (gu["planned"], gu["n"], gu["n_failed"], gu["complete"]) == (2, 2, 0, True)
    assert standard["selected"]
    assert gu["selected"]
    assert gu["point"] == "schedule=gu lr=0.001 k=25"
    assert (gu["test/th/f1/mean"], gu["test/th/f1/n"]) == (50.0, 2)
    assert gu["test/average/em/mean"] == 50.0
    assert gu["test/th/f1/std"] == pytest.approx(2**0.5)
    assert (texts([standard["test/th/f1/mean"]]), standard["test/th/f1/n"]) == ([None], 0)


def test_only_the_point_that_source_dev_selects_is_selected(made_up: Callable[..., MadeUp]) -> None:
    bed = made_up(schedules=("gu",), lr=(1e-3, 1e-2))
    bed.all()
    cells = results(bed).cells
    assert list(zip(cells["lr"], cells["selected"], strict=True)) == [(1e-3, True), (1e-2, False)]


def test_scores(half: MadeUp) -> None:
    scores = results(half).scores
    assert len(scores) == 2 * 2 * (1 + len(LANGUAGES))
    of = scores[(scores["seed"] == 1) & (scores["metric"] == "f1")].set_index(["test_set", "language"])
    assert of["score"].to_dict() == {
        ("source_dev", "en"): 82.0,
        ("test", "en"): 81.0,
        ("test", "de"): 71.0,
        ("test", "th"): 51.0,
    }
    assert set(scores[scores["target"]]["language"]) == {"de", "th"}


def test_traces_orders_and_evaluations(half: MadeUp) -> None:
    found = results(half)
    traces = found.traces
    assert len(traces) == 2 * 2 * 2 * 4  # seeds, steps, purposes, layers
    row = traces[(traces["seed"] == 1) & (traces["step"] == 100) & (traces["purpose"] == "log")].set_index("layer")
    assert row["trace"].to_dict() == {0: 101.0, 1: 201.0, 2: 301.0, 3: 401.0}
    assert row["awake"].all()
    assert set(row["se"]) == {0.1}
    orders = found.orders[found.orders["seed"] == 0]
    assert list(zip(orders["event"], orders["step"], orders["layer"], strict=True)) == [
        (0, 0, 3),
        (2, 50, 2),  # the first event woke nothing
        (3, 75, 1),
        (4, 100, 0),
    ]
    assert list(found.evaluations.columns) == [*RUN, "step", "language", "best", "f1", "em"]
    assert found.evaluations.empty


def test_a_damaged_history_is_left_out_and_told(half: MadeUp) -> None:
    run_id = results(half).runs["run_id"][2]
    (path,) = half.layout.run(run_id).root.glob("attempt-*/segments/*.jsonl")
    path.write_text("not what was sealed")
    found = results(half)
    with pytest.warns(UserWarning, match="left out: .*does not hold what its checkpoint sealed"):
        traces = found.traces
    assert len(set(traces["run_id"])) == 1
    assert len(found.damaged) == 1
    assert found.runs["finished"].sum() == 2


def test_predictions(half: MadeUp) -> None:
    found = results(half)
    rows = found.predictions("th")
    assert len(rows) == 2 * 3
    assert list(rows["example_id"][:3]) == ["00000-th", "00001-th", "00002-th"]
    assert rows.groupby("seed")["f1"].mean().to_dict() == pytest.approx({0: 49.0, 1: 51.0})
    run_id = found.runs["run_id"][3]
    for chosen in (found.predictions("th", run_id=run_id), found.predictions("th", schedule="gu", seed=1)):
        assert set(chosen["run_id"]) == {run_id}
        assert rows.dtypes.to_dict() == chosen.dtypes.to_dict()


@pytest.mark.parametrize(
    ("language", "of", "part"),
    [
        ("fr", {}, "language: there is none named 'fr'\n  valid: en, de, th"),
        ("th", {"test_set": "mlqa"}, "test_set: there is none named 'mlqa'\n  valid: test"),
        ("th", {"learning_rate": 1}, "column: there is none named 'learning_rate'"),
        ("th", {"schedule": "standard"}, "no finished run is of this kind"),
    ],
)
def test_predictions_of_what_is_not_there(half: MadeUp, language: str, of: dict[str, Any], part: str) -> None:
    with pytest.raises(StudyError) as refused:
        results(half).predictions(language, **of)
    assert part in str(refused.value)


def test_predictions_that_are_gone_or_of_another_evaluation(half: MadeUp) -> None:
    gone, damaged, other = sorted(half.layout.runs.glob("*/attempt-*/predictions/*.parquet"))[:3]
    half_of = results(half)
    other.write_bytes(sorted(half.layout.runs.glob("*/attempt-*/predictions/*.parquet"))[-1].read_bytes())
    gone.unlink()
    damaged.write_bytes(b"no Parquet")
    for path, error, match in (
        (gone, MissingError, "no such file of predictions"),
        (damaged, DamageError, "not a whole Parquet file"),
        (other, MissingError, "another evaluation"),
    ):
        with pytest.raises(error, match=match):
            half_of.predictions(path.stem, run_id=path.parents[2].name)


def test_nothing_finished_yet(made_up: Callable[..., MadeUp], tmp_path: Path) -> None:
    """Frames have their columns and types before they have rows."""
    bed, full = made_up(), MadeUp(tmp_path, study(schedules=("gu",), seeds=(0,)))
    empty = results(bed)
    for name in ("runs", "cells", "scores", "traces", "orders", "evaluations"):
        assert getattr(empty, name).empty, name
        assert list(getattr(empty, name).columns)[: len(POINT)] == list(POINT), name
    full.take(0, GU)
    runs = results(full).runs
    assert list(runs["status"]) == [NOT_DONE]
    assert texts(runs["test/average/f1"]) == [None]


def test_several_sweeps_stand_below_each_other(tmp_path: Path) -> None:
    one = MadeUp(tmp_path, study(schedules=("gu",)), "one")
    words = MadeUp(
        tmp_path, study(schedules=("gu",), search={"k": ("even",)}, evaluation={"languages": ("en", "fr")}), "two"
    )
    none = MadeUp(tmp_path, study(), "three")
    one.all()
    words.all()
    found = results(one, words, none)
    assert found.names == ("one", "two", "three")
    runs = found.runs
    assert runs.groupby("sweep").size().to_dict() == {"one": 2, "two": 2}
    assert list(runs["k"]) == [25, 25, "even", "even"]
    assert runs["test/de/f1"].notna().sum() == 2
    assert len(found.predictions("de")) == 2 * 3
    assert [each.name for each in found] == ["one", "two", "three"]
    assert found["two"].study == words.study
    with pytest.raises(StudyError, match="sweep: there is none named 'four'"):
        found["four"]


def test_arms_and_more_test_sets(made_up: Callable[..., MadeUp]) -> None:
    also = {"mlqa": {"test": "mini", "languages": ("en", "de")}}
    bed = made_up(
        schedules=("gu",),
        evaluation={"also": also},
        search={"arms": ({"schedule": "gu", "lr": 1e-3, "k": 25, "steps": 500},)},
    )
    bed.all()
    runs = results(bed).runs
    assert texts(runs["arm_steps"]) == [None, None, 500, 500]
    assert runs["mlqa/average/f1"].equals(runs["mlqa/de/f1"].rename("mlqa/average/f1"))
    assert len(results(bed).predictions("de", test_set="mlqa", seed=0, arm_steps=500)) == 3
