"""A sweep's folder in another place: its MLflow store goes on there, and touches the old place no more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service import utils

from raysched.records.layout import SweepLayout
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.uploader import Uploader


@pytest.mark.parametrize("forgotten", [False, True], ids=["moved", "unpacked"])
def test_artifacts_follow_their_sweep(
    disk: Any, store: Store, snapshot: Callable[[Store], dict[str, Any]], tmp_path: Path, forgotten: bool
) -> None:
    disk.point()
    disk.whole_run(0)
    disk.end("stopped")
    assert Uploader(disk.layout, store, driver_alive=False).sync_once()
    before = snapshot(store)
    disk.ledger.close()
    old = disk.layout.root
    (tmp_path / "elsewhere").mkdir()
    os.rename(old, tmp_path / "elsewhere" / "demo")
    layout = SweepLayout(tmp_path / "elsewhere", "demo")
    if forgotten:  # an archive holds no cursors: every node is made anew
        shutil.rmtree(layout.uploads)
    utils._artifact_repos_cache.clear()  # who moves a folder uploads in another process
    moved = Store(sqlite_uri(layout.mlflow_db), "demo")
    assert Uploader(layout, moved, driver_alive=False).sync_once()
    assert not old.exists()
    assert snapshot(moved) == before
    client, experiment = moved._open()
    runs = client.search_runs([experiment])
    assert len(runs) == len(before)
    assert client.get_experiment(experiment).artifact_location == layout.mlflow_artifacts.as_uri()
    for run in runs:
        assert run.info.artifact_uri.startswith(f"{layout.mlflow_artifacts.as_uri()}/{run.info.run_id}/")
        for artifact in client.list_artifacts(run.info.run_id):
            assert (layout.mlflow_artifacts / run.info.run_id / "artifacts" / artifact.path).exists()
    assert any(client.list_artifacts(run.info.run_id) for run in runs)
