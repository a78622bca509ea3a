"""`sync`: MLflow brought to what a sweep holds on disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from raysched.cli.looking import find_all
from raysched.cli.terminal import PLAIN_EVERY_S, terminal
from raysched.errors import DONE, RayschedError

if TYPE_CHECKING:
    from rich.console import Console

    from raysched.tracking.uploader import Uploader


class Progress:
    """A line now and then; on a terminal one that is written over."""

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.name = console, name
        self._every_s = 0.5 if console.is_terminal else PLAIN_EVERY_S
        self._last = time.monotonic()
        self._shown = False

    def __call__(self, uploader: Uploader) -> None:
        now = time.monotonic()
        if now - self._last < self._every_s:
            return
        self._last, self._shown = now, True
        held, runs = uploader.counts()
        text = f"{self.name}: {held} of {runs} runs are in MLflow"
        self.console.print(text, highlight=False, markup=False, end="\r" if self.console.is_terminal else "\n")

    def close(self) -> None:
        if self._shown and self.console.is_terminal:
            self.console.print()


def sync(name: str | None, storage: str, mlflow_uri: str | None) -> int:
    """Sync a sweep, or every started part of a suite; of several the first failure is raised at the end.

    Raises:
        MissingError: the store does not answer; what it took by then it has.
    """
    from raysched.service import sync as service
    from raysched.tracking.rows import mask

    console = terminal()
    failure: RayschedError | None = None
    for layout in find_all([name] if name else [], storage):
        progress = Progress(console, layout.name)
        try:
            done = service.sync(layout, mlflow_uri, moved=progress)
        except RayschedError as error:
            if failure is not None:
                console.print(f"{layout.name}: {error.what}", highlight=False, markup=False)
            failure = failure or error
            continue
        finally:
            progress.close()
        left = done.runs - done.runs_held
        rest = f"; {left} are not done yet" if left else ""
        rest += ", and its driver uploads what they record" if left and done.driver_alive else ""
        console.print(
            f"{layout.name}: MLflow at {mask(done.uri)} holds {done.runs_held} of {done.runs} runs wholly{rest}.",
            highlight=False,
            markup=False,
        )
    if failure is not None:
        raise failure
    return DONE
