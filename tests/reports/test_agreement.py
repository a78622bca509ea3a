"""Per-question agreement, from the predictions that runs stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysched.records.layout import SweepLayout
from raysched.reports.asked import Asked
from raysched.reports.document import Table
from raysched.reports.inference.agreement import agreeing, agreement, churn
from raysched.reports.inference.bootstrap import COVERAGE, COVERAGE_ONE_SEED, by_seed
from raysched.reports.inference.over_questions import differences
from raysched.reports.inference.questions import column_of, lined_up, read_method
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point
from raysched.tasks import predictions
from raysched.tasks.predictions import Origin, Prediction

GU, STANDARD = Point(schedule="gu", lr=1e-3, k=25), Point(schedule="standard", lr=1e-3)


def asked(made: Any, **changes: Any) -> Asked:
    return Asked(sweeps=(read_sweep(made.layout),), **changes)


def tables(of: Asked) -> dict[str, Table]:
    found = agreement(of)
    assert found is not None
    return {table.name.split("-made-up")[0]: table for table in found.tables}


def rows(table: Table) -> dict[tuple[str, ...], list[str]]:
    return {row.labels: [cell.text for cell in row.cells] for block in table.blocks for row in block}


def answer(sweep: Any, spec: Any, language: str, right: Sequence[int], ids: Sequence[str] | None = None) -> Path:
    """Replace a run's predictions: 1 is right, 0 wrong."""
    folder = sweep.layout.run(spec.run_id).attempt(sweep.ledger.epoch, 1).predictions
    made = [
        Prediction(
            example_id=ids[row] if ids else f"{row}-{language}",
            prediction="a", score=0.0, start=None, end=None, gold=("a",), f1=100.0 * one, em=100.0 * one,
        )
        for row, one in enumerate(right)
    ]  # fmt: skip
    origin = Origin(run_id=spec.run_id, evaluation_id=spec.evaluation_ids["test"], language=language, split="test")
    predictions.write(folder / f"{language}.parquet", made, origin)
    return folder / f"{language}.parquet"


@pytest.fixture
def small(made_up: Callable[..., Any]) -> Any:
    """Two methods, two seeds, four questions; standard's seeds differ in one answer in de, gu's in none."""
    sweep = made_up(schedules=("standard", "gu"))
    sweep.all()
    for point, by_seed_ in ((STANDARD, ([1, 0, 0, 1], [1, 1, 0, 1])), (GU, ([1, 1, 0, 0], [1, 1, 0, 0]))):
        for spec, right in zip(sweep.specs(point).values(), by_seed_, strict=True):
            answer(sweep, spec, "de", right)
            answer(sweep, spec, "th", [0, 0, 0, 0])
            answer(sweep, spec, "en", [1, 1, 1, 1])
    return sweep


def test_made_up_predictions_are_real_ones_and_average_to_the_scores(made_up: Callable[..., Any]) -> None:
    sweep = made_up(schedules=("gu",))
    (spec, *_) = sweep.take(0, GU)
    record = sweep.finish(spec)
    scores = record.tests[spec.evaluation_ids["test"]]
    for language in ("en", "de", "th"):
        path = sweep.layout.run(spec.run_id).attempt(sweep.ledger.epoch, 1).predictions / f"{language}.parquet"
        origin, found = predictions.read(path)
        assert (origin.run_id, origin.language) == (spec.run_id, language)
        assert np.mean([one.f1 for one in found]) == pytest.approx(scores[language]["f1"])
        assert np.mean([one.em for one in found]) == pytest.approx(scores[language]["em"])


def test_by_hand(small: Any) -> None:
    of = asked(small)
    found = tables(of)
    assert list(found) == ["churn-test", "agreement-test", "differences-questions-f1"]
    assert found["churn-test"].columns == ("en", "de", "th")
    assert rows(found["churn-test"]) == {("standard",): ["0.0", "25.0", "0.0"], ("gu",): ["0.0", "0.0", "0.0"]}
    assert rows(found["agreement-test"]) == {
        ("standard: two seeds",): ["100.0", "75.0", "100.0"],
        ("gu: two seeds",): ["100.0", "100.0", "100.0"],
        ("gu and standard: same seed",): ["100.0", "62.5", "100.0"],  # 2 of 4, and 3 of 4
    }
    row = rows(found["differences-questions-f1"])["targets (test)", "gu"]
    # On de seed 0 has 50 - 50, seed 1 50 - 75; on th nothing: averages are 0 and -12.5.
    assert row[:3] == ["2", "4", "-6.25"]
    assert row[6] == "undecided"
    assert row[-1] == "-"  # too few questions for a bootstrap
    assert of.damaged == []


def test_churn_and_agreement() -> None:
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1]], dtype=float)
    assert churn(right) == 0.5
    assert agreeing(right[0], right[1]) == 0.5
    assert churn(right[:1]) == 0.0


def test_differences_average_to_those_of_the_scores(made_up: Callable[..., Any]) -> None:
    """Per-question differences are the very numbers of the records, taken apart."""
    sweep = made_up(schedules=("standard", "gu"))
    sweep.all()
    of = asked(sweep)
    by_name = {one.label: one for one in of.methods}
    runs = {name: read_method(one, "test", of.damaged) for name, one in by_name.items()}
    found = differences(runs["gu"], runs["standard"], ("de", "th"), "f1")
    assert found is not None
    assert found.shape == (2, 3, 2)
    ours, theirs = (by_name[name].averages("f1") for name in ("gu", "standard"))
    assert by_seed(found) == pytest.approx([ours[seed] - theirs[seed] for seed in (0, 1)])


