"""Nodes of one token-protected Ray, each as in a pod of its own, started by the commands of deploy/ray/README.md."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.deploy.pod import ROOT, Pod
from tests.faults.machines import QUICK
from tests.processes import Command, processes, wait
from tests.service.head import free_ports

RAY_README = ROOT / "deploy" / "ray" / "README.md"


def ray_command(beginning: str, **changes: object) -> str:
    """A command of deploy/ray/README.md, with other values of its options, and more options."""
    (found,) = re.findall(rf"^ {{4}}({re.escape(beginning)}.*)$", RAY_README.read_text(), re.MULTILINE)
    command = str(found)
    for name, value in changes.items():
        option = f"--{name.replace('_', '-')}={value}"
        command, n = re.subn(rf"--{name.replace('_', '-')}=\S+", option, command)
        command += "" if n else f" {option}"
    return command


@dataclass
class Cluster:
    """Pods that share a storage and a token. Whatever is started is ended with it."""

    folder: Path
    storage: Path
    files: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    commands: list[Command] = field(default_factory=list)

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    def pod(self, name: str, command: str, **environment: str) -> tuple[Pod, Command]:
        folder = self.folder / name
        folder.mkdir()
        pod = Pod(folder, self.storage, self.files)
        self.commands.append(pod.start(command, {"RAY_AUTH_TOKEN": self.token, **QUICK, **environment}))
        return pod, self.commands[-1]

    def node(self, name: str, command: str, **environment: str) -> Pod:
        """Started and joined."""
        pod, started = self.pod(name, command, **environment)
        wait(lambda: "Ray runtime started" in started.text or not started.running, 120)
        assert started.running, started.text
        return pod

    def head(self, **environment: str) -> Pod:
        port, dashboard, agent, client = self.ports
        options = {"port": port, "dashboard_port": dashboard, "dashboard_agent_listen_port": agent}
        more = {"ray_client_server_port": client, "node_ip_address": "127.0.0.1", "dashboard_host": "127.0.0.1"}
        small = {"object_store_memory": 100_000_000}
        pod = self.node("head", ray_command("ray start --head", **options, **more, **small), **environment)
        wait(lambda: self.ask("/api/jobs/").status_code == 200, 90, every_s=0.3)
        return pod

    def worker(self, name: str) -> Pod:
        agent, grpc, environment = free_ports(3)
        command = ray_command(
            "ray start --address",
            address=f"127.0.0.1:{self.ports[0]}",
            node_ip_address="127.0.0.1",
            object_store_memory=100_000_000,
            min_worker_port=0,
            max_worker_port=0,
            dashboard_agent_listen_port=agent,
            dashboard_agent_grpc_port=grpc,
            runtime_env_agent_port=environment,
        )
        return self.node(name, command)

    def ask(self, path: str) -> requests.Response:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self.server + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=10)
        return requests.Response()

    def close(self) -> None:
        until = time.monotonic() + 20
        while (living := processes(self.folder)) and time.monotonic() < until:
            for process in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.2)
        for command in self.commands:
            command.process.wait(10)
        assert not living, living


def kill(node: Pod) -> None:
    """SIGKILL of the raylet first, then of all that its machine ran: nothing is told."""
    living = sorted(node.processes(), key=lambda one: "/raylet/raylet" not in one.command.split(" ")[0])
    assert "/raylet/raylet" in living[0].command
    for process in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
