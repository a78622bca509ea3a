"""What a run's steps cost, and its source-dev score against steps, compute and time. Pure Python.

Compute is counted in standard steps: one training step with the task adapters of all layers awake is 1. The model of
cost is that of multiply-adds: every step goes forward through all layers, and back down to the lowest awake one. An
attempt's seconds depend on the machine and on what else it did; compute does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from raysched.records.history import Row
from raysched.records.record import Record
from raysched.reports.sweep import Sweep

FORWARD, BACKWARD, ADAPTER = 16.7, 18.4, 0.147
"""Million operations per token and layer of a base-size encoder at 384 tokens: forward, back through frozen weights,
and the gradient of one awake task adapter."""
WEIGHTS = 16.4
"""The same for the gradient of a layer's own weights, where the whole model is trained: a step of it is about 1.5."""
MEASURED_BATCH = 0.85
"""Standard steps that one batch of a measurement of tr(F) costs."""
COST = (
    "Compute is counted in standard steps: a training step with all task adapters awake is 1, one with only the top "
    "one awake about 0.5, for every step goes forward through all layers but back only to the lowest awake one; a step "
    "of full fine-tuning is about 1.5. Measurements of tr(F) that choose layers count 0.85 per batch. This is a model "
    "(multiply-adds of a base-size encoder at 384 tokens), not a measurement; logging and evaluation are left out."
)
"""The model in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run's source-dev scores (0-100) by completed steps; `compute` in standard steps, `seconds` since its start.

    `total` is the compute of the whole run. `seconds` hold everything that the attempt did, evaluation and logging
    too; None where the run was interrupted, for then time passed without training.
    """

    steps: tuple[int, ...]
    scores: tuple[float, ...]
    compute: tuple[float, ...]
    seconds: tuple[float, ...] | None
    total: float

    def within(self, budget: float) -> float | None:
        """The best score by then, as checkpoints are selected; None where nothing was evaluated so early."""
        return max(
            (s for s, at in zip(self.scores, self.compute, strict=True) if at <= budget * (1 + 1e-9)), default=None
        )


def step_cost(awake: Iterable[int], n_layers: int, *, full: bool = False) -> float:
    """One training step in standard steps. `awake` are layers, 0 nearest the embeddings; none: the head alone."""
    layers = set(awake)
    back = n_layers - 1 - min(layers) if layers else 0
    cost = n_layers * FORWARD + back * BACKWARD + len(layers) * (WEIGHTS if full else ADAPTER)
    return cost / (n_layers * (FORWARD + ADAPTER) + (n_layers - 1) * BACKWARD)


def spent(
    order: Sequence[tuple[int, Sequence[int]]], steps: Sequence[int], n_layers: int, *, full: bool = False
) -> list[float]:
    """Standard steps behind each of the completed `steps` (ascending).

    `order` is a record's: layers woken at step s take part in the s-th step (counted from 1), those at 0 in all.
    """
    changes = sorted({max(0, step - 1) for step, _ in order} | {0})
    spans = [*pairwise(changes), (changes[-1], None)]
    found = []
    for until in steps:
        total = 0.0
        for begin, end in spans:
            length = min(until, until if end is None else end) - begin
            if length > 0:
                awake = {layer for step, woken in order if step - 1 <= begin for layer in woken}
                total += length * step_cost(awake, n_layers, full=full)
        found.append(total)
    return found


def n_layers(sweep: Sweep) -> int | None:
    """Layers of the backbone, as far as runs have shown: the most that one of them woke; None before that."""
    layers = [layer for record in sweep.records.values() for _, woken in record.unfreeze_order for layer in woken]
    return max(layers) + 1 if layers else None


def progress(sweep: Sweep, record: Record, rows: Sequence[Row], metric: str) -> Progress | None:
    """Of a run's history `rows`; None where nothing was evaluated."""
    layers = n_layers(sweep)
    evaluated = [row for row in rows if row.kind == "evaluated" and metric in row.data["scores"]]
    if not evaluated or layers is None:
        return None
    batch = sweep.study.training.batch_size
    chosen = [row for row in rows if row.kind == "fisher" and row.data["purpose"] == "select"]
    measured = [(row.step, MEASURED_BATCH * row.data.get("n_examples", 0) / batch) for row in chosen]
    steps = [row.step for row in evaluated]
    full = record.params.get("method") == "full"
    trained = spent(record.unfreeze_order, [*steps, record.steps], layers, full=full)
    compute = [
        cost + sum(extra for at, extra in measured if at <= step)
        for step, cost in zip([*steps, record.steps], trained, strict=True)
    ]
    start = record.started_ms
    return Progress(
        steps=tuple(steps),
        scores=tuple(row.data["scores"][metric] for row in evaluated),
        compute=tuple(compute[:-1]),
        seconds=tuple((row.time_ms - start) / 1000 for row in evaluated) if record.attempt == 1 else None,
        total=compute[-1],
    )
