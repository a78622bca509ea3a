"""Processes that a test starts: found, watched and ended by what they hold of the test's own folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "RAYSCHED_TEST_FOLDER"
"""Environment variable that every process below a test's own inherits."""
RAY_FOLDER = re.compile(r"/tmp/rs-[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str


def processes(of: Path) -> list[Process]:
    """Every living process, this one left out, that holds `of` in its environment, arguments or working folder."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        folder = Path(entry.path)
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state in "ZX":
                continue
            held = [command, os.readlink(folder / "cwd")]
            held.append((folder / "environ").read_bytes().decode(errors="replace"))
            if any(str(of) in text for text in held):
                found.append(Process(int(entry.name), int(parent), command))
    return found


def workers(of: Path) -> list[Process]:
    """Processes that execute adapter runs."""
    return [process for process in processes(of) if re.match(r"ray::\w*Trainable", process.command)]


def wait(condition: Callable[[], object], timeout_s: float = 120, every_s: float = 0.05) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(every_s)


@dataclass
class Command:
    """One started `raysched ...`; its output goes to a file."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def end(self, timeout_s: float = 180) -> int:
        """Its exit code, as a shell would give it."""
        code = self.process.wait(timeout_s)
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """kill -9, of this process alone."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Shell:
    """Starts commands in a folder of their own, and leaves nothing of them behind."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    ray_folders: set[str] = field(default_factory=set)

    def start(self, arguments: Sequence[str | Path]) -> Command:
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            MARK: str(self.folder),
            "TMPDIR": str(temporary),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "160",
        }
        output = self.folder / f"output-{len(self.commands)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                cwd=self.folder,
                env=environment | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Command(process, output))
        return self.commands[-1]

    def raysched(self, *arguments: str | Path) -> Command:
        return self.start(["raysched", *arguments])

    def run(self, *arguments: str | Path, timeout_s: float = 180) -> tuple[int, str]:
        command = self.raysched(*arguments)
        return command.end(timeout_s), command.text

    def alive(self) -> list[Process]:
        """What lives of all that was started; remembers the private Ray folders it names."""
        living = processes(self.folder)
        for process in living:
            self.ray_folders |= set(RAY_FOLDER.findall(process.command))
        return living

    def settle(self, timeout_s: float = 20) -> list[Process]:
        """What still lives after a moment's patience."""
        until = time.monotonic() + timeout_s
        while (living := self.alive()) and time.monotonic() < until:
            time.sleep(0.1)
        return living

    def close(self) -> None:
        """End whatever lives, by its own id, and remove the private Ray folders of drivers that were killed."""
        until = time.monotonic() + 10
        while (living := self.alive()) and time.monotonic() < until:
            for process in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.1)
        for command in self.commands:  # on a busy machine a killed one takes a moment to go
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.process.wait(10)
        for folder in self.ray_folders:
            shutil.rmtree(folder, ignore_errors=True)
        assert not living, living


@contextlib.contextmanager
def shell(folder: Path, **environment: str) -> Iterator[Shell]:
    folder.mkdir(parents=True, exist_ok=True)
    one = Shell(folder, environment)
    try:
        yield one
    finally:
        one.close()
