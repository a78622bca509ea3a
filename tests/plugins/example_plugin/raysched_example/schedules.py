"""Two unfreezing schedules: one that measures, and one that wakes two layers at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from raysched.unfreezing.select import Rule


def least_fisher(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """FUN upside down: the frozen layer with the smallest tr(F), ties to the lower one.

    `frozen` is ascending; `traces` holds tr(F) of all layers, and is None where one layer is left to choose. `rng` is a
    generator of this event alone: take random numbers from nowhere else, so that a resumed run chooses the same.
    """
    if traces is None:
        return tuple(frozen[:1])
    return (min(frozen, key=lambda layer: (traces[layer], layer)),)


def highest_two(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """The two frozen layers farthest from the embeddings."""
    return tuple(frozen[-2:])


LEAST_FISHER = Rule(name="least-fisher", select=least_fisher, needs_traces=True)
PAIRS = Rule(name="pairs", select=highest_two)
