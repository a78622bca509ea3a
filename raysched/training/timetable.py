"""When a run evaluates on source dev and when it saves: pure functions of its settings."""

from __future__ import annotations

import math


def spread(first: int, last: int, count: int) -> set[int]:
    """`count` steps (fewer where there are not so many) evenly spaced in (first, last], `last` always among them."""
    return {first + math.ceil((last - first) * i / count) for i in range(1, count + 1)} if last > first else set()


def dev_steps(total: int, last_event: int, points: int) -> frozenset[int]:
    """Steps after which source dev is scored: `points` of them, denser until the last unfreezing event.

    At least half of the points fall up to `last_event` (the step of the last possible unfreezing event, 0 without
    one), because that is where schedules differ; the last step is always scored.
    """
    last_event = min(last_event, total)
    if last_event in (0, total):
        return frozenset(spread(0, total, points))
    early = min(points - 1, max(points // 2, round(points * last_event / total)))
    return frozenset(spread(0, last_event, early) | spread(last_event, total, points - early))


def total_steps(n_features: int, batch_size: int, *, epochs: int | None, steps: int | None) -> tuple[int, int]:
    """(optimizer steps of the run, steps per epoch); the last, smaller batch of an epoch is kept."""
    per_epoch = math.ceil(n_features / batch_size)
    return (steps if steps is not None else per_epoch * (epochs or 0)), per_epoch
