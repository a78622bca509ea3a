"""What the search tests share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy

from raysched.search.optuna_study import OptunaStudy
from raysched.study.search import Search
from tests.postgres import Postgres, postgres

__all__ = ["postgres"]

NewStorage = Callable[[], str]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """These tests kill no power: SQLite need not wait until every commit is on the disk."""

    def relax(connection: object, _record: object) -> None:
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", relax)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An SQLite file with Optuna's tables, which take it a second to make."""
    path = tmp_path_factory.mktemp("search") / "optuna.db"
    OptunaStudy(path, "unused", Search(schedule=("gu",), lr=(1e-3,), k=(5,))).close()
    return path.read_bytes()


@pytest.fixture(scope="session")
def tables(request: pytest.FixtureRequest) -> str:
    """The name of a PostgreSQL database with Optuna's tables."""
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database()
    OptunaStudy(url, "unused", Search(schedule=("gu",), lr=(1e-3,), k=(5,))).close()
    return url.rpartition("/")[2]


@pytest.fixture(
    params=["sqlite", "journal", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.faults])]
)
def new_storage(request: pytest.FixtureRequest, tmp_path: Path) -> NewStorage:
    """A new, empty search database of each kind at every call."""
    number = itertools.count()

    def sqlite() -> str:
        path = tmp_path / f"optuna-{next(number)}.db"
        path.write_bytes(request.getfixturevalue("template"))
        return f"sqlite:///{quote(str(path))}"

    def journal() -> str:
        return f"journal://{quote(str(tmp_path / f'optuna {next(number)}.journal'))}"

    def server() -> str:
        return request.getfixturevalue("postgres").new_database(request.getfixturevalue("tables"))

    return {"sqlite": sqlite, "journal": journal, "postgres": server}[request.param]


class Opened:
    """Opens studies and closes them all at the end of a test."""

    def __init__(self) -> None:
        self._open: list[OptunaStudy] = []

    def __call__(
        self, storage: str, of: Search, name: str = "one", earlier: Sequence[str] = (), **options: object
    ) -> OptunaStudy:
        self._open.append(OptunaStudy(storage, name, of, earlier=earlier, **options))  # type: ignore[arg-type]
        return self._open[-1]

    def close(self) -> None:
        for study in self._open:
            study.close()
        self._open.clear()


@pytest.fixture
def opened_at() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    opened.close()
