"""MLflow holds exactly what was accepted: once, nested, with final statuses, whatever happened on the way."""

from __future__ import annotations

import json
import math
import random
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError
from raysched.records.entries import Opened
from raysched.records.ledger import read
from raysched.records.lock import DriverLock
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.uploader import Uploader

Snapshot = Callable[[Store], dict[str, Any]]
SWEEP, CELL, RUN0, RUN1 = "sweep:demo", "cell:" + "c" * 16, "run:" + "a" * 16, "run:" + "b" * 16


def finished(disk: Any) -> None:
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")


def values(shown: dict[str, Any], key: str, metric: str) -> list[tuple[int, float]]:
    return [(step, float(value)) for step, _, value in shown[key]["metrics"][metric]]


def test_a_finished_sweep_is_a_tree_of_finished_runs(disk: Any, store: Store, snapshot: Snapshot) -> None:
    finished(disk)
    assert Uploader(disk.layout, store).sync_once()
    shown = snapshot(store)
    assert {key: (run["name"], run["parent"], run["status"]) for key, run in shown.items()} == {
        SWEEP: ("demo", None, "FINISHED"),
        CELL: ("gu lr=0.001 k=2", SWEEP, "FINISHED"),
        RUN0: ("gu lr=0.001 k=2 seed=0", CELL, "FINISHED"),
        RUN1: ("gu lr=0.001 k=2 seed=1", CELL, "FINISHED"),
    }
    assert values(shown, RUN1, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert values(shown, RUN1, "unfrozen_layers") == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    assert values(shown, RUN1, "fisher/mean")[0] == (1, 2.0)
    assert values(shown, RUN1, "fisher/layer_00")[0] == (1, 1.0)
    assert values(shown, RUN1, "fisher_select/mean") == [(2, 1.5), (4, 1.5)]
    assert values(shown, RUN1, "val/f1") == [(2, 50.0), (4, 50.0)]
    assert values(shown, RUN1, "test/en/f1") == [(3, 91.0)]
    assert values(shown, RUN1, "test/average/f1") == [(3, 41.0)]
    assert values(shown, CELL, "mean/val/f1") == [(2, 81.0)]
    assert values(shown, CELL, "std/val/f1") == [(2, math.sqrt(2))]
    assert values(shown, CELL, "mean/test/average/f1") == [(2, 40.5)]
    assert values(shown, CELL, "mean/test/th/em") == [(2, 20.0)]
    assert values(shown, CELL, "n_seeds") == [(2, 2.0)]
    run = shown[RUN1]
    assert {key: run["params"][key] for key in ("schedule", "lr", "k", "seed", "training.steps")} == {
        "schedule": "gu", "lr": "0.001", "k": "2", "seed": "1", "training.steps": "4",
    }  # fmt: skip
    assert {key: run["tags"][key] for key in ("raysched.run_id", "raysched.cell", "raysched.sweep", "schedule")} == {
        "raysched.run_id": "b" * 16, "raysched.cell": "c" * 16, "raysched.sweep": "demo", "schedule": "gu",
    }  # fmt: skip
    assert run["tags"]["unfreeze_order"] == "1:1 2:0,2"
    assert run["tags"]["raysched.status"] == "finished"
    assert run["tags"]["provenance.git.commit"] == "f00"
    assert run["tags"]["provenance.packages.torch"] == "2"
    assert run["artifacts"] == [
        "adapter/weights.safetensors", "fisher_trace.csv", "predictions/de.parquet", "tables/scores.json",
        "tables/unfreeze_order.json", "unfreeze_order.json",
    ]  # fmt: skip
    assert run["tags"]["cell"] == shown[CELL]["tags"]["cell"] == "gu lr=0.001 k=2"
    assert shown[CELL]["params"] == {"schedule": "gu", "lr": "0.001", "k": "2"}
    assert shown[SWEEP]["artifacts"] == ["inputs.json", "study.json"]
    assert run["times"][1] == 1_700_000_000_999


def test_doing_it_again_changes_nothing_even_without_the_cursors(disk: Any, store: Store, snapshot: Snapshot) -> None:
    finished(disk)
    assert Uploader(disk.layout, store).sync_once()
    first = snapshot(store)
    assert Uploader(disk.layout, store).sync_once()
    assert snapshot(store) == first
    shutil.rmtree(disk.layout.uploads)
    assert Uploader(disk.layout, store).sync_once()
    assert snapshot(store) == first


def test_a_settled_sweep_costs_one_question(disk: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(disk)
    assert Uploader(disk.layout, store).sync_once()
    for name in ("log", "ensure_run", "set_status", "set_tags", "log_file", "log_text", "delete", "keep_one"):
        monkeypatch.setattr(Store, name, lambda *_, **__: pytest.fail("nothing is left to do"))
    uploader = Uploader(disk.layout, store)
    assert uploader.sync_once()
    assert uploader.state().backlog == 0


def test_the_files_belong_to_their_owner_alone(disk: Any, store: Store) -> None:
    finished(disk)
    assert Uploader(disk.layout, store).sync_once()
    files = [*disk.layout.mlflow_artifacts.rglob("*"), *disk.layout.uploads.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_dir()} == {0o700}


def test_sealed_segments_are_followed_while_the_run_goes_on(disk: Any, store: Store, snapshot: Snapshot) -> None:
    uploader = Uploader(disk.layout, store)
    disk.point()
    assert uploader.sync_once()
    assert set(snapshot(store)) == {SWEEP, CELL}
    attempt = disk.attempt(0)
    assert uploader.sync_once()
    sealed = disk.checkpoint(attempt, 0, 2, before=[])
    (attempt.checkpoint(9)).mkdir()
    (attempt.checkpoint(9) / "manifest.json").write_text('{"segments": [')
    assert uploader.sync_once()
    shown = snapshot(store)
    assert [step for step, _ in values(shown, RUN0, "train/loss")] == [1, 2]
    assert {run["status"] for run in shown.values()} == {"RUNNING"}
    disk.finish(0, attempt, disk.checkpoint(attempt, 2, 4, before=sealed))
    assert uploader.sync_once()
    shown = snapshot(store)
    assert [step for step, _ in values(shown, RUN0, "train/loss")] == [1, 2, 3, 4]
    assert [shown[key]["status"] for key in (SWEEP, CELL, RUN0)] == ["RUNNING", "RUNNING", "FINISHED"]


def test_a_resumed_attempt_goes_on_in_the_same_mlflow_run(disk: Any, store: Store, snapshot: Snapshot) -> None:
    uploader = Uploader(disk.layout, store)
    disk.point()
    old = disk.attempt(0)
    sealed = disk.checkpoint(old, 0, 2, before=[])
    assert uploader.sync_once()
    before = store.find(RUN0, uploader._tree.ledger.uid)
    new = disk.resume(0, 2, old, sealed)
    assert uploader.sync_once()
    disk.finish(0, new, disk.checkpoint(new, 2, 4, before=sealed, salt=0.5))
    assert uploader.sync_once()
    assert store.find(RUN0, uploader._tree.ledger.uid) == before
    assert values(snapshot(store), RUN0, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3 + 0.5), (4, 0.75)]


@pytest.mark.parametrize("half_sent", [False, True])
def test_a_replaced_attempt_is_made_anew(
    disk: Any, store: Store, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, half_sent: bool
) -> None:
    uploader = Uploader(disk.layout, store)
    disk.point()
    old = disk.attempt(0)
    sealed = disk.checkpoint(old, 0, 2, before=[])
    if half_sent:
        real = Store.log

        def half(self: Store, run_id: str, scalars: list[Any]) -> None:
            real(self, run_id, scalars[: len(scalars) // 2])
            raise MissingError("gone")

        monkeypatch.setattr(Store, "log", half)
        assert not uploader.sync_once()
        monkeypatch.undo()
    else:
        disk.checkpoint(old, 2, 4, before=sealed)
        assert uploader.sync_once()
    new = disk.attempt(0, 2)
    disk.finish(0, new, disk.checkpoint(new, 0, 3, before=[], salt=7.0))
    assert uploader.sync_once()
    assert values(snapshot(store), RUN0, "train/loss") == [(1, 8.0), (2, 7.5), (3, 1 / 3 + 7)]


def test_failed_runs_and_short_cells_say_so(disk: Any, store: Store, snapshot: Snapshot) -> None:
    disk.point()
    disk.whole_run(0)
    attempt = disk.attempt(1)
    disk.checkpoint(attempt, 0, 2, before=[])
    disk.finish(1, attempt, [], status="failed")
    disk.told(None)
    disk.end("failed")
    assert Uploader(disk.layout, store).sync_once()
    shown = snapshot(store)
    assert {key: run["status"] for key, run in shown.items()} == {
        SWEEP: "FAILED", CELL: "FAILED", RUN0: "FINISHED", RUN1: "FAILED",
    }  # fmt: skip
    assert set(shown[CELL]["metrics"]) == {"n_seeds", "n_failed"}
    assert values(shown, CELL, "n_failed") == [(2, 1.0)]
    assert [step for step, _ in values(shown, RUN1, "train/loss")] == [1, 2]
    assert shown[RUN1]["tags"]["raysched.cause"] == "oom"
    assert shown[RUN1]["tags"]["raysched.message"] == "at http://***@host/"
    assert shown[RUN1]["times"][1] > 1_700_000_000_000


def test_what_is_stopped_is_killed_and_reopened(disk: Any, store: Store, snapshot: Snapshot) -> None:
    uploader = Uploader(disk.layout, store)
    disk.point()
    disk.whole_run(0)
    disk.attempt(1)
    assert uploader.sync_once()
    disk.end("stopped")
    assert uploader.sync_once()
    stopped = {key: run["status"] for key, run in snapshot(store).items()}
    assert stopped == {SWEEP: "KILLED", CELL: "KILLED", RUN0: "FINISHED", RUN1: "KILLED"}
    disk.again()
    uploader = Uploader(disk.layout, store)
    assert uploader.sync_once()
    assert {key: run["status"] for key, run in snapshot(store).items()} == {
        SWEEP: "RUNNING", CELL: "RUNNING", RUN0: "FINISHED", RUN1: "KILLED",
    }  # fmt: skip
    disk.attempt(1, 2)
    assert uploader.sync_once()
    assert snapshot(store)[RUN1]["status"] == "RUNNING"
    assert Uploader(disk.layout, store, driver_alive=False).sync_once()
    assert {key: run["status"] for key, run in snapshot(store).items()} == stopped


def _crashing(real: Callable[..., Any], rng: random.Random) -> Callable[..., Any]:
    """`real`, which now and then fails before it does anything, or loses its answer."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if rng.random() < 0.08:
            raise MissingError("before")
        answer = real(*args, **kwargs)
        if rng.random() < 0.08:
            raise MissingError("after")
        return answer

    return call


@pytest.mark.parametrize("seed", range(4))
def test_crashes_between_any_two_calls_end_in_the_same_tree(
    disk: Any,
    store: Store,
    empty_database: Path,
    tmp_path: Path,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Before or after (the answer is lost) a random share of calls, the uploader dies; a new one goes on."""
    rng = random.Random(seed)
    stages: list[Callable[[], object]] = [disk.point]
    attempts: list[Any] = []
    sealed: list[list[Any]] = []
    stages.append(lambda: attempts.append(disk.attempt(0)))
    stages.append(lambda: sealed.append(disk.checkpoint(attempts[-1], 0, 2, before=[])))
    stages.append(lambda: sealed.append(disk.checkpoint(attempts[-1], 2, 3, before=sealed[-1])))
    stages.append(lambda: attempts.append(disk.resume(0, 2, attempts[-1], sealed[0])))
    stages.append(lambda: sealed.append(disk.checkpoint(attempts[-1], 2, 4, before=sealed[0], salt=1.0)))
    stages.append(lambda: disk.finish(0, attempts[-1], sealed[-1]))
    stages += [lambda: disk.whole_run(1), lambda: disk.told(81.0), lambda: disk.end("finished")]

    for name in (
        "ensure_run",
        "log",
        "set_status",
        "set_tags",
        "log_file",
        "log_text",
        "delete",
        "add_params",
        "keep_one",
    ):
        monkeypatch.setattr(Store, name, _crashing(getattr(Store, name), rng))
    crashes = 0
    for stage in stages:
        stage()
        crashes += not Uploader(disk.layout, store).sync_once()
    while not Uploader(disk.layout, store).sync_once():
        crashes += 1
    monkeypatch.undo()
    assert crashes
    again = Store(sqlite_uri(tmp_path / "again.db"), "demo")
    shutil.copy(empty_database, tmp_path / "again.db")
    assert Uploader(disk.layout, again).sync_once()
    assert snapshot(store) == snapshot(again)


@pytest.mark.parametrize("deleted", [[CELL], [CELL, RUN0], [RUN0]])
def test_runs_deleted_by_hand_come_back(disk: Any, store: Store, snapshot: Snapshot, deleted: list[str]) -> None:
    uploader = Uploader(disk.layout, store)
    disk.point()
    attempt = disk.attempt(0)
    sealed = disk.checkpoint(attempt, 0, 2, before=[])
    assert uploader.sync_once()
    for key in deleted:
        found = store.find(key, uploader._tree.ledger.uid)
        assert found
        store.delete(found[0])
    disk.finish(0, attempt, disk.checkpoint(attempt, 2, 4, before=sealed))
    disk.whole_run(1)
    assert uploader.sync_once()
    shown = snapshot(store)
    assert (shown[RUN0]["parent"], shown[RUN1]["parent"]) == (CELL, CELL)
    assert len(shown[RUN0]["metrics"]["train/loss"]) == 4


def test_an_emptied_store_is_filled_again(disk: Any, store: Store, empty_database: Path, snapshot: Snapshot) -> None:
    finished(disk)
    assert Uploader(disk.layout, store).sync_once()
    first = snapshot(store)
    shutil.copy(empty_database, disk.layout.mlflow_db)
    fresh = Store(store.uri, store.experiment, store.artifacts)
    assert Uploader(disk.layout, fresh).sync_once()
    assert snapshot(fresh) == first


@pytest.mark.parametrize("victim", ["predictions/de.parquet", "segments/00000000-00000002.jsonl"])
def test_damage_on_disk_is_named_and_the_run_still_ends(
    disk: Any, store: Store, snapshot: Snapshot, victim: str
) -> None:
    finished(disk)
    (disk.layout.run("a" * 16).attempt(1, 1).root / victim).write_text("damaged")
    assert Uploader(disk.layout, store).sync_once()
    run = snapshot(store)[RUN0]
    assert run["status"] == "FINISHED"
    assert victim.split("/")[1] in run["tags"]["raysched.damaged"]
    assert victim not in run["artifacts"]


def test_the_thread_follows_drains_and_stops(disk: Any, store: Store, snapshot: Snapshot) -> None:
    with Uploader(disk.layout, store, poll_s=30) as uploader:
        finished(disk)
        uploader.wake()
        assert uploader.drain(30)
        assert uploader.state().last_success_ms is not None
        assert snapshot(store)[SWEEP]["status"] == "FINISHED"
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert uploader._thread is not None
    assert not uploader._thread.is_alive()


def test_an_outage_never_raises_and_is_made_up_for(
    disk: Any, store: Store, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object, **__: object) -> None:
        raise MissingError("MLflow: no answer from http://me:canary@host")

    monkeypatch.setattr(Store, "ensure_run", down)
    finished(disk)
    with Uploader(disk.layout, store) as uploader:
        assert not uploader.drain(0.5)
        state = uploader.state()
        assert state.backlog > 0
        assert state.last_error is not None
        assert "no answer" in state.last_error
        assert "canary" not in state.last_error
        monkeypatch.undo()
        assert uploader.drain(30)
    assert snapshot(store)[RUN1]["status"] == "FINISHED"
    assert uploader.state().last_error is None


def test_two_uploaders_do_not_meet(disk: Any, store: Store) -> None:
    finished(disk)
    uploader = Uploader(disk.layout, store)
    with DriverLock(disk.layout.uploads / "uploader.lock"):
        assert not uploader.sync_once()
    assert "another process uploads this sweep" in str(uploader.state().last_error)
    assert uploader.drain(20)


def test_without_a_sweep_there_is_nothing_to_do(tmp_path: Path, store: Store, disk: Any) -> None:
    disk.layout.ledger.unlink()
    assert Uploader(disk.layout, store).sync_once()


def test_secrets_of_a_study_reach_nobody(disk: Any, store: Store) -> None:
    study = json.loads(json.dumps(disk.study))
    study["data"]["train"] = "https://me:canary@host/train?token=canary"
    opened = next(entry for entry in read(disk.layout.ledger) if isinstance(entry, Opened))
    disk.ledger.append(Opened(study=study, resolved=opened.resolved))
    finished(disk)
    assert Uploader(disk.layout, store).sync_once()
    held = [disk.layout.mlflow_db, *disk.layout.mlflow_artifacts.rglob("*"), *disk.layout.uploads.rglob("*")]
    assert not [path for path in held if path.is_file() and b"canary" in path.read_bytes()]
