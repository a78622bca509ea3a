"""tr(F) against slow twins: a loop of batches of one with `.grad`, torch.func vmap(grad), and closed forms."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysched.errors import Diverged, RunError, StudyError
from raysched.unfreezing import directions as v_of
from raysched.unfreezing import units
from raysched.unfreezing.fisher import FisherTrace, measure

WIDTH, INNER, LAYERS = 16, 8, 3


class Bottleneck(nn.Module):
    """A task adapter on a frozen layer; `calls` > 1 runs the same Linears again in one forward."""

    def __init__(self, calls: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.trunk = nn.Linear(WIDTH, WIDTH)
        self.down, self.up = nn.Linear(WIDTH, INNER, bias=bias), nn.Linear(INNER, WIDTH, bias=bias)
        self.dropout, self.calls = nn.Dropout(0.3), calls

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.dropout(torch.tanh(self.trunk(hidden)))
        for _ in range(self.calls):
            hidden = hidden + self.up(torch.relu(self.down(hidden)))
        return hidden


class Toy(nn.Module):
    """Layers and a head: `kind` classes (mean over tokens), "qa" (two logits a token) or "choice" (one a row)."""

    def __init__(self, kind: int | str, **options: Any) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList([Bottleneck(**options) for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, {"qa": 2, "choice": 1}.get(str(kind)) or int(kind))

    def forward(self, batch: dict[str, Tensor]) -> list[Tensor]:
        hidden = batch["x"].flatten(0, -3)  # (rows, T, WIDTH)
        for layer in self.layers:
            hidden = layer(hidden)
        if self.kind == "qa":
            return list(self.head(hidden).unbind(-1))
        logits = self.head(hidden.mean(1))
        return [logits.view(len(batch["x"]), -1) if self.kind == "choice" else logits]

    @property
    def modules_by_layer(self) -> list[list[nn.Linear]]:
        return [[layer.down, layer.up] for layer in self.layers]


def toy(kind: int | str, seed: int = 0, scale: float = 3.0, **options: Any) -> Toy:
    """Frozen as in training: only the top layer's adapter and the head want a gradient."""
    torch.manual_seed(seed)
    model = Toy(kind, **options)
    with torch.no_grad():
        model.head.weight.mul_(scale)
    model.requires_grad_(False)
    model.layers[-1].down.requires_grad_(True)
    model.layers[-1].up.requires_grad_(True)
    model.head.requires_grad_(True)
    return model.train()


def examples(n: int, length: int, rows: int | None = None, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, length, WIDTH) if rows is None else (n, rows, length, WIDTH)
    return {"x": torch.randn(*shape, generator=generator)}


