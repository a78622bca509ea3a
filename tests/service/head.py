"""A real head of a Ray cluster with its job server, protected by a token, in a folder and on ports of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.processes import Shell, shell, wait

START_S = 90


@dataclass(frozen=True)
class Head:
    """Its `user` is a shell whose environment holds the token; `shell` is where the head itself runs."""

    address: str
    token: str
    folder: Path
    shell: Shell
    user: Shell


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def head(folder: Path, cpus: int = 2, **environment: str) -> Iterator[Head]:
    """Up for as long as the block lasts; nothing of it is left behind. `environment` is that of its machine."""
    token = secrets.token_hex(32)
    private = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # sockets below it must have short names
    port, dashboard, agent, client, metrics = free_ports(5)
    protected = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # jobs start `python`
    options = {
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "metrics-export-port": metrics,
        "dashboard-host": "127.0.0.1",
        "include-dashboard": "true",
        "num-cpus": cpus,
        "object-store-memory": 100_000_000,
        "temp-dir": private,
    }
    try:
        with (
            contextlib.ExitStack() as stack,
            shell(folder / "head", **protected, PATH=path, **environment) as machine,
            shell(folder / "user", **protected) as user,
        ):
            ray = machine.start(
                ["ray.scripts.scripts", "start", "--head", "--block"] + [f"--{k}={v}" for k, v in options.items()]
            )
            stack.callback(ray.process.wait, 10)  # after the shell has ended it
            address = f"http://127.0.0.1:{dashboard}"
            wait(lambda: _up(address, token), START_S, every_s=0.3)
            yield Head(address, token, private, machine, user)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _up(address: str, token: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        answer = requests.get(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=5)
        return answer.status_code == 200
    return False
