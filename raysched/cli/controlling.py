"""`stop`, `pause`, `resume`: acting on a sweep that may run elsewhere. Each may be said twice."""

from __future__ import annotations

import time

from raysched.cli.looking import find_all
from raysched.cli.terminal import terminal
from raysched.errors import DONE, StoppedError
from raysched.records.layout import SweepLayout
from raysched.runners import requests
from raysched.runners.options import Options

PATIENCE_S = 180.0
"""So long `stop` waits for a driver: workers save within seconds, the upload to MLflow may take a minute."""
PAUSE_S = 30.0
"""So long `pause` waits for workers to save."""
EVERY_S = 0.3


def stop(name: str | None, storage: str, patience_s: float = PATIENCE_S) -> int:
    """Ask the drivers of a sweep (of a suite: of all its parts) to leave, and wait until they have.

    Raises:
        StudyError, MissingError: no such sweep.
        StoppedError: a driver is still there after `patience_s`; the request stands.
    """
    for layout in find_all([name] if name else [], storage):
        _stop(layout, patience_s)
    return DONE


def _stop(layout: SweepLayout, patience_s: float) -> None:
    from raysched.service.presence import presence

    now = presence(layout)
    if not now.alive:
        _say(f"{layout.name}: {now}; nothing to stop")
        return
    requests.ask(layout, "stop")
    _say(f"{layout.name}: asked its driver ({now}) to stop; waiting until its workers have saved and it has left")
    until = time.monotonic() + patience_s
    while (later := presence(layout)).alive:
        if later.driver is not None and later.driver != now.driver:
            _say(f"{layout.name}: that driver has left, and another one runs it since: {later}")
            return
        if time.monotonic() > until:
            raise StoppedError(
                f"its driver ({later}) has not left after {patience_s:g} s; the request stands",
                key=layout.name,
                hint=f"raysched status {layout.named} shows what it does; nothing is lost where a driver "
                "that hangs is ended",
            )
        time.sleep(EVERY_S)
    _say(f"{layout.name}: stopped; everything done so far is saved. To continue: {_resume(layout)}")


def pause(name: str | None, storage: str, patience_s: float = PAUSE_S) -> int:
    """Ask the driver of a sweep (of a suite: of all its parts) to let its workers save and stop, and to wait.

    Raises:
        StudyError, MissingError: no such sweep.
    """
    for layout in find_all([name] if name else [], storage):
        _pause(layout, patience_s)
    return DONE


def _pause(layout: SweepLayout, patience_s: float) -> None:
    from raysched.runners.changes import previous
    from raysched.service.presence import presence, word

    def standing() -> str:
        layout.pull(layout.ledger)
        state = previous(layout)
        return "" if state is None else word(presence(layout), state)

    before = standing()
    if before in ("finished", "failed"):
        _say(f"{layout.name}: has come to its end ({before}); nothing to pause")
        return
    requests.ask(layout, "pause")
    until = time.monotonic() + patience_s
    while standing() == "pausing" and time.monotonic() < until:
        time.sleep(EVERY_S)
    now, goes_on = presence(layout), f"To go on: {_resume(layout)}"
    if not now.alive:
        _say(f"{layout.name}: paused; {now}, and `raysched sweep` will not until the pause is over. {goes_on}")
    elif standing() == "paused":
        _say(f"{layout.name}: paused; its workers have saved and stopped, its driver ({now}) waits. {goes_on}")
    else:
        _say(f"{layout.name}: asked its driver ({now}) to pause; its workers save and stop. {goes_on}")


def resume(name: str | None, options: Options) -> int:
    """Take back what `pause` asked. A sweep that no driver runs is continued here, until its end.

    Raises:
        StudyError, MissingError: no such sweep.
        RayschedError: as `raysched sweep`.
    """
    from raysched.service.presence import presence

    alone = []
    for layout in find_all([name] if name else [], options.storage):
        now = presence(layout)
        if not now.alive:
            requests.withdraw(layout)
            alone.append(layout)
        elif now.request is None:
            _say(f"{layout.name}: is not paused; it runs: {now}")
        elif now.request.verb == "stop":
            _say(f"{layout.name}: its driver ({now}) was asked to stop and is leaving; resume it after that")
        else:
            requests.withdraw(layout)
            _say(f"{layout.name}: goes on: {now}")
    if not alone:
        return DONE
    from raysched.cli import sweeping
    from raysched.service.loaded import stored_study

    return sweeping.sweep_all([stored_study(layout) for layout in alone], options)


def _resume(layout: SweepLayout) -> str:
    return f"raysched resume {layout.named}"


def _say(text: str) -> None:
    terminal().print(text, highlight=False, markup=False)
