"""An outage of the tracking store: a sweep trains on through it, but not without end."""

from __future__ import annotations

import time
from collections.abc import Callable

from raysched.errors import StoppedError
from raysched.runners.control import Held
from raysched.tracking.rows import mask
from raysched.tracking.uploader import UploadState

LIMIT_S = 3600.0
LIMIT_BYTES = 100_000_000
"""So long, and with so much history on disk that waits, runs are launched without the tracking store."""


class Outage:
    """A `Hold`: nothing is launched beyond the limits, and the driver leaves once nothing runs."""

    def __init__(
        self,
        state: Callable[[], UploadState],
        *,
        name: str,
        uri: str,
        clock: Callable[[], float] = time.monotonic,
        limit_s: float = LIMIT_S,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """`clock` is the uploader's own."""
        self.state, self.name, self.uri, self.clock = state, name, uri, clock
        self.limit_s, self.limit_bytes = limit_s, limit_bytes

    def __call__(self) -> Held | None:
        state = self.state()
        if state.behind_since is None:
            return None
        seconds = self.clock() - state.behind_since
        if seconds <= self.limit_s and state.backlog_bytes <= self.limit_bytes:
            return None
        limits = f"at most {_span(self.limit_s)} or {_size(self.limit_bytes)}"
        return Held(
            why=StoppedError(
                f"MLflow at {mask(self.uri)} does not take what the sweep records: behind for {_span(seconds)}, "
                f"{_size(state.backlog_bytes)} of history wait on disk ({limits}); nothing is lost",
                key="--mlflow",
                hint=f"once it answers, raysched sync {self.name} brings it what is there; the same command goes on; "
                "with --allow-offline-tracking the sweep goes on however long that takes",
            ),
            leave=True,
        )


def _span(seconds: float) -> str:
    """Such as "1 h 20 min"."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join(filter(None, [f"{hours} h" if hours else "", f"{minutes} min" if minutes or not hours else ""]))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"
