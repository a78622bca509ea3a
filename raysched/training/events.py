"""What a training run tells: plain values, in the order in which they happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEvent:
    """`step` is the number of completed optimizer steps."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(TrainingEvent):
    """One optimizer step. `metrics` is filled at the logging cadence only: reading a loss waits for the device."""

    total: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfroze(TrainingEvent):
    """Schedule event number `event` woke `layers` (none for GU's first event); `awake` is the state afterwards.

    Number 0 is the state before the first step.
    """

    event: int
    layers: tuple[int, ...]
    awake: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FisherMeasured(TrainingEvent):
    """tr(F) of every layer's task adapter, with standard errors; `purpose` is select (FUN's) or log.

    `scale` turns one whole batch's `released` measurement into B * ||mean g||^2 (method 4.4). `lead` is the paired
    difference of the two best frozen layers and its standard error, where the measurement was adaptive.
    """

    purpose: str
    traces: tuple[float, ...]
    se: tuple[float, ...] | None
    awake: tuple[int, ...]
    n_batches: int
    n_examples: int
    labels: str
    estimator: str
    scale: int
    lead: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(TrainingEvent):
    """Scores (0-100) on the source language's dev set; `best` when they are this run's best so far."""

    language: str
    scores: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDue(TrainingEvent):
    """The state at this step is to be saved now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested(TrainingEvent):
    """Scores (0-100) of the selected checkpoint on one language of a test set; `step` is the selected step."""

    test_set: str
    language: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(TrainingEvent):
    """The run is complete; `selected_step` is the step of its best source-dev score."""

    selected_step: int
    source_dev: Mapping[str, float]
