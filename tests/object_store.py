"""A real S3 server on this machine, in memory, spoken to over HTTP."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import pytest

from raysched.records.layout import SweepLayout

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "raysched", "AWS_SECRET_ACCESS_KEY": "no-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Store:
    """`machine(name)` makes this process see the store as another machine would: with an empty working copy."""

    environment: dict[str, str]
    folder: Path
    uri: str = field(default_factory=lambda: f"s3://raysched/{uuid.uuid4().hex[:8]}")

    def fresh(self) -> Store:
        """Another storage of the same server, and machines that have seen nothing of it."""
        return replace(self, uri=f"s3://raysched/{uuid.uuid4().hex[:8]}")

    @contextlib.contextmanager
    def machine(self, name: str) -> Iterator[Path]:
        cache = self.folder / name
        with mock.patch.dict(os.environ, {"RAYSCHED_CACHE": str(cache)}):
            yield cache

    def layout(self, machine: str, sweep: str = "demo") -> SweepLayout:
        with self.machine(machine):
            return SweepLayout(self.uri, sweep)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Store]:
    """A server on a free port of the loopback interface, its bucket, and the environment that names both."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}
    try:
        with mock.patch.dict(os.environ, environment):
            client = fsspec.filesystem("s3", skip_instance_cache=True)
            with contextlib.suppress(FileExistsError):  # servers of one process share what they hold
                client.mkdir("raysched")
            yield Store(environment, folder)
    finally:
        server.stop()
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # clients of this server, which is gone


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One server for a module's tests; each asks for a `fresh` storage on it."""
    with served(tmp_path_factory.mktemp("machines")) as server:
        yield server
