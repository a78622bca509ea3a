"""tr(F) of every adapter variant and of full fine-tuning, on each architecture, against a loop of batches of one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raysched.errors import RunError
from raysched.madx import MadX
from raysched.mini.tokenizer import build_tokenizer
from raysched.study.inputs import TaskAdapter
from raysched.training.random_madx import make
from raysched.unfreezing.fisher import FisherTrace, measure

LAYERS = 3
VARIANTS = {
    "pfeiffer": TaskAdapter(reduction=4),
    "houlsby": TaskAdapter(placement="houlsby", reduction=4),
    "parallel": TaskAdapter(placement="parallel", reduction=4),
    "lora": TaskAdapter(kind="lora", rank=3, alpha=6),
}
UNITS = {"pfeiffer": 2, "houlsby": 4, "parallel": 2, "lora": 2, "full": 6}
"""Measured modules of each layer."""
ARCHITECTURES = ("xlm-roberta", "bert", "deberta-v2")
Batch = dict[str, Tensor]


def head(*, hidden_size: int, **_: Any) -> nn.Module:
    return nn.Linear(hidden_size, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of an architecture, ready for a run of a method; its weights far enough from zero to matter."""

    @cache
    def loaded(architecture: Any) -> MadX:
        to = tmp_path_factory.mktemp(architecture)
        make(
            to,
            build_tokenizer(),
            ["en"],
            layers=LAYERS,
            width=16,
            heads=2,
            max_length=32,
            architecture=architecture,
        )
        return MadX.load(to / "backbone", {"en": to / "adapters" / "en"})

    def of(architecture: str, method: str) -> MadX:
        found = loaded(architecture)
        torch.manual_seed(0)
        if method == "full":
            found.new_full(head, None)
        else:
            found.new_task(VARIANTS[method], head, None)
        with torch.no_grad():
            for parameter in found.trainable().values():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        found.use_language("en")
        # as in training: only the top layer and the head learn
        for parameter in (*found.layer_parameters()[-1], *found.head.parameters()):
            parameter.requires_grad_(True)
        return found.train()

    return of


def tokens(n: int = 4, length: int = 7) -> Batch:
    mask = torch.ones(n, length, dtype=torch.long)
    mask[0, length - 2 :] = 0
    return {"ids": torch.randint(5, 300, (n, length), generator=private(3)), "mask": mask}


def private(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def groups(model: MadX, batch: Batch, kind: str) -> list[Tensor]:
    """`qa`: start and end; `choice`: every two rows are the choices of one example."""
    logits = model.head(model(batch["ids"], batch["mask"]))
    return list(logits.unbind(-1)) if kind == "qa" else [logits[:, 0, 0].view(-1, 2)]


def singly(batch: Batch, rows: int = 1) -> Iterator[Batch]:
    for example in range(len(batch["ids"]) // rows):
        yield {name: value[example * rows : (example + 1) * rows] for name, value in batch.items()}


def traces(model: MadX, batch: Batch, kind: str = "qa", **options: Any) -> FisherTrace:
    rows = 1 if kind == "qa" else 2
    settings = {
        "forward": lambda b: groups(model, b, kind),
        "batches": [batch],
        "modules": model.measured_modules(),
        "model": model,
        "labels": "exact",
        "generator": private(),
        "rows_per_example": rows,
        "singly": lambda b: singly(b, rows),
    }
    return measure(**{**settings, **options})


def brute(model: MadX, batch: Batch, kind: str) -> list[float]:
    """One example and one class at a time, by plain gradients of the measured modules' own tensors."""
    units = model.measured_modules()
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(True)
    per_example = []
    for one in singly(batch, 1 if kind == "qa" else 2):
        total = torch.zeros(LAYERS, dtype=torch.float64)
        for logits in groups(model, one, kind):
            log_p = logits.log_softmax(1)[0]
            for y in range(len(log_p)):
                for layer in range(LAYERS):
                    tensors = [tensor for unit in units[layer] for tensor in unit.parameters(recurse=False)]
                    gradients = torch.autograd.grad(log_p[y], tensors, retain_graph=True)
                    squares = sum(float(gradient.double().square().sum()) for gradient in gradients)
                    total[layer] += float(log_p[y].detach().exp()) * squares
        per_example.append(total)
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)
    model.train()
    return torch.stack(per_example).mean(0).tolist()


@pytest.mark.parametrize("kind", ["qa", "choice"])
@pytest.mark.parametrize("method", UNITS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_loop(model: Any, architecture: str, method: str, kind: str) -> None:
    made, batch = model(architecture, method), tokens()
    assert [len(layer) for layer in made.measured_modules()] == [UNITS[method]] * LAYERS
    found = traces(made, batch, kind)
    assert found.traces == pytest.approx(brute(made, batch, kind), rel=1e-5, abs=0)
    assert (found.n_batches, found.n_examples) == (1, 4 if kind == "qa" else 2)
    assert found.se is not None


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_the_batch_estimator_equals_the_gradient_of_the_sum(model: Any, architecture: str, method: str) -> None:
    made, batch = model(architecture, method), tokens()
    found = traces(made, batch, labels="mode", estimator="batch")
    made.eval().requires_grad_(True)
    chosen = [logits.log_softmax(1).max(1).values.sum() for logits in groups(made, batch, "qa")]
    tensors = [[t for unit in layer for t in unit.parameters(recurse=False)] for layer in made.measured_modules()]
    expected = [
        sum(float(g.double().square().sum()) for g in torch.autograd.grad(sum(chosen), layer, retain_graph=True)) / 4
        for layer in tensors
    ]
    made.requires_grad_(False)
    assert found.traces == pytest.approx(expected, rel=1e-5, abs=0)


def test_what_examples_share_cannot_be_told_apart_in_one_pass(model: Any) -> None:
    """DeBERTa projects its relative positions once for all examples, with the very weights that are measured."""
    made, batch = model("deberta-v2", "lora"), tokens()
    with pytest.raises(RunError, match=r"LoRA 0 of layer 0 must see 4 rows, .* but saw \(1, 32, 16\)"):
        traces(made, batch, singly=None)
    whole = traces(model("deberta-v2", "pfeiffer"), batch, singly=None)  # a bottleneck is no part of that
    assert whole == traces(model("deberta-v2", "pfeiffer"), batch)


def state(model: MadX) -> dict[str, Any]:
    """Everything a measurement must leave as it was, bit for bit."""
    return {
        "torch": torch.random.get_rng_state().tolist(),
        "python": random.getstate(),
        "tensors": {name: tensor.tolist() for name, tensor in model.state_dict().items()},
        "gradients": [None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in model.parameters()],
        "flags": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
    }


@pytest.mark.parametrize("method", UNITS)
@pytest.mark.parametrize("architecture", ["xlm-roberta", "deberta-v2"])
def test_nothing_is_disturbed_whatever_is_frozen(model: Any, architecture: str, method: str) -> None:
    made = model(architecture, method)
    made.head.weight.grad = torch.ones_like(made.head.weight)
    before = state(made)
    found = traces(made, tokens(), labels="noise")
    assert state(made) == before
    made.requires_grad_(True)
    assert traces(made, tokens(), labels="noise").traces == pytest.approx(found.traces, rel=1e-5)
    made.requires_grad_(False)
    assert traces(made, tokens(), labels="noise").traces == pytest.approx(found.traces, rel=1e-5)
    made.head.weight.grad = None
