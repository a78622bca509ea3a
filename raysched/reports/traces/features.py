"""What a run's curve of tr(F) looks like, as numbers (the paper, section 5.2). Pure Python.

The curve is the mean tr(F) per awake task adapter against the completed optimizer steps, as it was logged. What a
curve does not show within its measured steps has no number: it is never extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

Curve = Mapping[int, float]
"""Completed steps -> mean tr(F) per awake adapter (nats²), of one run."""
FEATURES = ("peak", "peak_step", "width", "area", "fall")
HALF = 0.5
"""The hill ends where the curve is below this share of its peak."""
NAMES: Mapping[str, str] = {
    "peak": "peak of tr(F) (nats²)",
    "peak_step": "step of the peak",
    "width": "width of the learning period (steps)",
    "area": "area under tr(F) (nats² · steps)",
    "fall": "step of the fall",
}
"""With their units."""
DEFINITIONS = (
    "peak, and its step: the largest value of the smoothed curve, and the first step at which it is reached; near the "
    "last measurement, tr(F) may rise further after it",
    "step of the fall: where the smoothed curve first falls below half of the peak after it, on straight lines between "
    "measurements; none where it stays above until the last measurement",
    "width of the learning period: the steps around the peak during which the smoothed curve is at least half of the "
    "peak, from where it rose above that (from the first measurement, where it is above already) to the fall; none "
    "where there is no fall",
    "area: under the curve as it was measured, by trapezoids from the first measurement to the last; none for a single "
    "measurement",
)
"""The exact meaning of the features, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hill:
    """Features of one curve; None where one is not defined (`DEFINITIONS`). Steps are completed optimizer steps."""

    peak: float
    peak_step: float
    width: float | None
    area: float | None
    fall: float | None

    def value(self, feature: str) -> float | None:
        """One of `FEATURES`."""
        found: float | None = getattr(self, feature)
        return found


def hill(measured: Curve, smooth: Curve) -> Hill | None:
    """The features of a curve as measured and its moving average at the same steps; None for no measurement."""
    if not smooth:
        return None
    steps = sorted(smooth)
    peak = max(smooth.values())
    top = next(index for index, step in enumerate(steps) if smooth[step] == peak)
    half = HALF * peak
    after = next((i for i in range(top + 1, len(steps)) if smooth[steps[i]] < half), None)
    before = next((i for i in range(top - 1, -1, -1) if smooth[steps[i]] < half), None)
    fall = None if after is None else _crossing(smooth, steps[after - 1], steps[after], half)
    rise = float(steps[0]) if before is None else _crossing(smooth, steps[before], steps[before + 1], half)
    return Hill(
        peak=peak,
        peak_step=float(steps[top]),
        width=None if fall is None else fall - rise,
        area=area(measured),
        fall=fall,
    )


def area(curve: Curve) -> float | None:
    """By trapezoids over steps (nats² · steps); None for fewer than two measurements."""
    steps = sorted(curve)
    if len(steps) < 2:
        return None
    return sum((b - a) * (curve[a] + curve[b]) / 2 for a, b in pairwise(steps))


def _crossing(curve: Curve, left: int, right: int, level: float) -> float:
    """Where the straight line between two neighbours, one of them below `level`, meets it."""
    return left + (right - left) * (level - curve[left]) / (curve[right] - curve[left])
