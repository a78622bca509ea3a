"""One migrated MLflow database for all tests, and a sweep on disk with a store for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.tracking.mlflow_store import Store, sqlite_uri
from tests.tracking import disk_sweep
from tests.tracking.disk_sweep import DiskSweep
from tests.tracking.mlflow_server import mlflow_server


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database: the migrations take seconds, a copy nothing."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Store(sqlite_uri(path), "first")._search_experiments()
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskSweep]:
    sweep = DiskSweep(tmp_path / "storage")
    yield sweep
    sweep.ledger.close()


@pytest.fixture
def store(disk: DiskSweep, empty_database: Path) -> Store:
    shutil.copy(empty_database, disk.layout.mlflow_db)
    return Store(sqlite_uri(disk.layout.mlflow_db), "demo", disk.layout.mlflow_artifacts)


@pytest.fixture
def snapshot() -> Callable[[Store], dict[str, Any]]:
    return disk_sweep.snapshot


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """For all tests of a process: each takes an experiment of its own."""
    with mlflow_server(tmp_path_factory.mktemp("server"), empty_database) as address:
        yield address
