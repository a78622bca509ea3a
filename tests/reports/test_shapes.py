"""The paper's tables through our table code: published numbers give the published averages and marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Mark, Table
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.feeds import published
from raysched.reports.paper.shapes import published_tables, shapes
from raysched.reports.source import Source
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point
from tests.reports.conftest import MadeUp, study
from tests.reports.paper_sweeps import paper_sweep

TABLES = {table.name: table for table in published_tables()}
BY_LANGUAGE = {
    "published-table-8-mlqa": (8, "MLQA"),
    "published-table-8-xquad": (8, "XQuAD"),
    "published-table-9-xcopa": (9, "XCOPA"),
    "published-table-10-xnli": (10, "XNLI"),
    "published-table-13-mlqa": (13, "MLQA"),
    "published-table-13-xquad": (13, "XQuAD"),
    "published-table-14-xcopa": (14, "XCOPA"),
    "published-table-15-xnli": (15, "XNLI"),
}
NOT_THEIR_MEAN = {("XLM-R", "standard", "MLQA"): (61.31, 61.37), ("mDeBERTa", "gu", "MLQA"): (67.08, 66.72)}
"""Averages that the paper prints, and what its own columns give (`audit.csv`)."""
TABLE_2 = """
                     mBERT                 XLM-R
                     best      second      best   second
