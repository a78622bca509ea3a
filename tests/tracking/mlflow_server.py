"""A real MLflow server with a SQLite database, on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysched.tracking.mlflow_store import SERVER_ENVIRONMENT, sqlite_uri
from tests.browser import free_port


@contextlib.contextmanager
def mlflow_server(folder: Path, database: Path, port: int | None = None) -> Iterator[str]:
    """Its address; `folder` is where it keeps a copy of the migrated `database`, and the artifacts."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, folder / "server.db")
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", sqlite_uri(folder / "server.db")]
    command += ["--artifacts-destination", str(folder / "served")]
    with (folder / "server.log").open("wb") as log:
        environment = {**os.environ, **SERVER_ENVIRONMENT}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"mlflow server did not start: {(folder / 'server.log').read_text()[-300:]}")
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
