"""One driver per sweep: every lock that this takes, in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from raysched.errors import StoppedError
from raysched.records.layout import SweepLayout
from raysched.records.lock import driver_lock
from raysched.runners import searching
from raysched.runners.changes import previous
from raysched.runners.control import Held, Hold
from raysched.runners.options import Options

if TYPE_CHECKING:  # SQLAlchemy is needed with a database server only
    from raysched.search.advisory import AdvisoryLock


@contextlib.contextmanager
def hold(layout: SweepLayout, options: Options) -> Iterator[Hold]:
    """Hold the sweep for as long as the block lasts; the value tells when it was lost.

    The sweep's folder has a lock. Where a database server keeps the search, it has another one, which also drivers
    see that see another folder, or a folder whose locks stay on one host.

    Raises:
        StoppedError: another driver holds it, by host, pid and start.
        MissingError: the database server cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        lock = driver_lock(layout)
        stack.enter_context(lock)
        holds: list[Hold] = [lambda: Held(why=_taken(layout), leave=True, now=True) if lock.lost() else None]
        if options.optuna_uri not in (None, searching.JOURNAL):
            address = searching.address(layout, options)
            if address.backend == "postgresql":
                from raysched.search.advisory import AdvisoryLock

                server = stack.enter_context(AdvisoryLock(address, [f"{layout.uri}/{layout.name}", *_uid(layout)]))
                holds.append(_Watched(layout, server))
        yield lambda: next(filter(None, (one() for one in holds)), None)


def _taken(layout: SweepLayout) -> StoppedError:
    return StoppedError(
        "taken over: another driver holds the sweep now",
        key=layout.name,
        hint="raysched status shows the sweep as the other driver continues it",
    )


class _Watched:
    """Says what has become of the server's lock."""

    def __init__(self, layout: SweepLayout, lock: AdvisoryLock) -> None:
        self._layout, self._lock, self._named = layout, lock, False

    def __call__(self) -> Held | None:
        if not self._named and (uid := _uid(self._layout)):
            # A new sweep has a name of its own from its first entry on, whatever folder it is seen in.
            self._named = True
            with contextlib.suppress(StoppedError):
                self._lock.also(uid[0])
        trouble = self._lock.trouble
        if trouble is None:
            return None
        return Held(why=trouble, leave=self._lock.gone, now=self._lock.gone)


def _uid(layout: SweepLayout) -> list[str]:
    state = previous(layout)
    return [state.uid] if state is not None and state.uid else []
