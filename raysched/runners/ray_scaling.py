"""Machines on demand: what a cluster's autoscaler is asked for.

The driver hands Ray only runs that fit on machines that are there, so Ray by itself never sees that more are wanted.
Where `RAYSCHED_AUTOSCALE=N` says that machines come for what is asked, the sweep asks for room for its next N runs, and
for less as fewer are left: idle machines then go.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.autoscaler.sdk import request_resources

from raysched.errors import Interrupted, StudyError
from raysched.runners.signals import interrupted_by, signals

AUTOSCALE = "RAYSCHED_AUTOSCALE"
"""Environment: the most runs at a time that machines are asked for."""
LOOK_EVERY_S = 2.0


class Wish:
    """Room for so many runs at a time; Ray is told only what changes."""

    def __init__(self, run: Mapping[str, float], most: int, ask: Callable[..., Any] = request_resources) -> None:
        """`run` is what one takes, such as {"CPU": 1, "GPU": 0.5}; `most` bounds how many are asked for."""
        self._run, self._most, self._ask = {name: amount for name, amount in run.items() if amount}, most, ask
        self._asked: int | None = None

    def want(self, runs: int) -> None:
        """Ask for room for `runs` runs, or for as many as allowed; 0 lets every machine go."""
        runs = min(runs, self._most)
        if runs != self._asked:
            self._ask(bundles=[self._run] * runs)
            self._asked = runs


def most_at_a_time() -> int | None:
    """What the environment says; None where machines do not come on demand. Raises StudyError for no number."""
    value = os.environ.get(AUTOSCALE, "")
    if not value:
        return None
    if not value.isdecimal() or not int(value):
        raise StudyError(f"must be a number of runs of at least 1, but got {value!r}", key=AUTOSCALE)
    return int(value)


def wait_for_room(
    slots: Callable[[], int], say: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Until a run fits; `say` is called once where none does at first. Enter it after `ray.init`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; nothing was begun.
    """
    told = False
    with signals() as asked:
        while not slots():
            if not told:
                say()
                told = True
            if code := asked():
                raise Interrupted(f"stopped by {interrupted_by(code)} before a machine came", exit_code=code)
            sleep(LOOK_EVERY_S)
