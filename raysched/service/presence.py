"""Who runs a sweep now, and what it is up to: asked by every command that looks at a sweep or acts on one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from raysched.records import lock
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.runners.requests import Request, standing

Standing = Literal["running", "pausing", "paused", "stopping", "stopped", "finished", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """`driver` is the living driver's host, pid and start; None where none lives. `request` is what stands."""

    alive: bool
    driver: dict[str, Any] | None
    request: Request | None

    def __str__(self) -> str:
        return lock.describe(self.driver) if self.alive else "no driver runs it now"


def presence(layout: SweepLayout) -> Presence:
    """Read now."""
    alive = lock.held(layout)
    return Presence(alive=alive, driver=lock.holder(layout) if alive else None, request=standing(layout))


def word(now: Presence, state: SweepState) -> Standing:
    """The sweep's state in one word.

    `stopped` is whatever did not come to its end and is not run now; `pausing` lasts while workers save.
    """
    verb = now.request.verb if now.request else None
    if now.alive:
        if verb is None:
            return "running"
        if verb == "stop":
            return "stopping"
        return "pausing" if any(map(state.executing, state.attempts)) else "paused"
    if state.ended is not None and state.ended.outcome != "stopped":
        return state.ended.outcome
    return "paused" if verb == "pause" else "stopped"
