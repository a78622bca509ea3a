"""A run that is looked at in each of its steps: what has gradients, what moves, what must not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raysched.study.identity import RunSpec
from raysched.training.bench import Bench
from raysched.training.events import StepDone, Unfroze
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import sha


def never_trained(run: TrainingRun) -> dict[str, Tensor]:
    """Backbone, language adapters, buffers: everything that is not the task adapter or the head."""
    mine = {id(parameter) for parameter in run.parameters.values()}
    named = {**dict(run.model.named_parameters()), **dict(run.model.named_buffers())}
    return {name: tensor for name, tensor in named.items() if id(tensor) not in mine}


def layer_of(name: str) -> int:
    return -1 if name.startswith("head.") else int(name[6:8])


def train_watched(bench: Bench, spec: RunSpec) -> TrainingRun:
    """A whole run; at each optimizer step gradients are compared with what is awake, and tensors that did not move."""
    run = TrainingRun(bench, spec)
    others, awake, checked = sha(never_trained(run)), set[int](), 0
    before = run.model.task_state()

    def check(*_: Any) -> None:
        nonlocal checked
        run.layers.check(awake, model=run.model)
        for parameter in run.parameters.values():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()
        checked += 1

    run.optimizer.register_step_pre_hook(check)
    for event in run.events():
        if isinstance(event, Unfroze):
            awake = set(event.awake)
            assert set(event.layers) <= awake
        if isinstance(event, StepDone):
            after = run.model.task_state()
            for name in after:
                moved = not torch.equal(before[name], after[name])
                # The gradient of a head's start and end biases, or of a dead unit, can be 0: only weights must move.
                if layer_of(name) in {-1, *awake}:
                    assert moved or name.endswith("bias"), f"{name} did not move at step {event.step}"
                else:
                    assert not moved, f"{name} is frozen, but moved at step {event.step}"
            before = after
    tested = list(run.test(lambda name, language, predictions: None, ["test"]))
    assert len(tested) == len(spec.study.evaluation.languages) + 1
    assert checked == run.total
    assert sha(never_trained(run)) == others, "backbone and language adapters must never change"
    return run
