"""Runs of full fine-tuning and of each variant of the task adapter: under schedules, resumed, on a warm bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from raysched.errors import StudyError
from raysched.runners import preflight
from raysched.study.identity import RunSpec
from raysched.study.space import Point, uses_k
from raysched.training.bench import Bench
from raysched.training.events import FisherMeasured, StepDone, TrainingEvent, Unfroze
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import LANGUAGES, Outcome, Tiny, execute, same, sha
from tests.training.watched import layer_of, never_trained

LAYERS, K, STEPS = 3, 1, 5
METHODS: dict[str, dict[str, Any]] = {
    "full": {"search__method": ["full"], "search__lr": [1e-3]},
    "lora": {"model__task_adapter__kind": "lora", "model__task_adapter__rank": 2},
    "parallel": {"model__task_adapter__placement": "parallel"},
    "houlsby": {"model__task_adapter__placement": "houlsby"},
}
SCHEDULES = ("standard", "gu", "lpft", "rand", "fun", "reverse")
SHORT = {
    "training__steps": STEPS,
    "training__checkpoint_every_steps": 2,
    "search__k": [K],
    "search__schedule": list(SCHEDULES),  # one study for all of them: its inputs are found once
    "evaluation__dev_points": 2,
}
BOTH = {"search__method": ["adapters", "full"], "search__lr": [1e-3]}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    """A random MAD-X of three layers."""

    @cache
    def made(architecture: Any) -> Tiny:
        return Tiny.make(tmp_path_factory.mktemp(architecture), architecture=architecture, layers=LAYERS)

    return made


def spec(tiny: Tiny, schedule: str, method: str, **settings: Any) -> RunSpec:
    values = {**SHORT, **METHODS.get(method, {}), **settings}
    study = tiny.study(schedule, **values)
    name, k = schedule.partition("-")[0], K if uses_k(schedule.partition("-")[0]) else None
    point = Point(schedule=name, lr=study.search.lr[0], k=k, method="full" if method == "full" else "adapters")
    return RunSpec.make(study, tiny.resolve(study), point, 0)


@pytest.fixture(scope="module")
def bench_of(small: Callable[[str], Tiny]) -> Callable[[str, str], Bench]:
    @cache
    def made(architecture: str, method: str) -> Bench:
        tiny = small(architecture)
        return tiny.bench(spec(tiny, "gu", method))

    return made


def watched(run: TrainingRun) -> Iterator[TrainingEvent]:
    """The run's events; at every step exactly the awake tensors have gradients, and frozen ones stay what they are."""
    awake, others = set[int](), sha(never_trained(run))
    before = run.model.task_state()
    run.optimizer.register_step_pre_hook(lambda *_: run.layers.check(awake, model=run.model))
    for event in run.events():
        if isinstance(event, Unfroze):
            awake = set(event.awake)
        if isinstance(event, StepDone):
            after = run.model.task_state()
            moved = {layer_of(name) for name in after if not torch.equal(before[name], after[name])}
            assert moved == {-1, *awake}, f"step {event.step}"
            before = after
        yield event
    assert sha(never_trained(run)) == others


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", METHODS)
def test_exactly_the_awake_layers_learn(
    small: Callable[[str], Tiny], bench_of: Callable[[str, str], Bench], method: str, schedule: str
) -> None:
    tiny = small("xlm-roberta")
    run = TrainingRun(bench_of("xlm-roberta", method), spec(tiny, schedule, method))
    events = list(watched(run))
    assert run.schedule.awake() == set(range(LAYERS))
    measured = [event for event in events if isinstance(event, FisherMeasured)]
    assert len([event for event in measured if event.purpose == "select"]) == (1 if schedule == "fun" else 0)
    assert all(len(event.traces) == LAYERS and min(event.traces) > 0 for event in measured)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_other_architectures_under_fun(
    small: Callable[[str], Tiny], bench_of: Callable[[str, str], Bench], architecture: str, method: str
) -> None:
    run = TrainingRun(bench_of(architecture, method), spec(small(architecture), "fun", method))
    assert [event for event in watched(run) if isinstance(event, FisherMeasured)]
    assert run.schedule.awake() == set(range(LAYERS))


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_undisturbed_one(
    small: Callable[[str], Tiny], bench_of: Callable[[str, str], Bench], tmp_path: Path, method: str
) -> None:
    bench, chosen = bench_of("xlm-roberta", method), spec(small("xlm-roberta"), "fun", method)
    whole = execute(bench, chosen, tmp_path / "whole")
    folders = [tmp_path / f"attempt-0-{number}" for number in range(STEPS + 1)]
    outcome: Outcome | None = None
    for number, folder in enumerate(folders):
        outcome = execute(bench, chosen, folder, folders[:number], leave=lambda event: isinstance(event, StepDone))
        if outcome is not None:
            break
    same(outcome, whole)
    assert number == STEPS


