"""MLflow follows a sweep that grows: failed runs tried again, and more seeds. Each key has one run, one history."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.run_upload import newest_segments
from raysched.tracking.uploader import Uploader

Snapshot = Callable[[Store], dict[str, Any]]
SWEEP, CELL = "sweep:demo", "cell:" + "c" * 16
RUN0, RUN1, RUN2, RUN3 = ("run:" + letter * 16 for letter in "abfg")


def failed_once(disk: Any) -> Any:
    """A cell whose second run failed after two sealed steps; returns that attempt."""
    disk.point()
    disk.whole_run(0)
    attempt = disk.attempt(1)
    disk.checkpoint(attempt, 0, 2, before=[], salt=3.0)
    disk.finish(1, attempt, [], status="failed")
    disk.told(None)
    disk.end("failed")
    return attempt


def statuses(shown: dict[str, Any]) -> dict[str, str]:
    return {key: run["status"] for key, run in shown.items()}


def other(path: Path, template: Path) -> Store:
    shutil.copy(template, path)
    return Store(sqlite_uri(path), "demo")


@pytest.mark.parametrize("followed", [True, False], ids=["by one uploader", "by a new one each time"])
def test_a_run_that_is_tried_again_replaces_its_failure(
    disk: Any, store: Store, snapshot: Snapshot, empty_database: Path, tmp_path: Path, followed: bool
) -> None:
    failed_once(disk)
    uploader = Uploader(disk.layout, store)

    def sync() -> dict[str, Any]:
        assert (uploader if followed else Uploader(disk.layout, store)).sync_once()
        return snapshot(store)

    assert statuses(sync()) == {SWEEP: "FAILED", CELL: "FAILED", RUN0: "FINISHED", RUN1: "FAILED"}
    disk.again()
    disk.reopen(1)
    shown = sync()
    assert statuses(shown) == {SWEEP: "RUNNING", CELL: "RUNNING", RUN0: "FINISHED", RUN1: "KILLED"}
    assert "raysched.cause" not in shown[RUN1]["tags"]
    attempt = disk.attempt(1, 2)
    assert statuses(sync())[RUN1] == "RUNNING"
    disk.finish(1, attempt, disk.checkpoint(attempt, 0, 4, before=[]))
    disk.told(81.0)
    disk.end("finished")
    shown = sync()
    assert statuses(shown) == dict.fromkeys((SWEEP, CELL, RUN0, RUN1), "FINISHED")
    assert shown[RUN1]["metrics"]["train/loss"][0][::2] == (1, "1.0")
    assert [step for step, _, _ in shown[CELL]["metrics"]["mean/val/f1"]] == [2]
    assert len(shown[CELL]["metrics"]["n_failed"]) == 1
    again = other(tmp_path / "again.db", empty_database)
    assert Uploader(disk.layout, again).sync_once()
    assert snapshot(again) == shown


def test_a_run_that_goes_on_from_its_failed_attempt_holds_each_step_once(
    disk: Any, store: Store, snapshot: Snapshot
) -> None:
    uploader = Uploader(disk.layout, store)
    old = failed_once(disk)
    assert uploader.sync_once()
    disk.again()
    disk.reopen(1)
    sealed = newest_segments(old)
    assert sealed
    new = disk.resume(1, 2, old, sealed)
    disk.finish(1, new, disk.checkpoint(new, 2, 4, before=sealed, salt=3.0))
    assert uploader.sync_once()
    steps = [step for step, _, _ in snapshot(store)[RUN1]["metrics"]["train/loss"]]
    assert steps == [1, 2, 3, 4]


def test_a_run_that_fails_again_says_why_it_did_last(disk: Any, store: Store, snapshot: Snapshot) -> None:
    failed_once(disk)
    assert Uploader(disk.layout, store).sync_once()
    disk.again()
    disk.reopen(1)
    disk.finish(1, disk.attempt(1, 2), [], status="diverged")
    disk.told(None)
    disk.end("failed")
    assert Uploader(disk.layout, store).sync_once()
    shown = snapshot(store)
    assert statuses(shown) == {SWEEP: "FAILED", CELL: "FAILED", RUN0: "FINISHED", RUN1: "FAILED"}
    assert shown[RUN1]["tags"]["raysched.attempt"] == "attempt-2-2"


def test_more_seeds_reopen_the_cell_and_its_means(
    disk: Any, store: Store, snapshot: Snapshot, empty_database: Path, tmp_path: Path
) -> None:
    uploader = Uploader(disk.layout, store)
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")
    assert uploader.sync_once()
    before = {key: store.find(key, uploader._tree.ledger.uid) for key in (CELL, RUN0, RUN1)}
    disk.again()
    disk.extend(2, 3)
    assert uploader.sync_once()
    assert statuses(snapshot(store)) == {SWEEP: "RUNNING", CELL: "RUNNING", RUN0: "FINISHED", RUN1: "FINISHED"}
    disk.whole_run(2)
    disk.whole_run(3)
    disk.told(83.0)
    disk.end("finished")
    assert uploader.sync_once()
    shown = snapshot(store)
    assert statuses(shown) == dict.fromkeys((SWEEP, CELL, RUN0, RUN1, RUN2, RUN3), "FINISHED")
    assert shown[CELL]["metrics"]["mean/val/f1"][-1][::2] == (4, "83.0")
    assert shown[SWEEP]["params"]["seeds"] == "[0,1,2,3]"
    assert shown[CELL]["parent"] == SWEEP
    assert {key: store.find(key, uploader._tree.ledger.uid) for key in before} == before
    again = other(tmp_path / "again.db", empty_database)
    assert Uploader(disk.layout, again).sync_once()
    fresh = snapshot(again)
    for one in (fresh, shown):  # of the cell as it was, with two seeds, only those know who saw it
        one[CELL] |= {"times": (), "metrics": {key: rows[-1] for key, rows in one[CELL]["metrics"].items()}}
    assert fresh == shown
