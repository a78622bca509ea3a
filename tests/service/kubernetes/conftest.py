"""A double of a cluster for each test, which the client library finds as it finds a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raysched.service.kubernetes import client, jobs, watching
from tests.service.kubernetes.simulated import Operator, operator

SOON_S = 0.02


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """Nobody waits long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for module, name in ((client, "AGAIN_S"), (jobs, "AGAIN_S"), (jobs, "LOOK_EVERY_S"), (watching, "LOOK_EVERY_S")):
        monkeypatch.setattr(module, name, SOON_S)
    with operator(tmp_path) as (cluster, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield cluster


@pytest.fixture
def door(cluster: Operator) -> Iterator[client.Cluster]:
    made = client.Cluster("raysched")
    yield made
    made.close()
