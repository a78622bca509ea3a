"""Which tensors learn: by identity, with and without a real backward and optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raysched.errors import RunError
from raysched.unfreezing.layers import TrainableLayers


def stack(n_layers: int = 3) -> tuple[nn.ModuleList, nn.Linear, TrainableLayers]:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(n_layers)])
    head = nn.Linear(4, 2)
    return layers, head, TrainableLayers([list(layer.parameters()) for layer in layers], list(head.parameters()))


def backward(layers: nn.ModuleList, head: nn.Linear) -> None:
    hidden = torch.ones(2, 4)
    for layer in layers:
        hidden = hidden + layer(hidden)
    head(hidden).square().sum().backward()


@pytest.mark.parametrize("awake", [set(), {2}, {0}, {0, 2}, {0, 1, 2}])
def test_exactly_the_awake_layers_learn(awake: set[int]) -> None:
    layers, head, trainable = stack()
    trainable.apply(awake)
    trainable.check(awake, after_backward=False)
    backward(layers, head)
    trainable.check(awake)
    for layer, module in enumerate(layers):
        assert all((p.grad is not None) is (layer in awake) for p in module.parameters())
    for other in [{1}, {0, 1}, {1, 2}, {0, 1, 2} - awake]:
        if other != awake:
            with pytest.raises(RunError, match=r"layer \d (learns|is frozen), but requires_grad is (True|False)"):
                trainable.check(other)


def test_check_finds_gradients_that_do_not_match() -> None:
    layers, head, trainable = stack()
    trainable.apply({2})
    with pytest.raises(RunError, match="always learns, but has no gradient after the backward"):
        trainable.check({2})
    backward(layers, head)
    layers[0].weight.grad = torch.zeros(4, 4)
    with pytest.raises(RunError, match="layer 0 is frozen, but has a gradient after the backward"):
        trainable.check({2})
    trainable.apply({2})  # drops it
    trainable.check({2})


def test_one_optimizer_for_the_whole_run() -> None:
    """Built before anything is frozen; a frozen tensor stays bitwise what it is, and moves once awake."""
    layers, head, trainable = stack()
    assert [id(p) for p in trainable.parameters()] == [id(p) for p in (*head.parameters(), *layers.parameters())]
    optimizer = torch.optim.AdamW(trainable.parameters(), lr=0.1, weight_decay=0.1)
    for awake in ({2}, {2}, {1, 2}, {0, 1, 2}, {2}):  # the last: a warm process begins another run
        trainable.apply(awake)
        before = [p.detach().clone() for p in layers.parameters()]
        optimizer.zero_grad(set_to_none=True)
        backward(layers, head)
        trainable.check(awake)
        optimizer.step()
        moved = [not torch.equal(p, old) for p, old in zip(layers.parameters(), before, strict=True)]
        assert moved == [layer in awake for layer in range(3) for _ in range(2)]


def test_others_are_frozen_by_identity() -> None:
    layers, head, trainable = stack()
    model = nn.ModuleDict({"layers": layers, "head": head, "backbone": nn.Linear(4, 4)})
    with torch.no_grad():
        model["backbone"].weight.copy_(layers[0].weight)  # equal values are not the same tensor
    trainable.apply({2})
    with pytest.raises(RunError, match=r"backbone\.weight is frozen, but requires_grad is True"):
        trainable.check({2}, after_backward=False, model=model)
    trainable.freeze_others(model)
    trainable.check({2}, after_backward=False, model=model)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "layers.2.weight",
        "layers.2.bias",
        "head.weight",
        "head.bias",
    ]


def test_misuse_is_refused() -> None:
    shared = nn.Parameter(torch.ones(1))
    with pytest.raises(RunError, match="a tensor must have one owner, but layer 0 and layer 1 share one"):
        TrainableLayers([[shared], [shared]], [])
    with pytest.raises(RunError, match="but always and layer 0 share one"):
        TrainableLayers([[shared]], [shared])
    with pytest.raises(RunError, match="layer 1 must have at least one parameter"):
        TrainableLayers([[shared], []], [])
    trainable = TrainableLayers([[shared]], [])
    assert len(trainable) == 1
    for call in (trainable.apply, trainable.check):
        with pytest.raises(RunError, match=r"layers must be of 0\.\.0, but got \[1\]"):
            call({0, 1})
