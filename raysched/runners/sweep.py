"""A whole sweep, from its study to its last record: the order of effects of decision 13, in one place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from raysched.errors import (
    DONE,
    SOME_RUNS_FAILED,
    Interrupted,
    StudyError,
)
from raysched.records import ledger as ledgers
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger, Note, Opened
from raysched.records.state import SweepState
from raysched.runners import preflight, requests
from raysched.runners.changes import known_resolved, previous, refuse_changes, refuse_other_inputs, tests_changed
from raysched.runners.control import AGAIN, Control, Hold
from raysched.runners.driver import Driver
from raysched.runners.holding import hold
from raysched.runners.options import Options
from raysched.runners.outage import Outage
from raysched.runners.searching import database, open_search, refuse_other_database
from raysched.runners.signals import interrupted_by, signals
from raysched.runners.space import SpaceHold
from raysched.study.load import LoadedStudy
from raysched.tracking import provenance
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.target import remember, target
from raysched.tracking.tree import holds_all
from raysched.tracking.uploader import Uploader

if TYPE_CHECKING:  # it imports torch
    from raysched.runners.smoke import Smoked

DRAIN_S = 60.0
"""So long the end of a sweep waits for the tracking server; the rest is uploaded by the next start."""
HURRIED_DRAIN_S = 2.0
"""The same after Ctrl-C or SIGTERM, which are done within ten seconds."""


class Watcher(Protocol):
    """Who shows a sweep to its user."""

    def stage(self, text: str) -> None:
        """What is being prepared."""

    def smoked(self, found: Sequence[Smoked]) -> None:
        """How the tiny runs before the real ones went."""

    def started(self, driver: Driver, slots: int, control: Control) -> None:
        """Runs are launched from now on; the driver, and `control.shown`, may be looked at from another thread."""

    def warn(self, text: str) -> None:
        """Something the user should know, which stops nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep stands at its end. `exit_code` is 0, or 1 where runs failed or could not be tested."""

    layout: SweepLayout
    n_runs: int
    n_failed: int
    n_new: int
    n_tested: int
    """Runs done earlier that were now tested on a test set that came later."""
    tracking_uri: str
    uploaded: bool
    untested: Mapping[str, str]
    """run_id -> why a run that is done could not be tested on a test set that came later."""

    @property
    def exit_code(self) -> int:
        return SOME_RUNS_FAILED if self.n_failed or self.untested else DONE


def check(loaded: LoadedStudy, storage: str) -> None:
    """Everything that a sweep is refused for before Ray starts, the tracking server aside; nothing is downloaded.

    Raises:
        StudyError: the study does not fit its data, or another one was started under this name.
        MissingError: an input is not there.
    """
    state = previous(SweepLayout(storage, loaded.name))
    refuse_changes(loaded, state)
    if state is None or state.ended is None or state.ended.outcome == "stopped":
        known = known_resolved(state)
        preflight.resolve(loaded.study, device=known.device if known else "cpu", known=known)


def sweep(loaded: LoadedStudy, options: Options, watcher: Watcher) -> Outcome:
    """Run the study to its end, or continue it; a finished sweep is done at once.

    Raises:
        StudyError: the study is malformed, or another one under this name.
        MissingError: an input, the cluster, or at a first start the tracking server is not there.
        StoppedError: another driver runs it, the budget is used up, or it was asked to stop.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
    """
    os.umask(0o077)
    layout = SweepLayout(options.storage, loaded.name)
    with contextlib.ExitStack() as stack:
        state = previous(layout)
        lost: Hold | None = None
        if state is not None:  # a second driver is told so before anything slow
            lost = stack.enter_context(hold(layout, options))
            state = previous(layout)
        refuse_changes(loaded, state, extend=options.extend)
        refuse_other_database(layout, state, options)
        uri = target(layout, options.mlflow_uri)
        if state is not None and _nothing_left(state, uri, loaded, options):
            return _outcome(layout, state, uri, n_new=0, uploaded=True)
        if state is not None:
            requests.begin(layout)
        watcher.stage("checking data, models and tracking")
        preflight.check_disk(layout.storage)
        known = known_resolved(state)
        resolved = preflight.resolve(loaded.study, device=known.device if known else "cpu", known=known)
        if known is not None:
            refuse_other_inputs(known, resolved, loaded.name)
        store = Store(uri, loaded.name)
        try:
            store.check()
        except Exception as error:
            if state is None and not options.allow_offline_tracking:
                raise
            watcher.warn(f"{error}\n  the sweep goes on; what it records is uploaded later")
        watcher.stage("fetching what the hub has to give")
        preflight.fetch(resolved, loaded.study)
        stack.enter_context(_without_hub())

        # Heavy, and of no use to a sweep that was refused above.
        from raysched.runners import ray_cluster, ray_inputs, ray_tune

        watcher.stage("connecting to Ray" if options.address else "starting Ray")
        on = stack.enter_context(ray_cluster.cluster(options.address, loaded.study, options.max_concurrent))
        if known is not None and known.device != on.device:
            raise StudyError(
                f"the sweep {loaded.name!r} was started on {known.device}, this cluster has {on.device}",
                hint=f"continue it where a {known.device} is, or start another sweep: --name {loaded.name}-2",
            )
        resolved = resolved.model_copy(update={"device": on.device})
        if options.address:  # a cluster of our own is this machine alone
            stack.enter_context(ray_inputs.offered(resolved))
        if lost is None:
            layout.create()
            lost = stack.enter_context(hold(layout, options))
            refuse_changes(loaded, previous(layout))  # another driver may have come and gone since
        if options.smoke:
            from raysched.runners import ray_smoke, smoke

            watcher.smoked(found := ray_smoke.run(loaded.study, resolved, on, layout, watcher.stage))
            if (refused := smoke.refusal(found, layout.name)) is not None:
                raise refused
        ledger = stack.enter_context(
            contextlib.closing(Ledger.take_over(layout.ledger, host=socket.gethostname(), pid=os.getpid()))
        )
        study_json = loaded.study.model_dump(mode="json")
        facts = provenance.collect()
        if state is None or state.opened is None or state.opened.study != study_json:
            inputs, place = resolved.model_dump(mode="json"), database(layout, options)
            ledger.append(Opened(study=study_json, resolved=inputs, provenance=facts, database=place))
        ledger.entries = tuple(ledgers.read(layout.ledger))
        optuna = stack.enter_context(
            contextlib.closing(open_search(layout, options, loaded.study.search, ledger.entries))
        )
        remember(layout, uri)
        uploader = Uploader(layout, store)
        away: list[Hold] = [] if options.allow_offline_tracking else [Outage(uploader.state, name=layout.name, uri=uri)]
        driver = Driver(
            layout,
            loaded.study,
            resolved,
            ledger,
            optuna,
            retry=options.retry,
            provenance=facts,
            recorded=uploader.wake,
        )
        before = len(driver.records)
        uploader.start()
        uploaded, exit_code = False, 0
        with signals() as asked:  # to the very end: a signal during the upload ends it as well
            control = Control(
                layout,
                asked,
                holds=[lost, SpaceHold(layout.root), *away],
                note=lambda text: ledger.append(Note(text=text)),
            )
            try:
                watcher.started(driver, on.slots, control)
                ray_tune.execute(driver, on, control, watcher.warn)
            finally:
                try:
                    driver.close()
                    watcher.stage("uploading to MLflow")
                    uploaded = _drain(uploader, asked)
                finally:
                    uploader.stop(timeout_s=1.0 if asked() else 5.0)
            if uploaded:
                ledger.append(Note(text=_uploaded_to(uri)))
            exit_code = asked()
        if exit_code:
            raise Interrupted(
                f"stopped by {interrupted_by(exit_code)}; everything done so far is saved",
                exit_code=exit_code,
                hint=AGAIN,
            )
        if (why := control.why()) is not None:
            raise why
        driver.raise_unless_complete()
        return _outcome(
            layout,
            driver.state,
            uri,
            n_new=len(driver.records) - before,
            n_tested=driver.n_tested,
            uploaded=uploaded,
            untested=driver.untested,
        )


@contextlib.contextmanager
def _without_hub() -> Iterator[None]:
    """Workers inherit it: what they need was fetched. The next sweep of a suite may ask the hub again."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _drain(uploader: Uploader, asked: Callable[[], int]) -> bool:
    """Wait for the tracking store to hold everything, for less time once a signal has come."""
    began = time.monotonic()
    while not (complete := uploader.drain(1.0)):
        if time.monotonic() - began > (HURRIED_DRAIN_S if asked() else DRAIN_S):
            break
    return complete


