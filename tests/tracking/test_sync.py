"""`raysched sync`: without a driver, beside one, again, and against a store that is not there."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.cli import main
from raysched.errors import OUTSIDE_MISSING, MissingError
from raysched.records.entries import AttemptStarted
from raysched.records.ledger import read
from raysched.records.lock import DriverLock
from raysched.service.sync import sync
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.target import remember, target, without_password
from raysched.tracking.tree import holds_all
from raysched.tracking.uploader import Uploader
from tests.browser import free_port

Snapshot = Callable[[Store], dict[str, Any]]
SWEEP, CELL, RUN0, RUN1 = "sweep:demo", "cell:" + "c" * 16, "run:" + "a" * 16, "run:" + "b" * 16


def finished(disk: Any) -> None:
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["raysched", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_it_brings_everything_and_again_nothing(
    disk: Any, store: Store, snapshot: Snapshot, command: Callable[..., tuple[int, str, str]]
) -> None:
    finished(disk)
    ledger = disk.layout.ledger.read_bytes()
    for _ in range(2):
        code, out, err = command("sync", "demo", "--storage", disk.layout.storage)
        assert (code, err) == (0, "")
        assert re.search(r"^demo: MLflow at sqlite://.*mlflow.db holds 2 of 2 runs wholly\.$", out, re.MULTILINE)
    assert {run["status"] for run in snapshot(store).values()} == {"FINISHED"}
    assert disk.layout.ledger.read_bytes() == ledger, "only the driver writes it"
    ended = read(disk.layout.ledger)[-1]
    assert holds_all(disk.layout, store, ended)  # type: ignore[arg-type]
    disk.again()
    disk.end("finished")
    assert not holds_all(disk.layout, store, read(disk.layout.ledger)[-1])  # type: ignore[arg-type]


def test_a_store_that_does_not_answer_is_said_with_the_next_step(
    disk: Any, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(disk)
    monkeypatch.setenv("RAYSCHED_MLFLOW", f"http://me:canary@127.0.0.1:{free_port()}")
    code, out, err = command("sync", "demo", "--storage", disk.layout.storage)
    assert (code, out) == (OUTSIDE_MISSING, "")
    assert "no MLflow server answers at http://***@127.0.0.1" in err
    assert "next:  once it answers: raysched sync demo" in err
    assert "canary" not in err


def test_several_sweeps_are_named(disk: Any, command: Callable[..., tuple[int, str, str]]) -> None:
    shutil.copytree(disk.layout.root, disk.layout.storage / "other")
    code, _, err = command("sync", "--storage", disk.layout.storage)
    assert code == 2
    assert "valid: demo, other" in err


def test_a_store_that_breaks_on_the_way_keeps_what_it_took(
    disk: Any, store: Store, monkeypatch: pytest.MonkeyPatch, snapshot: Snapshot
) -> None:
    def broken(self: Store, run_id: str, status: str, end_ms: int | None = None) -> None:
        raise MissingError("MLflow: 500 from http://me:canary@host", key="--mlflow", hint="try")

    finished(disk)
    times = iter(range(0, 1000, 20))
    monkeypatch.setattr("raysched.service.sync.PAUSE_S", 0.0)
    monkeypatch.setattr(Store, "set_status", broken)
    with pytest.raises(
        MissingError, match="holds 0 of the 2 runs of demo wholly, and does not take the rest"
    ) as caught:
        sync(disk.layout, clock=lambda: float(next(times)))
    assert "canary" not in str(caught.value)
    monkeypatch.undo()
    done = sync(disk.layout)
    assert (done.runs_held, done.runs, done.driver_alive) == (2, 2, False)
    assert {run["status"] for run in snapshot(store).values()} == {"FINISHED"}


def test_beside_a_driver_what_runs_is_running(disk: Any, store: Store, snapshot: Snapshot) -> None:
    disk.point()
    disk.whole_run(0)
    disk.attempt(1)
    with DriverLock(disk.layout.lock):
        assert sync(disk.layout).driver_alive
        assert snapshot(store)[RUN1]["status"] == "RUNNING"
    assert not sync(disk.layout).driver_alive
    assert snapshot(store)[RUN1]["status"] == "KILLED"


def test_a_driver_and_a_sync_that_take_turns_make_one_tree(
    disk: Any, store: Store, empty_database: Path, tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither deletes what the other has made, though each keeps its cursors in memory."""
    deleted: list[str] = []
    real = Store.delete
    monkeypatch.setattr(Store, "delete", lambda self, run_id: (deleted.append(run_id), real(self, run_id)))
    driver, beside = Uploader(disk.layout, store), Uploader(disk.layout, Store(store.uri, "demo", store.artifacts))
    turns = [driver, beside]

    def turn() -> None:
        assert turns[0].sync_once()
        turns.reverse()

    assert beside.sync_once()
    disk.point()
    turn()
    attempt = disk.attempt(0)
    turn()
    sealed = disk.checkpoint(attempt, 0, 2, before=[])
    turn()
    sealed = disk.checkpoint(attempt, 2, 3, before=sealed)
    turn()
    disk.finish(0, attempt, disk.checkpoint(attempt, 3, 4, before=sealed))
    turn()
    disk.whole_run(1)
    turn()
    disk.end("finished")
    turn()
    turn()
    assert not deleted
    again = Store(sqlite_uri(tmp_path / "again.db"), "demo")
    shutil.copy(empty_database, tmp_path / "again.db")
    assert Uploader(disk.layout, again).sync_once()
    assert snapshot(store) == snapshot(again)


def test_a_sweep_remembers_its_store_without_the_password(disk: Any) -> None:
    own = sqlite_uri(disk.layout.mlflow_db)
    assert target(disk.layout) == own
    remember(disk.layout, own)
    path = disk.layout.root / "tracking.json"
    assert not path.exists()
    remember(disk.layout, "https://me:canary@host:5000/at?token=canary")
    assert "canary" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert target(disk.layout) == "https://host:5000/at"
    assert target(disk.layout, "http://other") == "http://other"
    remember(disk.layout, own)
    assert target(disk.layout) == own
    path.write_text("damaged")
    assert target(disk.layout) == own


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("http://host:5000", "http://host:5000"),
        ("http://u:p@ss/w:@host:5000/x", "http://host:5000/x"),
        ("https://u:p@host/x?api_key=1", "https://host/x"),
        ("sqlite:////home/me@x/mlflow.db", "sqlite:////home/me@x/mlflow.db"),
    ],
)
def test_addresses_without_passwords(uri: str, kept: str) -> None:
    assert without_password(uri) == kept


def test_no_path_leads_out_of_an_attempt(disk: Any, store: Store, snapshot: Snapshot, tmp_path: Path) -> None:
    """A folder of an attempt that is a link to somewhere else is not what was recorded."""
    finished(disk)
    folder = disk.layout.run("a" * 16).attempt(1, 1).root / "predictions"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert sync(disk.layout).runs_held == 2
    run = snapshot(store)[RUN0]
    assert "predictions/de.parquet" not in run["artifacts"]
    assert "de.parquet is not what was recorded" in run["tags"]["raysched.damaged"]
    assert any(isinstance(entry, AttemptStarted) for entry in read(disk.layout.ledger))
