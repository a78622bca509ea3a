"""Tasks and schedules that another installed package brings, by entry point.

[project.entry-points."raysched.tasks"]
my-task = "my_package.task:MyTask"          # a class with the interface of `tasks.task.Task`

[project.entry-points."raysched.schedules"]
my-schedule = "my_package.schedule:RULE"    # a `unfreezing.select.Rule`

They are checked here by their members alone, since this layer knows neither tasks nor schedules. A name that is
built in is never looked up among the plug-ins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from raysched.errors import StudyError

Kind = Literal["task", "schedule"]
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
KEYS: Mapping[Kind, str] = {"task": "task", "schedule": "search.schedule"}
FORMS = ("qa", "choice", "nli")
"""Forms of a task's rows."""
METHODS = (
    *("features_key", "features", "load_features", "batch", "head", "groups"),
    *("targets", "loss", "predict", "score"),
)
"""Of a task."""


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_names(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(name, str) for name in value)


MEMBERS: Mapping[Kind, Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "schedule": {
        "select": (callable, "a function (frozen, traces, rng) -> layers"),
        "initial": (lambda value: value in ("all", "top", "none"), "all, top or none"),
        "needs_k": (_is_flag, "True or False"),
        "needs_traces": (_is_flag, "True or False"),
        "order": (lambda value: value is None or isinstance(value, tuple), "None or a tuple of layers"),
    },
    "task": {
        "metrics": (_is_names, "a tuple of names"),
        "form": (lambda value: value in FORMS, f"one of {', '.join(FORMS)}"),
        "rows_per_example": (lambda value: type(value) is int and value >= 1, "a whole number from 1"),
        **dict.fromkeys(METHODS, (callable, "a method")),
    },
}
"""What the object behind an entry point must have."""


@cache
def installed(kind: Kind) -> dict[str, EntryPoint]:
    """Name -> entry point, of every installed package; names of another form are passed over."""
    found = entry_points(group=f"raysched.{kind}s")
    return {point.name: point for point in found if NAME.fullmatch(point.name)}


def origin(kind: Kind, name: str) -> str:
    """What brings a plug-in: package and version, such as "my-package 1.2"; part of a run's identity."""
    point = _point(kind, name)
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


@cache
def load(kind: Kind, name: str) -> Any:
    """The object behind an entry point: a task's class, or a schedule's rule.

    Raises StudyError where no package brings it, its package cannot be imported, or it is something else.
    """
    point = _point(kind, name)
    try:
        found = point.load()
    except Exception as error:  # somebody else's code: whatever it raises, the user learns whose it is
        raise _refusal(kind, name, f"cannot be loaded: {type(error).__name__}: {error}") from error
    if isinstance(found, type) is not (kind == "task"):
        expected = "a class with the interface of raysched.tasks.task.Task" if kind == "task" else "a Rule, made"
        raise _refusal(kind, name, f"must be {expected}, but is {found!r:.80}")
    for member, (fits, what) in MEMBERS[kind].items():
        if not hasattr(found, member):
            raise _refusal(kind, name, f"is no {kind}: it has no {member} ({what})")
        if not fits(getattr(found, member)):
            raise _refusal(kind, name, f"must have {member}: {what}, but got {getattr(found, member)!r:.80}")
    return found


def _point(kind: Kind, name: str) -> EntryPoint:
    if name not in installed(kind):
        raise StudyError(
            f"no installed package brings the {kind} {name!r}",
            key=KEYS[kind],
            choices=sorted(installed(kind)),
            hint="install the package that brings it, here and on every machine of the cluster",
        )
    return installed(kind)[name]


def _refusal(kind: Kind, name: str, what: str) -> StudyError:
    return StudyError(
        f"the {kind} {name!r} of {origin(kind, name)} ({installed(kind)[name].value}) {what}",
        key=KEYS[kind],
        hint="repair or uninstall the package that brings it; CONTRIBUTING.md says what a plug-in must have",
    )
