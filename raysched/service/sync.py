"""MLflow brought to what a sweep holds on disk, beside its driver or long after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from raysched.errors import MissingError, StoppedError
from raysched.records import lock
from raysched.records.layout import SweepLayout
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.store_errors import CREDENTIALS_HINT
from raysched.tracking.target import target
from raysched.tracking.uploader import Uploader

PATIENCE_S = 30.0
"""So long a store may fail without anything getting better."""
PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """`runs_held` of the `runs` so far are done and in the store at `uri`; the others are not done."""

    uri: str
    runs: int
    runs_held: int
    driver_alive: bool


def sync(
    layout: SweepLayout,
    given: str | None = None,
    *,
    moved: Callable[[Uploader], None] = lambda uploader: None,
    patience_s: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
) -> Synced:
    """Upload until the store holds everything that is on disk. To do it again changes nothing.

    `given` is the store, by default the one the sweep is tracked in. `moved` is called at every step.

    Raises:
        MissingError: the store does not answer, or not for `patience_s`; what it took by then it has.
        StoppedError: a driver elsewhere uploads the sweep, and shares no disk with this machine.
    """
    if layout.remote is not None and lock.held(layout):
        raise StoppedError(
            f"its driver uploads it: {lock.describe(lock.holder(layout))}",
            key=layout.name,
            hint="raysched status shows its progress; sync again once it has left",
        )
    layout.pull(layout.ledger, layout.uploads)  # histories are fetched as they are read
    uri = target(layout, given)
    again = f"once it answers: raysched sync {layout.named}"
    store = Store(uri, layout.name)
    try:
        store.check()
    except MissingError as error:
        hint = f"{error.hint}; then {again.removeprefix('once it answers: ')}" if _is_refused(error) else again
        raise MissingError(error.what, key=error.key, choices=error.choices, hint=hint) from None
    uploader = Uploader(layout, store, moved=lambda: moved(uploader))
    best: tuple[int, int, int] | None = None
    better_at, pause = clock(), PAUSE_S
    while True:
        alive = uploader.driver_alive = lock.held(layout)
        if uploader.sync_once():
            held, runs = uploader.counts()
            return Synced(uri=uri, runs=runs, runs_held=held, driver_alive=alive)
        state = uploader.state()
        now = (-state.runs_held, state.backlog, state.backlog_bytes)
        if best is None or now < best:
            best, better_at, pause = now, clock(), PAUSE_S
        elif clock() - better_at > patience_s:
            why = (state.last_error or "").partition("\n")[0].removeprefix("--mlflow: ")
            raise MissingError(
                f"MLflow at {mask(uri)} holds {state.runs_held} of the {state.runs} runs of {layout.name} wholly, "
                f"and does not take the rest: {why}",
                key="--mlflow",
                hint=again,
            )
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _is_refused(error: MissingError) -> bool:
    return error.hint == CREDENTIALS_HINT
