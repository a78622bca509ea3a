"""`raysched report --against paper` on sweeps that score what the paper printed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, OUTSIDE_MISSING
from raysched.study.space import Point
from tests.cli.conftest import Raysched
from tests.reports.conftest import MadeUp, study
from tests.reports.paper_sweeps import paper_sweep

REPORT = ("report", "--against", "paper", "--storage", "st")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Two parts of Table 2's suite, and a sweep of the mini world."""
    folder = tmp_path / "st"
    for task, dataset in (("xcopa", "XCOPA"), ("xnli", "XNLI")):
        paper_sweep(folder, f"paper-table2.{task}-mbert", model="mBERT", datasets=[dataset], methods=["standard", "gu"])
    MadeUp(folder, study(schedules=("gu",)), "mine").take(0, Point(schedule="gu", lr=1e-3, k=25))
    return folder


def verdicts(page: str) -> set[tuple[str, str]]:
    with Path(page.strip()).with_suffix(".csv").open() as file:
        return {(row["sweep"], row["verdict"]) for row in csv.DictReader(file)}


def test_one_sweep_a_suite_and_several(raysched: Raysched, storage: Path, tmp_path: Path) -> None:
    xcopa, xnli = "paper-table2.xcopa-mbert", "paper-table2.xnli-mbert"
    for names, options, page, sweeps in (
        ([xnli], [], storage / xnli / "reports" / "against_paper.md", {xnli}),
        (["paper-table2"], [], storage / "paper-table2" / "reports" / "against_paper.md", {xcopa, xnli}),
        ([xnli, xcopa], [], storage / "reports" / "against_paper.md", {xcopa, xnli}),
        ([xnli, "mine"], ["--to", "out"], tmp_path / "out" / "against_paper.md", {xnli}),
    ):
        answer = raysched(*REPORT, *names, *options)
        assert (answer.code, answer.err) == (0, "")
        assert Path(answer.out.strip()).absolute() == page
        assert {sweep for sweep, _ in verdicts(answer.out)} == sweeps
        assert {verdict for _, verdict in verdicts(answer.out)} <= {"reproduced", "underpowered"}
        text = page.read_text()
        assert ("- not started: paper-table2.squad-xlmr" in text) == (names == ["paper-table2"])
        assert ("- not in the paper: mine: the backbone mini is none" in text) == ("mine" in names)


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["mine"], BAD_INPUT, ("the backbone mini is none of the paper's", "valid: mBERT (bert-base", "--paper-model")),
        (["mine", "--paper-model", "XLM-R"], BAD_INPUT, ("test set test (mini) is none", "--paper-dataset test=XQuAD")),
        (
            ["mine", "--paper-model", "GPT"],
            BAD_INPUT,
            ("--paper-model: must be one of", "valid: mBERT, XLM-R, mDeBERTa"),
        ),
        (
            ["mine", "--paper-dataset", "test=SQuAD"],
            BAD_INPUT,
            ("--paper-dataset: must be one of", "valid: MLQA, XQuAD"),
        ),
        (["mine", "--paper-model", "XLM-R", "--paper-dataset", "XQuAD"], 0, ()),
        (["mine", "--against", "you"], BAD_INPUT, ("--against: must be paper, but got 'you'",)),
        ([], BAD_INPUT, ("SWEEP: st holds 3 sweeps: say which",)),
        (["paper"], OUTSIDE_MISSING, ("there is no sweep 'paper' in st",)),
    ],
)
def test_what_cannot_be_set_beside_the_paper(
    raysched: Raysched, storage: Path, arguments: list[str], code: int, parts: tuple[str, ...]
) -> None:
    answer = raysched(*REPORT, *arguments)
    assert answer.code == code, answer.err
    assert all(part in answer.err for part in parts), answer.err
