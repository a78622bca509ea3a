"""Which causes get another attempt, how often, and what the user is told of those that do not."""

from __future__ import annotations

from typing import Literal

import pytest

from raysched.errors import RunError
from raysched.runners.policy import RULES, advised, again


@pytest.mark.parametrize(
    ("cause", "attempts", "tries"),
    [
        ("worker_lost", 3, 3),
        ("node_lost", 5, 5),
        ("hang", 3, 3),
        ("storage", 3, 3),
        ("checkpoint", 3, 3),
        ("unknown", 3, 3),
        ("a cause of a later version", 3, 3),
        ("oom", 5, 2),
        ("cuda_oom", 5, 2),
        ("oom", 1, 1),
        ("memory", 5, 1),
        ("nan", 5, 1),
        ("data", 5, 1),
        ("code", 5, 1),
        (None, 5, 1),
    ],
)
def test_how_often_a_run_is_tried(cause: str | None, attempts: int, tries: int) -> None:
    assert [again(cause, n, attempts) for n in range(1, 7)] == [n < tries for n in range(1, 7)]


def test_every_cause_has_its_rule() -> None:
    assert RULES.keys() == set(RunError.CAUSES)
    for cause in RULES:
        first, second = advised(cause, "RuntimeError: it broke\nin two lines").splitlines()
        assert first.startswith("RuntimeError: it broke; next: ")
        assert second == "in two lines"
        assert "{" not in first
    assert advised("data", "").startswith("data; next: ")


@pytest.mark.parametrize(
    ("gpu", "advice"),
    [
        (0.25, "--set resources.gpu=0.5"),
        (0.3, "--set resources.gpu=0.5"),
        (0.5, "--set resources.gpu=1,"),
        (1.0, "a run has the whole GPU: --set training.batch_size"),
        ("auto", "a run has the whole GPU: --set training.batch_size"),
    ],
)
def test_a_gpu_that_is_too_small_offers_the_smaller_packing(gpu: float | Literal["auto"], advice: str) -> None:
    message = advised("cuda_oom", "OutOfMemoryError: 2 GiB", gpu)
    assert advice in message
    assert "another experiment" in message
