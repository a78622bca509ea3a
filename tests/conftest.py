"""What tests of several folders share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # importing it takes seconds, and most tests need none of it
    from tests.training.tiny_training import Tiny


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the longest tests first, so that of two processes none waits for the other at the end."""
    long = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny random MAD-X, made once."""
    from tests.training.tiny_training import Tiny

    return Tiny.make(tmp_path_factory.mktemp("tiny"))
