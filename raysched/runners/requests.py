"""What other processes ask of a sweep's driver: a small file in the sweep's folder, looked at again and again.

The last word counts. It is never removed, because an object store has other copies of it: `go` takes back the rest.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from raysched.errors import DamageError, StoppedError
from raysched.records.files import read_checked, write_checked
from raysched.records.layout import SweepLayout

Verb = Literal["stop", "pause"]

LOOK_S = 0.5
"""Between two looks at the file of a folder."""
FETCH_S = 3.0
"""The same where every look asks an object store."""
logger = logging.getLogger(__name__)


class Request(BaseModel):
    """What is asked, by whom and when."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    verb: Verb
    host: str
    pid: int
    time_ms: int

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.time_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")
        return f"host {self.host}, pid {self.pid}, at {at}"


def request_file(layout: SweepLayout) -> Path:
    """Where it lies."""
    return layout.root / "request.json"


def ask(layout: SweepLayout, verb: Verb) -> None:
    """Leave a request; asking the same again changes nothing."""
    found = standing(layout)
    if found is None or found.verb != verb:
        _write(layout, verb)


def withdraw(layout: SweepLayout) -> None:
    """Take back whatever stands."""
    if standing(layout) is not None:
        _write(layout, "go")


def begin(layout: SweepLayout, before: Request | None) -> None:
    """A driver starts: who runs the sweep again wants it to run, so a request to stop is over; a pause is not.

    `before` is what stood before the driver held the sweep's lock: a later stop is meant for it.

    Raises:
        StoppedError: the sweep is paused.
    """
    found = standing(layout)
    if found is not None and found.verb == "pause":
        raise StoppedError(f"is paused ({found})", key=layout.name, hint=f"raysched resume {layout.named}")
    if found is not None and found == before:
        _write(layout, "go")


def standing(layout: SweepLayout) -> Request | None:
    """The request that stands, read now. A damaged file asks for nothing."""
    layout.pull(request_file(layout))
    try:
        value = read_checked(request_file(layout))
        return None if value.get("verb") == "go" else Request.model_validate(value)
    except FileNotFoundError:
        return None
    except (DamageError, ValidationError) as error:
        logger.warning("a request to the driver of %s is passed over: %s", layout.name, error)
        return None


class Requests:
    """The driver's look at the file: asked often, it reads seldom."""

    def __init__(self, layout: SweepLayout, clock: Callable[[], float] = time.monotonic) -> None:
        self.layout, self._clock = layout, clock
        self._every = FETCH_S if "://" in layout.uri else LOOK_S
        self._looked = -self._every
        self._seen: tuple[int, int, int] | None = None
        self._standing: Request | None = None

    def standing(self) -> Request | None:
        """The request that stood at the last look."""
        if self._clock() - self._looked >= self._every:
            self._looked = self._clock()
            self._look()
        return self._standing

    def _look(self) -> None:
        if self._every == FETCH_S:
            try:
                self._standing = standing(self.layout)
            except Exception as error:  # a store that is away for a moment asks for nothing new
                logger.warning("the requests to %s cannot be read now: %s", self.layout.name, error)
            return
        try:
            status = os.stat(request_file(self.layout))
        except OSError:
            self._seen = self._standing = None
            return
        if (seen := (status.st_ino, status.st_mtime_ns, status.st_size)) != self._seen:
            self._seen, self._standing = seen, standing(self.layout)


def _write(layout: SweepLayout, verb: Literal["stop", "pause", "go"]) -> None:
    by = {"host": socket.gethostname(), "pid": os.getpid(), "time_ms": time.time_ns() // 1_000_000}
    write_checked(request_file(layout), {"verb": verb, **by})
    layout.push(request_file(layout))