def private(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def take(batch: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: tensor[index : index + 1] for name, tensor in batch.items()}


def gradients(model: nn.Module, layers: list[list[nn.Linear]], objective: Callable[[], Tensor]) -> list[Tensor]:
    """One flat gradient per layer by a plain backward into `.grad`."""
    model.zero_grad(set_to_none=True)
    objective().backward()
    return [torch.cat([p.grad.flatten() for linear in layer for p in linear.parameters()]).double() for layer in layers]


def brute(
    model: nn.Module,
    forward: Callable[[nn.Module, dict[str, Tensor]], list[Tensor]],
    layers_of: Callable[[nn.Module], list[list[nn.Linear]]],
    batch: dict[str, Tensor],
    labels: str,
    generator: torch.Generator,
    targets: list[Tensor] | None = None,
) -> Tensor:
    """Per-example tr(F) (n, L), one example at a time, one class at a time; on a copy that learns everywhere."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    layers = layers_of(model)
    with torch.no_grad():
        p_all = [group.softmax(1) for group in forward(model, batch)]
    if labels == "sampled":
        targets = [torch.multinomial(p, 1, generator=generator)[:, 0] for p in p_all]
    elif labels == "mode":
        targets = [p.argmax(1) for p in p_all]
    elif labels == "noise":
        signs = [torch.randint(0, 2, p.shape, generator=generator) * 2.0 - 1 for p in p_all]
    rows = []
    for b in range(len(p_all[0])):
        one = take(batch, b)

        def log_p(g: int, y: int, one: dict[str, Tensor] = one) -> Tensor:
            return forward(model, one)[g].log_softmax(1)[0, y]

        total = torch.zeros(len(layers), dtype=torch.float64)
        if labels == "exact":
            for g, p in enumerate(p_all):
                for y in range(p.shape[1]):
                    found = gradients(model, layers, lambda g=g, y=y: log_p(g, y))
                    total += p[b, y].double() * torch.stack([gradient.square().sum() for gradient in found])
        elif labels == "noise":
            # sum_c sqrt(p_c) eps_c grad log p_c: a random label's weights, written without v
            def noisy(b: int = b, one: dict[str, Tensor] = one) -> Tensor:
                logs = [z.log_softmax(1)[0] for z in forward(model, one)]
                return sum((p[b].sqrt() * eps[b] * log).sum() for p, eps, log in zip(p_all, signs, logs, strict=True))

            total += torch.stack([gradient.square().sum() for gradient in gradients(model, layers, noisy)])
        else:
            assert targets is not None
            chosen = [int(y[b]) for y in targets]
            found = gradients(model, layers, lambda chosen=chosen: sum(log_p(g, y) for g, y in enumerate(chosen)))
            total += torch.stack([gradient.square().sum() for gradient in found])
        rows.append(total)
    return torch.stack(rows)


def brute_toy(model: Toy, batch: dict[str, Tensor], labels: str, **options: Any) -> Tensor:
    return brute(
        model, lambda m, b: m(b), lambda m: m.modules_by_layer, batch, labels, private(), options.get("targets")
    )


def measure_toy(model: Toy, *batches: dict[str, Tensor], **options: Any) -> FisherTrace:
    settings = {"generator": private(), "modules": model.modules_by_layer, "model": model, "forward": model}
    return measure(**{**settings, "batches": batches, **options})


def close(found: FisherTrace, table: Tensor, rel: float = 1e-5) -> None:
    """Traces and standard errors are those of the per-example table."""
    assert found.traces == pytest.approx(table.mean(0).tolist(), rel=rel, abs=0)
    assert found.se == pytest.approx((table.std(0) / len(table) ** 0.5).tolist(), rel=rel, abs=0)
    assert (found.n_examples, min(found.traces) > 0) == (len(table), True)


# Against the loop


@pytest.mark.parametrize("labels", ["exact", "noise", "sampled", "mode", "true"])
@pytest.mark.parametrize("length", [2, 9])  # ghost norms (2 * 24 < 128) and explicit ones
@pytest.mark.parametrize("kind", [2, 3, 5, "qa"])
def test_per_example_equals_the_loop(kind: int | str, length: int, labels: str) -> None:
    model, batch = toy(kind), examples(6, length)
    n_classes = length if kind == "qa" else int(kind)
    truth = [torch.arange(6) % n_classes, torch.arange(6).flip(0) % n_classes][: 2 if kind == "qa" else 1]
    found = measure_toy(model, batch, labels=labels, targets=lambda _: truth)
    close(found, brute_toy(model, batch, labels, targets=truth))
    assert (found.labels, found.estimator, found.n_batches) == (labels, "per_example", 1)


@pytest.mark.parametrize("options", [{"bias": False}, {"calls": 2}, {"calls": 3, "bias": False}])
@pytest.mark.parametrize("length", [1, 9])
def test_no_bias_and_linears_called_more_than_once(length: int, options: dict[str, Any]) -> None:
    """A Linear that runs twice has one gradient, the sum over its calls, not two squares."""
    model, batch = toy(3, **options), examples(5, length)
    close(measure_toy(model, batch, labels="exact"), brute_toy(model, batch, "exact"))


@pytest.mark.parametrize("labels", ["exact", "noise", "mode"])
def test_an_example_of_several_rows(labels: str) -> None:
    model, batch = toy("choice"), examples(5, 4, rows=3)
    expected = brute_toy(model, batch, labels)
    for rows in (3, lambda b: b["x"].shape[1]):
        close(measure_toy(model, batch, labels=labels, rows_per_example=rows), expected)


def test_inputs_without_a_token_axis() -> None:
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), {"x": torch.randn(6, 4)}
    found = measure(
        forward=lambda b: [model(b["x"])],
        batches=[batch],
        modules=[[model[0]], [model[2]]],
        model=model,
        generator=private(),
    )
    expected = brute(model, lambda m, b: [m(b["x"])], lambda m: [[m[0]], [m[2]]], batch, "exact", private())
    close(found, expected)
    assert found.labels == "exact"


def test_several_batches_of_unequal_size() -> None:
    model, whole = toy(3), examples(10, 5)
    parts = [{"x": whole["x"][:4]}, {"x": whole["x"][4:8]}, {"x": whole["x"][8:]}]
    found = measure_toy(model, *parts, labels="exact")
    close(found, brute_toy(model, whole, "exact"))
    assert (found.n_batches, found.n_examples) == (3, 10)


def test_labels_that_are_no_class_are_ignored() -> None:
    """Spans cut off by the window: position T, which the loss ignores."""
    model, batch = toy("qa"), examples(3, 5)
    truth = [torch.tensor([1, 5, 5]), torch.tensor([2, 3, 5])]
    found = measure_toy(model, batch, labels="true", targets=lambda _: truth)
    both = brute_toy(model, take(batch, 0), "true", targets=[y[:1] for y in truth])
    end_alone = brute(
        model,
        lambda m, b: m(b)[1:],
        lambda m: m.modules_by_layer,
        take(batch, 1),
        "true",
        private(),
        [truth[1][1:2]],
    )
    close(found, torch.cat([both, end_alone, torch.zeros_like(both)]))
    alone = measure_toy(model, take(batch, 2), labels="true", targets=lambda _: [y[2:] for y in truth])
    assert alone.traces == (0.0,) * LAYERS


def test_masked_logits() -> None:
    """Padding at -inf has probability 0 and adds nothing."""
    model, batch = toy("qa"), examples(4, 6)
    cut = {"x": batch["x"][:, :4]}

    def masked(b: dict[str, Tensor]) -> list[Tensor]:
        return [group.masked_fill(torch.arange(6) >= 4, -torch.inf) for group in model(b)]

    for labels in ("exact", "mode"):
        assert measure_toy(model, batch, labels=labels, forward=masked).traces == pytest.approx(
            measure_toy(model, cut, labels=labels).traces, rel=1e-5
        )


# Against vmap(grad) and closed forms


@pytest.mark.parametrize("length", [2, 9])
@pytest.mark.parametrize("kind", [3, "qa"])
def test_equals_vmap_of_grad(kind: int | str, length: int) -> None:
    model, batch = toy(kind), examples(6, length)
    frozen = copy.deepcopy(model).eval()
    parameters = {name: p.detach() for name, p in frozen.named_parameters()}
    labels = [group.argmax(1) for group in frozen(batch)]

    def log_p(weights: dict[str, Tensor], x: Tensor, ys: list[Tensor]) -> Tensor:
        groups = torch.func.functional_call(frozen, weights, ({"x": x[None]},))
        return sum(group.log_softmax(1)[0].gather(0, y[None])[0] for group, y in zip(groups, ys, strict=True))

    per_example = torch.func.vmap(torch.func.grad(log_p), in_dims=(None, 0, 0))(parameters, batch["x"], labels)
    table = torch.stack(
        [
            sum(
                g.double().flatten(1).square().sum(1)
                for name, g in per_example.items()
                if f"layers.{j}." in name and "trunk" not in name
            )
            for j in range(LAYERS)
        ],
        dim=1,
    )
    close(measure_toy(model, batch, labels="mode"), table)


def test_two_classes_have_a_closed_form() -> None:
    """tr(F) = p1 p2 ||g1 - g2||^2, g the gradients of the two logits; and mode / exact = (1 - p_max) / p_max."""
    model, batch = toy(2), examples(5, 4)
    learning = copy.deepcopy(model).eval().requires_grad_(True)
    table, mode = [], []
    for b in range(5):
        p = learning(take(batch, b))[0].softmax(1)[0].detach().double()
        first, second = (
            gradients(learning, learning.modules_by_layer, lambda c=c, b=b: learning(take(batch, b))[0][0, c])
            for c in (0, 1)
        )
        row = torch.stack([p[0] * p[1] * (g1 - g2).square().sum() for g1, g2 in zip(first, second, strict=True)])
        table.append(row)
        mode.append(row * (1 - p.max()) / p.max())
    close(measure_toy(model, batch), torch.stack(table))
    close(measure_toy(model, batch, labels="mode"), torch.stack(mode))


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 30.0])
def test_exact_directions_factor_the_covariance(n_classes: int, sharpness: float) -> None:
    logits = torch.randn(4, n_classes, dtype=torch.float64, generator=private()) * sharpness
    logits[0, 0] += 1000  # certain of the first class: probabilities are exactly 1 and 0
    p = logits.softmax(1)
    vs = [v for (v,) in v_of.directions([logits], "exact", 1, private(), None)]
    assert len(vs) == n_classes - 1
    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(sum(v[:, :, None] * v[:, None, :] for v in vs), covariance, atol=1e-14, rtol=0)


@pytest.mark.parametrize("labels", ["noise", "sampled"])
def test_random_directions_have_the_right_moments(labels: str) -> None:
    logits = torch.tensor([[0.5, -1.0, 0.2, 2.0]], dtype=torch.float64).expand(40_000, 4)
    p = logits[0].softmax(0)
    ((v,),) = v_of.directions([logits], labels, 1, private(), None)
    assert v.mean(0).abs().max() < 0.01
    torch.testing.assert_close(v.T @ v / len(v), torch.diag(p) - p[:, None] * p, atol=0.01, rtol=0)


@pytest.mark.parametrize("estimator", ["per_example", "batch"])
@pytest.mark.parametrize("labels", ["noise", "sampled"])
@pytest.mark.parametrize("kind", [4, "qa"])
def test_random_labels_are_unbiased(kind: int | str, labels: str, estimator: str) -> None:
    model, batch, generator = toy(kind, scale=1.0), examples(6, 5), private()
    exact = torch.tensor(measure_toy(model, batch, labels="exact").traces)
    draws = torch.tensor(
        [measure_toy(model, batch, labels=labels, estimator=estimator, generator=generator).traces for _ in range(200)]
    )
    se = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - exact).abs() < 3 * se).all()


def test_more_draws_are_the_mean_of_single_ones() -> None:
    model, batch, generator = toy(4), examples(6, 5), private()
    single = torch.tensor([measure_toy(model, batch, labels="noise", generator=generator).traces for _ in range(5)])
    found = measure_toy(model, batch, labels="noise", draws=5)
    assert found.traces == pytest.approx(single.mean(0).tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "estimator", "expected"),
    [
        (2, "per_example", "exact"),
        (3, "per_example", "exact"),
        (4, "per_example", "noise"),
        ("qa", "per_example", "noise"),
        (2, "batch", "noise"),
    ],
)
def test_auto_labels(kind: int | str, estimator: str, expected: str) -> None:
    found = measure_toy(toy(kind), examples(4, 5), examples(4, 5, seed=2), labels="auto", estimator=estimator)
    same = measure_toy(toy(kind), examples(4, 5), examples(4, 5, seed=2), labels=expected, estimator=estimator)
    assert found == same
    assert found.labels == expected


# The batch estimator


@pytest.mark.parametrize("length", [2, 9])
@pytest.mark.parametrize("kind", [3, "qa"])
def test_batch_estimator_and_the_released_scale(kind: int | str, length: int) -> None:
    """B * ||mean g||^2; the released code's square of the mean loss's gradient over B is B^2 (QA: 4 B^2) smaller."""
    model, batches = toy(kind), [examples(6, length), examples(6, length, seed=2), examples(6, length, seed=3)]
    learning = copy.deepcopy(model).eval().requires_grad_(True)
    released, gnb = [], []
    for batch in batches:

        def mean_loss(batch: dict[str, Tensor] = batch) -> Tensor:
            groups = torch.cat(learning(batch))  # QA: 2B examples
            return nn.functional.cross_entropy(groups, groups.argmax(1))

        squares = torch.stack([g.square().sum() for g in gradients(learning, learning.modules_by_layer, mean_loss)])
        released.append(squares / 6)
        gnb.append(squares * (4 if kind == "qa" else 1) * 6)
    found = measure_toy(model, *batches, labels="mode", estimator="batch")
    table = torch.stack(gnb)
    assert found.traces == pytest.approx(table.mean(0).tolist(), rel=1e-5, abs=0)
    assert found.se == pytest.approx((table.std(0) / 3**0.5).tolist(), rel=1e-5, abs=0)
    scale = (4 if kind == "qa" else 1) * 6**2
    assert found.traces == pytest.approx((torch.stack(released).mean(0) * scale).tolist(), rel=1e-5, abs=0)
    assert (found.n_batches, found.n_examples, found.estimator) == (3, 18, "batch")


def test_one_value_has_no_standard_error() -> None:
    assert measure_toy(toy(3), examples(1, 5)).se is None
    assert measure_toy(toy(3), examples(5, 5), estimator="batch").se is None


# A real MAD-X model


@pytest.fixture(scope="module")
def madx() -> Any:
    """A tiny XLM-R with a language adapter below a task adapter, weights far enough from zero to matter."""
    import adapters
    from adapters import SeqBnConfig, SeqBnInvConfig
    from adapters.composition import Stack
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
    )
    model = XLMRobertaModel(config, add_pooling_layer=False)
    adapters.init(model)
    model.add_adapter("lang", config=SeqBnInvConfig(reduction_factor=2))
    model.add_adapter("task", config=SeqBnConfig(reduction_factor=4))
    model.set_active_adapters(Stack("lang", "task"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    wrapped = nn.ModuleDict({"backbone": model, "head": nn.Linear(24, 2)})
    wrapped.requires_grad_(False)
    wrapped["head"].requires_grad_(True)
    for linear in task_linears(wrapped)[-1]:
        linear.requires_grad_(True)
    return wrapped.train()


def task_linears(wrapped: nn.Module) -> list[list[nn.Linear]]:
    found = wrapped["backbone"].get_adapter("task")
    return [
        [m for location in found[layer].values() for m in location.modules() if isinstance(m, nn.Linear)]
        for layer in sorted(found)
    ]


def qa_groups(wrapped: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
    hidden = wrapped["backbone"](batch["input_ids"], attention_mask=batch["mask"][:, None, :]).last_hidden_state
    return list(wrapped["head"](hidden).unbind(-1))


def tokens(n: int, length: int, seed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(n, length, dtype=torch.long)
    mask[0, length - 2 :] = 0
    return {"input_ids": torch.randint(4, 40, (n, length), generator=generator), "mask": mask}


def measure_madx(wrapped: Any, *batches: dict[str, Tensor], **options: Any) -> FisherTrace:
    settings = {
        "forward": lambda b: qa_groups(wrapped, b),
        "modules": task_linears(wrapped),
        "model": wrapped,
        "generator": private(),
    }
    return measure(**{**settings, "batches": batches, **options})


@pytest.mark.parametrize("labels", ["exact", "noise", "sampled", "mode"])
def test_adapters_model_equals_the_loop(madx: Any, labels: str) -> None:
    assert [len(layer) for layer in task_linears(madx)] == [2, 2, 2]
    batch = tokens(3, 8)
    close(measure_madx(madx, batch, labels=labels), brute(madx, qa_groups, task_linears, batch, labels, private()))


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything a measurement must leave as it was, bit for bit."""
    python, numpy = random.getstate(), np.random.get_state()
    return {
        "torch": torch.random.get_rng_state().tolist(),
        "python": python,
        "numpy": (numpy[1].tolist(), numpy[2:]),
        "parameters": {name: p.detach().clone().tolist() for name, p in model.named_parameters()},
        "gradients": {
            name: None if p.grad is None else (id(p.grad), p.grad.tolist()) for name, p in model.named_parameters()
        },
        "flags": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in model.named_modules()
        },
        "grad_enabled": torch.is_grad_enabled(),
    }


