"""`raysched report`: one folder for one sweep or several, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysched.cli.reporting import LONGEST_NAME
from raysched.errors import BAD_INPUT, OUTSIDE_MISSING
from tests.cli.conftest import Raysched
from tests.reports.conftest import MadeUp, study
from tests.reports.paper_sweeps import paper_sweep

REPORT = ("report", "--storage", "st", "--no-mlflow")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "st"
    for name, schedules in (("one", ("standard", "gu")), ("two", ("gu", "lpft"))):
        MadeUp(folder, study(schedules=schedules, lr=(1e-3, 2e-3)), name).all()
    return folder


@pytest.mark.parametrize(
    ("names", "folder"),
    [(["one"], "one/reports"), (["one", "two"], "reports/one+two"), (["two", "one", "two"], "reports/two+one")],
)
def test_where_a_report_is(raysched: Raysched, storage: Path, names: list[str], folder: str) -> None:
    answer = raysched(*REPORT, *names)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [str(storage / folder / name) for name in ("report.html", "report.md")]
    text = (storage / folder / "report.md").read_text()
    assert text.startswith(f"# {', '.join(dict.fromkeys(names))}\n")


def test_a_suite_is_one_report_under_its_name(raysched: Raysched, storage: Path) -> None:
    for task, dataset in (("xcopa", "XCOPA"), ("xnli", "XNLI")):
        paper_sweep(
            storage, f"paper-table2.{task}-mbert", model="mBERT", datasets=[dataset], methods=["standard", "gu"]
        )
    answer = raysched(*REPORT, "paper-table2")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[1] == str(storage / "reports" / "paper-table2" / "report.md")
    text = (storage / "reports" / "paper-table2" / "report.md").read_text()
    assert all(data in text for data in ("facebook/xnli", "paper-table2.xcopa-mbert"))


def test_many_names_make_no_endless_one(raysched: Raysched, tmp_path: Path) -> None:
    names = [f"sweep-{number:02}-{'x' * 50}" for number in range(3)]
    for name in names:
        MadeUp(tmp_path / "st", study(schedules=("gu",)), name)
    answer = raysched(*REPORT, *names)
    assert answer.code == 0, answer.err
    folder = Path(answer.out.splitlines()[0]).parent
    assert len(folder.name) == LONGEST_NAME
    assert folder.name.startswith(f"{names[0]}+{names[1]}"[:80])


def test_groups_by_parameters_and_another_reference(raysched: Raysched, storage: Path) -> None:
    answer = raysched(*REPORT, "one", "--by", "schedule, lr", "--reference", "gu lr=0.001", "--to", "out")
    assert (answer.code, answer.err) == (0, "")
    text = (storage.parent / "out" / "report.md").read_text()
    assert all(name in text for name in ("| standard lr=0.002 |", "| gu lr=0.002 |"))
    assert "There is no method" not in text


def test_a_sweep_without_the_reference_is_told_of(raysched: Raysched, storage: Path) -> None:
    answer = raysched(*REPORT, "one", "two", "--to", "out")
    assert answer.code == 0, answer.err
    text = (storage.parent / "out" / "report.md").read_text()
    assert "two has no method `standard`, so nothing of it is compared with a reference." in text
    assert "one has no method" not in text
    answer = raysched(*REPORT, "two", "--to", "out")  # it was not asked for, and so is no mistake
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["one", "--by", "colour"], BAD_INPUT, ("--by: must be a searched parameter", "valid: schedule, method, lr")),
        (
            ["one", "two", "--reference", "fun"],
            BAD_INPUT,
            ("--reference: must be a method of the sweep, but got 'fun'", "valid: standard, gu, lpft"),
        ),
        (["one", "--reference", "standard", "--by", "lr"], 0, ()),
        (["one", "--margin", "0"], BAD_INPUT, ("--margin",)),
        (["three"], OUTSIDE_MISSING, ("there is no sweep 'three' in st",)),
        ([], BAD_INPUT, ("SWEEP: st holds 2 sweeps: say which",)),
    ],
)
def test_what_cannot_be_reported(
    raysched: Raysched, storage: Path, arguments: list[str], code: int, parts: tuple[str, ...]
) -> None:
    answer = raysched(*REPORT, *arguments)
    assert answer.code == code, answer.err
    assert all(part in answer.err for part in parts), answer.err
    assert code == 0 or not list(storage.glob("*/reports"))


def test_a_sweep_that_mlflow_does_not_hold_is_warned_of(raysched: Raysched, storage: Path) -> None:
    answer = raysched("report", "one", "--storage", "st", "--to", "out")
    assert answer.code == 0
    assert answer.out.splitlines() == ["out/report.html", "out/report.md"]
    assert "warning: the report is not in MLflow: " in answer.err
    assert "raysched sync one --storage " in answer.err
