"""`preset: released` and adaptive measurements against the authors' procedure, written out a second time, literally."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from raysched.errors import StudyError
from raysched.study.fisher import FisherLog, FisherSelect
from raysched.training.bench import Bench
from raysched.training.events import FisherMeasured, Unfroze
from raysched.training.loop import TrainingRun
from raysched.training.measuring import Measuring, measuring
from raysched.unfreezing.fisher import FisherTrace, measure
from tests.training.tiny_training import Tiny, execute, same
from tests.unfreezing.test_fisher import LAYERS, Toy, examples, private, toy

Batch = dict[str, Tensor]
Folder = Callable[[], Path]
LIMIT = {"select": 39, "log": 38}
"""The released loop ends after the batch whose number, from 0, is larger: 41 of them, or 40."""


def literally(model: Toy, batches: Iterable[Batch], batch_size: int, purpose: str) -> list[float]:
    """The released measurement in its own terms: `.grad` of a copy in which every adapter learns, batch after batch."""
    model = copy.deepcopy(model).eval()
    adapters = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.split(".")[0] == "layers" and "trunk" not in name
    }
    for parameter in adapters.values():
        parameter.requires_grad_(True)
    squares = {name: torch.zeros_like(parameter) for name, parameter in adapters.items()}
    for step, batch in enumerate(batches):
        model.zero_grad()
        logits = torch.cat(model(batch), dim=0)  # of a span: the starts of all examples, then their ends
        label = logits.max(1)[1].view(-1).detach()
        functional.nll_loss(functional.log_softmax(logits, dim=1), label).backward()
        for name, parameter in adapters.items():
            squares[name] += parameter.grad**2 / batch_size
        if step > LIMIT[purpose]:
            break
    blocks = [0.0] * LAYERS
    for name, square in squares.items():
        blocks[int(name.split(".")[1])] += square.double().sum().item()
    return [block / 40 for block in blocks] if purpose == "log" else blocks


def batches_of(n_features: int, size: int, seed: int = 3) -> list[Batch]:
    whole = examples(n_features, 5, seed=seed)["x"]
    return [{"x": part} for part in whole.split(size)]


def released(model: Toy, batches: list[Batch], how: Measuring) -> FisherTrace:
    return measure(
        forward=model,
        batches=itertools.islice(batches, how.n_batches),
        modules=model.modules_by_layer,
        model=model,
        generator=private(),
        labels=how.labels,
        estimator=how.estimator,
        draws=how.draws,
        divisor=how.divisor,
    )


@pytest.mark.parametrize("purpose", ["select", "log"])
@pytest.mark.parametrize(
    ("n_features", "n_batches"),
    [
        (400, {"select": 41, "log": 40}),  # 50 batches: the limits hold
        (52, {"select": 7, "log": 7}),  # one pass; the last batch has 4 features, and is divided by 8
        (8, {"select": 1, "log": 1}),
    ],
)
@pytest.mark.parametrize("kind", [2, 3, "qa"])
def test_released_is_the_released_measurement(
    kind: int | str, n_features: int, n_batches: dict[str, int], purpose: Any
) -> None:
    model, batches = toy(kind), batches_of(n_features, 8)
    settings = {"select": FisherSelect, "log": FisherLog}[purpose](preset="released")
    how = measuring(settings, purpose, batch_size=8, n_features=n_features)
    found, expected = released(model, batches, how), literally(model, batches, 8, purpose)
    assert found.traces == pytest.approx(expected, rel=1e-6, abs=0)
    assert found.n_batches == n_batches[purpose]
    assert (found.labels, found.estimator) == ("mode", "released")
    ranked = sorted(range(LAYERS), key=lambda layer: (expected[layer], layer))
    assert sorted(range(LAYERS), key=lambda layer: (found.traces[layer], layer)) == ranked


@pytest.mark.parametrize(("kind", "factor"), [(3, 1), ("qa", 4)])
def test_the_scale_constants(kind: int | str, factor: int) -> None:
    """GNB = B^2 * released for classes, 4 * B^2 for spans, of one whole batch and in the mean over batches."""
    model, batches, size = toy(kind), batches_of(48, 8), 8
    how = measuring(FisherSelect(preset="released"), "select", batch_size=size, n_features=48)
    gnb = measure(
        forward=model,
        batches=batches,
        modules=model.modules_by_layer,
        model=model,
        generator=private(),
        labels="mode",
        estimator="batch",
    )
    found = released(model, batches, how)
    scale = how.scale(found.n_groups)
    assert scale == factor * size**2
    assert gnb.traces == pytest.approx([scale * trace / found.n_batches for trace in found.traces], rel=1e-6)
    assert found.se is not None
    assert gnb.se == pytest.approx([scale * se / found.n_batches for se in found.se], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batches": 41}, "must not be given beside preset: released, which sets it, but got 41"),
        ({"batch_size": 32}, "batch_size"),
        ({"labels": "noise"}, "but got noise"),
        ({"estimator": "batch"}, "but got batch"),
        ({"draws": 2}, "but got 2"),
        ({"adaptive": True}, "but got True"),
    ],
)
def test_released_sets_everything_else(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FisherSelect(preset="released", **settings)
    FisherLog(preset="released", every_steps=50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adaptive": True}, "must be false where a measurement is only logged"),
        ({"draws": 2, "labels": "mode"}, "must be 1 for labels mode, which are not drawn, but got 2"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FisherLog(**settings)


# In a run


def run(bench: Bench, tiny: Tiny, **settings: Any) -> tuple[list[FisherMeasured], list[Unfroze], TrainingRun]:
    trained = TrainingRun(bench, tiny.spec("fun", **settings))
    told = list(trained.events())
    return (
        [event for event in told if isinstance(event, FisherMeasured) and event.purpose == "select"],
        [event for event in told if isinstance(event, Unfroze)],
        trained,
    )


def test_a_run_with_the_preset_tells_how_it_measured(tiny: Tiny, bench: Bench) -> None:
    defaults: dict[str, Any] = {"fisher__select__batches": 40, "fisher__log__batches": 2}
    presets: dict[str, Any] = {"fisher__select__preset": "released", "fisher__log__preset": "released"}
    measured, unfroze, trained = run(bench, tiny, **defaults, **presets)
    features = len(bench.train)
    assert {event.n_examples for event in measured} == {features}  # one pass
    assert {event.n_batches for event in measured} == {-(-features // 8)}
    assert {(event.labels, event.estimator, event.scale) for event in measured} == {("mode", "released", 4 * 8**2)}
    for event, woken in zip(measured, unfroze[1:], strict=False):
        frozen = set(range(4)) - set(event.awake)
        assert woken.layers == (max(frozen, key=lambda layer: (event.traces[layer], layer)),)
    other = tiny.spec("fun", fisher__select__batches=40)
    assert trained.spec.run_id != other.run_id


def test_more_draws_cost_no_forward_and_change_the_run(tiny: Tiny, bench: Bench) -> None:
    one, *_ = run(bench, tiny)
    four, *_ = run(bench, tiny, fisher__select__draws=4)
    assert [event.n_batches for event in one] == [event.n_batches for event in four]
    assert one[0].traces != four[0].traces
    assert one[0].lead is four[0].lead is None
    assert tiny.spec("fun").run_id != tiny.spec("fun", fisher__select__draws=4).run_id


def test_an_adaptive_run_measures_no_more_than_it_needs(tiny: Tiny, bench: Bench) -> None:
    settings: dict[str, Any] = {"training__batch_size": 4, "fisher__select__batches": 12, "fisher__log__every_steps": 0}
    whole, orders, _ = run(bench, tiny, **settings)
    adaptive, again, _ = run(bench, tiny, fisher__select__adaptive=True, **settings)
    assert adaptive[0].lead is not None
    assert 4 <= adaptive[0].n_batches < whole[0].n_batches == 12
    assert adaptive[0].lead[0] > 3 * adaptive[0].lead[1] > 0
    assert again[1].layers == orders[1].layers  # the same first layer
    assert all(event.n_batches == 12 or event.lead[0] > 3 * event.lead[1] for event in adaptive if event.lead)
    repeated, *_ = run(bench, tiny, fisher__select__adaptive=True, **settings)
    assert repeated == adaptive


def test_presets_of_what_is_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match="preset"):
        FisherSelect(preset="paper")
    with pytest.raises(StudyError, match="must be random for estimator released"):
        measure(
            forward=lambda batch: [],
            batches=[],
            modules=[],
            model=toy(2),
            generator=private(),
            labels="exact",
            estimator="released",
        )


def test_an_adaptive_run_that_was_left_is_the_undisturbed_one(tiny: Tiny, bench: Bench, new_folder: Folder) -> None:
    spec = tiny.spec("fun", fisher__select__adaptive=True, fisher__select__batches=6)
    whole, folders = execute(bench, spec, new_folder()), [new_folder() for _ in range(3)]
    for attempt, step in enumerate((1, 3)):  # the steps after which it measures
        left = execute(bench, spec, folders[attempt], folders[:attempt], leave=lambda e, step=step: e.step == step)
        assert left is None
    same(execute(bench, spec, folders[-1], folders[:-1]), whole)
