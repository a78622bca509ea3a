"""How the Fisher settings of a study are carried out.

`preset: released` is the authors' measurement (method 4.1, F1-F5): gradient of the mean loss with the most probable
label, squared, divided by the batch size (also where the last batch is smaller), a span's start and end counted as two
examples; summed over 41 training batches to choose a layer (their limit is looked at after use), over 40 and divided
by 40 to log; never more than one pass over the data. Ties go to the higher layer, as everywhere; with
`gu_phase: reference` the steps of all events are the authors' too.

Not reproduced, because it is an accident that changes results or crashes: measuring draws from the run's own random
numbers (F13; here from private ones), the logged value is a mean over the elements of each tensor (F8; here the sum,
as where a layer is chosen), is averaged over frozen layers as well (F9), and is never returned (F7); schedules that
need no measurement measure (S5), and so does the eleventh choice of FUN, which has one layer left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from raysched.study.fisher import FisherSelect

Purpose = Literal["select", "log"]
RELEASED_BATCHES: dict[Purpose, int] = {"select": 41, "log": 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """One measurement: `n_batches` of `batch_size` features at most, and the options of `unfreezing.fisher.measure`."""

    n_batches: int
    batch_size: int
    labels: str
    estimator: str
    draws: int = 1
    divisor: int = 1
    adaptive: bool = False

    def scale(self, n_groups: int) -> int:
        """What one whole batch's released measurement is multiplied with to give B * ||mean g||^2 (method 4.4).

        B^2 for one group of logits, 4 * B^2 for the two of a span; rankings do not depend on it, curves do.
        """
        return n_groups**2 * self.batch_size**2


def measuring(settings: FisherSelect, purpose: Purpose, *, batch_size: int, n_features: int) -> Measuring:
    """For a run that trains with `batch_size` on `n_features` features; a measurement takes each once at most."""
    size = settings.batch_size or batch_size
    released = settings.preset == "released"
    n_batches = min(RELEASED_BATCHES[purpose] if released else settings.batches, math.ceil(n_features / size))
    if released:
        divisor = size if purpose == "select" else size * RELEASED_BATCHES["log"]
        return Measuring(n_batches=n_batches, batch_size=size, labels="mode", estimator="released", divisor=divisor)
    return Measuring(
        n_batches=n_batches,
        batch_size=size,
        labels=settings.labels,
        estimator=settings.estimator,
        draws=settings.draws,
        adaptive=settings.adaptive,
    )
