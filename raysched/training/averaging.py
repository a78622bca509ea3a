"""Tensors that no training step made: the mean of a run's candidates, or of the adapters of a cell's seeds.

Candidates of one run lie on one path of training, and their mean is the usual average of checkpoints (Polyak). Seeds
begin from different random adapters and heads: their mean mixes different initialisations, whose hidden units need not
correspond, so that it may well be worse than each of them. It is scored as it is.

Nothing here trains, selects or steers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from raysched.errors import DamageError, MissingError, StudyError
from raysched.records.layout import AttemptLayout
from raysched.study.identity import RunSpec
from raysched.tasks.predictions import Prediction
from raysched.training.bench import Bench
from raysched.training.evaluate import evaluate


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One language of a test set, or, with `test_set` None, source dev; scores 0-100."""

    test_set: str | None
    language: str
    scores: dict[str, float]
    predictions: list[Prediction]


def whole(attempt: AttemptLayout, recorded: Mapping[str, str], below: str) -> Path:
    """The folder `below` of an attempt, every file that the record names in it compared with its SHA-256.

    Raises:
        MissingError: the record names none.
        DamageError: a file is missing or is not what was recorded.
    """
    names = [name for name in recorded if name.startswith(f"{below}/")]
    if not names:
        raise MissingError(f"the run kept no {below}", key=str(attempt.root))
    attempt.pull(*(attempt.root / name for name in names))
    for name in names:
        if not attempt.has(name, recorded[name]):
            raise DamageError("is missing or is not what was recorded", key=str(attempt.root / name))
    return attempt.root / below


def tensors(bench: Bench, spec: RunSpec, folder: Path) -> dict[str, Tensor]:
    """What was trained, as `save_task` wrote it to `folder`; on the CPU. The model is left with it.

    Raises:
        DamageError: it is not of this run's model.
    """
    bench.start(spec)
    try:
        bench.model.load_saved(folder)
    except (StudyError, MissingError, OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise DamageError(f"cannot be loaded: {error}", key=str(folder)) from error
    return bench.model.task_state()


def average(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every tensor, summed in float64 and rounded once; the mean of equal tensors is that tensor.

    States are taken one after the other: two copies in memory (one in float64), however many there are.

    Raises:
        StudyError: no states, or their tensors have other names or shapes.
    """
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    n = 0
    for n, state in enumerate(states, start=1):
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        if n == 1:
            kinds = {name: value.dtype for name, value in state.items()}
            total = {name: torch.zeros(value.shape, dtype=torch.float64) for name, value in state.items()}
        if shapes != {name: tuple(value.shape) for name, value in total.items()}:
            raise StudyError(
                "tensors of different names or shapes have no average",
                key="derive",
                hint="average runs of one cell: they train the same tensors",
            )
        for name, value in state.items():
            total[name] += value.to("cpu", torch.float64)
    if not n:
        raise StudyError("at least one set of tensors must be given, but got none", key="derive")
    return {name: (value / n).to(kinds[name]) for name, value in total.items()}


def scored(bench: Bench, spec: RunSpec, state: Mapping[str, Tensor]) -> Iterator[Score]:
    """Put `state` into the model of a run, and score it on source dev and every language of every test set.

    Raises:
        ValueError: the tensors are not this model's.
    """
    study = spec.study
    bench.start(spec)
    bench.model.load_task_state(state)
    size = study.evaluation.batch_size
    scores, predictions = evaluate(bench, bench.dev, size)
    yield Score(test_set=None, language=study.model.source_language, scores=dict(scores), predictions=predictions)
    for name, test_set in study.test_sets.items():
        for language in test_set.languages:
            scores, predictions = evaluate(bench, bench.test(language, name), size)
            yield Score(test_set=name, language=language, scores=dict(scores), predictions=predictions)
