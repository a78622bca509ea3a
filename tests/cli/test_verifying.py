"""`raysched verify`: what is printed, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING, SOME_RUNS_FAILED
from raysched.reports.asked import Asked
from raysched.reports.render.latex import latex
from raysched.reports.scores import scores
from raysched.reports.sweep import read_sweep
from tests.cli.conftest import Raysched
from tests.reports.conftest import MadeUp, study

STORAGE = ("--storage", "st")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of one of two sweeps."""
    made = MadeUp(tmp_path / "st", study(schedules=("standard", "gu")), "mine")
    made.all()
    MadeUp(tmp_path / "st", study(schedules=("gu",)), "other")
    path = tmp_path / "results.tex"
    path.write_text("".join(map(latex, scores(Asked(sweeps=(read_sweep(made.layout),))).tables)))
    return path


@pytest.mark.parametrize("options", [[], ["--sweep", "mine"], ["--sweep", "other", "--sweep", "mine"]])
def test_a_table_that_matches(raysched: Raysched, table: Path, options: list[str]) -> None:
    answer = raysched("verify", "results.tex", *options, *STORAGE)
    assert (answer.code, answer.err) == (DONE, "")
    assert answer.out == (
        "48 numbers in 2 marked rows compared with the store: all match; 2 numbers in them name no source\n"
    )


def test_a_number_that_does_not(raysched: Raysched, table: Path) -> None:
    table.write_text(table.read_text().replace("71.00", "71.10") + "\\begin{tabular}{ll}a & 1.5 \\\\\n\\end{tabular}")
    fine = table.with_name("fine.tex")
    fine.write_text(table.read_text().replace("71.10", "71.00"), encoding="latin-1")
    fine.with_name("intro.tex").write_text("no table\n")
    answer = raysched("verify", "results.tex", "fine.tex", "intro.tex", *STORAGE)
    assert answer.code == SOME_RUNS_FAILED
    lines = answer.out.splitlines()
    assert len([line for line in lines if "71.10 printed, 71.00 stored" in line]) == 2
    assert lines[0].startswith("results.tex:12: column 2 (mine, schedule=standard lr=0.001, source dev), F1: 71.10")
    assert sum("1 row with numbers and no mark, not compared" in line for line in lines) == 2
    assert lines[-1].startswith("96 numbers in 4 marked rows compared with the store: 2 mismatches")


def test_another_sweep_than_the_table_s(raysched: Raysched, table: Path) -> None:
    answer = raysched("verify", "results.tex", "--sweep", "other", *STORAGE)
    assert answer.code == SOME_RUNS_FAILED
    assert answer.out.count("its numbers are from the sweep 'mine', which is not there") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["gone.tex"], OUTSIDE_MISSING, ("gone.tex: there is no such file", "tables/*.tex")),
        (["st"], OUTSIDE_MISSING, ("st: is a folder", "st/*.tex")),
        (["results.tex", "--storage", "nowhere"], OUTSIDE_MISSING, ("there is no sweep in nowhere", "--storage")),
        (["results.tex", "--sweep", "mina"], OUTSIDE_MISSING, ("there is no sweep 'mina' in st", "valid: mine, other")),
        (["empty.tex"], BAD_INPUT, ("empty.tex: no row carries a mark", "comment at the end of each")),
    ],
)
def test_what_is_refused(
    raysched: Raysched, table: Path, arguments: list[str], code: int, parts: tuple[str, ...]
) -> None:
    table.with_name("empty.tex").write_text("no table\n")
    answer = raysched("verify", *STORAGE, *arguments)
    assert answer.code == code
    assert answer.out == ""
    assert all(part in answer.err for part in parts), answer.err
