"""Several machines on this one: each a network, mounts, a name and a home of its own, bridged to one Ray head.

What a machine's `hidden` folders hold elsewhere it does not see; the sweep's storage it does, as over NFS. Only root
can make them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import MARK, Command, Process, Shell, processes, shell, wait

QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}
"""A machine that is gone is missed after some seconds instead of a minute."""
STORE = "--object-store-memory=100000000"


def why_not() -> str | None:
    """Why machines cannot be made here."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [tool for tool in ("ip", "unshare", "mount") if shutil.which(tool) is None]
    if missing:
        return f"there is no {', '.join(missing)} here"
    name = f"rs{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    seen = subprocess.run(
        ["ip", "netns", "exec", name, "unshare", "-m", "-u", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
    )
    _ip("netns", "del", name)
    return f"nothing can be mounted: {seen.stderr.strip()}" if seen.returncode else None


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)


@dataclass(frozen=True)
class Machine:
    """One node: its name, its home, the link that joins it to the others, and its processes' network."""

    name: str
    home: Path
    link: str
    command: Command

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def processes(self) -> list[Process]:
        """What runs on it."""
        return processes(self.home)

    def workers(self) -> list[Process]:
        """Processes on it that execute adapter runs."""
        return [one for one in self.processes() if "Trainable" in one.command.split(" ")[0]]

    def cut(self) -> None:
        """Take it from the network: it lives on, and nobody hears of it."""
        _ip("link", "set", self.link, "down")


@dataclass
class Machines:
    """A bridge, the head beside it, and the machines; `shell` starts commands where the head is."""

    shell: Shell
    net: str
    prefix: str
    hidden: Sequence[Path]
    port: int
    private: list[str] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{self.prefix}.1:{self.port}"

    def temporary(self) -> str:
        """For sockets, whose names must be short."""
        self.private.append(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
        return self.private[-1]

    def start_head(self, cpus: int) -> None:
        self._join(
            self.shell.start(
                [
                    *("ray.scripts.scripts", "start", "--head", f"--num-cpus={cpus}", "--block", f"--port={self.port}"),
                    *(f"--node-ip-address={self.prefix}.1", f"--temp-dir={self.temporary()}", STORE),
                    "--include-dashboard=false",
                ]
            )
        )

    def add(self, cpus: int = 1) -> Machine:
        """Start a machine and wait until it has joined."""
        number = len(self.machines) + 2
        space, link, address = f"{self.net}n{number}", f"{self.net}v{number}", f"{self.prefix}.{number}"
        home = self.shell.folder / f"machine-{number}"
        home.mkdir()
        _ip("netns", "add", space)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", link, "master", self.net, "up")
        for words in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _ip("-n", space, *words.split())
        ray = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={self.address}", f"--num-cpus={cpus}"),
            *(f"--node-ip-address={address}", f"--temp-dir={self.temporary()}", STORE, "--block"),
        ]
        script = [
            "mount --make-rprivate /",
            *(f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder in self.hidden),
            f"echo node{number} > /proc/sys/kernel/hostname",
            f"exec {shlex.join(ray)}",
        ]
        output = self.shell.folder / f"machine-{number}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", space, "unshare", "-m", "-u", "sh", "-ec", "\n".join(script)],
                cwd=home,
                env=os.environ
                | self.shell.environment
                | {MARK: str(self.shell.folder), "HOME": str(home), "RAYSCHED_CACHE": str(home / "cache")}
                | {"HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        command = Command(process, output)
        self.shell.commands.append(command)
        self._join(command)
        self.machines.append(Machine(f"node{number}", home, link, command))
        return self.machines[-1]

    @staticmethod
    def _join(command: Command) -> None:
        wait(lambda: "Ray runtime started" in command.text or not command.running, 120)
        assert command.running, command.text

    def remove(self) -> None:
        for number in range(2, len(self.machines) + 3):  # the last one may not have joined
            subprocess.run(["ip", "link", "del", f"{self.net}v{number}"], capture_output=True)
            subprocess.run(["ip", "netns", "del", f"{self.net}n{number}"], capture_output=True)
        subprocess.run(["ip", "link", "del", self.net], capture_output=True)
        for folder in self.private:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def machines(folder: Path, hidden: Sequence[Path], *, head_cpus: int = 1) -> Iterator[Machines]:
    """The head, which sees everything, and no other machine yet."""
    one, two = secrets.randbelow(200) + 20, secrets.randbelow(250) + 1
    net, prefix = f"rs{secrets.token_hex(3)}", f"10.{one}.{two}"
    environment = QUICK | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "no_proxy": "*",
    }
    _ip("link", "add", net, "type", "bridge")
    made = None
    try:
        _ip("addr", "add", f"{prefix}.1/24", "dev", net)
        _ip("link", "set", net, "up")
        with shell(folder, **environment) as commands:
            made = Machines(commands, net, prefix, hidden, 20000 + secrets.randbelow(10000))
            made.start_head(head_cpus)
            yield made
    finally:
        if made is not None:
            made.remove()
        else:
            _ip("link", "del", net)
