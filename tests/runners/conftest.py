"""Beds for sweeps without models; all start from one empty search database, which takes a second to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runners.bed import Bed, study

NewBed = Callable[..., Bed]


@pytest.fixture(scope="session")
def search_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Optuna's tables, with a study in them that no test uses."""
    from raysched.search.optuna_study import OptunaStudy

    path = tmp_path_factory.mktemp("search") / "optuna.db"
    OptunaStudy(path, "unused", study().search).close()
    return path


@pytest.fixture
def new_bed(tmp_path: Path, search_database: Path) -> Iterator[NewBed]:
    """A new sweep's folder at each call; keyword arguments are settings of its study."""
    beds: list[Bed] = []

    def make(**settings: Any) -> Bed:
        beds.append(Bed(tmp_path / f"storage-{len(beds)}", study(**settings), search_database))
        return beds[-1]

    yield make
    for bed in beds:
        bed.bury()