@pytest.fixture
def disturbed(madx: Any) -> Any:
    """Mixed modes, and old gradients on some tensors."""
    model = copy.deepcopy(madx)
    task_linears(model)[0][0].eval()
    model["head"].weight.grad = torch.ones_like(model["head"].weight)
    task_linears(model)[0][1].weight.grad = torch.full_like(task_linears(model)[0][1].weight, 2.0)
    return model


@pytest.mark.parametrize("labels", ["exact", "noise", "sampled", "mode"])
def test_no_side_effects(disturbed: Any, labels: str) -> None:
    def loader() -> Iterator[dict[str, Tensor]]:
        yield tokens(3, 6)
        torch.rand(1)  # a data iterator that draws from the global generator
        yield tokens(2, 7, seed=4)

    before = snapshot(disturbed)
    with torch.no_grad():
        found = measure_madx(disturbed, labels=labels, batches=loader())
    assert found.n_examples == 5
    assert snapshot(disturbed) == before


def test_no_side_effects_when_the_forward_fails(disturbed: Any) -> None:
    before, seen = snapshot(disturbed), []

    def forward(batch: dict[str, Tensor]) -> list[Tensor]:
        groups = qa_groups(disturbed, batch)
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return groups

    with pytest.raises(KeyboardInterrupt):
        measure_madx(disturbed, tokens(2, 6), tokens(2, 6), forward=forward)
    assert snapshot(disturbed) == before