MLQA, F1 / EM en       rand      standard    fun    gu
MLQA, F1 / EM lowest   fun       gu          gu     fun
MLQA, F1 / EM average  gu        fun         gu     fun
XQuAD, F1 / EM en      rand      fun         fun    rand
XQuAD, F1 / EM lowest  gu        fun         gu     fun
XQuAD, F1 / EM average gu        fun         gu     fun
XCOPA, Accuracy en       gu        fun         fun    rand
XCOPA, Accuracy lowest   rand      fun         gu     rand
XCOPA, Accuracy average  gu        standard    gu     fun
XNLI, Accuracy en        standard  gu          fun    rand
XNLI, Accuracy lowest    gu        fun         gu     standard
XNLI, Accuracy average   gu        fun         gu     standard
"""
"""Read off the printed Table 2 by eye: the best and the second best of each column, by F1 or accuracy."""


def cells(table: Table) -> dict[tuple[str, str, str], Cell]:
    """(model, method, column) -> cell."""
    return {
        (*row.labels, " ".join(column.split())): cell  # type: ignore[misc]
        for block in table.blocks
        for row in block
        for column, cell in zip(table.columns, row.cells, strict=True)
    }


def mean(cell: Cell, place: int = 0) -> float:
    score = cell.scores[place]
    assert score is not None
    return score.mean


def test_every_table_of_the_paper_is_there() -> None:
    numbers = {name.split("-")[2] for name in TABLES}
    assert numbers == {"1", "2", "7", "8", "9", "10", "11", "12", "13", "14", "15"}


def test_averages_of_the_language_tables() -> None:
    """38 of 40 rows to 0.01; the two others differ by what is known."""
    printed = {(one.table, one.cell): one.mean for one in paper.published() if one.cell.language == paper.AVERAGE}
    agree, apart = 0, {}
    for name, (number, dataset) in BY_LANGUAGE.items():
        for (model, method, column), cell in cells(TABLES[name]).items():
            if column != "average":
                continue
            metric = "F1" if dataset in ("MLQA", "XQuAD") else "Accuracy"
            about = paper.Cell(
                model=model, method=method, dataset=dataset, language=paper.AVERAGE,
                metric=metric, train_size=paper.FULL_SIZE[dataset],
            )  # fmt: skip
            theirs = printed[number, about]
            if abs(mean(cell) - theirs) <= 0.0101:
                agree += 1
            else:
                apart[model, method, dataset] = (theirs, round(mean(cell), 2))
    assert agree == 38
    assert apart == NOT_THEIR_MEAN


@pytest.mark.parametrize("name", BY_LANGUAGE)
def test_every_other_number_is_as_printed(name: str) -> None:
    number, dataset = BY_LANGUAGE[name]
    found = cells(TABLES[name])
    seen = 0
    for one in paper.published():
        cell = one.cell
        if (one.table, cell.dataset) != (number, dataset) or cell.language == paper.AVERAGE:
            continue
        place = 1 if cell.metric == "EM" else 0
        assert mean(found[cell.model, cell.method, cell.language], place) == one.mean
        seen += 1
    assert seen > 10


def test_standard_deviations_are_as_printed() -> None:
    table = cells(TABLES["published-table-8-xquad"])
    average = table["mBERT", "gu", "average"].scores
    assert [score and (score.std, score.n) for score in average] == [(0.22, 4), (0.44, 4)]
    assert [score and score.std for score in table["mBERT", "gu", "th"].scores] == [None]


@pytest.mark.parametrize("name", TABLES)
def test_marks_against_a_computation_from_the_file(name: str) -> None:
    """Of the numbers as they are printed, by another way: every cell is compared with every other of its column."""
    for block in TABLES[name].blocks:
        for place in range(len(TABLES[name].columns)):
            column = [row.cells[place] for row in block]
            for cell in column:
                above = {f"{mean(other):.2f}" for other in column if f"{mean(other):.2f}" > f"{mean(cell):.2f}"}
                expected: Mark = "" if len(block) == 1 else ("best", "second", "", "")[len(above)]
                assert cell.mark == expected, (name, place, mean(cell))


def test_marks_of_table_2_by_hand() -> None:
    found = cells(TABLES["published-table-2"])
    for line in TABLE_2.strip().splitlines()[2:]:
        *column, best, second, best_of_xlmr, second_of_xlmr = line.split()
        for model, marked in (
            ("mBERT", {best: "best", second: "second"}),
            ("XLM-R", {best_of_xlmr: "best", second_of_xlmr: "second"}),
        ):
            for method in paper.COMPARED:
                assert found[model, method, " ".join(column)].mark == marked.get(method, ""), (model, method, column)
    assert sum(cell.mark != "" for cell in found.values()) == 2 * 2 * 12


def test_table_2_is_as_printed() -> None:
    """Every number, the lowest languages by name, F1 and EM in one cell."""
    found = cells(TABLES["published-table-2"])
    seen = 0
    for one in paper.published():
        if one.table != 2:
            continue
        cell = one.cell
        lowest = cell.language.startswith(paper.LOWEST)
        header = {"en": "en", paper.AVERAGE: "average"}.get(cell.language, "lowest")
        metrics = "F1 / EM" if cell.metric in ("F1", "EM") else "Accuracy"
        ours = found[cell.model, cell.method, f"{cell.dataset}, {metrics} {header}"]
        exception = NOT_THEIR_MEAN.get((cell.model, cell.method, cell.dataset)) if header == "average" else None
        expected = exception[1] if exception and cell.metric == "F1" else one.mean
        assert mean(ours, int(cell.metric == "EM")) == pytest.approx(expected, abs=0.0101)
        if lowest:
            assert ours.text == cell.language.removeprefix(paper.LOWEST)
        seen += 1
    assert seen == 144


def test_tables_1_7_11_and_12() -> None:
    reduced, more = TABLES["published-table-1"], TABLES["published-table-12"]
    assert [[row.labels[1] for row in block] for block in reduced.blocks] == [["standard", "gu"]] * 2
    assert [[row.labels[1] for row in block] for block in more.blocks] == [["standard", "gu", "fun"]] * 2
    assert mean(cells(more)["XLM-R", "fun", "XQuAD, F1 5000"]) == 60.72
    assert mean(cells(TABLES["published-table-7"])["mBERT", "full fine-tuning", "MLQA, F1"]) == 56.85
    reverse = cells(TABLES["published-table-11"])
    assert {key[1] for key in reverse} == {"gu", "gu (reverse)"}
    assert not any(column.startswith("XCOPA") for _, _, column in reverse)
    assert mean(reverse["XLM-R", "gu (reverse)", "XNLI, Accuracy average"]) == 72.50


def test_lowest_languages_follow_from_standard_training() -> None:
    """What the paper names by hand is what the rule of its caption gives."""
    feed = published()
    named = {
        (one.cell.model, one.cell.dataset): one.cell.language.removeprefix(paper.LOWEST)
        for one in paper.published()
        if one.cell.language.startswith(paper.LOWEST)
    }
    datasets = {dataset.name: dataset for dataset in feed.datasets}
    assert {key: feed.lowest(key[0], datasets[key[1]]) for key in named} == named


def test_a_sweep_with_the_papers_settings_has_the_papers_shape(tmp_path: Path) -> None:
    """Fed with runs whose means are the published ones: the same numbers, the same marks."""
    sweep = paper_sweep(tmp_path, "questions", model="XLM-R", datasets=["XQuAD", "MLQA"])
    section = shapes(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert section is not None
    ours = {table.name: table for table in section.tables}
    assert list(ours) == ["shape-table-2", "shape-table-8-xquad", "shape-table-8-mlqa"]
    theirs = cells(TABLES["published-table-8-xquad"])
    for (model, method, column), cell in cells(ours["shape-table-8-xquad"]).items():
        assert mean(cell) == pytest.approx(mean(theirs[model, method, column]), abs=0.0101)
        assert cell.mark == theirs[model, method, column].mark
        source = Source.parse(cell.source)
        assert (source.sweep, source.test_set, source.metrics) == ("questions", "test", ("f1", "em"))
        assert source.language == {"average": "@average"}.get(column, column)
    lowest = cells(ours["shape-table-2"])["XLM-R", "gu", "MLQA, F1 / EM lowest"]
    assert (lowest.text, Source.parse(lowest.source).test_set) == ("ar", "mlqa")


def test_english_xcopa_is_source_dev(tmp_path: Path) -> None:
    sweep = paper_sweep(tmp_path, "choice", model="mBERT", datasets=["XCOPA"])
    section = shapes(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert section is not None
    table = next(table for table in section.tables if table.name == "shape-table-9-xcopa")
    english = cells(table)["mBERT", "gu", "en"]
    assert mean(english) == pytest.approx(66.60)
    assert Source.parse(english.source).language == "@source_dev"
    assert any("validation split" in note for note in table.notes)


def test_small_training_sets_reverse_and_full_fine_tuning(tmp_path: Path) -> None:
    sweeps = [
        paper_sweep(tmp_path, f"inference-{size}", model="mBERT", datasets=["XNLI"], train_examples=size,
                    methods=("standard", "gu"))
        for size in (1000, 10000)
    ]  # fmt: skip
    sweeps.append(paper_sweep(tmp_path, "whole", model="mBERT", datasets=["XNLI"], methods=("gu", "gu_rev", "full_ft")))
    section = shapes(Asked(sweeps=tuple(read_sweep(sweep.layout) for sweep in sweeps)))
    assert section is not None
    ours = {table.name: cells(table) for table in section.tables}
    reduced = ours["shape-table-1"]
    assert {column for _, _, column in reduced} == {"XNLI, Accuracy 1000", "XNLI, Accuracy 10000"}
    assert mean(reduced["mBERT", "gu", "XNLI, Accuracy 10000"]) == pytest.approx(53.95)
    assert mean(ours["shape-table-7"]["mBERT", "full fine-tuning", "XNLI, Accuracy"]) == pytest.approx(63.60)
    assert mean(ours["shape-table-11"]["mBERT", "gu (reverse)", "XNLI, Accuracy average"]) == pytest.approx(55.67)
    assert {method for _, method, _ in ours["shape-table-2"]} == {"gu"}


def test_a_sweep_that_is_none_of_the_papers_keeps_its_names(tmp_path: Path) -> None:
    sweep = MadeUp(tmp_path, study(schedules=("lpft", "gu", "standard")))
    sweep.all()
    section = shapes(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert section is not None
    overview, languages = section.tables
    assert overview.columns == ("mini qa, F1 / EM\nen", "mini qa, F1 / EM\nlowest", "mini qa, F1 / EM\naverage")
    assert (languages.name, languages.columns) == ("shape-table-8-mini-qa", ("en", "de", "th", "average"))
    assert [row.labels for row in overview.blocks[0]] == [("mini", "standard"), ("mini", "gu"), ("mini", "lpft")]
    assert [mean(cell) for cell in overview.blocks[0][1].cells] == [80.0, 50.0, 60.0]


def test_half_finished(tmp_path: Path) -> None:
    sweep = MadeUp(tmp_path, study())
    assert shapes(Asked(sweeps=(read_sweep(sweep.layout),))) is None
    first, second = sweep.take(0, Point(schedule="gu", lr=1e-3, k=25))
    assert shapes(Asked(sweeps=(read_sweep(sweep.layout),))) is None
    sweep.finish(first)
    sweep.fail(second)
    sweep.take(1, Point(schedule="standard", lr=1e-3))
    section = shapes(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert section is not None
    (row,) = section.tables[0].blocks[0]  # nothing is known of standard
    assert all(cell.short and not cell.mark for cell in row.cells)
    assert any("†" in note for note in section.tables[0].notes)


def test_test_sets_of_the_same_data_are_told_apart(tmp_path: Path) -> None:
    also = {name: {"test": "mini", "languages": ("en", name)} for name in ("de", "th")}
    sweep = MadeUp(tmp_path, study(schedules=("gu",), evaluation={"also": also}))
    sweep.all()
    section = shapes(Asked(sweeps=(read_sweep(sweep.layout),)))
    assert section is not None
    found = {table.title.partition(",")[0]: table.columns for table in section.tables[1:]}
    assert found == {
        "mini qa": ("en", "de", "th", "average"),
        "mini qa (made-up de)": ("en", "de", "average"),
        "mini qa (made-up th)": ("en", "th", "average"),
    }


def test_two_sweeps_of_one_kind_are_told_apart(tmp_path: Path) -> None:
    sweeps = [MadeUp(tmp_path, study(), name) for name in ("first", "second")]
    for sweep in sweeps:
        sweep.all()
    section = shapes(Asked(sweeps=tuple(read_sweep(sweep.layout) for sweep in sweeps)))
    assert section is not None
    assert [block[0].labels[0] for block in section.tables[0].blocks] == ["mini", "mini (second)"]
    sources = {Source.parse(cell.source).sweep for cell in section.tables[0].blocks[1][0].cells}
    assert sources == {"second"}
