"""Two hundred times one damaged file in a killed sweep: each found, none used, every result as if undisturbed."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Figures
from tests.training.corruption import DAMAGES, KINDS, Prepared, play
from tests.training.tiny_training import Tiny

TIMES = -(-200 // len(KINDS))
"""Cases of each kind, so that there are two hundred in all."""


@pytest.fixture(scope="module")
def prepared(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared.make(tiny, tmp_path_factory.mktemp("prepared"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_never_used(
    prepared: Prepared, tmp_path: Path, fault_seed: int, figures: Figures, kind: str
) -> None:
    came_out: Counter[str] = Counter()
    for number, damage in zip(range(TIMES), itertools.cycle(DAMAGES), strict=False):
        print(f"{kind}: {damage.__name__}, case {number}")
        came_out[play(prepared, tmp_path, kind, damage, seed=(fault_seed, number))] += 1
    outcomes = "; ".join(outcome if n == TIMES else f"{n} x {outcome}" for outcome, n in came_out.items())
    figures(f"{TIMES} x damaged: {kind}", outcomes, "each detected, none used")
