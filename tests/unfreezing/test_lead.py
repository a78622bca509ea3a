"""The adaptive stop: early where the best layer is clear, never on a tie, and the same layer either way."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from raysched.unfreezing.fisher import FisherTrace, measure
from raysched.unfreezing.lead import lead
from tests.unfreezing.test_fisher import LAYERS, Toy, examples, private, toy


def measured(model: Toy, n_batches: int, contenders: tuple[int, ...], labels: str = "noise") -> FisherTrace:
    return measure(
        forward=model,
        batches=[examples(8, 5, seed=seed) for seed in range(n_batches)],
        modules=model.modules_by_layer,
        model=model,
        labels=labels,
        generator=private(),
        contenders=contenders,
    )


def best(trace: FisherTrace, layers: tuple[int, ...]) -> int:
    return max(layers, key=lambda layer: (trace.traces[layer], layer))


def twins() -> Toy:
    """Layers 0 and 1 add the same, in parallel: their traces are equal in every example."""

    class Parallel(Toy):
        def forward(self, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            x = batch["x"]
            hidden = sum(layer(x) for layer in self.layers)
            return [self.head(hidden.mean(1))]

    model = toy(3)
    model.__class__ = Parallel
    model.layers[1].load_state_dict(copy.deepcopy(model.layers[0].state_dict()))
    return model


def test_it_stops_where_the_best_is_clear_and_chooses_the_same_layer() -> None:
    model, layers = toy(3), (0, 1, 2)
    with torch.no_grad():
        model.layers[1].up.weight.mul_(4)  # makes the gradient of layer 1's other Linear large
    whole, adaptive = measured(model, 40, ()), measured(model, 40, layers)
    assert (whole.n_batches, whole.lead) == (40, None)
    assert adaptive.lead is not None
    assert 4 <= adaptive.n_batches < 40
    assert adaptive.lead.clear
    assert best(adaptive, layers) == best(whole, layers) == 1
    assert adaptive == measured(model, 40, layers)  # the same draws end it the same way


def test_it_stops_at_the_first_batch_at_which_it_may() -> None:
    """Batch by batch: before it the lead was not clear, or there were fewer than four."""
    model, layers = toy(3), (0, 1, 2)
    found = measured(model, 40, layers)
    for n in itertools.count(4):
        part = measured(model, n, layers)
        assert part.lead is not None
        if part.lead.clear:
            break
    assert found == part


def test_a_tie_goes_to_the_cap() -> None:
    model = twins()
    found = measured(model, 9, (0, 1), labels="exact")
    assert found.n_batches == 9
    assert found.traces[0] == found.traces[1]
    assert found.lead is not None
    assert (found.lead.difference, found.lead.clear) == (0.0, False)


def test_layers_that_are_awake_are_not_compared() -> None:
    """The lead is that of the frozen ones: a tie between them goes to the cap, whatever another layer has."""
    model = twins()
    with torch.no_grad():
        model.layers[2].up.weight.mul_(10)
    assert measured(model, 8, (0, 1), labels="exact").n_batches == 8
    assert measured(model, 8, (0, 2), labels="exact").n_batches == 4


@pytest.mark.parametrize("contenders", [(), (1,)])
def test_with_fewer_than_two_there_is_nothing_to_compare(contenders: tuple[int, ...]) -> None:
    found = measured(toy(3), 6, contenders)
    assert (found.n_batches, found.lead, len(found.traces)) == (6, None, LAYERS)


def test_lead_is_a_paired_difference() -> None:
    table = torch.tensor([[1.0, 5.0, 4.0], [9.0, 15.0, 13.0], [2.0, 6.0, 3.0]], dtype=torch.float64)
    found = lead(table, (0, 1, 2))
    differences = torch.tensor([1.0, 2.0, 3.0])
    assert found.difference == pytest.approx(2.0)
    assert found.se == pytest.approx(differences.std().item() / 3**0.5)
    assert lead(table, (0, 2)).difference == pytest.approx((3 + 4 + 1) / 3)
