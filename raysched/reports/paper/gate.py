"""Whether a mean over seeds reproduces a published one. Pure Python.

A difference counts as none where it lies inside the band of two standard errors of a difference of means,
2 * sqrt(s_p^2 / n_p + s_o^2 / n_o). A wide band lets everything pass, so a score inside it has reproduced something
only where the band is no wider than the distance between the best and the worst of the methods that the paper
compares in that column: were it wider, the score of either would have passed as that of the other.
"""

from __future__ import annotations

import math
from typing import Literal

from raysched.reports.stats import Summary

Verdict = Literal["reproduced", "not reproduced", "underpowered"]
ROUNDING = 1e-9
"""Numbers are printed with two digits: a difference of exactly the band lies inside."""


def band(paper: Summary, ours: Summary) -> float | None:
    """Points that two means of the same thing may differ by; None without both standard deviations."""
    if paper.std is None or ours.std is None:
        return None
    return 2 * math.sqrt(paper.std**2 / paper.n + ours.std**2 / ours.n)


def verdict(paper: Summary, ours: Summary, gap: float | None) -> Verdict:
    """`gap` is the published distance from the best to the worst compared method, None where there is nothing beside.

    A difference outside the band is `not reproduced` however wide the band is.
    """
    width = band(paper, ours)
    if width is None:
        return "underpowered"
    if abs(ours.mean - paper.mean) > width + ROUNDING:
        return "not reproduced"
    return "underpowered" if gap is not None and width > gap + ROUNDING else "reproduced"
