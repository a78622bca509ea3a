"""What the search tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """These tests kill no power: SQLite need not wait until every commit is on the disk."""

    def relax(connection: object, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", relax)