def test_a_warm_bench_is_a_cold_one_after_a_full_run(small: Callable[[str], Tiny], tmp_path: Path) -> None:
    """One bench for both methods of a study, in turns."""
    tiny = small("xlm-roberta")
    specs = [spec(tiny, "gu", method, **BOTH) for method in ("adapters", "full")]
    assert specs[0].run_id != specs[1].run_id
    cold = [execute(tiny.bench(one), one, tmp_path / f"cold-{one.point.method}") for one in specs]
    warm = tiny.bench(specs[0])
    for number in (1, 0, 1, 1, 0):
        same(execute(warm, specs[number], tmp_path / f"warm-{number}"), cold[number])
        tmp_path = tmp_path / "next"


def test_a_study_of_full_runs_needs_no_language_adapters(small: Callable[[str], Tiny], tmp_path: Path) -> None:
    """The same numbers with and without adapters beside; the scores of all languages come from one model."""
    tiny = small("xlm-roberta")
    nowhere = {"model__language_adapters": "nobody/{language}"}
    alone, beside = spec(tiny, "gu", "full", **nowhere), spec(tiny, "gu", "full", **BOTH)
    assert alone.resolved.language_adapters == {}
    assert set(beside.resolved.language_adapters) == set(LANGUAGES)
    assert (alone.run_id, alone.evaluation_ids) == (beside.run_id, beside.evaluation_ids)
    outcome = execute(tiny.bench(alone), alone, tmp_path / "alone")
    same(outcome, execute(tiny.bench(beside), beside, tmp_path / "beside"))
    saved = load_file(tmp_path / "alone" / "adapter" / "model.safetensors")
    assert "encoder.layer.2.output.dense.weight" in saved
    assert not any("adapter" in name or "language" in name for name in saved)


def test_measuring_full_runs_changes_nothing(small: Callable[[str], Tiny], tmp_path: Path) -> None:
    tiny = small("deberta-v2")
    chosen = spec(tiny, "gu", "full")
    silent = spec(tiny, "gu", "full", fisher__log__every_steps=0)
    assert chosen.run_id == silent.run_id
    bench = tiny.bench(chosen)
    outcomes = [execute(bench, one, tmp_path / str(i)) for i, one in enumerate((chosen, silent))]
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    fisher = [row for row in outcomes[0].rows if row[0] == "fisher"]
    assert fisher
    kept = replace(outcomes[0], rows=[row for row in outcomes[0].rows if row[0] != "fisher"])
    same(kept, outcomes[1])


@pytest.mark.parametrize("method", ["full", "adapters"])
def test_the_pooler_below_a_head_trains_in_full_runs_only(small: Callable[[str], Tiny], method: str) -> None:
    """As Hugging Face's own classes train it; beside adapters it is frozen, as in the paper."""
    tiny = small("bert")
    task = {"task": "choice", "search__objective": "source_dev/accuracy", "data__train_examples": 20}
    chosen = spec(tiny, "lpft", method, **task)
    run = TrainingRun(tiny.bench(chosen), chosen)
    pooler = run.model.pooler
    assert pooler is not None
    list(watched(run))
    state = run.model.head.state_dict()
    moved = [name for name, value in pooler.items() if not torch.equal(state[f"dense.{name}"], value)]
    assert sorted(moved) == (["bias", "weight"] if method == "full" else [])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("bert", r"made for architecture xlm-roberta \(.*\), the backbone has bert"),
        ("deberta-v2", r"made for architecture xlm-roberta \(.*\), the backbone has deberta-v2"),
    ],
)
def test_preflight_refuses_adapters_of_another_backbone(small: Callable[[str], Tiny], other: str, message: str) -> None:
    tiny, backbone = small("xlm-roberta"), {"model__backbone": str(small(other).folder / "backbone")}
    misfit = spec(tiny, "gu", "lora", **backbone)
    with pytest.raises(StudyError, match=rf"model\.language_adapters: .*\(language vel\) does not fit .*{message}"):
        preflight.check_fit(misfit.resolved, misfit.study)
    free = spec(tiny, "gu", "full", **backbone)
    preflight.check_fit(free.resolved, free.study)