def _uploaded_to(uri: str) -> str:
    """The ledger's word that a tracking store holds everything; the address itself may hold a password."""
    return f"tracking complete: {hashlib.sha256(mask(uri).encode()).hexdigest()[:16]}"


def _nothing_left(state: SweepState, uri: str, loaded: LoadedStudy, options: Options) -> bool:
    """Whether every run has ended and the store at `uri` holds them all: then nothing needs to be started."""
    if state.ended is None or state.ended.outcome == "stopped":
        return False
    layout = SweepLayout(options.storage, loaded.name)
    if state.last_note != _uploaded_to(uri) and not holds_all(layout, Store(uri, layout.name), state.ended):
        return False
    return not (options.extend or options.retry is not None or tests_changed(loaded, state))


def _outcome(
    layout: SweepLayout,
    state: SweepState,
    uri: str,
    *,
    n_new: int,
    uploaded: bool,
    n_tested: int = 0,
    untested: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    ends = [recorded.status for recorded in state.recorded.values()]
    failed = sum(status != "finished" for status in ends)
    return Outcome(
        layout=layout,
        n_runs=len(ends),
        n_failed=failed,
        n_new=n_new,
        n_tested=n_tested,
        tracking_uri=uri,
        uploaded=uploaded,
        untested=untested,
    )
