"""Commands that look (and `run`, `doctor`): what they print, and that they change nothing of a sweep."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, OUTSIDE_MISSING
from raysched.records.entries import Opened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.lock import DriverLock
from raysched.records.record import AttemptResult, read_result, write_record
from raysched.runners import preflight
from raysched.runners.driver import Driver
from raysched.runners.worker import Worker
from raysched.search.optuna_study import OptunaStudy
from raysched.study.load import load_study
from raysched.study.lookup import packaged_folder
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.uploader import Uploader
from tests.cli.conftest import Raysched, closed_port
from tests.processes import shell, wait
from tests.runners.world import NAME, overrides
from tests.training.tiny_training import LANGUAGES, Tiny

SMALL = {"training__steps": 10, "search__k": [2], "tracking__log_every_steps": 2, "fisher__log__every_steps": 5}


@pytest.fixture(scope="module")
def swept(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """A half-finished sweep of two cells with two seeds: one cell is whole, of the other one run is done."""
    layout = SweepLayout(tmp_path_factory.mktemp("swept"), NAME).create()
    study = load_study(NAME, overrides(tiny, **SMALL)[1::2]).study
    resolved = preflight.resolve(study, device="cpu")
    ledger = Ledger.take_over(layout.ledger, host="here", pid=1)
    opened = ledger.append(
        Opened(study=study.model_dump(mode="json"), resolved=resolved.model_dump(mode="json"), provenance={})
    )
    ledger.entries = (opened,)
    optuna, worker = OptunaStudy(layout.optuna, NAME, study.search), Worker()
    driver = Driver(layout, study, resolved, ledger, optuna)
    while len(driver.records) < 3:
        assignment = driver.next()
        assert assignment is not None
        worker.take(assignment)
        while (report := worker.advance(60)).outcome is None:
            pass
        driver.ended(assignment.key, report.outcome, report.cause, report.message)
    driver.close()
    assert Uploader(layout, Store(sqlite_uri(layout.mlflow_db), NAME), driver_alive=False).sync_once()
    ledger.close()
    optuna.close()
    return layout


@pytest.fixture
def unchanged(swept: SweepLayout) -> Iterator[SweepLayout]:
    """Looking changes neither the ledger nor a run."""

    def content() -> dict[str, bytes]:
        files = [swept.ledger, *swept.runs.rglob("*")]
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    before = content()
    yield swept
    assert content() == before


@pytest.mark.parametrize(
    ("study", "options", "points", "of", "runs"),
    [
        ("xquad-mini", [], 5, 5, 20),
        ("xquad-mini-search", [], 8, 15, 32),
        ("xquad-mini-search", ["--set", "search.sampler=grid"], 15, 15, 60),
        ("xquad-xlmr", [], 24, 84, 96),
        ("xquad-xlmr", ["--set", "search.sampler=grid"], 84, 84, 336),
    ],
)
def test_plan_offline(
    raysched: Raysched, tmp_path: Path, study: str, options: list[str], points: int, of: int, runs: int
) -> None:
    answer = raysched("plan", study, "--json", *options)
    assert (answer.code, answer.err) == (0, "")
    plan = json.loads(answer.out)
    assert (plan["points"], plan["of_points"], plan["runs"], plan["runs_done"]) == (points, of, runs, 0)
    assert len(plan["points_listed"]) == of
    assert all(("k" in row) == (row["schedule"] != "standard") for row in plan["points_listed"])
    assert plan["run_hours_left"] is None
    shown = raysched("plan", study, *options).out
    assert f"{of} points, " in shown
    assert f"{runs} runs with 4 seeds each, 0 done." in shown
    assert "--step-seconds" in shown
    assert list(tmp_path.iterdir()) == []


def test_plan_counts_hours_from_a_step_time(raysched: Raysched) -> None:
    options = ["--step-seconds", "0.5", "--set", "training.steps=480"]
    plan = json.loads(raysched("plan", "xquad-mini", "--json", *options).out)
    assert plan["run_hours_left"] == pytest.approx(20 * 480 * 0.5 / 3600)
    shown = raysched("plan", "xquad-mini", *options, "--set", "resources.gpu=0.5").out
    assert "0.67 GPU-hours at 0.5 GPU a run are left" in shown


def test_plan_counts_hours_of_a_study_in_epochs(raysched: Raysched) -> None:
    options = ["--step-seconds", "0.5"]
    assert "give --step-seconds and --steps" in raysched("plan", "xquad-xlmr", *options).out
    plan = json.loads(raysched("plan", "xquad-xlmr", "--json", *options, "--steps", "41500").out)
    assert plan["run_hours_left"] == pytest.approx(96 * 41500 * 0.5 / 3600)
    assert raysched("plan", "xquad-mini", "--step-seconds", "-1").code == BAD_INPUT


def test_plan_knows_what_is_done(raysched: Raysched, unchanged: SweepLayout, tiny: Tiny) -> None:
    options = ["--storage", str(unchanged.storage), *overrides(tiny, **SMALL)]
    plan = json.loads(raysched("plan", NAME, "--json", *options).out)
    assert (plan["runs"], plan["runs_done"]) == (4, 3)
    assert sorted(len(row["done"]) for row in plan["points_listed"]) == [1, 2]
    assert plan["run_hours_left"] > 0
    assert "3 done." in raysched("plan", NAME, *options).out


def test_studies(raysched: Raysched, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(raysched("studies", "--json").out)}
    shipped = {"xquad-mini": (5, 20), "xquad-mini-search": (8, 32), "xquad-xlmr": (24, 96)}
    assert {name: (rows[name]["points"], rows[name]["runs"]) for name in shipped} == shipped
    own = tmp_path / "search_spaces"
    own.mkdir()
    (own / "mine.yaml").write_text("extends: xquad-mini\nseeds: 3\n")
    (own / "broken.yaml").write_text("extends: xquad-mini\nseed: 3\n")
    shown = raysched("studies").out
    assert "mine" in shown
    assert "unknown key" in shown  # a broken one is listed with its problem


def test_schema_is_the_published_one(raysched: Raysched) -> None:
    published = json.loads((packaged_folder() / "study.schema.json").read_text())
    assert json.loads(raysched("schema").out) == published


def test_status(raysched: Raysched, unchanged: SweepLayout) -> None:
    value = json.loads(raysched("status", "--storage", unchanged.storage, "--json").out)
    assert (value["sweep"], value["driver"]) == (NAME, None)
    cells = value["cells"]
    assert sorted((cell["done"], cell["seeds"]) for cell in cells) == [(1, 2), (2, 2)]
    assert all(cell["failed"] == 0 and cell["running"] == 0 for cell in cells)
    shown = raysched("status", NAME, "--storage", f"file://{unchanged.storage}").out
    assert "no driver runs it now" in shown
    assert "2/2" in shown
    assert "1/2" in shown
    assert "schedule=gu" in shown
    with DriverLock(unchanged.lock) as held:
        value = json.loads(raysched("status", NAME, "--storage", unchanged.storage, "--json").out)
        assert value["driver"]["pid"] == held.pid
        assert f"driver: host {held.host}, pid {held.pid}" in raysched("status", "--storage", unchanged.storage).out


def test_status_says_why_a_run_failed(raysched: Raysched, swept: SweepLayout, tmp_path: Path) -> None:
    shutil.copytree(swept.root, tmp_path / "failed" / NAME)
    layout = SweepLayout(tmp_path / "failed", NAME)
    cells = json.loads(raysched("status", "--storage", layout.storage, "--json").out)["cells"]
    ((cell, run),) = [(cell, run) for cell in cells for run in cell["runs"] if run["state"] == "pending"]
    message = "StudyError: model.language_adapters: the adapter in [a] does not fit\n  next:  take another"
    result = AttemptResult(run_id=run["run_id"], epoch=1, attempt=1, status="failed", cause="data", message=message)
    record = result.to_record(cell_id="c", params=cell["point"], seed=run["seed"])
    write_record(layout.run(run["run_id"]).record, record)
    shown = raysched("status", "--storage", layout.storage).out
    assert f"seed={run['seed']}: data ({layout.run(run['run_id']).root})\n  {message.splitlines()[0]}\n" in shown
    assert "take another" not in shown
    cells = json.loads(raysched("status", "--storage", layout.storage, "--json").out)["cells"]
    assert [run["message"] for cell in cells for run in cell["runs"] if run["cause"]] == [message]


@pytest.mark.parametrize("command", ["status", "report", "ui"])
def test_a_sweep_that_is_not_there(raysched: Raysched, swept: SweepLayout, tmp_path: Path, command: str) -> None:
    answer = raysched(command, "--storage", tmp_path / "empty")
    assert answer.code == OUTSIDE_MISSING
    assert "--storage: there is no sweep in" in answer.err
    assert "next:  start one: raysched sweep xquad-mini" in answer.err
    answer = raysched(command, "other", "--storage", swept.storage)
    assert answer.code == OUTSIDE_MISSING
    assert "SWEEP: there is no sweep 'other'" in answer.err
    assert f"valid: {NAME}" in answer.err
    answer = raysched(command, "../x", "--storage", swept.storage)
    assert answer.code == BAD_INPUT
    assert not (tmp_path / "empty").exists()


def test_one_of_several_sweeps_must_be_named(raysched: Raysched, tmp_path: Path) -> None:
    for name in ("one", "two"):
        Ledger.take_over(SweepLayout(tmp_path, name).create().ledger, host="here", pid=1).close()
    answer = raysched("status", "--storage", tmp_path)
    assert answer.code == BAD_INPUT
    assert "SWEEP: " in answer.err
    assert "valid: one, two" in answer.err


def test_report_of_a_half_finished_sweep(raysched: Raysched, unchanged: SweepLayout, tmp_path: Path) -> None:
    answer = raysched("report", NAME, "--storage", unchanged.storage, "--to", tmp_path / "out")
    assert answer.code == 0
    page, path = map(Path, answer.out.split())
    assert (page, path) == (tmp_path / "out" / "report.html", tmp_path / "out" / "report.md")
    text = path.read_text()
    assert "<h1>" in page.read_text()
    assert "standard" in text
    assert "gu" in text
    assert all(language in text for language in LANGUAGES)


def test_run_executes_one_run_here(raysched: Raysched, tiny: Tiny, tmp_path: Path) -> None:
    command = ["run", NAME, "--point", "schedule=gu", "--point", "lr=1e-2", "--seed", "1", "--storage", "st"]
    answer = raysched(*command, *overrides(tiny, **SMALL))
    assert answer.code == 0, answer.err
    assert "schedule=gu lr=0.01 k=2 seed=1: 10 steps, best at " in answer.out
    assert all(f"test {language}" in answer.out for language in LANGUAGES)
    folder = Path(answer.out.partition("files:")[2].strip())
    assert folder.is_relative_to(tmp_path / "st" / f"{NAME}.run" / "runs")
    result = read_result(folder / "result.json")
    assert (result.status, result.steps) == ("finished", 10)
    began = time.monotonic()
    assert raysched(*command, *overrides(tiny, **SMALL)).code == 0  # again, from its last checkpoint
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("points", "parts"),
    [
        (["schedule=lpft"], ("schedule=lpft names no point", "schedule=gu lr=0.01 k=2", "raysched plan")),
        (["lr=1e-2"], ("names 2 points", "schedule=standard lr=0.01")),
        (["schedule"], ("must be KEY=VALUE", "'schedule'", "schedule=, method=, lr=, k=")),
        (["seed=1"], ("must be KEY=VALUE", "schedule=, method=, lr=, k=")),
        (["lr=small"], ("lr=small names no point",)),
    ],
)
def test_points_that_do_not_exist(
    raysched: Raysched, tiny: Tiny, tmp_path: Path, points: list[str], parts: tuple[str, ...]
) -> None:
    options = [option for point in points for option in ("--point", point)]
    answer = raysched("run", NAME, *options, "--storage", "st", *overrides(tiny, **SMALL))
    assert answer.code == BAD_INPUT
    assert all(part in answer.err for part in ("--point: ", *parts)), answer.err
    assert list(tmp_path.iterdir()) == []


def test_doctor(raysched: Raysched, tmp_path: Path) -> None:
    answer = raysched("doctor")
    assert answer.code == 0  # the hub, which nobody asked for, is only a note
    lines = answer.out + answer.err
    for what in ("versions", "gpu", "disk", "mini world", "tracking", "cluster"):
        assert re.search(f"^ok +{what}: ", lines, re.MULTILINE)
    assert re.search("^note +hub: ", lines, re.MULTILINE)
    assert "127.0.0.1" in lines
    answer = raysched("doctor", "--mlflow", f"http://127.0.0.1:{closed_port()}")
    assert answer.code == OUTSIDE_MISSING
    assert re.search("^MISSING tracking: --mlflow: no MLflow server answers", answer.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(180)
def test_ui_serves_the_sweeps_own_store_on_this_machine_only(unchanged: SweepLayout, tmp_path: Path) -> None:
    port = closed_port()
    with shell(tmp_path) as one:
        command = one.raysched("ui", "--storage", unchanged.storage, "--port", str(port))
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert command.running, command.text
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=2) as response:
                    return bool(response.status == 200)
            except OSError:
                return False

        wait(answers, 120, 0.3)
        assert address in command.text
        asked = urllib.request.Request(
            f"{address}/api/2.0/mlflow/runs/search",
            json.dumps({"experiment_ids": ["1"], "max_results": 100}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as response:
            runs = json.load(response)["runs"]
        assert len(runs) == 1 + 2 + 3
        listening = [
            line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if f":{port:04X} " in line
        ]
        assert set(listening) >= {f"0100007F:{port:04X}"}
        assert f"00000000:{port:04X}" not in listening
        os.killpg(command.pid, signal.SIGINT)
        assert command.end(90) == 0
        assert one.settle() == []
        assert "Traceback" not in command.text
