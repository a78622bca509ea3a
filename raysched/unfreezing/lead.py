"""When a measurement has seen enough: the best of the frozen layers is clear (method 5.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

LEAST_BATCHES = 4
CLEAR = 3.0
"""So many standard errors of the paired difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """By how much the layer of the largest trace leads the next one, and the standard error of that difference."""

    difference: float
    se: float

    @property
    def clear(self) -> bool:
        return self.difference > CLEAR * self.se


def lead(table: Tensor, layers: Sequence[int]) -> Lead:
    """Of `layers` (two or more); `table` (N, L) holds a row per example, or per batch, N > 1.

    Paired: both layers were measured on the same examples, so what an example adds to both is no uncertainty.
    """
    columns = table[:, list(layers)]
    first, second = columns.mean(dim=0).topk(2).indices.tolist()
    differences = columns[:, first] - columns[:, second]
    return Lead(difference=differences.mean().item(), se=differences.std(correction=1).item() / len(table) ** 0.5)
