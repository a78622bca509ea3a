"""One driver per sweep: an exclusive flock on a file of the sweep's folder, freed by the kernel with its holder.

It holds on local disks and, between hosts, on NFS of version 4 (older ones need a lock daemon). SQLite does not work
on NFS: a sweep there takes `--optuna journal` or PostgreSQL. On an object store a lease takes the lock's place.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysched.errors import StoppedError
from raysched.records import lease
from raysched.records.files import create, make_folder
from raysched.records.layout import SweepLayout
from raysched.records.lease import Lease, describe

__all__ = ["DriverLock", "Lease", "describe", "driver_lock", "held", "holder"]


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

    def lost(self) -> bool:
        """Whether another driver has it now. The kernel gives a lock to nobody while its holder lives."""
        return False

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


def driver_lock(layout: SweepLayout) -> DriverLock | Lease:
    """What keeps a second driver out, not yet acquired: a file lock, or on an object store a lease."""
    return DriverLock(layout.lock) if layout.remote is None else Lease(layout.remote)


def held(where: SweepLayout | Path) -> bool:
    """Whether a driver holds the sweep now (or somebody the lock file); nothing is kept from a driver by asking."""
    if isinstance(where, SweepLayout) and where.remote is not None:
        return lease.held(where.remote)
    path = where.lock if isinstance(where, SweepLayout) else where
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


def holder(where: SweepLayout | Path, patience_s: float = 0.5) -> dict[str, Any] | None:
    """Host, pid and start of the last holder; waits a moment for one that has only just taken the lock."""
    if isinstance(where, SweepLayout) and where.remote is not None:
        return lease.newest(where.remote)[1]
    path = where.lock if isinstance(where, SweepLayout) else where
    until = time.monotonic() + patience_s
    while True:
        try:
            value = json.loads(path.read_bytes())
            return value if isinstance(value, dict) else None
        except (OSError, ValueError):
            if time.monotonic() >= until:
                return None
            time.sleep(0.02)
