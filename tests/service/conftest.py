"""Two finished sweeps for all tests that keep, compare and merge."""

from __future__ import annotations

import os

import pytest

from tests.service.kept import Kept, make
from tests.training.tiny_training import Tiny


@pytest.fixture(scope="session")
def kept(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return make(tiny, tmp_path_factory.mktemp("kept"))


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
