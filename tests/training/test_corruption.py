"""A killed sweep with one damaged file: found, never used, and the result is that of the undisturbed sweep.

`make faults` does it two hundred times, at random bytes.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.training.corruption import KINDS, Damage, Prepared, delete, flip, play, truncate
from tests.training.tiny_training import Tiny

CASES = list(zip(KINDS, itertools.cycle((truncate, flip, delete)), strict=False))


@pytest.fixture(scope="module")
def prepared(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared.make(tiny, tmp_path_factory.mktemp("prepared"))


@pytest.mark.parametrize(("kind", "damage"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_damage_is_found_and_never_used(prepared: Prepared, tmp_path: Path, kind: str, damage: Damage) -> None:
    play(prepared, tmp_path, kind, damage, seed=0)
