"""What may hold up or end a sweep from outside: signals, requests from other processes, full disks, long outages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raysched.errors import RayschedError, StoppedError
from raysched.records.layout import SweepLayout
from raysched.runners.requests import Request, Requests

AGAIN = "the same command continues the sweep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Why nothing new is launched now; what runs goes on.

    With `leave` the driver ends once nothing runs; with `now` what runs is stopped too.
    """

    why: RayschedError
    leave: bool = False
    now: bool = False


class Hold(Protocol):
    """One reason to launch nothing: asked often, so it answers at once."""

    def __call__(self) -> Held | None: ...


class AskedToStop(StoppedError):
    """By `raysched stop`: as after Ctrl-C, the whole command ends."""


class Control:
    """Asked by the executor between two results. One thread calls it."""

    def __init__(
        self,
        layout: SweepLayout,
        asked: Callable[[], int] = lambda: 0,
        holds: Sequence[Hold] = (),
        note: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`asked` gives the exit code of a signal, or 0; `note` takes one line at every change of what is asked."""
        self.layout, self.asked, self._holds, self._note = layout, asked, holds, note
        self._requests = Requests(layout)
        self._obeyed: Request | None = None
        self._held: Held | None = None

    def stop(self) -> bool:
        """Workers save and stop, and the driver leaves."""
        return self.asked() != 0 or self.why() is not None

    def why(self) -> RayschedError | None:
        """What but a signal makes the driver leave at once."""
        request = self._request()
        if request is not None and request.verb == "stop":
            return AskedToStop(
                f"was asked to stop ({request}); everything done so far is saved", key=self.layout.name, hint=AGAIN
            )
        held = self.held()
        return held.why if held is not None and held.now else None

    def paused(self) -> bool:
        """Workers save and stop, and the driver waits."""
        request = self._request()
        return request is not None and request.verb == "pause"

    def held(self) -> Held | None:
        """The first reason to launch nothing now."""
        self._held = next(filter(None, (hold() for hold in self._holds)), None)
        return self._held

    @property
    def shown(self) -> str | None:
        """Why nothing is launched, as the executor last saw it: for whoever watches from another thread."""
        obeyed, held = self._obeyed, self._held
        if obeyed is not None and obeyed.verb == "pause":
            return f"paused, {obeyed}; raysched resume {self.layout.named} goes on"
        return held.why.what if held is not None else None

    def _request(self) -> Request | None:
        """What other processes ask, said once in the sweep's own words."""
        found = self._requests.standing()
        if found != self._obeyed:
            before, self._obeyed = self._obeyed, found
            told = f"asked to {found.verb} by {found}" if found else f"the request to {before and before.verb} is over"
            with contextlib.suppress(RayschedError):  # a ledger that takes nothing stops its driver soon enough
                self._note(told)
        return found
