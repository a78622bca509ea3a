"""Every architecture under every task and every schedule, in real runs; and tr(F) of each task's head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raysched.madx import MadX
from raysched.records.layout import AttemptLayout
from raysched.study.identity import RunSpec
from raysched.study.values import PUBLISHED, SCHEDULES
from raysched.tasks import predictions, sources
from raysched.training.bench import Bench
from raysched.training.loop import TrainingRun
from raysched.unfreezing import fisher
from raysched.unfreezing.directions import directions
from raysched.unfreezing.select import PERMUTATIONS
from tests.training.tiny_training import LAYERS, Outcome, Tiny, execute
from tests.training.watched import train_watched

ARCHITECTURES = ("bert", "xlm-roberta", "deberta-v2")
TASKS = {"qa": "f1", "choice": "accuracy", "nli": "accuracy"}
SETTINGS: dict[str, Any] = {
    "training__steps": 6,
    "training__surgical": [0, 2],
    "search__k": [1],
    "data__max_length": 32,
    "data__doc_stride": 8,
    "data__train_examples": 40,
    "fisher__log__every_steps": 0,
    "evaluation__languages": ["orl"],
    "evaluation__dev_points": 1,
    "evaluation__dev_limit": 8,
    "evaluation__test_limit": 8,
}
TOP, ALL = {LAYERS - 1}, set(range(LAYERS))
WOKEN: dict[str, tuple[set[int], list[tuple[int, tuple[int, ...]]] | None]] = {
    "standard": (ALL, []),
    "gu": (TOP, [(1, ()), (2, (2,)), (3, (1,)), (4, (0,))]),
    "gu-prose": (TOP, [(1, (2,)), (2, (1,)), (3, (0,))]),
    "lpft": (set(), [(1, (0, 1, 2, 3))]),
    "rand": (TOP, None),
    "fun": (TOP, None),
    "reverse": (TOP, [(1, (0,)), (2, (1,)), (3, (2,))]),
    "permutation": (TOP, [(1, (2,)), (2, (0,)), (3, (1,))]),
    "surgical": ({0, 2}, []),
    "replay": (TOP, [(2, ()), (3, (1,))]),
}
"""What is awake before step 1, and (step, layers that wake before it), for four layers and k = 1; None where chance or
a measurement chooses: one more layer an event."""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Tiny, Bench]]:
    """(tiny model, bench) of an architecture and task, made once; with 12 layers for the paper's own orders."""
    models: dict[tuple[str, int], Tiny] = {}
    benches: dict[tuple[str, str, int], Bench] = {}

    def get(architecture: str, task: str, layers: int = LAYERS) -> tuple[Tiny, Bench]:
        model, key = (architecture, layers), (architecture, task, layers)
        if model not in models:
            folder = tmp_path_factory.mktemp(f"{architecture}-{layers}")
            models[model] = Tiny.make(folder, ("vel", "orl"), architecture=architecture, layers=layers)
        if key not in benches:
            benches[key] = models[model].bench(spec_of(models[model], task, "standard"))
        return models[model], benches[key]

    return get


def spec_of(tiny: Tiny, task: str, schedule: str, bench: Bench | None = None, **settings: Any) -> RunSpec:
    values = {"task": task, "search__objective": f"source_dev/{TASKS[task]}"} | SETTINGS | settings
    return tiny.spec(schedule, resolved=bench.resolved if bench else None, **values)


def woken(run: TrainingRun) -> list[tuple[int, tuple[int, ...]]]:
    return [(event.step, tuple(sorted(event.layers))) for event in run.state.log]


def test_no_schedule_is_left_out() -> None:
    assert {name.partition("-")[0] for name in WOKEN} == set(SCHEDULES) - set(PUBLISHED)


@pytest.mark.parametrize("schedule", WOKEN)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exactly_the_expected_tensors_learn(
    bed: Callable[..., tuple[Tiny, Bench]], architecture: str, task: str, schedule: str
) -> None:
    """`train_watched` compares gradients at each step with what is awake, and every other tensor bit by bit."""
    tiny, bench = bed(architecture, task)
    assert bench.model.backbone.config.model_type == architecture
    run = train_watched(bench, spec_of(tiny, task, schedule, bench))
    initial, expected = WOKEN[schedule]
    assert run.schedule.initial == initial
    if expected is None:
        assert [(step, len(layers)) for step, layers in woken(run)] == [(1, 1), (2, 1), (3, 1)]
    else:
        assert woken(run) == expected


@pytest.mark.parametrize(("architecture", "task"), list(zip(ARCHITECTURES, TASKS, strict=True)))
@pytest.mark.parametrize("number", [0, 7])
def test_the_paper_s_orders_of_twelve_layers(
    bed: Callable[..., tuple[Tiny, Bench]], architecture: str, task: str, number: int
) -> None:
    tiny, bench = bed(architecture, task, 12)
    run = train_watched(bench, spec_of(tiny, task, f"schedule-{number}", bench, training__steps=11))
    assert woken(run) == [(step, (layer,)) for step, layer in enumerate(PERMUTATIONS[number], start=1)]


