"""Tasks and schedules that another installed package brings, by entry point.

[project.entry-points."raysched.tasks"]
my-task = "my_package.task:MyTask"          # a class with the interface of `tasks.task.Task`

[project.entry-points."raysched.schedules"]
my-schedule = "my_package.schedule:RULE"    # a `unfreezing.select.Rule`
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from raysched.errors import StudyError

Kind = Literal["task", "schedule"]
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@cache
def installed(kind: Kind) -> dict[str, EntryPoint]:
    """Name -> entry point, of every installed package; names of another form are passed over."""
    found = entry_points(group=f"raysched.{kind}s")
    return {point.name: point for point in found if NAME.fullmatch(point.name)}


@cache
def load(kind: Kind, name: str) -> Any:
    """The object behind an entry point.

    Raises StudyError where no package brings it, or its package cannot be imported.
    """
    if name not in installed(kind):
        raise StudyError(f"no installed package brings the {kind} {name!r}", key=kind, choices=sorted(installed(kind)))
    point = installed(kind)[name]
    try:
        return point.load()
    except Exception as error:  # somebody else's code: whatever it raises, the user learns whose it is
        raise StudyError(
            f"the {kind} {name!r} of {point.value} cannot be loaded: {type(error).__name__}: {error}",
            key=kind,
            hint="repair or uninstall the package that brings it",
        ) from error
