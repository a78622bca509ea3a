"""A run's numbers depend on its RunSpec alone: not on earlier runs of the process, and not on what is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raysched.training.bench import Bench
from raysched.training.events import StepDone, TrainingEvent
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import Outcome, Tiny, execute, same, sha

Folder = Callable[[], Path]


@pytest.fixture(scope="module")
def cold(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Of the spec below, first and only run of its bench."""
    spec = tiny.spec("fun", seed=1)
    outcome = execute(tiny.bench(spec), spec, tmp_path_factory.mktemp("cold"))
    assert outcome is not None
    return outcome


@pytest.mark.parametrize(
    ("schedule", "seed", "settings"),
    [
        ("standard", 0, {}),
        ("fun", 2, {"training.dropout": 0.5}),
        ("lpft", 1, {"model.task_adapter.reduction": 2, "model.task_adapter.activation": "gelu"}),
        ("gu", 0, {"training.precision": "bf16"}),
    ],
)
def test_a_warm_run_is_a_cold_run(
    tiny: Tiny, new_folder: Folder, cold: Outcome, schedule: str, seed: int, settings: dict[str, Any]
) -> None:
    first, spec = tiny.spec(schedule, seed, **settings), tiny.spec("fun", seed=1)
    bench = tiny.bench(first)
    assert execute(bench, first, new_folder()) is not None
    same(execute(bench, spec, new_folder()), cold)


@pytest.mark.parametrize("where", ["step", "unfreezing", "test"])
def test_a_run_after_one_that_raised_is_a_cold_run(
    tiny: Tiny, bench: Bench, new_folder: Folder, cold: Outcome, where: str
) -> None:
    def leave(event: TrainingEvent) -> bool:
        if where in type(event).__name__.lower() or (where == "unfreezing" and event.step == 2):
            raise RuntimeError("out of luck")
        return False

    with pytest.raises(RuntimeError, match="out of luck"):
        execute(bench, tiny.spec("rand"), new_folder(), leave=leave)
    same(execute(bench, tiny.spec("fun", seed=1), new_folder()), cold)


def test_a_run_does_not_depend_on_the_global_generator_nor_move_it(
    tiny: Tiny, bench: Bench, new_folder: Folder, cold: Outcome
) -> None:
    torch.manual_seed(77)
    before = torch.get_rng_state()
    same(execute(bench, tiny.spec("fun", seed=1), new_folder()), cold)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dropout_is_the_study_s_everywhere_in_the_backbone_and_its_own_again_afterwards(
    tiny: Tiny, bench: Bench, dropout: float
) -> None:
    def probabilities() -> dict[str, float]:
        found = {}
        for name, module in bench.model.backbone.named_modules():
            for attribute in ("p", "dropout_prob"):
                if isinstance(getattr(module, attribute, None), float):
                    found[f"{name}.{attribute}"] = getattr(module, attribute)
        return found

    bench.start(tiny.spec("gu"))
    own = probabilities()
    bench.start(tiny.spec("gu", training__dropout=dropout))
    during = probabilities()
    bench.start(tiny.spec("gu"))
    assert probabilities() == own
    adapters = {name for name in own if ".adapters." in name}
    assert adapters
    assert any(name.endswith("dropout_prob") for name in own)
    assert {during[name] for name in adapters} == {0.0}, "an adapter's dropout is its own"
    assert {during[name] for name in set(own) - adapters} == {dropout}


def test_without_dropout_two_forwards_are_equal_and_with_it_they_are_not(tiny: Tiny, bench: Bench) -> None:
    for dropout, equal in ((0.0, True), (None, False)):
        spec = tiny.spec("gu", training__dropout=dropout)
        bench.start(spec)
        bench.model.train()
        batch = bench.task.batch(bench.train, range(4))
        torch.manual_seed(0)
        with torch.no_grad():
            first, second = (bench.model(batch["input_ids"], batch["attention_mask"]) for _ in range(2))
        assert torch.equal(first, second) is equal


def last_weights(bench: Bench, tiny: Tiny, **settings: Any) -> tuple[str, str, list[int]]:
    run = TrainingRun(bench, tiny.spec("fun", **settings))
    kinds = [type(event).__name__ for event in run.events() if not isinstance(event, StepDone)]
    return sha(run.model.task_state()), sha(run.optimizer_tensors()), [len(kinds)]


@pytest.mark.parametrize(
    "settings",
    [
        {"fisher__log__every_steps": 0},
        {"fisher__log__every_steps": 1, "fisher__log__batches": 3, "fisher__log__labels": "sampled"},
        {"evaluation__dev_points": 1},
        {"evaluation__dev_points": 20},
        {"tracking__log_every_steps": 1},
        {"tracking__log_every_steps": 1000},
        {"training__checkpoint_every_steps": 1},
    ],
)
def test_measuring_does_not_disturb(tiny: Tiny, bench: Bench, settings: dict[str, Any]) -> None:
    weights, optimizer, events = last_weights(bench, tiny)
    other_weights, other_optimizer, other_events = last_weights(bench, tiny, **settings)
    assert (weights, optimizer) == (other_weights, other_optimizer)
    assert events != other_events or "tracking__log_every_steps" in settings


def test_what_does_steer_is_seen(tiny: Tiny, bench: Bench) -> None:
    """The comparison above can fail."""
    assert last_weights(bench, tiny)[0] != last_weights(bench, tiny, training__dropout=0.2)[0]
    assert last_weights(bench, tiny)[0] != last_weights(bench, tiny, training__max_grad_norm=0.01)[0]
