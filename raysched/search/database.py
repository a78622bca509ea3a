"""The database under a search: its address, its file mode, its transactions, and patience with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy

from raysched.errors import DamageError, MissingError, StoppedError, StudyError

Result = TypeVar("Result")


class Address:
    """An SQLite file (by path, or `sqlite:///path`) or a database server (`postgresql://...`).

    `url` may hold a password; `str()` of an address never does.
    """

    def __init__(self, storage: str | Path, lock_timeout_s: float) -> None:
        """Raises StudyError for a malformed URL, MissingError for a file that cannot be opened."""
        self.url = str(storage) if "://" in str(storage) else f"sqlite:///{quote(str(Path(storage).absolute()))}"
        try:
            self._parsed = sqlalchemy.make_url(self.url)
            self._backend = self._parsed.get_backend_name()
        except (sqlalchemy.exc.ArgumentError, ValueError):
            hint = "a path, or for example postgresql://user@host/database"
            raise StudyError("not a database URL", key="storage", hint=hint) from None
        self.engine_kwargs: dict[str, Any] = {"pool_pre_ping": True}
        if self._backend == "sqlite":
            self.engine_kwargs = {"connect_args": {"timeout": lock_timeout_s}}
            if self._parsed.database:
                self._private(self._parsed.database)

    def __str__(self) -> str:
        return self._parsed.render_as_string(hide_password=True)

    def prepare(self, engine: sqlalchemy.Engine) -> None:
        """Let every SQLite transaction take the write lock when it begins.

        Python's sqlite3 begins one only at the first write, after the reads it depends on, so that two processes
        could both tell one trial. Call it once Optuna's own migration, which would block itself, has run.
        """
        if self._backend == "sqlite":
            engine.dispose()
            sqlalchemy.event.listen(engine, "connect", _autocommit)
            sqlalchemy.event.listen(engine, "begin", _begin_immediate)

    def _private(self, path: str) -> None:
        """Mode 0600 from the beginning; SQLite gives its journals the mode of the database."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            os.chmod(path, 0o600)
        except OSError as error:
            raise MissingError(f"the search database cannot be opened: {error.strerror}", key=path) from error


def patiently(call: Callable[[], Result], address: Address, patience_s: float) -> Result:
    """`call`, again and again with growing pauses while the database is locked or away.

    The call must be one that may be repeated after any of its writes. Raises StoppedError after `patience_s`,
    DamageError where the database is none; every other error goes through.
    """
    deadline, pause = time.monotonic() + patience_s, 0.1
    while True:
        try:
            return call()
        except Exception as error:
            cause = _database_error(error)
            if cause is None:
                raise
            if not isinstance(cause, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)):
                raise DamageError(f"the search database cannot be read: {cause.orig}", key=str(address)) from error
            if time.monotonic() + pause > deadline:
                raise StoppedError(
                    f"the search database did not answer for {patience_s:g} s: {cause.orig}",
                    key=str(address),
                    hint="the same command continues once it is back",
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def _database_error(error: BaseException | None) -> sqlalchemy.exc.DBAPIError | None:
    """The driver's error, which Optuna wraps in one of its own."""
    while error is not None and not isinstance(error, sqlalchemy.exc.DBAPIError):
        error = error.__cause__
    return error


def _autocommit(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
