"""Sweeps beside the paper: what is set beside what, and what is said about it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import StudyError
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.against import write_against_paper
from raysched.reports.paper.comparison import Compared, Comparison, Names, compare, recognise
from raysched.reports.paper.numbers import AVERAGE, TARGETS
from raysched.reports.sweep import read_sweep
from raysched.study.load import Suite, load
from raysched.study.space import Point, points
from tests.reports.conftest import MadeUp, study
from tests.reports.paper_sweeps import paper_sweep

NOTHING_SAID = Names(datasets={})


def beside(*sweeps: MadeUp, names: Names = NOTHING_SAID) -> Compared:
    return compare([read_sweep(sweep.layout) for sweep in sweeps], names)


def averages(compared: Compared) -> dict[tuple[str, str, str], Comparison]:
    """Dataset, metric, method -> target average."""
    cells = [(one.published.cell, one) for one in compared.comparisons]
    return {(cell.dataset, cell.metric, cell.method): one for cell, one in cells if cell.language == AVERAGE}


@pytest.fixture(scope="module")
def table_2(tmp_path_factory: pytest.TempPathFactory) -> list[MadeUp]:
    """Six sweeps that score what Table 2 printed."""
    storage = tmp_path_factory.mktemp("table-2")
    tasks = {"squad": ("XQuAD", "MLQA"), "xcopa": ("XCOPA",), "xnli": ("XNLI",)}
    models = {"mbert": "mBERT", "xlmr": "XLM-R"}
    return [
        paper_sweep(storage, f"paper-table2.{task}-{short}", model=model, datasets=datasets)
        for task, datasets in tasks.items()
        for short, model in models.items()
    ]


def test_the_papers_own_numbers_differ_by_nothing(table_2: list[MadeUp]) -> None:
    """Every number of Tables 2 and 8 to 10 has its counterpart; only averages that are not those of their columns
    differ, and none is called not reproduced.
    """
    comparisons = beside(*table_2).comparisons
    wanted = {number.cell for number in paper.published() if number.table in (2, 8, 9, 10)}
    assert {one.published.cell for one in comparisons} == wanted
    verdicts = {"reproduced": 0, "underpowered": 0}
    for one in comparisons:
        assert one.ours is not None
        assert one.verdict is not None
        assert one.ours.n == one.published.n
        assert one.difference == pytest.approx(0, abs=0.07 if "mean of" in str(one.published.notes) else 0.0101)
        verdicts[one.verdict] += 1
        if one.verdict == "underpowered":
            assert one.published.std is None or (one.band is not None and one.gap is not None and one.band > one.gap)
    with_std = sum(one.published.std is not None for one in comparisons)
    assert verdicts == {"reproduced": with_std - 7, "underpowered": len(comparisons) - with_std + 7}


def test_one_page_in_the_shape_of_table_2(table_2: list[MadeUp], tmp_path: Path) -> None:
    path = write_against_paper([read_sweep(sweep.layout) for sweep in table_2], NOTHING_SAID, tmp_path, ["a.part"])
    text = path.read_text()
    lines = text.splitlines()
    overview = [line for line in lines if line.startswith(("| mBERT", "| XLM-R"))]
    assert [line.split(" | ")[:3] for line in overview] == [
        [f"| {model}", "all", method] for model in ("mBERT", "XLM-R") for method in paper.COMPARED
    ]
    (header,) = [line for line in lines if line.startswith("| model")]
    assert header.split(" | ")[3:9] == [f"MLQA {m} {s}" for m in ("F1", "EM") for s in ("en", "lowest", AVERAGE)]
    assert header.count(" | ") == 3 + 18 - 1
    gu = overview[6].split(" | ")
    assert gu[5] == "63.47 / 63.47 ✓"
    assert gu[4] == "ar 55.16 / 55.16 ?"
    for part in [
        "- **paper-table2.squad-mbert**: google-bert/bert-base-multilingual-cased, trained on rajpurkar/squad",
        "## mBERT, XQuAD, EM, all training rows",
        "| fun | lowest_th | 42.84 ± 0.48 | 4 | 42.84 [c] |",
        " | th 42.84 / 42.84 [c] ? | ",
        "c. Table 2 prints EM 42.84 above F1 42.55",
        "448 have one of ours beside them: 41 reproduced, 0 not reproduced, 407 underpowered (400 of these",
        "| gu | avg_target | 73.04 ± 0.22 | 4 | 73.04 ± 0.22 | +0.00 | 0.31 | ✓ reproduced | Table 2 |",
        "paper-table2.squad-xlmr, test: schedule=gu lr=0.0001 k=50",
        "- not started: a.part",
    ]:
        assert part in text, part
    with (tmp_path / "against_paper.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(beside(*table_2).comparisons)
    (row,) = [row for row in rows if (row["model"], row["method"], row["dataset"], row["language"], row["metric"])
              == ("XLM-R", "standard", "XCOPA", AVERAGE, "Accuracy")]  # fmt: skip
    assert (row["paper_mean"], row["paper_std"], row["paper_n"], row["ours_n"]) == ("55.93", "1.58", "5", "5")
    assert float(row["band"]) == pytest.approx(2 * (2 * 1.58**2 / 5) ** 0.5)
    assert float(row["gap"]) == pytest.approx(58.24 - 55.93)
    assert (row["verdict"], row["train_size"], row["test_set"]) == ("reproduced", "400", "test")


@pytest.mark.parametrize(("shift", "verdict"), [(0.3, "reproduced"), (0.32, "not reproduced"), (-9, "not reproduced")])
def test_a_shift_beyond_the_band_is_not_reproduced(tmp_path: Path, shift: float, verdict: str) -> None:
    """XLM-R, gu on XQuAD: 73.04 ± 0.22 over 4, and so is ours: the band is 2 * sqrt(2 * 0.22^2 / 4) = 0.311."""
    sweep = paper_sweep(tmp_path, "one", model="XLM-R", datasets=["XQuAD"], methods=["gu"], shift=shift)
    one = averages(beside(sweep))["XQuAD", "F1", "gu"]
    assert one.difference == pytest.approx(shift, abs=0.0101)
    assert one.verdict == verdict


def test_subsets_full_fine_tuning_and_reverse_have_rows_of_their_own(tmp_path: Path) -> None:
    few = paper_sweep(
        tmp_path, "few", model="mBERT", datasets=["XQuAD"], methods=["standard", "gu", "fun"], train_examples=5000
    )
    one = averages(beside(few))["XQuAD", "F1", "fun"]
    assert (one.published.mean, one.published.cell.train_size, one.published.table) == (53.68, 5000, 12)
    other = paper_sweep(tmp_path, "other", model="XLM-R", datasets=["XNLI"], methods=["gu_rev", "full_ft"])
    found = averages(beside(other))
    assert found["XNLI", "Accuracy", "gu_rev"].published.mean == 72.5
    assert found["XNLI", "Accuracy", "full_ft"].published.mean == 73.43
    assert {one.verdict for one in found.values()} == {"underpowered"}
    page = write_against_paper([read_sweep(s.layout) for s in (other, few)], NOTHING_SAID, tmp_path).read_text()
    lines = [line for line in page.splitlines() if line.startswith(("| mBERT", "| XLM-R"))]
    assert [line.split(" | ")[:3] for line in lines] == [
        *(["| mBERT", "5000", method] for method in ("standard", "gu", "fun")),
        *(["| XLM-R", "all", method] for method in ("gu_rev", "full_ft")),
    ]


def test_what_the_paper_has_not_is_left_out_and_two_arms_of_a_method_stay_apart(tmp_path: Path) -> None:
    points = [
        Point(schedule="lpft", lr=1e-4, k=50),
        Point(schedule="standard", lr=1e-4, epochs=500),
        Point(schedule="gu", lr=1e-4, k="even"),
        Point(schedule="gu", lr=1e-4, k=50, method="full"),
    ]
    sweep = paper_sweep(tmp_path, "arms", model="XLM-R", datasets=["XNLI"], methods=["standard", "gu"], points=points)
    compared = beside(sweep)
    assert compared.left_out == ("arms: lpft on XNLI", "arms: gu full on XNLI")
    again = paper_sweep(tmp_path, "z-again", model="XLM-R", datasets=["XNLI"], methods=["standard", "gu"])
    both = [read_sweep(one.layout) for one in (sweep, again)]
    text = write_against_paper(both, NOTHING_SAID, tmp_path).read_text()
    found = sorted(line.split(" | ")[2] for line in text.splitlines() if line.startswith("| XLM-R"))
    others = ["gu (z-again, test)", "gu k=even", "standard", "standard (z-again, test)", "standard epochs=500"]
    assert found == ["gu", *others]
    assert "- not in the paper: arms: lpft on XNLI" in text


def test_half_finished_sweeps_show_what_they_have(tmp_path: Path) -> None:
    """One seed tells nothing; a set that was not tested yet is a dash; the average needs every target of the paper."""
    values = {
        "model": {"backbone": "xlm-roberta-base", "language_adapters": "mini", "source_language": "en"},
        "data": {"train": "rajpurkar/squad", "dev": "a/b", "test": "google/xquad"},
        "search": {"schedule": ("gu",), "k": (25,)},
        "evaluation": {
            "languages": ("en", "ar"),
            "also": {"mlqa": {"test": "facebook/mlqa", "languages": ("en", *TARGETS["MLQA"])}},
        },
    }
    sweep = MadeUp(tmp_path, study(**values), "half", sizes=paper.TEST_ROWS["XQuAD"])
    first, _ = sweep.take(0, Point(schedule="gu", lr=1e-3, k=25))
    scores = {language: {"f1": 70.0, "em": 60.0} for language in ("en", "ar")}
    sweep.finish(first, tests={first.evaluation_ids["test"]: scores})
    compared = {
        (one.published.cell.dataset, one.published.cell.language): one
        for one in beside(sweep).comparisons
        if one.published.cell.metric == "F1"
    }
    assert compared["XQuAD", "lowest_ar"].verdict == "underpowered"
    assert compared["XQuAD", "lowest_ar"].difference == pytest.approx(70 - 67.83)
    assert compared["XQuAD", AVERAGE].ours is None
    assert compared["MLQA", AVERAGE].verdict is None
    text = write_against_paper([read_sweep(sweep.layout)], NOTHING_SAID, tmp_path).read_text()
    assert "| gu | ar | 70.00 † | 1 | 67.83 | +2.17 | - | ? underpowered |" in text
    assert "| gu | avg_target | - | 0 | 63.47 ± 0.12 | - | - | - |" in text
    assert "| gu | avg_target | not in this study | 0 | 73.04 ± 0.22 | - | - | - |" in text
    assert "| gu | th | not in this study | 0 |" in text


@pytest.mark.parametrize("train", ["./mine.json", "someone/squad", "nyu-mll/multi_nli"])
@pytest.mark.parametrize("train_examples", [None, 5000])
def test_only_the_papers_own_training_data_are_its_own(tmp_path: Path, train: str, train_examples: int | None) -> None:
    """Whoever says that a file holds the same rows is believed, and the page tells so."""
    data = {"train": train, "dev": "a/b", "test": "google/xquad", "train_examples": train_examples}
    sweep = paper_sweep(
        *(tmp_path, "own"),
        model="mBERT",
        datasets=["XQuAD"],
        methods=["gu"],
        train_examples=train_examples,
        data=data,
    )
    message = rf"data.train: own: the paper trains on rajpurkar/squad for XQuAD, this sweep on {train}"
    with pytest.raises(StudyError, match=message + r"(.|\n)*--paper-dataset test=XQuAD"):
        beside(sweep)
    said = Names.read(None, ["XQuAD"])
    assert averages(beside(sweep, names=said))["XQuAD", "F1", "gu"].verdict is not None
    text = write_against_paper([read_sweep(sweep.layout)], said, tmp_path).read_text()
    assert f"{train} (not the paper's by its name, " in text or train == "nyu-mll/multi_nli"


def test_published_files_in_a_folder_are_the_papers(tmp_path: Path) -> None:
    data = {"train": "rajpurkar/squad", "dev": "a/b", "test": "google/xquad", "folder": "/data"}
    sweep = paper_sweep(tmp_path, "here", model="mBERT", datasets=["XQuAD"], methods=["gu"], data=data)
    assert averages(beside(sweep))["XQuAD", "F1", "gu"].verdict == "reproduced"


def test_a_part_of_a_test_set_gets_no_verdict(tmp_path: Path) -> None:
    """Whether the study limits it, or a file held fewer rows than published; English of XCOPA is source dev."""
    limited = paper_sweep(tmp_path, "limited", model="XLM-R", datasets=["XQuAD"], methods=["gu"])
    values = limited.study.model_dump()
    short = MadeUp(tmp_path, limited.study, "short", sizes={"de": 1189, "en": 1190, "th": 1190})
    (point,) = points(limited.study.search)
    for spec in short.take(0, point):
        short.finish(spec)
    found = {one.published.cell.language: one for one in beside(short).comparisons if one.ours is not None}
    assert {language: one.partial for language, one in found.items()} == {"en": None, "th": None, "de": 1189}
    assert found["de"].verdict is None
    assert found["th"].verdict is not None
    evaluation = {**values["evaluation"], "dev_limit": 50, "test_limit": 100}
    cut = paper_sweep(tmp_path, "cut", model="XLM-R", datasets=["XQuAD"], methods=["gu"], evaluation=evaluation)
    text = write_against_paper([read_sweep(cut.layout)], NOTHING_SAID, tmp_path).read_text()
    assert "trained on rajpurkar/squad, selected on the first 50 rows of a/b, tested on the first 100 rows" in text
    n = len(beside(cut).comparisons)
    assert f"Of {n} published numbers {n} have one of ours beside them: 0 reproduced, 0 not reproduced, 0 und" in text
    assert f"standard deviation), {n} of partial test sets, without a verdict" in text
    assert "| partial test set, 100 rows | Table 8 |" in text
    assert "73.04 / 73.04 (100 rows)" in text
    copa = paper_sweep(tmp_path, "copa", model="XLM-R", datasets=["XCOPA"], methods=["gu"], evaluation={"dev_limit": 50,
                       "languages": TARGETS["XCOPA"]})  # fmt: skip
    partial = {one.published.cell.language: one.partial for one in beside(copa).comparisons}
    assert (partial["en"], partial[AVERAGE]) == (50, None)


@pytest.mark.parametrize(
    ("where", "dataset"),
    [
        ("google/xquad", "XQuAD"),
        ("facebook/mlqa", "MLQA"),
        ("someone/xnli-mini", None),
        ("mini", None),
        ("./xquad.{language}.json", "XQuAD"),
        ("/data/MLQA_V1/test/test-context-{language}-question-{language}.json", "MLQA"),
        ("~/XNLI-1.0/test-{language}.tsv.gz", "XNLI"),
        ("/home/me/xnli-own-project/test-{language}.tsv", None),
        ("/home/me/xquad/mine-{language}.json", None),
        ("/home/me/xnli/rows/test-{language}.tsv", None),
        ("/data/xcopa/data-gmt/{language}/test.{language}.jsonl", None),  # machine-translated
        ("./my-xquad.{language}.json", None),
        ("someone/xquad", None),
        ("data/xcopa/{language}/test.{language}.jsonl", "XCOPA"),
        ("./mine/{language}.json", None),
    ],
)
def test_datasets_are_recognised_by_name(where: str, dataset: str | None) -> None:
    assert recognise(where) == dataset


def test_names_that_are_not_recognised_can_be_given(tmp_path: Path) -> None:
    values: dict[str, Any] = {"search": {"schedule": ("gu",), "k": (25,)}}
    sweep = MadeUp(tmp_path, study(**values), "mine")
    sweep.take(0, Point(schedule="gu", lr=1e-3, k=25))
    compared = beside(sweep, names=Names.read("mDeBERTa", ["XQuAD"]))
    assert {one.published.table for one in compared.comparisons} == {13}
    assert Names.read(None, ["mlqa=MLQA"]).datasets == {"mlqa": "MLQA"}


@pytest.mark.parametrize(
    ("changes", "names", "match"),
    [
        (
            {},
            ([None], []),
            r"model.backbone: made-up: the backbone mini is none(.|\n)*mBERT \(bert-base(.|\n)*--paper-m",
        ),
        ({}, (["XLM-R"], []), r"data.test: made-up: the test set test \(mini\) is none(.|\n)*XQuAD \(google/xquad\)"),
        ({}, (["XLM-R"], ["SQuAD"]), r"--paper-dataset: must be one of the paper's, but got 'SQuAD'(.|\n)*valid: MLQA"),
        ({}, (["BERT"], ["XQuAD"]), r"--paper-model: must be one of the paper's, but got 'BERT'(.|\n)*valid: mBERT"),
        ({"data": {"train_examples": 77}}, (["XLM-R"], ["XQuAD"]), r"and 77 training rows(.|\n)*valid: 1000, 5000"),
        ({"model": {"source_language": "de"}}, (["XLM-R"], ["XQuAD"]), r"trains on en, this sweep on de"),
        ({}, (["XLM-R"], ["XQuAD"]), r"--against: no point has a row in the paper: made-up: lpft on XQuAD"),
    ],
)
def test_nothing_of_the_paper_is_said_clearly(
    tmp_path: Path, changes: dict[str, Any], names: tuple[list[Any], list[str]], match: str
) -> None:
    base = study(schedules=("lpft",)).model_dump()
    keys = {key: {**base[key], **value} for key, value in changes.items()}
    sweep = MadeUp(tmp_path, study(schedules=("lpft",), **keys))
    sweep.take(0, Point(schedule="lpft", lr=1e-3, k=25))
    with pytest.raises(StudyError, match=match):
        beside(sweep, names=Names.read(names[0][0] if names[0] else None, names[1]))


@pytest.mark.parametrize(
    ("suite", "table", "n"), [("paper-table2", 2, 144), ("paper-table1", 1, 24), ("paper-table12", 12, 36),
                              ("paper-table7", 7, 8), ("paper-table11", 11, 24), ("paper-mdeberta", 13, 44)]
)  # fmt: skip
def test_the_shipped_suites_cover_their_tables(tmp_path: Path, suite: str, table: int, n: int) -> None:
    """Every number of the table is one that some point of the suite is set beside."""
    loaded = load(suite)
    assert isinstance(loaded, Suite)
    started = []
    for part in loaded.parts:
        sweep = MadeUp(tmp_path, part.study, part.name)
        for number, point in enumerate(points(part.study.search)):
            sweep.take(number, point)
        started.append(sweep)
    compared = beside(*started)
    wanted = [number.cell for number in paper.published() if number.table == table]
    assert len(wanted) == n
    assert set(wanted) <= {one.published.cell for one in compared.comparisons}
    if table == 2:
        assert compared.left_out == ()