def test_the_next_step_is_bitwise_the_same(madx: Any) -> None:
    """Training with dropout, with and without measurements between the steps."""

    def train(measuring: bool) -> list[Any]:
        model = copy.deepcopy(madx).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
        torch.manual_seed(5)
        for step in range(3):
            if measuring:
                measure_madx(model, tokens(3, 6), labels="noise")
            optimizer.zero_grad(set_to_none=True)
            sum(group.logsumexp(1).sum() for group in qa_groups(model, tokens(4, 6, seed=step))).backward()
            optimizer.step()
        return [p.tolist() for p in model.parameters()]

    assert train(True) == train(False)


def test_the_same_value_whatever_is_frozen_and_in_either_mode() -> None:
    model, batch = toy(3), examples(4, 5)
    found = measure_toy(model, batch)
    for everything in (True, False):
        again = copy.deepcopy(model).requires_grad_(everything).train(everything)
        assert measure_toy(again, batch).traces == pytest.approx(found.traces, rel=1e-6)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure_toy(model, batch) == found  # float32 whatever surrounds it


# What cannot be measured


class Odd(nn.Module):
    """A layer whose use of its Linear the hooks must notice."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.used, self.other = how, nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        out = self.used(x)
        if self.how == "dead end":
            self.other(x)
        elif self.how == "in place":
            out.mul_(2)
        elif self.how == "doubled rows":
            out = self.used(torch.cat([x, x]))[: len(x)]
        elif self.how == "no grad":
            return [out.detach()]
        elif self.how == "one class":
            return [out[:, :1]]
        elif self.how == "three axes":
            return [out[None]]
        elif self.how == "two sizes":
            return [out, out[1:]]
        elif self.how == "nan":
            return [out * torch.nan]
        elif self.how == "overflow":
            return [(out - out.detach()) * 1e38 * 10]  # its gradient is infinite
        return [out]


@pytest.mark.parametrize(
    ("how", "names", "error", "message"),
    [
        (
            "plain",
            ["used", "other"],
            RunError,
            "Linear 0 of layer 1 was not reached by the forward: is its adapter active",
        ),
        ("dead end", ["used", "other"], RunError, "Linear 0 of layer 1 ran, but no logit depends on it"),
        ("in place", ["used"], RunError, "Linear 0 of layer 0 had its output changed in place"),
        ("doubled rows", ["used"], RunError, r"must see 5 rows, .* but saw \(10, 4\)"),
        ("no grad", ["used"], RunError, "logits must depend on the measured Linears"),
        ("one class", ["used"], RunError, r"one B and C >= 2, but got \[\(5, 1\)\]"),
        ("three axes", ["used"], RunError, r"but got \[\(1, 5, 3\)\]"),
        ("two sizes", ["used"], RunError, r"but got \[\(5, 3\), \(4, 3\)\]"),
        ("nan", ["used"], Diverged, "probabilities of the model are not finite"),
        ("overflow", ["used"], Diverged, r"tr\(F\) is not a finite number"),
        ("plain", ["used", "used"], RunError, "no two of the measured Linears may share a tensor"),
        ("plain", [], RunError, "the logits must depend"),
    ],
)
def test_what_the_hooks_cannot_measure_is_refused(
    how: str, names: list[str], error: type[Exception], message: str
) -> None:
    torch.manual_seed(0)
    model = Odd(how).requires_grad_(how == "in place")
    x = torch.randn(5, 4)
    with pytest.raises(error, match=message):
        measure(
            forward=model,
            batches=[x],
            modules=[[getattr(model, name)] for name in names],
            model=model,
            labels="noise",
            generator=private(),
        )
    assert not model.used._forward_hooks


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([[]], "every layer must have at least one Linear"),
        ([[nn.LayerNorm(2)]], "only Linear and LoRA modules can be measured, but got LayerNorm"),
    ],
)
def test_modules_that_are_none(modules: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        measure_toy(toy(3), examples(2, 2), modules=modules)


def test_no_batch() -> None:
    with pytest.raises(RunError, match="at least one batch must be measured, but got none"):
        measure_toy(toy(3))


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"labels": "best"}, "fisher.labels", "got 'best'\n  valid: auto, exact, noise, sampled, mode, true"),
        ({"estimator": "both"}, "fisher.estimator", "got 'both'\n  valid: per_example, batch"),
        ({"labels": "exact", "estimator": "batch"}, "fisher.labels", "random for estimator batch"),
        ({"labels": "true"}, "fisher.labels", "true labels must be given"),
        ({"draws": 0}, "fisher.draws", "draws >= 1 must hold, but got 0"),
        ({"draws": 2, "labels": "exact"}, "fisher.draws", "draws == 1 must hold for labels exact, .* got 2"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        measure_toy(toy(3), examples(2, 2), **options)
    assert caught.value.key == key


def test_ghost_and_explicit_agree() -> None:
    a, g = torch.randn(3, 7, 6, generator=private(1)), torch.randn(3, 7, 5, generator=private(2))
    torch.testing.assert_close(units._ghost(a, g), units._explicit(a, g), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("length", "chosen"), [(5, "_ghost"), (6, "_explicit")])
def test_the_cheaper_formula_is_taken(length: int, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ghost if T * (di + do) < di * do: here 24 T < 128."""
    used = []
    for name in ("_ghost", "_explicit"):
        formula = getattr(units, name)
        monkeypatch.setattr(units, name, lambda a, g, name=name, formula=formula: (used.append(name), formula(a, g))[1])
    measure_toy(toy(2), examples(2, length))
    assert set(used) == {chosen}
