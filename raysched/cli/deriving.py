"""`derive`: averages and single checkpoints of a sweep's runs, scored beside what was selected."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress as Bar

from raysched.cli.looking import find
from raysched.cli.terminal import PLAIN_EVERY_S, terminal
from raysched.errors import DamageError, Interrupted, MissingError
from raysched.runners.signals import interrupted_by, signals

if TYPE_CHECKING:
    from raysched.service.deriving import Plan, Progress


def derive(name: str | None, storage: str, what: str | None) -> None:
    """Make what is not there yet, and say what cannot be made.

    Raises:
        StudyError: `what` is another word; an input of the sweep is not what it was.
        MissingError: no such sweep; no run is done; nothing asked for can be made of its runs.
        DamageError: adapters or candidates are not what was recorded; everything else was made.
        Interrupted: Ctrl-C or SIGTERM; what was made stays, and the same command continues.
    """
    from raysched.service import deriving

    kinds = deriving.kinds(what)
    layout = find(name, storage)
    sweep = deriving.read(layout)
    planned = deriving.plan(sweep, kinds)
    console = terminal()
    _say_lacking(console, planned, layout.name)
    damaged: list[DamageError] = []
    with signals() as asked, Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        show = _shown(console, bar, len(planned.todo))
        for progress in deriving.derive(sweep, planned):
            show(progress)
            if progress.error is not None:
                damaged.append(progress.error)
            if code := asked():
                raise Interrupted(
                    f"stopped by {interrupted_by(code)}; {progress.place - (not progress.made)} of {progress.of} are "
                    "done and stay",
                    exit_code=code,
                    hint=f"continue: {shlex.join(['raysched', *sys.argv[1:]])}",
                )
    made = len(planned.todo) - len(damaged)
    console.print(f"{layout.name}: {made} derived, {planned.done} were there", highlight=False)
    console.print(f"to see them: raysched report {layout.named}", highlight=False)
    if damaged:
        raise DamageError(
            f"{len(damaged)} could not be made, for what they are made of is damaged:\n    "
            + "\n    ".join(dict.fromkeys(str(error) for error in damaged)),
            key=layout.name,
            hint="put the files back from a copy; the same command makes what is left",
        )


def _say_lacking(console: Console, planned: Plan, name: str) -> None:
    """What cannot be made, once for each reason. Raises MissingError where nothing can."""
    from raysched.service.deriving import NEXT, WITHOUT

    reasons = [f"{why} ({count})" for why, count in sorted(planned.lacking.items())]
    hint = NEXT if WITHOUT in planned.lacking else None
    if not planned.todo and not planned.done:
        raise MissingError(f"nothing can be derived: {'; '.join(reasons)}", key=name, hint=hint)
    for line in reasons:
        console.print(f"left out: {line}", highlight=False, markup=False)
    if hint:
        console.print(f"  next:  {hint}", highlight=False, markup=False)


def _shown(console: Console, bar: Bar, total: int) -> Callable[[Progress], None]:
    """A function that shows progress: a bar on a terminal, a line now and then elsewhere."""
    task = bar.add_task("", total=total)
    shown = [time.monotonic()]

    def show(progress: Progress) -> None:
        over = progress.made or progress.error is not None
        bar.update(task, completed=progress.place - (not over), description=f"{progress.piece} {progress.language}")
        if progress.error is not None:
            bar.console.print(f"damaged: {progress.piece}: {progress.error}", highlight=False, markup=False)
        elif over and not console.is_terminal and time.monotonic() - shown[0] >= PLAIN_EVERY_S:
            shown[0] = time.monotonic()
            console.print(f"{progress.place} of {progress.of}: {progress.piece}", highlight=False, markup=False)

    return show
