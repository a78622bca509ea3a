"""A suite on the command line: planned, refused or run part by part, looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysched.cli import sweeping
from raysched.errors import (
    BAD_INPUT,
    CTRL_C,
    DONE,
    OUTSIDE_MISSING,
    RESUMABLE,
    SOME_RUNS_FAILED,
    Interrupted,
    MissingError,
    StoppedError,
    StudyError,
)
from raysched.records.entries import Opened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.runners import preflight
from raysched.runners.control import AskedToStop
from raysched.runners.options import Options
from raysched.study.load import LoadedStudy, StudyInfo, load_study, study_names
from raysched.study.lookup import packaged_folder
from tests.cli.conftest import Raysched

SUITE = """\
description: Three of them
parts:
  one: {extends: xquad-mini, seeds: 1}
  two:
    extends: both.one
    search:
      arms:
        - {schedule: standard, lr: 1e-3, steps: 100}
        - {schedule: standard, lr: 1e-4, method: full}
  three: {extends: both.one, seeds: 2, search: {schedule: [gu]}}
"""


@pytest.fixture
def both(tmp_path: Path) -> Path:
    path = tmp_path / "both.yaml"
    path.write_text(SUITE)
    return path


INFOS = study_names(packaged_folder())


@pytest.mark.parametrize("info", INFOS, ids=[info.name for info in INFOS])
def test_every_study_is_planned_offline(raysched: Raysched, tmp_path: Path, info: StudyInfo) -> None:
    """As many points and runs as `raysched studies` says, and thus the README."""
    answer = raysched("plan", info.name, "--json")
    assert (answer.code, answer.err) == (DONE, "")
    plan = json.loads(answer.out)
    assert (plan["points"], plan["runs"]) == (info.points, info.runs)
    assert tuple(part["sweep"] for part in plan.get("parts", [])) == info.parts
    shown = raysched("plan", info.name)
    assert shown.code == DONE
    assert f" {info.runs} runs" in shown.out
    assert list(tmp_path.iterdir()) == []


def test_studies_lists_suites_with_their_totals(raysched: Raysched) -> None:
    rows = {row["name"]: row for row in json.loads(raysched("studies", "--json").out)}
    assert (rows["paper-table2"]["points"], rows["paper-table2"]["runs"]) == (24, 104)
    assert rows["paper-table2"]["parts"][0] == "paper-table2.squad-mbert"
    assert rows["xquad-mini"]["parts"] == []
    assert " 6      24      104 " in raysched("studies").out


def test_plan_of_a_suite(raysched: Raysched, both: Path) -> None:
    plan = json.loads(raysched("plan", "both", "--json").out)
    assert (plan["suite"], plan["points"], plan["runs"], plan["runs_done"]) == ("both", 13, 14, 0)
    assert [(part["sweep"], part["points"], part["runs"]) for part in plan["parts"]] == [
        ("both.one", 5, 5),
        ("both.two", 7, 7),
        ("both.three", 1, 2),
    ]
    assert plan["disk_mib"] == pytest.approx(sum(part["disk_mib"] for part in plan["parts"]))
    shown = raysched("plan", "both", "--step-seconds", "0.5").out
    assert "Three of them" in shown
    assert "3 parts, 13 points; 14 runs, 0 done." in shown
    steps = 12 * 400 + 7 * (6 * 400 + 100) / 7 - 5 * 400  # the arms' lengths count
    assert f"{steps * 0.5 / 3600:.2f} run-hours are left" in shown
    named = json.loads(raysched("plan", "both", "--name", "mine", "--json").out)
    assert [part["sweep"] for part in named["parts"]] == ["mine.one", "mine.two", "mine.three"]


def test_columns_stand_only_where_points_have_them(raysched: Raysched, both: Path) -> None:
    columns = {part: raysched("plan", part).out.splitlines()[0].split() for part in ("both.one", "both.two")}
    assert columns["both.one"] == ["#", "schedule", "lr", "k", "seeds", "done"]
    assert columns["both.two"] == ["#", "schedule", "method", "lr", "k", "steps", "seeds", "done"]
    rows = [line.split() for line in raysched("plan", "both.two").out.splitlines()]
    assert rows[6][:7] == ["5", "standard", "adapters", "0.001", "-", "100", "0"]
    assert rows[7][:7] == ["6", "standard", "full", "0.0001", "-", "-", "0"]


@pytest.mark.parametrize(
    ("values", "point"),
    [
        (["steps=100"], "schedule=standard lr=0.001 steps=100"),
        (["method=full"], "schedule=standard method=full lr=0.0001"),
        (["schedule=fun", "method=adapters"], "schedule=fun lr=0.001 k=20"),
    ],
)
def test_an_arm_is_named_by_what_it_alone_has(both: Path, values: list[str], point: str) -> None:
    assert str(sweeping.parse_point(values, load_study("both.two", cwd=both.parent))) == point


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["plan", "both.oen"], BAD_INPUT, ["the suite both has no part 'oen'", "both.one", "did you mean both.one?"]),
        (["sweep", "both.oen"], BAD_INPUT, ["did you mean both.one?"]),
        (["run", "both", "--point", "lr=1"], BAD_INPUT, ["is a suite of 3 studies", "both.one, both.two, both.three"]),
        (["sweep", "both", "--set", "seeds=0"], BAD_INPUT, ["parts.one.seeds", "parts.three.seeds"]),
        (["sweep", "both", "--set", "sed=0"], BAD_INPUT, ["raysched: sed: unknown key", "did you mean seeds?"]),
        (["sweep", "both", "--name", "a/b"], BAD_INPUT, ["--name: must match"]),
        (["status", "both"], OUTSIDE_MISSING, ["there is no sweep 'both'"]),
    ],
)
def test_bad_input(raysched: Raysched, both: Path, arguments: list[str], code: int, parts: list[str]) -> None:
    answer = raysched(*arguments)
    assert answer.code == code, answer
    assert all(part in answer.err for part in parts), answer.err
    assert "Traceback" not in answer.err
    assert list(both.parent.iterdir()) == [both]


def opened(name: str, storage: Path, *options: str) -> None:
    """A sweep that was started once."""
    layout = SweepLayout(storage, name).create()
    study = load_study("xquad-mini", options).study
    resolved = preflight.resolve(study, device="cpu").model_dump(mode="json")
    ledger = Ledger.take_over(layout.ledger, host="here", pid=1)
    ledger.append(Opened(study=study.model_dump(mode="json"), resolved=resolved, provenance={}))
    ledger.close()


def test_what_the_last_part_would_be_refused_for_is_said_before_the_first_starts(
    raysched: Raysched, both: Path
) -> None:
    bad = "  three: {extends: both.one, model: {backbone: ./nowhere}}\n  four: {extends: both.three}\n"
    both.write_text(SUITE.replace(SUITE.splitlines(keepends=True)[-1], bad))
    answer = raysched("sweep", "both")
    assert answer.code == OUTSIDE_MISSING
    assert answer.err.startswith("raysched: both.three: model.backbone: there is no folder nowhere")
    assert "the same or other problems: both.four" in answer.err
    assert not (both.parent / "raysched-runs").exists()


def test_a_part_that_was_started_as_another_study_is_refused_before_the_first_starts(
    raysched: Raysched, both: Path
) -> None:
    storage = both.parent / "raysched-runs"
    opened("both.three", storage, "seeds=2", "search.schedule=[gu]", "training.steps=9")
    answer = raysched("sweep", "both")
    assert answer.code == BAD_INPUT
    assert "both.three: --name: the sweep 'both.three' was started with another study" in answer.err
    assert "training.steps: 9 -> 400" in answer.err
    assert [path.name for path in storage.iterdir()] == ["both.three"]


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([0, 0, 0], DONE),
        ([0, 1, 0], SOME_RUNS_FAILED),
        ([1, StoppedError("no time is left"), 0], RESUMABLE),
        ([StoppedError("no time is left"), MissingError("no disk"), 1], OUTSIDE_MISSING),
        ([MissingError("no disk"), StudyError("no study"), 0], BAD_INPUT),
        ([0, Interrupted("stopped by Ctrl-C", exit_code=CTRL_C)], CTRL_C),
        ([0, AskedToStop("was asked to stop")], RESUMABLE),
    ],
)
def test_one_part_after_the_other_and_the_worst_end_counts(
    raysched: Raysched, both: Path, monkeypatch: pytest.MonkeyPatch, ends: list[int | Exception], code: int
) -> None:
    """Ctrl-C and `raysched stop` alone end the whole suite."""
    began: list[str] = []

    def sweep(loaded: LoadedStudy, options: Options) -> int:
        began.append(loaded.name)
        end = ends[len(began) - 1]
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(sweeping, "sweep", sweep)
    monkeypatch.setattr(sweeping.service, "check", lambda *_: None)
    answer = raysched("sweep", "both")
    assert answer.code == code
    assert began == ["both.one", "both.two", "both.three"][: len(ends)]
    for name, end in zip(began, ends, strict=True):
        if isinstance(end, Exception) and not isinstance(end, (Interrupted, AskedToStop)):
            assert f"{name}: {end}" in answer.out


def test_status_says_which_parts_have_not_begun(raysched: Raysched, both: Path) -> None:
    storage = both.parent / "raysched-runs"
    for name in ("both.three", "both.one"):
        opened(name, storage)
    shown = raysched("status", "both").out
    assert shown.index("both.one: no driver") < shown.index("both.three: no driver")
    assert shown.endswith("not started: both.two\n")
    answer = json.loads(raysched("status", "both", "--json").out)
    assert [part["sweep"] for part in answer["parts"]] == ["both.one", "both.three"]
    assert (answer["suite"], answer["not_started"]) == ("both", ["both.two"])
    assert json.loads(raysched("status", "both.one", "--json").out)["sweep"] == "both.one"
