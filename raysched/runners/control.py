"""What may hold up or end a sweep from outside: signals, requests from other processes, full disks, long outages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raysched.errors import RayschedError, StoppedError
from raysched.records.layout import SweepLayout
from raysched.runners import requests

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


class Control:
    """Asked by the executor between two results. One thread calls it."""

    def __init__(self, layout: SweepLayout, asked: Callable[[], int] = lambda: 0, holds: Sequence[Hold] = ()) -> None:
        """`asked` gives the exit code of a signal, or 0."""
        self.layout, self.asked, self._holds = layout, asked, holds

    def stop(self) -> bool:
        """Workers save and stop, and the driver leaves."""
        return self.asked() != 0 or self.why() is not None

    def why(self) -> RayschedError | None:
        """What but a signal makes the driver leave at once."""
        if requests.pending(self.layout) == "stop":
            return StoppedError("was asked to stop; everything done so far is saved", key=self.layout.name, hint=AGAIN)
        held = self.held()
        return held.why if held is not None and held.now else None

    def paused(self) -> bool:
        """Workers save and stop, and the driver waits."""
        return requests.pending(self.layout) == "pause"

    def held(self) -> Held | None:
        """The first reason to launch nothing now."""
        return next(filter(None, (hold() for hold in self._holds)), None)
