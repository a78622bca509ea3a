"""One driver per sweep on an object store, which knows no locks: a lease that its holder renews.

`driver.lock/<number>.json` says who holds the sweep; a number is taken by a write that fails where it exists, so of
two contenders one wins, and the highest number counts. Its holder alone rewrites it, every `RENEW_S` seconds, and
marks it when it leaves; a stale holder can only rewrite its own number, and sees the higher one.

Is the holder alive? It is where its object is younger than `DEAD_S`, both times by the store's own clock (a
contender writes a small object and looks at its time), so that no two machines' clocks are compared, and a second
driver is refused at once. Where a store tells no times, its object must stay the same for `DEAD_S` seconds of the
contender's own clock. A holder on this machine whose process is gone is dead at once.

A lease keeps honest drivers apart. What keeps a stale one from writing is the ledger: see `ledger_objects`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raysched.errors import MissingError, RayschedError, StoppedError
from raysched.records.mirror import LEASES
from raysched.records.remote import Remote

RENEW_S = 10.0
DEAD_S = 30.0
_HELD_HERE: set[str] = set()
"""Tokens of the leases that this process holds."""


class Lease:
    """Held from `acquire` to `release`, or until it was not renewed for `DEAD_S` seconds and another takes it."""

    def __init__(
        self,
        remote: Remote,
        folder: str = LEASES,
        *,
        what: str = "driver runs this sweep",
        renew_s: float = RENEW_S,
        dead_s: float = DEAD_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.remote, self.folder, self.what = remote, folder, what
        self.renew_s, self.dead_s, self.clock, self.sleep = renew_s, dead_s, clock, sleep
        self.host, self.pid = socket.gethostname(), os.getpid()
        self._number: int | None = None
        self._value: dict[str, Any] = {}
        self._lost = False
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> Lease:
        """Take the lease, or raise StoppedError within two seconds, naming the holder's host, pid and start.

        Only on a store that tells no times does it take `DEAD_S` seconds to find out that a holder is dead.

        Raises MissingError where the store cannot keep two drivers apart.
        """
        number, holder = newest(self.remote, self.folder)
        if not number:
            self.remote.check()  # once in a sweep's life
        if holder is not None and self._alive(number, holder):
            raise self._refused(holder)
        self._value = {
            "host": self.host,
            "pid": self.pid,
            "started_ms": time.time_ns() // 1_000_000,
            "token": secrets.token_hex(8),
            "place": _place(),
            "born": _born(self.pid),
            "count": 0,
        }
        try:
            self.remote.create(self._key(number + 1), self._content())
        except FileExistsError as error:
            raise self._refused(newest(self.remote, self.folder)[1]) from error
        self._number, self._lost = number + 1, False
        _HELD_HERE.add(self._value["token"])
        self.remote.delete(self._key(old) for old in range(max(1, number - 2), number + 1))
        self._leaving.clear()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self

    def release(self) -> None:
        if self._number is None:
            return
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(5)
        _HELD_HERE.discard(self._value["token"])
        try:
            if not self.lost():
                self.remote.put(self._key(self._number), self._content(released=True))
        except RayschedError:
            pass  # it is dead in half a minute
        self._number = None

    def lost(self) -> bool:
        """Whether another driver was seen to have taken the sweep. Answers at once."""
        return self._lost

    def __enter__(self) -> Self:
        if self._number is None:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # -- holding ----------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        while not self._leaving.wait(self.renew_s):
            try:
                self.renew()
            except RayschedError:
                continue  # the store is away; the ledger tells whether somebody came in the meantime
            if self._lost:
                return

    def renew(self) -> None:
        assert self._number is not None
        self._lost = self._lost or newest(self.remote, self.folder)[0] > self._number
        if not self._lost:
            self._value["count"] += 1
            self.remote.put(self._key(self._number), self._content())

    def _key(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.json"

    def _content(self, **more: Any) -> bytes:
        return json.dumps(self._value | more, sort_keys=True).encode()

    # -- contending -------------------------------------------------------------------------------------------

    def _refused(self, holder: dict[str, Any] | None) -> StoppedError:
        return StoppedError(
            f"another {self.what}: {describe(holder)}",
            key=self.remote.uri,
            hint="raysched status shows its progress; stop it, or give this sweep another --name",
        )

    def _alive(self, number: int, holder: dict[str, Any]) -> bool:
        known = alive_here(holder)
        if known is not None:
            return known
        age = _age(self.remote, self._key(number), self.folder)
        if age is not None:
            return age < self.dead_s
        until = self.clock() + self.dead_s
        while self.clock() < until:
            self.sleep(1.0)
            now, value = newest(self.remote, self.folder)
            if now != number or value != holder:
                return now != number or value is not None
        return False


def newest(remote: Remote, folder: str = LEASES) -> tuple[int, dict[str, Any] | None]:
    """The highest number taken so far, and who holds it; None where its holder has left."""
    names = [key.rpartition("/")[2].removesuffix(".json") for key in remote.below(folder)]
    number = max((int(name) for name in names if name.isdigit()), default=0)
    if not number:
        return 0, None
    try:
        value = json.loads(remote.get(f"{folder}/{number:08d}.json"))
    except FileNotFoundError:
        return number, None
    except ValueError:
        value = {}
    if not isinstance(value, dict):
        value = {}
    return number, None if value.get("released") else value


def held(remote: Remote, folder: str = LEASES) -> bool:
    """Whether a live driver holds the lease; on a store that tells no times, whether one has not left."""
    number, holder = newest(remote, folder)
    if holder is None:
        return False
    known = alive_here(holder)
    if known is not None:
        return known
    age = _age(remote, f"{folder}/{number:08d}.json", folder)
    return age is None or age < DEAD_S


def alive_here(holder: dict[str, Any]) -> bool | None:
    """Whether the holder's process lives, if it is of this machine; None where that cannot be known from here."""
    if holder.get("token") in _HELD_HERE:
        return True
    place = _place()
    if place is None or holder.get("place") != place:
        return None
    pid = holder.get("pid")
    return isinstance(pid, int) and pid != os.getpid() and _born(pid) == holder.get("born")


def describe(value: dict[str, Any] | None) -> str:
    """A holder, for people."""
    if value is None:
        return "its host and pid are not known"
    started = (
        datetime.fromtimestamp(value.get("started_ms", 0) / 1000).astimezone().isoformat(sep=" ", timespec="seconds")
    )
    return f"host {value.get('host')}, pid {value.get('pid')}, since {started}"


def _age(remote: Remote, key: str, folder: str) -> float | None:
    """Seconds since an object was written, by the store's clock."""
    probe = f"{folder}/clock-{secrets.token_hex(8)}"
    there = remote.info(key)
    try:
        remote.put(probe, b"")
        now = remote.info(probe)
        remote.delete([probe])
    except (MissingError, StoppedError):  # who may only read cannot tell
        return None
    if there is None or now is None or there.modified is None or now.modified is None:
        return None
    return max(0.0, now.modified - there.modified)


def _place() -> str | None:
    """What tells this machine, since it was started, and this container from all others; None where it is not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process was started, in ticks: a process of the same number is another one. None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