def test_questions_line_up_by_id_and_languages_may_lack_some(small: Any) -> None:
    """The ids are those of a data set with the same id in all languages; th lacks one of them."""
    for point in (STANDARD, GU):
        for spec in small.specs(point).values():
            answer(small, spec, "de", [1, 0, 0, 1], ["q4", "q2", "q3", "q1"])
            answer(small, spec, "th", [1, 1, 0], ["q1", "q4", "q2"])
    of = asked(small)
    runs = read_method(of.methods[0], "test", of.damaged)
    found = lined_up(runs.values(), ("de", "th"), "em")
    assert found is not None
    assert found.shape == (2, 4, 2)
    np.testing.assert_array_equal(found[0], [[100, 100], [0, 0], [0, np.nan], [100, 100]])
    assert rows(tables(of)["differences-questions-f1"])["targets (test)", "gu"][1] == "4"


def test_half_finished(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    sweep.sizes = dict.fromkeys(("en", "de", "th"), 20)
    standard, gu = sweep.take(0, STANDARD), sweep.take(1, GU)
    assert agreement(asked(sweep)) is None
    sweep.finish(standard[0])
    assert agreement(asked(sweep)) is None  # one run agrees with nobody
    sweep.finish(gu[0])
    found = tables(asked(sweep))
    assert list(found) == ["agreement-test", "differences-questions-f1"]
    assert rows(found["agreement-test"])["standard: two seeds",] == ["-"] * 3
    row = rows(found["differences-questions-f1"])["targets (test)", "gu"]
    assert row[0] == "1 of 2 †"
    assert row[3:8] == ["-", "-", "-", "not testable with 1 seed", "-"]
    assert f"(covers {100 * COVERAGE_ONE_SEED[20]:.0f} %)" in row[-1]
    assert any("nothing of other seeds" in note for note in found["differences-questions-f1"].notes)
    sweep.finish(gu[1])
    churned = tables(asked(sweep))["churn-test"]
    assert rows(churned)["standard",] == ["-"] * 3
    assert rows(churned)["gu",][1] == "5.0"  # 59 % of 20 are 11, and 61 % are 12
    sweep.finish(standard[1])
    row = rows(tables(asked(sweep))["differences-questions-f1"])["targets (test)", "gu"]
    assert row[0] == "2"
    assert f"(covers {100 * COVERAGE[2]:.0f} %)" in row[-1]


def test_damage_is_told_and_left_out(small: Any) -> None:
    specs = list(small.specs(GU).values())
    path = answer(small, specs[0], "de", [1, 1, 1, 1])
    path.write_bytes(path.read_bytes()[:-9])
    (path.parent / "th.parquet").unlink()
    of = asked(small)
    found = tables(of)
    assert len(of.damaged) == 2
    assert all(str(path.parent) in problem and "\n" not in problem for problem in of.damaged)
    assert rows(found["churn-test"])["gu",] == ["0.0", "-", "-"]
    assert rows(found["differences-questions-f1"])["targets (test)", "gu"][0] == "1 of 2 †"


def test_a_file_that_is_not_what_was_written_is_damaged(made_up: Callable[..., Any]) -> None:
    sweep = made_up(schedules=("standard",))
    for spec in sweep.take(0, STANDARD):
        sweep.finish(spec, files={"predictions/de.parquet": "0" * 64})
    of = asked(sweep)
    found = tables(of)
    assert rows(found["churn-test"])["standard",][1] == "-"
    assert len(of.damaged) == 2
    assert "not what was written" in of.damaged[0]


def test_a_task_that_classifies(made_up: Callable[..., Any]) -> None:
    sweep = made_up(task="nli", search={"objective": "source_dev/accuracy", "schedule": ("standard", "gu")})
    for number, point in enumerate((STANDARD, GU)):
        for spec in sweep.take(number, point):
            scores = {name: {"accuracy": 200 / 3 if point == GU else 100 / 3} for name in ("en", "de", "th")}
            tests = {spec.evaluation_ids["test"]: scores}
            sweep.finish(spec, source_dev={"accuracy": 50.0}, tests=tests)
    found = tables(asked(sweep))["differences-questions-accuracy"]
    assert found.title.startswith("Accuracy against standard")
    assert rows(found)["targets (test)", "gu"][:3] == ["2", "3", "+33.33"]


@pytest.mark.parametrize(("metric", "column"), [("f1", "f1"), ("em", "em"), ("accuracy", "em"), ("macro_f1", "em")])
def test_columns(metric: str, column: str) -> None:
    assert column_of(metric) == column


def test_several_sweeps_have_tables_of_their_own(made_up: Callable[..., Any], tmp_path: Path) -> None:
    first = made_up(schedules=("standard", "gu"))
    first.all()
    second = type(first)(tmp_path / "storage", first.study, "other")
    second.all()
    sweeps = tuple(read_sweep(SweepLayout(tmp_path / "storage", name)) for name in ("made-up", "other"))
    found = agreement(Asked(sweeps=sweeps))
    assert found is not None
    assert len({table.name for table in found.tables}) == 6
