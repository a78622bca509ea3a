"""Points: assignments of the searched values. Parameters a schedule does not use do not exist in its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raysched.study.search import Search
from raysched.study.values import K, Method, uses_k

__all__ = ["Point", "n_points", "points", "uses_k"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One assignment of the searched values; `k` is None where the schedule has no use for it.

    `epochs` or `steps` is set where an arm has a length of its own.
    """

    schedule: str
    lr: float
    k: K | None = None
    method: Method = "adapters"
    epochs: int | None = None
    steps: int | None = None

    def params(self) -> dict[str, Any]:
        """The values that exist in this point, in the order in which they are shown."""
        values = {
            "schedule": self.schedule,
            "method": None if self.method == "adapters" else self.method,
            "lr": self.lr,
            "k": self.k,
            "epochs": self.epochs,
            "steps": self.steps,
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return " ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.params().items()
        )


def points(search: Search) -> list[Point]:
    """Every point of the space, schedule-major, in the order of the study file, then the arms; none stands twice."""
    product = [
        Point(schedule=schedule, method=method, lr=lr, k=k)
        for schedule in search.schedule
        for method in search.method
        for lr in search.lr
        for k in (search.k if uses_k(schedule) else (None,))
    ]
    return list(dict.fromkeys((*product, *(Point(**arm.model_dump()) for arm in search.arms))))


def n_points(search: Search) -> int:
    """How many points a sweep takes: every one of a grid, else at most `search.points`."""
    everything = len(points(search))
    return everything if search.sampler == "grid" or search.points is None else min(search.points, everything)
