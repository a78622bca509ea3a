"""Settings of the loop: learning-rate schedule, precision, order of the data, selection."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raysched.training.bench import Bench
from raysched.training.events import Evaluated, FisherMeasured, StepDone, TrainingEvent
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import STEPS, Tiny, sha


def events(bench: Bench, tiny: Tiny, schedule: str = "gu", **settings: Any) -> tuple[TrainingRun, list[TrainingEvent]]:
    run = TrainingRun(bench, tiny.spec(schedule, **settings))
    return run, list(run.events())


@pytest.mark.parametrize(
    ("lr_schedule", "expected"),
    [("constant", [1e-2] * STEPS), ("linear", [1e-2 * (STEPS - i) / STEPS for i in range(STEPS)])],
)
def test_learning_rates(tiny: Tiny, bench: Bench, lr_schedule: str, expected: list[float]) -> None:
    """No warm-up; linear falls by the same amount each step, from lr at the first step towards 0 after the last."""
    settings: dict[str, Any] = {"training__lr_schedule": lr_schedule, "tracking__log_every_steps": 1}
    run = TrainingRun(bench, tiny.spec(**settings))
    used: list[float] = []
    run.optimizer.register_step_pre_hook(lambda *_: used.append(run.optimizer.param_groups[0]["lr"]))
    told = [event.metrics["train/lr"] for event in run.events() if isinstance(event, StepDone)]
    assert told == used == pytest.approx(expected, rel=1e-12)


def test_metrics_come_at_their_cadence_and_at_the_last_step(tiny: Tiny, bench: Bench) -> None:
    _, told = events(bench, tiny)
    steps = [event.step for event in told if isinstance(event, StepDone) and event.metrics]
    assert steps == [3, 6, 9, 10]


def test_bf16_trains_in_autocast_with_float32_weights_and_measures_in_float32(
    tiny: Tiny, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(bench, tiny.spec("fun", training__precision="bf16"))
    seen: dict[str, set[torch.dtype]] = {"train": set(), "measure": set()}
    where = ["train"]
    linear = run.model.measured_modules()[-1][0]
    handle = linear.register_forward_hook(lambda _m, _i, output: seen[where[0]].add(output.dtype))
    measure = run._measure

    def watched(step: int, purpose: str) -> FisherMeasured:
        where[0] = "measure"
        try:
            return measure(step, purpose)
        finally:
            where[0] = "train"

    monkeypatch.setattr(run, "_measure", watched)
    monkeypatch.setattr(run, "_evaluate", lambda step: Evaluated(step=step, language="vel", scores={}, best=False))
    try:
        told = list(run.events())
    finally:
        handle.remove()
    assert seen == {"train": {torch.bfloat16}, "measure": {torch.float32}}
    assert {parameter.dtype for parameter in run.parameters.values()} == {torch.float32}
    assert {tensor.dtype for tensor in run.optimizer_tensors().values()} == {torch.float32}
    assert any(isinstance(event, FisherMeasured) and min(event.traces) > 0 for event in told)


def test_bf16_is_another_result_but_a_near_one(tiny: Tiny, bench: Bench) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        _, told = events(bench, tiny, training__precision=precision, training__dropout=0.0)
        losses[precision] = [
            event.metrics["train/loss"] for event in told if isinstance(event, StepDone) and event.metrics
        ]
    assert losses["fp32"] != losses["bf16"]
    assert losses["fp32"] == pytest.approx(losses["bf16"], rel=0.02)


def test_an_epoch_is_every_feature_once_in_a_new_order(
    tiny: Tiny, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"training__steps": None, "training__epochs": 2, "training__batch_size": 16}
    run = TrainingRun(bench, tiny.spec(**settings))
    batches: list[list[int]] = []
    make = run.task.batch

    def watched(features: Any, indices: Any) -> dict[str, Tensor]:
        batches.append(list(indices))
        return make(features, indices)

    monkeypatch.setattr(run.task, "batch", watched)
    n = len(bench.train)
    run.layers.apply(run.schedule.awake())
    for step in range(1, run.total + 1):
        run._step(step)
    half = len(batches) // 2
    assert run.total == len(batches) == 2 * -(-n // 16)
    first, second = ([index for batch in part for index in batch] for part in (batches[:half], batches[half:]))
    assert sorted(first) == sorted(second) == list(range(n))
    assert first != second
    assert first != list(range(n))


def test_gradients_are_clipped(tiny: Tiny, bench: Bench) -> None:
    run = TrainingRun(bench, tiny.spec(training__max_grad_norm=0.01, tracking__log_every_steps=1))
    norms: list[float] = []

    def norm(*_: Any) -> None:
        norms.append(nn.utils.get_total_norm([p.grad for p in run.parameters.values() if p.grad is not None]).item())

    run.optimizer.register_step_pre_hook(norm)
    told = [event.metrics["train/grad_norm"] for event in run.events() if isinstance(event, StepDone)]
    assert min(told) > 0.01  # what is told is the norm before
    assert norms == pytest.approx([0.01] * STEPS, rel=1e-3)


def test_the_earliest_best_step_is_selected_and_its_tensors_tested(tiny: Tiny, bench: Bench) -> None:
    run = TrainingRun(bench, tiny.spec(evaluation__dev_points=STEPS))
    tensors: dict[int, str] = {}
    scores: dict[int, float] = {}
    best: list[int] = []
    for event in run.events():
        if isinstance(event, Evaluated):
            tensors[event.step], scores[event.step] = sha(run.model.task_state()), event.scores["f1"]
            best += [event.step] if event.best else []
    selected = min(step for step, score in scores.items() if score == max(scores.values()))
    assert run.state.best_step == best[-1] == selected
    *_, finished = run.test(lambda name, language, predictions: None, ["test"])
    assert sha(run.model.task_state()) == tensors[selected]
    assert finished.step == STEPS
