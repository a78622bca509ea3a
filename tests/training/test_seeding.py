"""Named random streams."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysched.training.seeding import STREAMS, generator, global_rng, stream

CPU = torch.device("cpu")


def test_streams_differ_by_seed_name_and_position() -> None:
    positions: list[tuple[int, ...]] = [(), (0,), (1,), (10,), (1, 0), (0, 1), (1, 1)]
    named = list(itertools.product((0, 1, 10, 11), STREAMS, positions))
    assert len({stream(seed, name, *keys) for seed, name, keys in named}) == len(named)


@given(seed=st.integers(0, 2**63 - 1), name=st.sampled_from(STREAMS), keys=st.lists(st.integers(0, 10**9), max_size=3))
def test_a_stream_is_a_seed_that_torch_takes_and_always_the_same(seed: int, name: str, keys: list[int]) -> None:
    value = stream(seed, name, *keys)
    assert 0 <= value < 2**63
    assert value == stream(seed, name, *keys)
    generator(value)


def test_the_values_of_a_stream_are_settled() -> None:
    """They decide every result: whoever changes them changes RESULT_SCHEMA too."""
    assert stream(0, "init") == 2085980616058389181
    assert stream(3, "dropout", 17) == 4854194695619517678


def test_unknown_streams_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no random stream 'weights'; there are: init, data, dropout"):
        stream(0, "weights")


@pytest.mark.parametrize("fails", [False, True])
def test_the_global_generator_is_afterwards_as_it_was(fails: bool) -> None:
    torch.manual_seed(5)
    torch.rand(3)
    before = torch.get_rng_state()
    try:
        with global_rng(9, CPU):
            inside = torch.rand(4)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert torch.equal(torch.get_rng_state(), before)
    with global_rng(9, CPU):
        assert torch.equal(torch.rand(4), inside)
    with global_rng(10, CPU):
        assert not torch.equal(torch.rand(4), inside)
    assert torch.equal(torch.rand(4, generator=generator(9)), inside)
