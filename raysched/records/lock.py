"""One driver per sweep: an exclusive flock on a file of the sweep's folder, freed by the kernel with its holder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysched.errors import StoppedError
from raysched.records.files import create, make_folder


class DriverLock:
    """Held from `acquire` to `release`, or to the end of the process."""

    def __init__(self, path: Path, what: str = "driver runs this sweep") -> None:
        self.path, self.what = path, what
        self.host = socket.gethostname()
        self.pid = os.getpid()
        self._file: int | None = None

    def acquire(self) -> DriverLock:
        """Take the lock or raise StoppedError at once, naming the holder's host, pid and start."""
        make_folder(self.path.parent)
        descriptor = create(self.path, os.O_RDWR)
        try:
            _take(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise StoppedError(
                f"another {self.what}: {describe(holder(self.path))}",
                key=str(self.path.parent),
                hint="raysched status shows its progress; stop it, or give this sweep another --name",
            ) from error
        os.ftruncate(descriptor, 0)
        value = {
            "host": self.host,
            "pid": self.pid,
            "started_ms": time.time_ns() // 1_000_000,
        }
        os.write(descriptor, json.dumps(value).encode())
        self._file = descriptor
        return self

    def release(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        if self._file is None:
            self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _take(descriptor: int, patience_s: float = 0.3) -> None:
    """The exclusive lock; `held` may have it shared for an instant. Raises OSError where another driver has it."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)


def held(path: Path) -> bool:
    """Whether a driver holds the lock now; asks with a shared lock that is given back at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path, patience_s: float = 0.5) -> dict[str, Any] | None:
    """Host, pid and start of the last holder; waits a moment for one that has only just taken the lock."""
    until = time.monotonic() + patience_s
    while True:
        try:
            value = json.loads(path.read_bytes())
            return value if isinstance(value, dict) else None
        except (OSError, ValueError):
            if time.monotonic() >= until:
                return None
            time.sleep(0.02)


def describe(value: dict[str, Any] | None) -> str:
    if value is None:
        return "its host and pid are not known"
    started = (
        datetime.fromtimestamp(value.get("started_ms", 0) / 1000).astimezone().isoformat(sep=" ", timespec="seconds")
    )
    return f"host {value.get('host')}, pid {value.get('pid')}, since {started}"