# tr(F)


def logits_of(run: TrainingRun, model: MadX, batch: dict[str, Tensor]) -> list[Tensor]:
    hidden = model(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
    return run.task.groups(model.head, hidden, batch)


def brute(run: TrainingRun, model: MadX, batch: dict[str, Tensor], n: int) -> Tensor:
    """sum_y p(y) ||grad log p(y)||^2 per example and layer (n, L): a plain backward for each example and class."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    total = torch.zeros(n, model.n_layers, dtype=torch.float64)
    for example in range(n):
        one = {name: tensor.chunk(n)[example] for name, tensor in batch.items()}
        for label in range(logits_of(run, model, one)[0].shape[1]):
            model.zero_grad(set_to_none=True)
            log_p = logits_of(run, model, one)[0].log_softmax(1)[0, label]
            log_p.backward()
            squares = [
                sum(t.grad.square().sum() for t in layer if t.grad is not None) for layer in model.layer_parameters()
            ]
            total[example] += log_p.detach().exp() * torch.stack(squares)
    return total


@pytest.mark.parametrize(("task", "backwards"), [("choice", 1), ("nli", 2)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_trace_of_a_batch_equals_a_plain_loop(
    bed: Callable[..., tuple[Tiny, Bench]], architecture: str, task: str, backwards: int
) -> None:
    """Method 8.2, with the task's own rows, head and number of rows an example; C - 1 backwards for C classes."""
    tiny, bench = bed(architecture, task)
    run = TrainingRun(bench, spec_of(tiny, task, "gu", bench))
    model = copy.deepcopy(run.model).double()  # the two choices' gradients nearly cancel: not a matter of rounding
    with torch.no_grad():
        model.head.out.weight.mul_(50)  # probabilities that differ
    n = 5
    batch = bench.task.batch(bench.train, range(n))
    logits = logits_of(run, model, batch)
    assert [group.shape for group in logits] == [(n, backwards + 1)]
    assert len(list(directions(logits, "exact", 1, torch.Generator(), None))) == backwards
    measured = fisher.measure(
        forward=lambda batch: logits_of(run, model, batch),
        batches=[batch],
        modules=model.measured_modules(),
        model=model,
        generator=torch.Generator(),
        rows_per_example=bench.task.rows_per_example,
    )
    assert (measured.n_examples, measured.labels) == (n, "exact")  # so few classes: `auto` is exact
    expected = brute(run, model, batch, n)
    assert expected.min() > 0
    assert measured.traces == pytest.approx(expected.mean(0).tolist(), rel=1e-9)


@pytest.mark.parametrize("task", ["choice", "nli"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_logits(bed: Callable[..., tuple[Tiny, Bench]], architecture: str, task: str) -> None:
    """Method 6.4: dynamic padding is exact where a class is named."""
    tiny, bench = bed(architecture, task)
    run = TrainingRun(bench, spec_of(tiny, task, "gu", bench))
    run.model.eval()
    whole = bench.dev.rows[0]
    features = bench.task.features([whole | {"premise": whole["premise"].split()[0]}, whole], bench.tokenizer, "eval")
    assert features.lengths[0] < features.lengths[1]
    with torch.no_grad():
        alone, beside = (logits_of(run, run.model, bench.task.batch(features, one))[0] for one in ([0], [0, 1]))
    assert torch.allclose(alone[0], beside[0], rtol=0, atol=1e-6)


# Whole attempts


@pytest.mark.parametrize(("architecture", "task"), [("bert", "choice"), ("deberta-v2", "nli"), ("xlm-roberta", "nli")])
def test_accuracy_equals_a_count_over_the_saved_predictions(
    bed: Callable[..., tuple[Tiny, Bench]], tmp_path: Path, architecture: str, task: str
) -> None:
    tiny, bench = bed(architecture, task)
    spec = spec_of(tiny, task, "fun", bench, evaluation__test_limit=60, fisher__log__every_steps=3)
    outcome = execute(tiny.bench(spec), spec, tmp_path / "attempt-0-0")
    assert isinstance(outcome, Outcome)
    layout = AttemptLayout(tmp_path / "attempt-0-0")
    origin, found = predictions.read(layout.predictions / "orl.parquet")
    gold = {row["id"]: row["label"] for row in sources.rows(spec.resolved.test["orl"], spec.study, "test", "orl")}
    names = {"choice": ("choice1", "choice2"), "nli": ("entailment", "neutral", "contradiction")}[task]
    assert {one.example_id: one.gold for one in found} == {name: (names[label],) for name, label in gold.items()}
    assert {one.prediction for one in found} <= set(names)
    right = sum(names[gold[one.example_id]] == one.prediction for one in found)
    assert outcome.tests == {origin.evaluation_id: {"orl": {"accuracy": 100 * right / len(gold)}}}
    assert set(outcome.source_dev) == {"accuracy"}
