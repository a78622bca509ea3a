"""Several machines of one Ray cluster, on this one: a head that runs nothing, and nodes that come and go."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import Command, Process, Shell, processes, shell, wait, workers


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Node:
    """One started `ray start --block`, and its raylet."""

    command: Command
    raylet: Process

    def workers(self, of: Path) -> list[Process]:
        """Processes of this node that execute adapter runs."""
        return [one for one in workers(of) if one.parent == self.raylet.pid]

    def kill(self) -> None:
        """kill -9 of the raylet, as a machine goes away for Ray."""
        os.kill(self.raylet.pid, signal.SIGKILL)


@dataclass
class Rack:
    """Nodes behind one token; whatever is started with `shell` reaches them at `address`."""

    shell: Shell
    address: str
    private: str
    nodes: list[Node] = field(default_factory=list)

    def add(self, cpus: int = 1) -> Node:
        """Start a node and wait until it has joined."""
        before = self._raylets()
        for _ in range(3):  # on a busy machine a raylet may come too late for Ray's own patience
            command = self._start(cpus)
            wait(lambda command=command: "Ray runtime started" in command.text or not command.running, 90)
            if command.running:
                break
        assert command.running, command.text
        wait(lambda: self._raylets().keys() - before.keys(), 30)
        (pid,) = self._raylets().keys() - before.keys()
        self.nodes.append(Node(command, self._raylets()[pid]))
        return self.nodes[-1]

    def _start(self, cpus: int) -> Command:
        ports = ["dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port"]
        return self.shell.start(
            [
                *("ray.scripts.scripts", "start", f"--address={self.address}", f"--num-cpus={cpus}", "--block"),
                *("--node-ip-address=127.0.0.1", "--object-store-memory=100000000"),
                *("--min-worker-port=0", "--max-worker-port=0"),
                *(f"--{name}={_free_port()}" for name in ports),
            ]
        )

    def _raylets(self) -> dict[int, Process]:
        return {one.pid: one for one in processes(self.shell.folder) if "/raylet/raylet" in one.command.split(" ")[0]}


@contextlib.contextmanager
def rack(folder: Path) -> Iterator[Rack]:
    """A head without CPUs for runs, and no node yet."""
    private = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    port = _free_port()
    with shell(folder, **environment) as one:
        one.ray_folders.add(private)
        command = one.start(
            [
                *("ray.scripts.scripts", "start", "--head", "--num-cpus=0", "--block", f"--port={port}"),
                *("--node-ip-address=127.0.0.1", f"--temp-dir={private}", "--include-dashboard=false"),
                "--object-store-memory=100000000",
            ]
        )
        wait(lambda: "Ray runtime started" in command.text or not command.running, 60)
        assert command.running, command.text
        yield Rack(one, f"127.0.0.1:{port}", private)
    shutil.rmtree(private, ignore_errors=True)
