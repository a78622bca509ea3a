"""A sweep's own MLflow store in another place than it was made in: moved, copied, or out of an archive.

MLflow keeps the absolute place of every run's artifacts, and would go on writing to the old one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

NAME = "mlflow-artifacts"
TIMEOUT_S = 60.0
PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns that name a place below an experiment's."""


def follow(database: Path, artifacts: Path) -> None:
    """Let the experiments that kept their files beside `database` keep them in `artifacts`, where those are now.

    Raises:
        sqlite3.Error: the database is none, or was locked for a minute.
    """
    now = artifacts.as_uri()
    with contextlib.closing(sqlite3.connect(database, timeout=TIMEOUT_S)) as connection, connection:
        places = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (place,) in places:
            if place is None or place == now or not place.startswith("file:") or Path(place).name != NAME:
                continue
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (now, place))
            for table, column in PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (now, len(place) + 1, len(place) + 1, f"{place}/"),
                )
