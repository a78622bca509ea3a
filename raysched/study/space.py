"""Points: assignments of the searched values. Parameters a schedule does not use do not exist in its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raysched.study.model import WITHOUT_K, Search


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """One assignment of the searched values; `k` is None where the schedule has no use for it."""

    schedule: str
    lr: float
    k: int | None = None

    def params(self) -> dict[str, Any]:
        """The values that exist in this point, in the order in which they are shown."""
        values = {"schedule": self.schedule, "lr": self.lr, "k": self.k}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return " ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.params().items()
        )


def uses_k(schedule: str) -> bool:
    return schedule not in WITHOUT_K


def points(search: Search) -> list[Point]:
    """Every point of the space, schedule-major, in the order of the study file; no two do the same work."""
    return [
        Point(schedule=schedule, lr=lr, k=k)
        for schedule in search.schedule
        for lr in search.lr
        for k in (search.k if uses_k(schedule) else (None,))
    ]


def n_points(search: Search) -> int:
    """How many points a sweep takes: every one of a grid, else at most `search.points`."""
    everything = len(points(search))
    return everything if search.sampler == "grid" or search.points is None else min(search.points, everything)
