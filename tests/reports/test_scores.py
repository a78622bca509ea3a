"""Tables of scores of whole, half-finished and several sweeps; every number by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Table
from raysched.reports.scores import NONE_YET, scores
from raysched.reports.source import Source
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point
from tests.reports.conftest import MadeUp, study

GU = Point(schedule="gu", lr=1e-3, k=25)
STANDARD = Point(schedule="standard", lr=1e-3)
LPFT = Point(schedule="lpft", lr=1e-3, k=25)


def tables(*sweeps: MadeUp, by: Sequence[str] = ()) -> tuple[Table, ...]:
    return scores(Asked(sweeps=tuple(read_sweep(sweep.layout) for sweep in sweeps), by=tuple(by))).tables


def column(table: Table, name: str) -> dict[str, Cell]:
    """By the last label of each row."""
    place = table.columns.index(name)
    return {row.labels[-1]: row.cells[place] for block in table.blocks for row in block}


def rows(table: Table) -> list[Row]:
    return [row for block in table.blocks for row in block]


def means(cell: Cell) -> list[float | None]:
    return [score and round(score.mean, 6) for score in cell.scores]


def test_a_whole_sweep_by_hand(made_up: Callable[..., Any]) -> None:
    """gu: base 49 and 51, en 30 above, de 20 above, source dev 31 above, EM 10 below F1."""
    sweep = made_up()
    sweep.all()
    (table,) = tables(sweep)  # as many points as methods: no table of every point
    assert (table.name, table.stub) == ("scores-test", ("method",))
    assert table.columns == ("source dev", "en", "de", "th", "target average", "lowest target", "n")
    assert table.title == "F1 / EM on mini (qa), backbone mini, per method"
    assert [row.labels for row in rows(table)] == [("standard",), ("gu",), ("lpft",)]
    gu = {name: column(table, name)["gu"] for name in table.columns}
    assert {name: means(cell) for name, cell in gu.items()} == {
        "source dev": [81.0, 71.0],
        "en": [80.0, 70.0],
        "de": [70.0, 60.0],
        "th": [50.0, 40.0],
        "target average": [60.0, 50.0],
        "lowest target": [50.0, 40.0],
        "n": [],
    }
    assert str(gu["en"].scores[0]) == "80.00 ± 1.41"
    assert (gu["lowest target"].text, gu["n"].text) == ("th", "2")
    for name in table.columns[:-1]:
        assert {method: cell.mark for method, cell in column(table, name).items()} == {
            "standard": "",
            "gu": "second",
            "lpft": "best",
        }


def test_the_source_language_stands_first_wherever_the_study_has_it(made_up: Callable[..., Any]) -> None:
    sweep = made_up(evaluation={"languages": ("th", "en", "de")})
    sweep.all()
    (table,) = tables(sweep)
    assert table.columns[:4] == ("source dev", "en", "th", "de")


def test_sources_name_the_cell(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    sweep.all()
    (table,) = tables(sweep)
    found = {name: column(table, name)["gu"].source for name in table.columns}
    assert found.pop("n") == ""
    languages = {name: Source.parse(text).language for name, text in found.items()}
    assert languages == {
        "source dev": "@source_dev",
        "en": "en",
        "de": "de",
        "th": "th",
        "target average": "@average",
        "lowest target": "th",
    }
    one = Source.parse(found["en"])
    assert (one.sweep, one.test_set, one.metrics) == ("made-up", "test", ("f1", "em"))
    assert one.cell_id == sweep.specs(GU)[0].cell_id
    assert one.uid == read_sweep(sweep.layout).state.uid


def test_a_short_cell_is_never_marked_and_its_failure_is_told(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    for number, point in enumerate([STANDARD, GU, LPFT]):
        first, second = sweep.take(number, point)
        sweep.finish(first)
        if point == LPFT:  # the best scores, but of one seed
            sweep.start(second)
            sweep.fail(second)
        else:
            sweep.finish(second)
    (table,) = tables(sweep)
    for name in table.columns[:-1]:
        cells = column(table, name)
        assert [cells[method].mark for method in ("standard", "gu", "lpft")] == ["second", "best", ""]
        assert [cells[method].short for method in ("standard", "gu", "lpft")] == [False, False, True]
    assert column(table, "n")["lpft"].text == "1 of 2, 1 failed"
    assert "5 finished, 1 failed (schedule=lpft lr=0.001 k=25 seed 1: diverged, nan)" in table.notes[1]


def test_footer(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    sweep.all()
    (table,) = tables(sweep)
    means, runs, made_with = table.notes
    assert "standard deviation (ddof 1)" in means
    assert "Target average: over de, th, for each seed by itself; lowest target: each row's own." in means
    assert "by F1" in means
    assert runs == (
        "2 seeds per point; 6 runs launched, 6 finished, 0 failed. Selected on mini (en, dev split) by "
        "source_dev/f1; target languages steer nothing."
    )
    assert "data train c0ffeec0ffee, dev c0ffeec0ffee, backbone c0ffeec0ffee" in made_with
    assert "code raysched 0.1.0 abcdef012345" in made_with
    assert made_with.endswith("training 1.50 CPU-hours.")


@pytest.mark.parametrize(
    ("gpu", "said"), [("auto", "0.25 GPU-hours (NVIDIA H200)"), (0.25, "0.06 GPU-hours (NVIDIA H200)")]
)
def test_a_share_of_a_gpu_counts_as_such(tmp_path: Path, gpu: Any, said: str) -> None:
    sweep = MadeUp(tmp_path, study(resources={"gpu": gpu}))
    resolved = sweep.resolved.model_copy(update={"device": "cuda"})
    of = read_sweep_with(sweep, resolved, provenance={"gpus": ["NVIDIA H200"]})
    assert f"training {said}." in scores(Asked(sweeps=(of,))).tables[0].notes[-1]


def read_sweep_with(sweep: MadeUp, resolved: Any, **changes: Any) -> Any:
    first, _ = sweep.take(0, GU)
    sweep.finish(first, **changes)
    return replace(read_sweep(sweep.layout), resolved=resolved)


def test_every_point_where_there_are_more_than_methods(made_up: Callable[..., Any]) -> None:
    sweep = made_up(schedules=("standard", "gu"), lr=(1e-3, 2e-3))
    sweep.all()
    methods, points = tables(sweep)
    assert methods.title.endswith("per method, at the point that source dev selects")
    assert "Selected points: standard: lr=0.001; gu: lr=0.001 k=25." in methods.notes
    assert points.name == "scores-test-points"
    assert points.stub == ("schedule", "lr", "k", "selected")
    assert [row.labels for row in rows(points)] == [
        ("standard", "0.001", "", "yes"),
        ("standard", "0.002", "", ""),
        ("gu", "0.001", "25", "yes"),
        ("gu", "0.002", "25", ""),
    ]
    assert means(rows(points)[3].cells[1]) == [79.0, 69.0]
    assert points.columns == methods.columns


def test_grouped_by_a_parameter(made_up: Callable[..., Any]) -> None:
    sweep = made_up(schedules=("standard", "gu"), lr=(1e-3, 2e-3))
    sweep.all()
    methods, _ = tables(sweep, by=["lr"])
    assert methods.stub == ("lr",)
    assert [row.labels for row in rows(methods)] == [("lr=0.001",), ("lr=0.002",)]
    chosen = "Selected points: lr=0.001: schedule=gu lr=0.001 k=25; lr=0.002: schedule=gu lr=0.002 k=25."
    assert chosen in methods.notes
    methods, _ = tables(sweep, by=["k"])  # which standard training has none of
    assert [row.labels for row in rows(methods)] == [("k=-",), ("k=25",)]


def test_a_test_set_without_targets_says_so(made_up: Callable[..., Any]) -> None:
    sweep = made_up(evaluation={"also": {"solo": {"test": "mini", "languages": ("en",)}}})
    sweep.all()
    _, solo = tables(sweep)
    assert "There is no target." in solo.notes[0]
    assert "lowest target" not in solo.notes[0]


def test_two_sweeps_are_two_blocks_of_one_table(tmp_path: Path) -> None:
    sweeps = [MadeUp(tmp_path, study(), name) for name in ("first", "second")]
    for sweep in sweeps:
        sweep.all()
    (table,) = tables(*sweeps)
    assert table.stub == ("sweep", "model", "method")
    assert [[row.labels for row in block] for block in table.blocks] == [
        [(name, "mini", method) for method in ("standard", "gu", "lpft")] for name in ("first", "second")
    ]
    assert [[row.cells[0].mark for row in block] for block in table.blocks] == [["", "second", "best"]] * 2
    assert [note.partition(":")[0] for note in table.notes[1:]] == ["first", "first", "second", "second"]


def test_other_languages_and_other_test_sets_are_other_tables(tmp_path: Path) -> None:
    also = {"other": {"test": "a/b", "languages": ("de", "th")}}
    first = MadeUp(tmp_path, study(evaluation={"also": also}), "first")
    second = MadeUp(tmp_path, study(evaluation={"languages": ("en", "th")}), "second")
    for sweep in (first, second):
        sweep.all()
    found = {table.name: table for table in tables(first, second)}
    assert list(found) == ["scores-test", "scores-other", "scores-test-2"]
    assert found["scores-other"].columns == ("source dev", "de", "th", "target average", "lowest target", "n")
    assert found["scores-other"].title == "F1 / EM on other, a/b (qa), backbone mini, per method"
    assert "lowest target: the only one" in found["scores-test-2"].notes[0]


def test_tasks_have_tables_of_their_own(tmp_path: Path) -> None:
    questions = MadeUp(tmp_path, study(), "questions")
    questions.all()
    inference = MadeUp(tmp_path, study(task="nli", search={"objective": "source_dev/accuracy"}), "inference")
    first, _ = inference.take(0, GU)
    accuracy = {name: {"accuracy": 70.0} for name in ("en", "de", "th")}
    inference.finish(first, source_dev={"accuracy": 80.0}, tests={first.evaluation_ids["test"]: accuracy})
    found = {table.name: table for table in tables(questions, inference)}
    assert list(found) == ["scores-qa-test", "scores-nli-test"]
    assert means(column(found["scores-nli-test"], "target average")["gu"]) == [70.0]


def test_nothing_finished_yet(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    section = scores(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert (section.text, section.tables) == ((NONE_YET,), ())
    sweep.take(0, GU)
    section = scores(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert section.text == (NONE_YET,)
    (row,) = rows(section.tables[0])
    assert all(score is None for cell in row.cells for score in cell.scores)
    assert (row.cells[-1].text, {cell.source for cell in row.cells}) == ("0 of 2", {""})


def test_a_language_that_is_tested_in_one_run_only_is_short(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    first, second = sweep.take(0, GU)
    sweep.finish(first)
    sweep.finish(second, tests={second.evaluation_ids["test"]: {"en": {"f1": 99.0, "em": 89.0}}})
    (table,) = tables(sweep)
    assert column(table, "de")["gu"].short
    assert not column(table, "en")["gu"].short
    assert means(column(table, "target average")["gu"]) == [59.0, 49.0]
    assert column(table, "target average")["gu"].short
