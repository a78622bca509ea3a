"""A SQLite file with MLflow's tables."""

from __future__ import annotations

import os
from pathlib import Path

from raysched.records.files import create, make_folder, sync_file


def make_database(path: Path) -> None:
    """MLflow's tables, made beside their place, private to their owner, and put there whole.

    MLflow takes seconds to make them, and can neither use nor mend a file in which a kill left only some.
    """
    make_folder(path.parent)
    if path.exists() and path.stat().st_size:
        return
    for stale in path.parent.glob(f".{path.name}.*"):  # of a process that was killed; a sweep has one uploader
        stale.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    os.close(create(beside, os.O_RDWR))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{beside}")
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()
    sync_file(beside)
    os.replace(beside, path)
