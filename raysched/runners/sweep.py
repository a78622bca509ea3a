"""A whole sweep: admitted, prepared, executed. What may refuse it comes in the order of what it costs to find out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from raysched.errors import DONE, SOME_RUNS_FAILED, StudyError
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.runners import preflight, requests
from raysched.runners.changes import known_resolved, previous, refuse_changes, refuse_other_inputs, tests_changed
from raysched.runners.control import Hold
from raysched.runners.holding import hold
from raysched.runners.options import Options
from raysched.runners.searching import refuse_other_database
from raysched.runners.session import Session, uploaded_to
from raysched.runners.watcher import Watcher
from raysched.study.identity import Resolved
from raysched.study.load import LoadedStudy
from raysched.tracking.mlflow_store import Store
from raysched.tracking.target import target
from raysched.tracking.tree import holds_all

if TYPE_CHECKING:  # Ray is heavy, and of no use to a sweep that is refused
    from raysched.runners.ray_cluster import Cluster


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

    @classmethod
    def of(
        cls,
        layout: SweepLayout,
        state: SweepState,
        uri: str,
        *,
        uploaded: bool,
        n_new: int = 0,
        n_tested: int = 0,
        untested: Mapping[str, str] = MappingProxyType({}),
    ) -> Outcome:
        ends = [recorded.status for recorded in state.recorded.values()]
        return cls(
            layout=layout,
            n_runs=len(ends),
            n_failed=sum(status != "finished" for status in ends),
            n_new=n_new,
            n_tested=n_tested,
            tracking_uri=uri,
            uploaded=uploaded,
            untested=untested,
        )


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
        asked_before = requests.standing(layout) if state is not None else None
        if state is not None:  # a second driver is told so before anything slow
            lost = stack.enter_context(hold(layout, options))
            state = previous(layout)
        refuse_changes(loaded, state, extend=options.extend)
        refuse_other_database(layout, state, options)
        uri = target(layout, options.mlflow_uri)
        if state is not None:
            if _nothing_left(state, uri, loaded, options):
                return Outcome.of(layout, state, uri, uploaded=True)
            requests.begin(layout, asked_before)
        store = Store(uri, loaded.name)
        resolved = _prepared(loaded, options, state, store, watcher)
        stack.enter_context(preflight.without_hub())

        # Heavy, and of no use to a sweep that was refused above.
        from raysched.runners import ray_cluster, ray_inputs

        watcher.stage("connecting to Ray" if options.address else "starting Ray")
        on = stack.enter_context(ray_cluster.cluster(options.address, loaded.study, options.max_concurrent))
        known = known_resolved(state)
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
            refuse_changes(loaded, previous(layout), extend=options.extend)  # another driver may have come and gone
        if options.smoke:
            _smoke(loaded, resolved, on, layout, watcher)
        session = Session(loaded, options, layout, resolved, store, watcher)
        session.execute(on, lost)
        return Outcome.of(
            layout,
            session.driver.state,
            uri,
            n_new=session.n_new,
            n_tested=session.driver.n_tested,
            uploaded=session.uploaded,
            untested=session.driver.untested,
        )


def _prepared(
    loaded: LoadedStudy, options: Options, state: SweepState | None, store: Store, watcher: Watcher
) -> Resolved:
    """Every input found, pinned and here, and the tracking store asked; nothing is written yet. Raises as `sweep`."""
    watcher.stage("checking data, models and tracking")
    preflight.check_disk(SweepLayout(options.storage, loaded.name).storage)
    known = known_resolved(state)
    resolved = preflight.resolve(loaded.study, device=known.device if known else "cpu", known=known)
    if known is not None:
        refuse_other_inputs(known, resolved, loaded.name)
    try:
        store.check()
    except Exception as error:
        if state is None and not options.allow_offline_tracking:
            raise
        watcher.warn(f"{error}\n  the sweep goes on; what it records is uploaded later")
    watcher.stage("fetching what the hub has to give")
    preflight.fetch(resolved, loaded.study)
    return resolved


def _smoke(loaded: LoadedStudy, resolved: Resolved, on: Cluster, layout: SweepLayout, watcher: Watcher) -> None:
    """A tiny run of every schedule first. Raises MissingError or StudyError where one failed."""
    from raysched.runners import ray_smoke, smoke

    found = ray_smoke.run(loaded.study, resolved, on, layout, watcher.stage)
    watcher.smoked(found)
    if (refused := smoke.refusal(found, layout.name)) is not None:
        raise refused


def _nothing_left(state: SweepState, uri: str, loaded: LoadedStudy, options: Options) -> bool:
    """Whether every run has ended and the store at `uri` holds them all: then nothing needs to be started."""
    if state.ended is None or state.ended.outcome == "stopped":
        return False
    layout = SweepLayout(options.storage, loaded.name)
    if state.last_note != uploaded_to(uri) and not holds_all(layout, Store(uri, layout.name), state.ended):
        return False
    return not (options.extend or options.retry is not None or tests_changed(loaded, state))
