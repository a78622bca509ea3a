"""Fills MLflow from the ledger, the records and the sealed segments on disk, beside the driver or afterwards.

It needs nothing of the training side but `wake`, and nothing here raises into the driver.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from raysched.records.layout import SweepLayout
from raysched.records.ledger import now_ms
from raysched.records.lock import DriverLock
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.tree import Tree

logger = logging.getLogger(__name__)

POLL_S = 10.0
PAUSE_S = 0.5
"""Least time between two passes, so that a chatty driver costs nothing."""
SHARE = 4.0
"""A pass over thousands of runs takes its time: the next one waits this many times as long."""
LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """As of the last pass. `backlog`: runs, cells and sweeps that MLflow does not hold as they are on disk."""

    backlog: int
    backlog_bytes: int = 0
    """Sealed history that waits for a store which fails."""
    behind_since: float | None = None
    """By the uploader's clock, in seconds: when the store began to fail and has not held everything since."""
    runs: int = 0
    runs_held: int = 0
    """Runs of the sweep so far, and those that are done and that MLflow holds wholly."""
    last_error: str | None
    last_success_ms: int | None


class Uploader:
    """One sweep, one store. Use `start`, `wake`, `drain`, `stop`, or `sync_once` alone.

    `driver_alive=False` (a sync without a driver) marks what is unfinished as KILLED, not RUNNING. `moved` is called
    at every step of a pass.
    """

    def __init__(
        self,
        layout: SweepLayout,
        store: Store,
        *,
        driver_alive: bool = True,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout, self.poll_s, self.clock = layout, poll_s, clock
        self._tree = Tree(
            layout,
            store,
            driver_alive=driver_alive,
            stopping=lambda: self._stopping,
            failed=self._note,
            moved=moved,
        )
        self._pass_lock = threading.Lock()
        self._changed = threading.Condition()
        self._woken = self._stopping = self._draining = False
        self._started = 0
        """Number of passes begun."""
        self._clean = 0
        """Number of the newest pass after which MLflow held everything."""
        self._state = UploadState(backlog=0, last_error=None, last_success_ms=None)
        self._last_error: str | None = None
        self._thread: threading.Thread | None = None

    # -- thread -----------------------------------------------------------------------------------------------

    def start(self) -> Uploader:
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)
        self._thread.start()
        return self

    def wake(self) -> None:
        """Something changed on disk. Returns at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until MLflow holds everything that is on disk now; False where that took too long."""
        deadline = self.clock() + timeout_s
        if self._thread is None or not self._thread.is_alive():
            while not (complete := self.sync_once()) and self.clock() < deadline:
                time.sleep(PAUSE_S)
            return complete
        with self._changed:
            wanted = self._started + 1
            self._draining = self._woken = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._clean >= wanted, timeout=max(0.0, deadline - self.clock()))
            self._draining = False
            return self._clean >= wanted

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread after the batch it is at; what is left is uploaded by the next start or sync."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def state(self) -> UploadState:
        """Answers at once, from any thread."""
        return self._state

    def counts(self) -> tuple[int, int]:
        """Runs of the sweep that are done and that MLflow holds wholly, and all of them; also amid a pass."""
        return self._tree.complete, len(self._tree.runs)

    @property
    def driver_alive(self) -> bool:
        return self._tree.driver_alive

    @driver_alive.setter
    def driver_alive(self, value: bool) -> None:
        self._tree.driver_alive = value

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        backoff = 0.0
        while not self._stopping:
            begun = self.clock()
            backoff = 0.0 if self.sync_once() else min(max(1.0, 2 * backoff), LONGEST_BACKOFF_S)
            rest = SHARE * (self.clock() - begun) - PAUSE_S
            self._wait(PAUSE_S, lambda: self._stopping)
            self._wait(min(rest, self.poll_s), lambda: self._stopping or self._draining)
            if backoff:
                self._wait(backoff, lambda: self._stopping or self._draining)
            else:
                self._wait(self.poll_s, lambda: self._stopping or self._woken)

    def _wait(self, seconds: float, until: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(until, timeout=seconds)

    # -- one pass ---------------------------------------------------------------------------------------------

    def sync_once(self) -> bool:
        """Bring MLflow to what is on disk; True where it now holds all of it. Never raises."""
        with self._pass_lock:
            with self._changed:
                self._started += 1
                self._woken = False
                number = self._started
            begun = self.clock()
            backlog = self._guarded_pass()
            try:
                self._state = self._measured(backlog, begun)
            except Exception as error:
                self._note(error)
                backlog += 1
            if backlog:
                return False
            with self._changed:
                self._clean = number
                self._changed.notify_all()
            return True

    def _guarded_pass(self) -> int:
        if not self.layout.ledger.exists():
            return 0
        try:
            with DriverLock(self.layout.uploads / "uploader.lock", what="process uploads this sweep"):
                self._tree.bring_up()
        except Exception as error:  # the driver's training goes on whatever happens here
            self._note(error)
            return self._tree.backlog + 1
        return self._tree.backlog

    def _measured(self, backlog: int, begun: float) -> UploadState:
        """How things stand after a pass that began then."""
        tree, before = self._tree, self._state
        self._last_error = self._last_error if backlog else None
        away = bool(backlog) and tree.away
        since = begun if before.behind_since is None else before.behind_since
        held, runs = self.counts()
        return UploadState(
            backlog=backlog,
            backlog_bytes=tree.waiting_bytes() if away else 0,
            behind_since=since if away else None,
            runs=runs,
            runs_held=held,
            last_error=self._last_error,
            last_success_ms=before.last_success_ms if backlog else now_ms(),
        )

    def _note(self, error: Exception) -> None:
        text = mask(str(error))
        if text != self._last_error:
            logger.warning("MLflow upload: %s", text.partition("\n")[0].removeprefix("--mlflow: "))
        self._last_error = text
