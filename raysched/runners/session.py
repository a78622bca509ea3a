"""A driver at work: the order of effects of decision 13, from its takeover to the last upload, in one place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from raysched.errors import Interrupted, StoppedError
from raysched.records import ledger as ledgers
from raysched.records.entries import Note, Opened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.runners.control import AGAIN, Control, Hold
from raysched.runners.driver import Driver
from raysched.runners.options import Options
from raysched.runners.outage import Outage
from raysched.runners.searching import database, open_search
from raysched.runners.signals import interrupted_by, signals
from raysched.runners.space import SpaceHold
from raysched.runners.watcher import Watcher
from raysched.study.identity import Resolved
from raysched.study.load import LoadedStudy
from raysched.tracking import provenance
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.target import remember
from raysched.tracking.uploader import Uploader

if TYPE_CHECKING:  # Ray is imported where it is used
    from raysched.runners.ray_cluster import Cluster

DRAIN_S = 60.0
"""So long the end of a sweep waits for the tracking server; the rest is uploaded by the next start."""
HURRIED_DRAIN_S = 2.0
"""The same after Ctrl-C or SIGTERM, which are done within ten seconds."""


class Session:
    """One driver's time with a sweep whose locks are held. `execute` is called once."""

    driver: Driver
    uploaded = False
    """Whether the tracking store holds everything."""
    n_new = 0
    """Runs that ended now."""

    def __init__(
        self,
        loaded: LoadedStudy,
        options: Options,
        layout: SweepLayout,
        resolved: Resolved,
        store: Store,
        watcher: Watcher,
    ) -> None:
        self.loaded, self.options, self.layout = loaded, options, layout
        self.resolved, self.store, self.watcher = resolved, store, watcher
        self.facts = provenance.collect()
        self.uploader = Uploader(layout, store)

    def execute(self, on: Cluster, lost: Hold) -> None:
        """Take the sweep over and run what is left; `lost` tells when another driver has taken it.

        Raises:
            StoppedError: the budget is used up, the sweep was taken over, held up too long, or asked to stop.
            Interrupted: Ctrl-C or SIGTERM; everything is saved.
        """
        layout, options = self.layout, self.options
        with contextlib.ExitStack() as stack:
            taken = Ledger.take_over(layout.ledger, host=socket.gethostname(), pid=os.getpid())
            ledger = stack.enter_context(contextlib.closing(taken))
            self._open(ledger)
            search = open_search(layout, options, self.loaded.study.search, ledger.entries)
            optuna = stack.enter_context(contextlib.closing(search))
            remember(layout, self.store.uri)
            self.driver = Driver(
                layout,
                self.loaded.study,
                self.resolved,
                ledger,
                optuna,
                retry=options.retry,
                provenance=self.facts,
                recorded=self.uploader.wake,
            )
            before = len(self.driver.records)
            self.uploader.start()
            with signals() as asked:  # to the very end: a signal during the upload ends it as well
                search.hurried = lambda: asked() != 0
                control = self._control(asked, ledger, lost)
                try:
                    self._run(on, control, asked)
                except StoppedError:  # what it waited for in vain when the signal came
                    if not asked():
                        raise
                if self.uploaded:
                    ledger.append(Note(text=uploaded_to(self.store.uri)))
                exit_code = asked()
            if exit_code:
                raise Interrupted(
                    f"stopped by {interrupted_by(exit_code)}; everything done so far is saved",
                    exit_code=exit_code,
                    hint=AGAIN,
                )
            if (why := control.why()) is not None:
                raise why
            self.driver.raise_unless_complete()
            self.n_new = len(self.driver.records) - before

    def _open(self, ledger: Ledger) -> None:
        """Say in the ledger what the sweep is, where that is new."""
        study = self.loaded.study.model_dump(mode="json")
        opened = [entry for entry in ledger.entries if isinstance(entry, Opened)]
        if not opened or opened[-1].study != study:
            place = database(self.layout, self.options)
            inputs = self.resolved.model_dump(mode="json")
            ledger.append(Opened(study=study, resolved=inputs, provenance=self.facts, database=place))
        ledger.entries = tuple(ledgers.read(self.layout.ledger))

    def _control(self, asked: Callable[[], int], ledger: Ledger, lost: Hold) -> Control:
        holds: list[Hold] = [lost, SpaceHold(self.layout.root)]
        if not self.options.allow_offline_tracking:
            holds.append(Outage(self.uploader.state, name=self.layout.named, uri=self.store.uri))
        return Control(self.layout, asked, holds=holds, note=lambda text: ledger.append(Note(text=text)))

    def _run(self, on: Cluster, control: Control, asked: Callable[[], int]) -> None:
        from raysched.runners import ray_tune

        try:
            self.watcher.started(self.driver, on.slots, control)
            ray_tune.execute(self.driver, on, control, self.watcher.warn)
        finally:
            try:
                self.driver.close()
                self.watcher.stage("uploading to MLflow")
                self.uploaded = self._drained(asked)
            finally:
                self.uploader.stop(timeout_s=1.0 if asked() else 5.0)

    def _drained(self, asked: Callable[[], int]) -> bool:
        """Wait for the tracking store to hold everything, for less time once a signal has come."""
        began = time.monotonic()
        while not (complete := self.uploader.drain(1.0)):
            if time.monotonic() - began > (HURRIED_DRAIN_S if asked() else DRAIN_S):
                break
        return complete


def uploaded_to(uri: str) -> str:
    """The ledger's word that a tracking store holds everything; the address itself may hold a password."""
    return f"tracking complete: {hashlib.sha256(mask(uri).encode()).hexdigest()[:16]}"
