"""One driver per sweep: every lock that this takes, in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from raysched.records.layout import SweepLayout
from raysched.records.lock import DriverLock
from raysched.runners.control import Hold
from raysched.runners.options import Options


@contextlib.contextmanager
def hold(layout: SweepLayout, options: Options) -> Iterator[Hold]:
    """Hold the sweep for as long as the block lasts; the value tells when it was lost.

    Raises:
        StoppedError: another driver holds it, by host, pid and start.
    """
    with DriverLock(layout.lock):
        yield lambda: None
