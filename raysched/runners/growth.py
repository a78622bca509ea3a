"""What a sweep may grow by: more seeds and more points. Everything else is another study."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from raysched.study.model import Study


def _superset(old: Any, new: Any) -> bool:
    return all(one in new for one in old)


def _more_points(old: Any, new: Any) -> bool:
    return new is None or (old is not None and new >= old)


def _said_now(old: Any, _new: Any) -> bool:
    """An option of a schedule that the study had not, and no run used."""
    return old is None


GROWTH: dict[str, Callable[[Any, Any], bool]] = {
    "seeds": _superset,
    "search.points": _more_points,
    "search.schedule": _superset,
    "search.lr": _superset,
    "search.k": _superset,
    "search.method": _superset,
    "search.arms": _superset,
    "training.permutation": _said_now,
    "training.surgical": _said_now,
}
"""Key -> whether the new value only adds to the old one."""


def value_of(study: Study, key: str) -> Any:
    """The value of a dotted key, as it stands in a study file."""
    found: Any = study.model_dump(mode="json")
    for part in key.split("."):
        found = found[part]
    return found


def grows(key: str, old: Study, new: Study) -> bool:
    """Whether the difference of two studies in one key is mere growth."""
    return key in GROWTH and GROWTH[key](value_of(old, key), value_of(new, key))


def extend_command(name: str, old: Study, new: Study) -> str:
    """The `raysched extend` that makes the one study of the other, as far as one may grow into the other."""
    words = ["raysched", "extend", name]
    for key in GROWTH:
        before, now = value_of(old, key), value_of(new, key)
        if before == now:
            continue
        if key == "seeds":
            counted = now == list(range(len(now)))
            words += ["--seeds", str(len(now)) if counted else ",".join(map(str, now))]
        elif key == "search.points" and now is not None:
            words += ["--points", str(now)]
        else:
            words += ["--set", f"{key}={json.dumps(now)}"]
    return shlex.join(words)
