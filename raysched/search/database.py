"""The database under a search: its address, its file mode, its transactions, and patience with it."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import sqlalchemy

from raysched.errors import DamageError, MissingError, StoppedError, StudyError

Result = TypeVar("Result")
JOURNAL = "journal://"
"""Scheme of a journal file, which is safe on NFS, where SQLite is not."""
PSYCOPG = "postgresql+psycopg"
HOPELESS = re.compile(r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist")
"""What a database server says that waiting does not change."""
LOOK_S = 0.5
"""Between two looks, while a database is away, whether anybody still waits for it."""


class Address:
    """An SQLite file (by path, or `sqlite:///path`), a journal file (`journal:///path`) or a server (`postgresql://`).

    `url` may hold a password; `str()` of an address never does.
    """

    def __init__(self, storage: str | Path, lock_timeout_s: float = 60) -> None:
        """Raises StudyError for a malformed URL. Touches no file."""
        self.url = str(storage) if "://" in str(storage) else f"sqlite:///{quote(str(Path(storage).absolute()))}"
        self.journal: Path | None = None
        self.backend = ""
        """`sqlite`, `postgresql`, or what else SQLAlchemy knows; empty for a journal."""
        self.engine_kwargs: dict[str, Any] = {}
        self._parsed: sqlalchemy.URL | None = None
        if self.url.startswith(JOURNAL):
            self.journal = Path(unquote(self.url.removeprefix(JOURNAL))).absolute()
            return
        self._parsed = _parsed(self.url)
        self.backend = self._parsed.get_backend_name()
        if self.backend == "sqlite":
            self.engine_kwargs = {"connect_args": {"timeout": lock_timeout_s}}
            return
        self.engine_kwargs = {"pool_pre_ping": True}
        if self._parsed.drivername == PSYCOPG:
            self.engine_kwargs["connect_args"] = {"connect_timeout": 10}
        self.url = self._parsed.render_as_string(hide_password=False)

    def __str__(self) -> str:
        if self.journal is not None:
            return str(self.journal)
        return self._parsed.render_as_string(hide_password=True) if self._parsed is not None else ""

    @property
    def place(self) -> str:
        """Where the database is, whoever asks: no user, no password, no options."""
        if self._parsed is None or self.backend == "sqlite":
            return str(self)
        port = self._parsed.port or (5432 if self.backend == "postgresql" else None)
        where = sqlalchemy.URL.create(
            self.backend, host=self._parsed.host, port=port, database=self._parsed.database or self._parsed.username
        )
        return where.render_as_string()

    def make(self) -> None:
        """Let a database of one file have mode 0600 from the beginning; a journal loses an interrupted write.

        SQLite gives its journals the mode of the database. Raises MissingError for a file that cannot be opened.
        """
        path = self.journal or (
            self._parsed.database if self._parsed is not None and self.backend == "sqlite" else None
        )
        if not path:
            return
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            os.chmod(path, 0o600)
        except OSError as error:
            raise MissingError(f"the search database cannot be opened: {error.strerror}", key=str(path)) from error
        self.mend()

    def mend(self) -> None:
        """Cut a journal's interrupted write, which the next line would be glued to. Only the sweep's driver may."""
        if self.journal is None:
            return
        with self.journal.open("rb+") as file:
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    end = start + found + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
                os.fsync(file.fileno())

    def prepare(self, engine: sqlalchemy.Engine) -> None:
        """Let every SQLite transaction take the write lock when it begins.

        Python's sqlite3 begins one only at the first write, after the reads it depends on, so that two processes
        could both tell one trial. Call it once Optuna's own migration, which would block itself, has run.
        """
        if self.backend == "sqlite":
            engine.dispose()
            sqlalchemy.event.listen(engine, "connect", _autocommit)
            sqlalchemy.event.listen(engine, "begin", _begin_immediate)


def _parsed(url: str) -> sqlalchemy.URL:
    try:
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            return parsed.set(drivername=PSYCOPG)
        parsed.get_dialect()
        return parsed
    except (sqlalchemy.exc.ArgumentError, ValueError, ImportError):  # which may quote the URL, and its password
        raise StudyError(
            "not a database URL",
            key="storage",
            choices=["a path", "journal", "postgresql://user@host/database"],
            hint="its password belongs into RAYSCHED_OPTUNA or ~/.pgpass",
        ) from None


def patiently(
    call: Callable[[], Result], address: Address, patience_s: float, hurried: Callable[[], bool] = lambda: False
) -> Result:
    """`call`, again and again with growing pauses while the database is locked or away; no more once `hurried`.

    The call must be one that may be repeated after any of its writes. Raises StoppedError after `patience_s`,
    DamageError where the database is none, MissingError where it lets us not in; every other error goes through.
    """
    began, pause = time.monotonic(), 0.1
    while True:
        try:
            return call()
        except Exception as error:
            cause = _outage(error, address)
            if cause is None:
                raise
            if HOPELESS.search(cause):
                raise MissingError(
                    f"the search database cannot be used: {cause}",
                    key=str(address),
                    hint="check its address and the password: in RAYSCHED_OPTUNA, or in ~/.pgpass (mode 0600)",
                ) from error
            if hurried() or time.monotonic() + pause > began + patience_s:
                waited = round(time.monotonic() - began) if hurried() else patience_s
                raise StoppedError(
                    f"the search database did not answer for {waited:g} s: {cause}",
                    key=str(address),
                    hint="the same command continues once it is back",
                ) from error
        rest = pause
        while rest > 0 and not hurried():
            time.sleep(min(rest, LOOK_S))
            rest -= LOOK_S
        pause = min(2 * pause, 10.0)


def _outage(error: Exception, address: Address) -> str | None:
    """What a database says that may answer again later; None for any other error."""
    if address.journal is not None:
        return _file_trouble(error, address)
    cause = _database_error(error)
    if cause is None:
        return "the connection broke" if _in_the_middle(error) else None
    said = str(cause.orig).strip()
    # PostgreSQL, shut down while a statement runs, says so as an error of its own; the connection is dead after it.
    if cause.connection_invalidated or isinstance(
        cause, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
    ):
        return said
    raise DamageError(
        f"the search database cannot be read: {said}",
        key=str(address),
        hint="move the file away: the same command makes a new one out of the sweep's ledger and records"
        if address.backend == "sqlite"
        else "restore it from a copy",
    ) from error


def _file_trouble(error: Exception, address: Address) -> str | None:
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            raise StoppedError(
                f"cannot be written: {error.strerror}",
                key=str(address),
                hint="free space and run the same command again",
            ) from error
        address.mend()
        return error.strerror or str(error)
    if isinstance(error, ValueError) and ("Invalid log format" in str(error) or "JSON" in type(error).__name__):
        raise DamageError(
            f"the search database cannot be read: {error}",
            key=str(address),
            hint="move the file away: the same command makes a new one out of the sweep's ledger and records",
        ) from error
    return None


def _database_error(error: BaseException | None) -> sqlalchemy.exc.DBAPIError | None:
    """The driver's error, which Optuna wraps in one of its own."""
    while error is not None and not isinstance(error, sqlalchemy.exc.DBAPIError):
        error = error.__cause__
    return error


def _in_the_middle(error: BaseException | None) -> bool:
    """Whether a connection broke inside a transaction, which SQLAlchemy says in words of its own."""
    while error is not None and not isinstance(error, sqlalchemy.exc.PendingRollbackError):
        error = error.__cause__
    return error is not None


def _autocommit(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
