"""What tests of several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny_training import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny random MAD-X, made once."""
    return Tiny.make(tmp_path_factory.mktemp("tiny"))
