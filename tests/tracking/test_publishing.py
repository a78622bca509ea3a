"""A written report in MLflow: whole, again over the older one, and never in the way of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysched.records.layout import SweepLayout
from raysched.reports.document import Cell, Row, Table
from raysched.reports.stats import Summary
from raysched.service.publishing import as_logged, publish
from raysched.tracking.mlflow_store import Store
from raysched.tracking.target import remember
from raysched.tracking.uploader import Uploader

TABLE = Table(
    name="scores-f1-test",
    title="F1",
    stub=("method", ""),
    columns=("en", "en", "average"),
    blocks=(
        (
            Row(
                labels=("gu", "k=2"),
                cells=(
                    Cell(scores=(Summary(mean=81.0, std=1.5, n=2), Summary(mean=70.0, std=None, n=1)), planned=2),
                    Cell(text="not testable"),
                    Cell(scores=(None,)),
                ),
            ),
        ),
    ),
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("<html>first</html>")
    (folder / "figures" / "curve.png").write_bytes(b"\x89PNG")
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def artifacts(store: Store, layout: SweepLayout, uid: str) -> dict[str, bytes]:
    """Path -> content of what the sweep's run holds."""
    found = store.held(f"sweep:{layout.name}", uid)
    assert found is not None
    assert store.artifacts is not None
    root = store.artifacts / found / "artifacts"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_report_is_logged_and_replaced(disk: Any, store: Store, written: Path) -> None:
    disk.point()
    disk.whole_run(0)
    uploader = Uploader(disk.layout, store)
    assert uploader.sync_once()
    told: list[str] = []
    uid = uploader._tree.ledger.uid
    publish(disk.layout, written, files_of(written), [TABLE], warn=told.append)
    (written / "report.html").write_text("<html>second</html>")
    publish(disk.layout, written, files_of(written), [TABLE], warn=told.append)
    assert not told
    held = artifacts(store, disk.layout, uid)
    assert set(held) == {
        "inputs.json", "study.json", "report/report.html", "report/figures/curve.png", "tables/scores-f1-test.json",
    }  # fmt: skip
    assert held["report/report.html"] == b"<html>second</html>"
    assert json.loads(held["tables/scores-f1-test.json"]) == {
        "columns": ["method", "2", "en", "en 4", "average"],
        "data": [["gu", "k=2", "81.00 ± 1.50 / 70.00 † n=1", "not testable", "-"]],
    }
    run_id = store.held("sweep:demo", uid)
    assert run_id is not None
    assert json.loads(store.tag(run_id, "mlflow.loggedArtifacts") or "") == [
        {"path": "tables/scores-f1-test.json", "type": "table"}
    ]
    assert uploader.sync_once()
    assert artifacts(store, disk.layout, uid) == held, "the uploader leaves it alone"


def test_a_sweep_without_a_run_in_mlflow_is_told_the_next_step(disk: Any, written: Path) -> None:
    told: list[str] = []
    publish(disk.layout, written, files_of(written), [TABLE], warn=told.append)
    (said,) = told
    assert "holds no run of demo" in said
    assert "raysched sync demo" in said
    assert not disk.layout.mlflow_db.exists(), "to look makes nothing"


def test_a_server_that_is_away_or_breaks_is_warned_of(
    disk: Any, store: Store, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    remember(disk.layout, "http://127.0.0.1:1")
    publish(disk.layout, written, files_of(written), [], warn=told.append)
    remember(disk.layout, store.uri)
    disk.point()
    assert Uploader(disk.layout, store).sync_once()

    def broken(*_: object) -> None:
        raise OSError("http://me:canary@host: no space left")

    monkeypatch.setattr(Store, "log_file", broken)
    publish(disk.layout, written, files_of(written), [], warn=told.append)
    away, full = told
    assert "no MLflow server answers at http://127.0.0.1:1" in away
    assert "raysched report demo" in away
    assert "no space left" in full
    assert "canary" not in full


def test_a_server_takes_it_too(server: str, disk: Any, written: Path) -> None:
    remember(disk.layout, server)
    disk.point()
    told: list[str] = []
    remote = Store(server, "demo")
    publish(disk.layout, written, files_of(written), [TABLE], warn=told.append)
    assert "holds no run of demo" in told.pop()
    uploader = Uploader(disk.layout, remote)
    assert uploader.drain(60)
    publish(disk.layout, written, files_of(written), [TABLE], warn=told.append)
    assert not told
    run_id = remote.held("sweep:demo", uploader._tree.ledger.uid)
    client, _ = remote._open()
    assert {one.path for one in client.list_artifacts(run_id or "", "report")} == {
        "report/report.html",
        "report/figures",
    }


def test_columns_have_names_of_their_own() -> None:
    assert json.loads(as_logged(TABLE))["columns"] == ["method", "2", "en", "en 4", "average"]
