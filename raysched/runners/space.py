"""A disk that fills up: nothing is launched before a run would fail for it, and the driver leaves if it stays so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from raysched.errors import StoppedError
from raysched.records.files import free_bytes
from raysched.runners.control import Held

LEAST_BYTES = 100 * 1024**2
"""With less free nothing is launched: what runs may still save, and the driver's ledger must go on."""
PATIENCE_S = 300.0
"""So long the driver waits for room."""
LOOK_S = 1.0


class SpaceHold:
    """A `Hold` while the disk of a sweep is all but full; after `PATIENCE_S` the driver is to leave."""

    def __init__(
        self,
        folder: Path,
        *,
        least: int = LEAST_BYTES,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        """`folder` is where the sweep's files are written."""
        self._folder, self._least, self._patience_s = folder, least, patience_s
        self._clock, self._free = clock, free
        self._looked: float | None = None
        self._since: float | None = None
        self._bytes = 0

    def __call__(self) -> Held | None:
        now = self._clock()
        if self._looked is None or now - self._looked >= LOOK_S:
            self._looked, self._bytes = now, self._free(self._folder)
            full = self._bytes < self._least
            self._since = (now if self._since is None else self._since) if full else None
        if self._since is None:
            return None
        why = StoppedError(
            f"only {self._bytes} bytes are free on the disk of {self._folder}; "
            f"nothing is launched with less than {self._least}",
            key="--storage",
            hint="free some space; the same command continues the sweep",
        )
        return Held(why=why, leave=now - self._since > self._patience_s)
