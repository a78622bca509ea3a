"""Which tensors learn in a real run: exactly the head and the awake layers' task adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raysched.mini import world
from raysched.training.bench import Bench
from raysched.training.events import StepDone, Unfroze
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import LAYERS, SCHEDULES, SURGICAL, Tiny
from tests.training.watched import layer_of, train_watched


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_exactly_the_awake_layers_and_the_head_learn(tiny: Tiny, bench: Bench, schedule: str) -> None:
    run = train_watched(bench, tiny.spec(schedule))
    # K * LAYERS <= STEPS: every layer had its turn
    assert run.schedule.awake() == (set(SURGICAL) if schedule == "surgical" else set(range(LAYERS)))


def test_the_same_with_a_source_language_called_en(tmp_path: Path) -> None:
    tiny = Tiny.make(tmp_path, ("en", "orl"))
    rows = {role: world.qa_rows("vel", "train" if role == "train" else "dev", 60) for role in ("train", "dev")}
    for role, found in rows.items():
        paragraphs = [
            {
                "context": row["context"],
                "qas": [
                    {
                        "id": row["id"],
                        "question": row["question"],
                        "answers": [
                            {"text": text, "answer_start": start}
                            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
                        ],
                    }
                ],
            }
            for row in found
        ]
        text = json.dumps({"version": "1.1", "data": [{"title": role, "paragraphs": paragraphs}]})
        (tmp_path / f"{role}.json").write_text(text)
    for language in ("en", "orl"):
        shutil.copy(tmp_path / "dev.json", tmp_path / f"test.{language}.json")
    spec = tiny.spec(
        "fun",
        data__train=str(tmp_path / "train.json"),
        data__dev=str(tmp_path / "dev.json"),
        data__test=str(tmp_path / "test.{language}.json"),
        model__source_language="en",
        evaluation__languages=["en", "orl"],
    )
    train_watched(tiny.bench(spec), spec)


@pytest.mark.parametrize("schedule", ["lpft", "gu", "fun"])
def test_one_optimizer_holds_everything_and_has_no_state_for_what_never_learned(
    tiny: Tiny, bench: Bench, schedule: str
) -> None:
    run = TrainingRun(bench, tiny.spec(schedule))
    held = [id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(map(id, run.parameters.values()))
    assert {layer_of(name) for name in run.parameters} == set(range(-1, LAYERS))
    woke: dict[int, int] = {-1: 0}
    for event in run.events():
        if isinstance(event, Unfroze):
            woke |= dict.fromkeys(event.layers, event.step)
        if isinstance(event, StepDone):
            state = run.optimizer_tensors()
            assert {layer_of(name) for name in state} == set(woke)
            for name, parameter in run.parameters.items():
                if layer_of(name) in woke:  # steps are counted for each tensor from its first gradient
                    assert state[f"{name}/step"].item() == event.step - woke[layer_of(name)]
                    assert state[f"{name}/exp_avg"].shape == parameter.shape
    assert [id(p) for group in run.optimizer.param_groups for p in group["params"]] == held


def test_a_wrongly_awake_layer_is_noticed(tiny: Tiny, bench: Bench) -> None:
    """The check of the tests above can fail."""
    run = TrainingRun(bench, tiny.spec("gu"))
    events = run.events()
    next(events)
    run.parameters[next(name for name in run.parameters if layer_of(name) == 0)].requires_grad_(True)
    run.optimizer.register_step_pre_hook(lambda *_: run.layers.check(run.schedule.awake(), model=run.model))
    with pytest.raises(Exception, match=r"layer 0 is frozen, but requires_grad is True"):
        list(events)
