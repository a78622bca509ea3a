"""A tiny random MAD-X, made once, and studies with small numbers on it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.training.bench import Bench
from tests.training.tiny_training import Tiny


@pytest.fixture(scope="session")
def bench(tiny: Tiny) -> Bench:
    """One warm bench for every test of the session: a run leaves nothing behind that another would notice."""
    return tiny.bench()


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """A folder that nothing was written to yet, at each call."""
    numbers = itertools.count()
    return lambda: tmp_path / f"attempt-0-{next(numbers)}"


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is half the time of a run this small; nothing here loses power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
