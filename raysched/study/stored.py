"""A study that a ledger, a record or an exported adapter kept, as a `Study` again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from raysched.errors import StudyError
from raysched.study import plugins
from raysched.study.model import Study
from raysched.study.values import SCHEDULES, TASKS


def stored(value: Mapping[str, Any]) -> Study:
    """The study whose JSON is `value`; it was valid where it was written.

    Raises:
        StudyError: it takes a plug-in that is not installed here, or another version of raysched wrote it.
    """
    try:
        return Study.model_validate_json(json.dumps(value))
    except ValidationError as error:
        if lacking := [f"the {kind} {name!r}" for kind, name in _not_installed(value)]:
            raise StudyError(
                f"{' and '.join(lacking)} of this sweep {'comes' if len(lacking) == 1 else 'come'} from a package that "
                "is not installed here",
                hint="install the package that brings it, here and on every machine of the cluster",
            ) from error
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "study"
        raise StudyError(
            f"the study of this sweep was written by another version of raysched ({key}: {first['msg']})",
            hint="take the version that wrote it, or start another sweep",
        ) from error


def _not_installed(value: Mapping[str, Any]) -> Iterator[tuple[plugins.Kind, str]]:
    """Kind and name of every plug-in that the study takes and no package here brings."""
    search = value.get("search", {})
    schedules = [*search.get("schedule", ()), *(arm.get("schedule") for arm in search.get("arms", ()))]
    if value.get("task") not in {*TASKS, *plugins.installed("task")}:
        yield "task", value.get("task", "")
    for name in dict.fromkeys(schedules):
        if name not in {*SCHEDULES, *plugins.installed("schedule")}:
            yield "schedule", name
