"""What a search database holds of a search, in words of our own: pure Python, Optuna is not needed for it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raysched.study.identity import digest
from raysched.study.search import Search
from raysched.study.space import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One proposed point. `mean` is set where it was told; `duplicate_of` where an earlier number has the point."""

    number: int
    point: Point
    state: Literal["open", "told", "failed"] = "open"
    mean: float | None = None
    duplicate_of: int | None = None


def space(search: Search) -> dict[str, Any]:
    """What an Optuna study is bound to: everything of the search but its budget, which may be extended."""
    later = {name for name in ("method", "arms") if getattr(search, name) == Search.model_fields[name].default}
    return search.model_dump(mode="json", exclude={"points", *later})


def choices(of: Sequence[Point]) -> dict[str, tuple[Any, ...]]:
    """Every value that a parameter takes in any point: an Optuna study has one set of choices per parameter."""
    found: dict[str, list[Any]] = {"method": [point.method for point in of]}
    for point in of:
        for name, value in point.params().items():
            found.setdefault(name, []).append(value)
    return {name: tuple(dict.fromkeys(values)) for name, values in found.items()}


def study_name(sweep: str, search: Search, identity: str = "") -> str:
    """A name that no other sweep has, in a database that many share.

    `identity` is whatever else tells two sweeps of one name apart there (the storage, the study's digest).
    """
    return f"{sweep}-{digest([space(search), identity], 12)}"


def balanced(of: Sequence[Point]) -> list[Point]:
    """The points in turns, one of each schedule: a grid that is cut short has treated its schedules alike."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int, Point]] = []
    for point in of:
        turns.append((seen[point.schedule], len(turns), point))
        seen[point.schedule] += 1
    return [point for *_, point in sorted(turns, key=lambda turn: turn[:2])]


def seed_of(*parts: object) -> int:
    """32 bits out of SHA-256: the whole state of the sampler."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")
