"""The schemas of both databases. To repeat it, or to run it twice at once, changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import settings
import sqlalchemy

LOCK = 0x72617973
"""Number of the advisory lock: any, as long as all take the same."""


def migrate() -> None:
    """Bring both databases to the schema of the installed MLflow."""
    tracking = settings.database("MLFLOW_BACKEND_STORE_URI")
    auth = settings.database("MLFLOW_AUTH_DATABASE_URI")
    if tracking == auth:
        raise settings.Refused(
            "MLFLOW_AUTH_DATABASE_URI", "is the database of the runs", "give it a database of its own"
        )
    for name, uri, upgrade in (("runs", tracking, _tracking), ("users", auth, _auth)):
        with locked(uri):
            upgrade(uri)
        settings.say(f"the database of {name} is up to date")


def _tracking(uri: str) -> None:
    """`mlflow db upgrade`, in this process: as a command's argument everybody could read the password."""
    from mlflow.db import upgrade

    _callback(upgrade)(uri)


def _auth(uri: str) -> None:
    """`python -m mlflow.server.auth db upgrade --url`, in this process."""
    from mlflow.server.auth.db.cli import upgrade

    _callback(upgrade)(uri, "head")


def _callback(command: click.Command) -> Callable[..., object]:
    assert command.callback is not None
    return command.callback


@contextmanager
def locked(uri: str) -> Iterator[sqlalchemy.Connection]:
    """Hold the database for one process; others wait. The lock goes with its connection, whatever happens."""
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    connection = _connected(engine)
    try:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:number)"), {"number": LOCK})
        yield connection
    finally:
        connection.close()
        engine.dispose()


def _connected(engine: sqlalchemy.Engine) -> sqlalchemy.Connection:
    """A connection, waited for: at the first start of everything the database may be later than this."""
    patience = int(settings.number("MLFLOW_DATABASE_WAIT_S", "60"))
    until = time.monotonic() + patience
    while True:
        try:
            return engine.connect()
        except sqlalchemy.exc.OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]
            if time.monotonic() >= until or "authentication failed" in reason:
                place = f"{engine.url.host}:{engine.url.port or 5432}/{engine.url.database}"
                raise settings.Refused(place, reason, "check the address, the user and the network policy") from None
            time.sleep(1)
