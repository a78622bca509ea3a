"""Ctrl-C and SIGTERM as a flag, so that work stops where it can be continued from."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from raysched.errors import CTRL_C, TERMINATED


@contextlib.contextmanager
def signals() -> Iterator[Callable[[], int]]:
    """Ctrl-C and SIGTERM set a flag: calling the value gives 0, or the exit code that was asked for.

    A second Ctrl-C ends the process at once, which is as safe as any kill; in a notebook it ends the sweep alone.
    Enter it after `ray.init`, which installs a handler of its own. Outside the main thread, where signals never
    arrive, it changes nothing.
    """
    asked = [0]

    def handle(number: int, frame: object) -> None:
        if asked[0] and number == signal.SIGINT:
            if hasattr(sys, "ps1"):  # a notebook or a prompt holds more than this sweep
                raise KeyboardInterrupt
            os._exit(CTRL_C)
        asked[0] = asked[0] or (CTRL_C if number == signal.SIGINT else TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted_by(exit_code: int) -> str:
    """The signal behind an exit code, in words."""
    return "Ctrl-C" if exit_code == CTRL_C else "SIGTERM"
