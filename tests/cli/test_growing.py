"""`retry` and `extend` before any work: what they refuse, and what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING
from raysched.records.entries import AttemptStarted, Opened, PointTaken, Recorded, Reopened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.runners.growth import extend_command
from raysched.runners.options import Options
from raysched.runners.searching import database
from raysched.service.growing import extension, failed_runs
from raysched.study.load import load_study
from tests.cli.conftest import Raysched

SETTINGS = ("seeds=2", "search.schedule=[gu]", "search.sampler=tpe", "search.points=1", "search.lr=[1e-3]")
URL = "postgresql://me:canary-password@db.example:5433/search"


@pytest.fixture
def opened(tmp_path: Path) -> SweepLayout:
    """A sweep of one point with two seeds; its second run failed."""
    layout = SweepLayout(tmp_path / "storage", "demo").create()
    study = load_study("xquad-mini", SETTINGS).study.model_dump(mode="json")
    with Ledger.take_over(layout.ledger, host="here", pid=1) as ledger:
        ledger.append(Opened(study=study, resolved={}))
        params = {"schedule": "gu", "lr": 1e-3, "k": 20}
        ledger.append(PointTaken(number=0, params=params, cell_id="c", run_ids={0: "aa11", 1: "aa22"}))
        for run_id, status in (("aa11", "finished"), ("aa22", "failed")):
            ledger.append(AttemptStarted(run_id=run_id, attempt=1))
            ledger.append(Recorded(run_id=run_id, status=status))  # type: ignore[arg-type]
    return layout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["retry"], ("retry: say which runs", "valid: --failed, --run ID")),
        (["retry", "--failed", "--run", "aa22"], ("give one of the two",)),
        (["retry", "--run", "bb"], ("--run: 'bb' is no run of this sweep", "valid: aa22")),
        (["retry", "--run", "aa"], ("'aa' is the beginning of several runs", "valid: aa11, aa22")),
        (["retry", "--run", "aa11"], ("run aa11 has not failed: it is finished", "valid: aa22")),
        (["extend"], ("extend: say what is added", "--seeds, --points")),
        (["extend", "--seeds", "many"], ("--seeds: must be a number or a list, but got 'many'", "0,1,2,7")),
        (["extend", "--seeds", "1"], ("can grow by seeds and points", "seeds: [0, 1] -> [0]")),
        (["extend", "--seeds", "1,2,3"], ("seeds: [0, 1] -> [1, 2, 3]",)),
        (["extend", "--set", "training.steps=9"], ("training.steps: 400 -> 9", "--name demo-2")),
        (["extend", "--set", "search.lr=[2e-3]"], ("search.lr: [0.001] -> [0.002]",)),
        (["extend", "--set", "search.sampler=random"], ("search.sampler",)),
        (["extend", "--set", "search.speed=1"], ("search.speed",)),
        (["extend", "--points", "0"], ("--points",)),
    ],
)
def test_what_is_refused(raysched: Raysched, opened: SweepLayout, arguments: list[str], parts: tuple[str, ...]) -> None:
    before = opened.ledger.read_bytes()
    answer = raysched(arguments[0], "demo", "--storage", opened.storage, *arguments[1:])
    assert answer.code == BAD_INPUT
    for part in parts:
        assert part in answer.err
    assert "Traceback" not in answer.err
    assert opened.ledger.read_bytes() == before


@pytest.mark.parametrize("command", [("retry", "--failed"), ("extend", "--seeds", "3")])
def test_no_such_sweep(raysched: Raysched, tmp_path: Path, command: tuple[str, ...]) -> None:
    answer = raysched(command[0], "nothing", "--storage", tmp_path / "storage", *command[1:])
    assert (answer.code, "there is no sweep 'nothing'" in answer.err) == (OUTSIDE_MISSING, True)


def test_nothing_failed(raysched: Raysched, opened: SweepLayout) -> None:
    with Ledger.take_over(opened.ledger, host="here", pid=1) as ledger:
        ledger.append(Recorded(run_id="aa22", status="finished"))
    answer = raysched("retry", "--failed", "--storage", opened.storage)
    assert (answer.code, answer.out) == (DONE, "demo: no run failed; nothing to retry\n")


def test_runs_that_get_another_try(opened: SweepLayout) -> None:
    assert failed_runs(opened).run_ids == failed_runs(opened, ["aa2"]).run_ids == {"aa22"}
    with Ledger.take_over(opened.ledger, host="here", pid=1) as ledger:
        ledger.append(Reopened(run_id="aa22", attempts=1))
    again = failed_runs(opened)
    assert (again.run_ids, again.begun) == (frozenset(), {"aa22"})


@pytest.mark.parametrize(
    ("seeds", "points", "overrides", "n", "command"),
    [
        ("4", None, [], 2, "--seeds 4"),
        ("0,1,7", None, [], 1, "--seeds 0,1,7"),
        (None, 3, ["search.lr=[1e-3,2e-3]", "search.k=[20,30]"], 4, None),
        (None, None, ["search.schedule=[gu,permutation]", "training.permutation=[1,0]", "search.points=2"], 2, None),
        (None, None, ["search.points=null"], 0, "--set search.points=null"),
        (None, None, ["budget.hours=3"], 0, "demo"),
        ("2", 1, [], 0, "demo"),
    ],
)
def test_growth(
    opened: SweepLayout, seeds: str | None, points: int | None, overrides: list[str], n: int, command: str | None
) -> None:
    """The study of the ledger with what is added; and the command that a grown study file is told."""
    grown = extension(opened, seeds=seeds, points=points, overrides=overrides)
    assert grown.n_new_runs == n
    assert bool(grown.differences) == (seeds != "2")
    if command is not None:
        before = load_study("xquad-mini", SETTINGS).study
        assert extend_command("demo", before, grown.loaded.study).endswith(command)


def test_points_of_a_grid(raysched: Raysched, tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path / "storage", "grid").create()
    study = load_study("xquad-mini", ["search.sampler=grid"]).study.model_dump(mode="json")
    with Ledger.take_over(layout.ledger, host="here", pid=1) as ledger:
        ledger.append(Opened(study=study, resolved={}))
    answer = raysched("extend", "--storage", layout.storage, "--points", "99")
    assert (answer.code, "--points: means nothing for a grid" in answer.err) == (BAD_INPUT, True)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            ("seeds=4", "search.lr=[1e-3,2e-3]"),
            ("started with a smaller study", "raysched extend demo --seeds 4 --set"),
        ),
        (("seeds=1",), ("has grown since", "raysched resume demo")),
        (("seeds=4", "training.steps=9"), ("started with another study", "--name demo-2")),
    ],
)
def test_a_study_file_that_has_grown(
    raysched: Raysched, opened: SweepLayout, changes: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    settings = [word for text in (*SETTINGS, *changes) for word in ("--set", text)]
    answer = raysched("sweep", "xquad-mini", "--name", "demo", "--storage", opened.storage, *settings)
    assert answer.code == BAD_INPUT
    for part in parts:
        assert part in answer.err


def test_another_database_is_refused(raysched: Raysched, opened: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [word for text in SETTINGS for word in ("--set", text)]
    sweep = ("sweep", "xquad-mini", "--name", "demo", "--storage", opened.storage, *settings)
    answer = raysched(*sweep, "--optuna", "journal")
    assert answer.code == BAD_INPUT
    assert "kept in optuna.db in the sweep's folder, but optuna.journal in the sweep's folder was given" in answer.err
    assert "leave --optuna (and RAYSCHED_OPTUNA) out" in answer.err
    place = database(opened, Options(storage=str(opened.storage), optuna_uri=URL))
    assert place == "postgresql://db.example:5433/search"
    with Ledger.take_over(opened.ledger, host="here", pid=1) as ledger:
        state = load_study("xquad-mini", SETTINGS).study.model_dump(mode="json")
        ledger.append(Opened(study=state, resolved={}, database=place))
    answer = raysched(*sweep)
    assert answer.code == BAD_INPUT
    assert f"kept in {place}, but optuna.db in the sweep's folder was given" in answer.err
    assert f"RAYSCHED_OPTUNA set to that database ({place})" in answer.err


@pytest.mark.parametrize("uri", ["postgresql://x:canary@h:port/db", "canary://x", "://canary"])
def test_a_malformed_database(raysched: Raysched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("RAYSCHED_OPTUNA", uri)
    answer = raysched("sweep", "xquad-mini", "--storage", tmp_path / "storage")
    assert answer.code in (BAD_INPUT, OUTSIDE_MISSING)
    assert "canary" not in answer.out + answer.err
    assert "Traceback" not in answer.err
