"""Statistics over the seeds of a cell, and over families of tests. Pure Python."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """`n` values: their mean and standard deviation (ddof 1; None below two values)."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


def summarise(values: Iterable[float]) -> Summary | None:
    """None for no values. Every value must be finite, and the order of the values does not matter."""
    ordered = sorted(values)
    if not ordered:
        return None
    if not all(map(math.isfinite, ordered)):
        raise ValueError(f"values must be finite, but got {ordered}")
    std = statistics.stdev(ordered) if len(ordered) > 1 else None
    return Summary(mean=math.fsum(ordered) / len(ordered), std=std, n=len(ordered))


def groups(means: Mapping[str, float], within: float = 1.0) -> list[list[str]]:
    """Names whose means are alike, the best group first: everything within so many points of the best one left.

    The grouping of the paper's Figure 4 (its footnote 9).
    """
    left = sorted(means, key=lambda name: -means[name])
    found = []
    while left:
        found.append([name for name in left if means[left[0]] - means[name] <= within])
        left = left[len(found[-1]) :]
    return found


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values of a family (Holm 1979), in the same order; None was not tested and is no part of it.

    The i-th smallest of m, i from 0, is multiplied by m - i; none is below one before it, or above 1.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = largest
    return adjusted
