"""What a run measured step by step, as plain values: tr(F), the scores on source dev, and curves made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from raysched.records.history import Row
from raysched.records.record import Scores

Curve = Mapping[int, float]
"""Step (completed optimizer steps) -> value."""
BANDS = 6
"""So many methods have the range of their seeds drawn in one panel; the bands of more cover each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One run's log by step: tr(F) per layer (L,) in nats², layers that were awake, scores (0-100) on source dev.

    A measurement that is not finite is left out.
    """

    traces: dict[int, tuple[float, ...]] = field(default_factory=dict)
    awake: dict[int, tuple[int, ...]] = field(default_factory=dict)
    dev: dict[int, Scores] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row], source: str) -> Log:
        """The measurements that were made for the log, not those by which FUN chose. `source` is a language."""
        log = cls()
        for row in rows:
            if row.kind == "fisher" and row.data["purpose"] == "log" and all(map(math.isfinite, row.data["traces"])):
                log.traces[row.step] = tuple(row.data["traces"])
                log.awake[row.step] = tuple(row.data["awake"])
            elif row.kind == "evaluated" and row.data["language"] == source:
                log.dev[row.step] = row.data["scores"]
        return log

    def mean_awake(self) -> dict[int, float]:
        """Step -> mean tr(F) over the adapters that were trainable then; steps at which none was are left out.

        What the paper draws in its Figures 3 and 4 (its Algorithm 2).
        """
        return {
            step: math.fsum(traces[layer] for layer in self.awake[step]) / len(self.awake[step])
            for step, traces in self.traces.items()
            if self.awake[step]
        }

    def scores(self, metric: str) -> dict[int, float]:
        """Step -> validation score (0-100) on source dev."""
        return {step: scores[metric] for step, scores in self.dev.items() if metric in scores}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A band at one step: mean, lowest and highest of its curves."""

    step: int
    mean: float
    low: float
    high: float


def window_of(curves: Iterable[Curve]) -> int:
    """How many measurements a moving average takes: a twentieth of the longest curve, at least 3; always odd.

    Curves of fewer than 5 measurements are not smoothed (1). The paper does not state its own window.
    """
    longest = max(map(len, curves), default=0)
    return 1 if longest < 5 else max(3, longest // 20 // 2 * 2 + 1)


def smooth(curve: Curve, window: int) -> dict[int, float]:
    """Centred moving average over `window` (odd) measurements; near the ends over as many as fit on both sides."""
    assert window % 2 == 1, window
    steps = sorted(curve)
    found = {}
    for place, step in enumerate(steps):
        half = min(window // 2, place, len(steps) - 1 - place)
        around = steps[place - half : place + half + 1]
        found[step] = math.fsum(curve[one] for one in around) / len(around)
    return found


def at(curve: Curve, step: int) -> float:
    """The value at a step inside the curve's range, by linear interpolation between its neighbours."""
    if step in curve:
        return curve[step]
    left, right = next((one, other) for one, other in pairwise(sorted(curve)) if one < step < other)
    share = (step - left) / (right - left)
    return curve[left] * (1 - share) + curve[right] * share


def band(curves: Sequence[Curve]) -> list[Place]:
    """Mean and range over curves, at the steps of any of them that lie in the range of all.

    Where a curve has no value at a step of another it is interpolated, so that the mean never jumps because of who
    was measured when. Empty curves do not count.
    """
    filled = [curve for curve in curves if curve]
    if not filled:
        return []
    first, last = max(map(min, filled)), min(map(max, filled))
    steps = sorted({step for curve in filled for step in curve if first <= step <= last})
    values = {step: [at(curve, step) for curve in filled] for step in steps}
    return [
        Place(step=step, mean=math.fsum(ones) / len(ones), low=min(ones), high=max(ones))
        for step, ones in values.items()
    ]


def mean(curves: Sequence[Curve]) -> dict[int, float]:
    """The mean of `band`."""
    return {place.step: place.mean for place in band(curves)}


def normalised(curve: Curve) -> dict[int, float]:
    """Scaled so that its lowest value is 0 and its highest 1; nothing where all values are equal."""
    if not curve:
        return {}
    low, high = min(curve.values()), max(curve.values())
    return {} if low == high else {step: (value - low) / (high - low) for step, value in curve.items()}


def per_layer(logs: Sequence[Log]) -> dict[int, tuple[float, ...]]:
    """Step -> mean tr(F) per layer (L,) over the runs that were measured at that step. Frozen layers count too."""
    steps = sorted({step for log in logs for step in log.traces})
    found = {}
    for step in steps:
        measured = [log.traces[step] for log in logs if step in log.traces]
        found[step] = tuple(math.fsum(layer) / len(layer) for layer in zip(*measured, strict=True))
    return found


def peak(curve: Curve) -> int | None:
    """The first step at which the curve is highest; None for an empty one."""
    return max(sorted(curve), key=lambda step: curve[step], default=None)


def above(one: Curve, other: Curve) -> tuple[int, int]:
    """At how many of their common steps the first curve is higher, and how many these are."""
    common = one.keys() & other.keys()
    return sum(one[step] > other[step] for step in common), len(common)
