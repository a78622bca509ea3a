"""A lock that drivers on many hosts share: PostgreSQL's advisory locks, freed by the server with their holder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import sqlalchemy

from raysched.errors import MissingError, StoppedError
from raysched.search.database import HOPELESS, Address

MARK = "raysched"
EVERY_S = 5.0
LOST_AFTER_S = 60.0
"""So long a lost lock is tried to be taken again."""
SESSION = (
    # A holder whose machine is gone says no goodbye: the server finds out within half a minute.
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)
HOLDER = sqlalchemy.text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
    "AND l.classid::bigint = (:key >> 32) & 4294967295 AND l.objid::bigint = :key & 4294967295 "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def key_of(name: str) -> int:
    """64 bits, signed, as PostgreSQL's locks have them."""
    return int.from_bytes(hashlib.sha256(f"{MARK}/{name}".encode()).digest()[:8], "big", signed=True)


class AdvisoryLock:
    """Locks on names, held by one connection of their own, which a thread watches.

    Connections through a pooler in transaction mode (pgbouncer) cannot hold a lock: give the server's own address.
    """

    def __init__(
        self, address: Address, names: Iterable[str], *, every_s: float = EVERY_S, patience_s: float = LOST_AFTER_S
    ) -> None:
        self._address, self._names = address, list(dict.fromkeys(names))
        self._every_s, self._patience_s = every_s, patience_s
        self._started = int(time.time())
        # Read by whoever is refused: pg_stat_activity shows it to every user; the server cuts it at 63 bytes.
        self._title = f"{MARK} {os.getpid()} {self._started} {socket.gethostname()}"[:63]
        self._engine: sqlalchemy.Engine | None = None
        self._connection: sqlalchemy.Connection | None = None
        self._guard = threading.Lock()
        self._end = threading.Event()
        self._watcher: threading.Thread | None = None
        self.trouble: StoppedError | None = None
        """Set while the lock is not held."""
        self.gone = False
        """It will not come back: somebody else has it, or the server stayed away."""

    def acquire(self) -> AdvisoryLock:
        """Take every name at once, or raise.

        Raises:
            StoppedError: another driver holds one, by host, pid and start.
            MissingError: the database cannot be reached.
        """
        try:
            self._take()
        except sqlalchemy.exc.DBAPIError as error:
            self._leave()
            raise MissingError(
                f"the database that locks the sweep cannot be reached: {str(error.orig).strip()}",
                key=str(self._address),
                hint="check its address and the password: in RAYSCHED_OPTUNA, or in ~/.pgpass (mode 0600)",
            ) from error
        except ImportError as error:
            raise MissingError(
                f"no driver for {self._address}: {error}", key="storage", hint="pip install 'raysched[postgres]'"
            ) from error
        except BaseException:
            self._leave()
            raise
        self._watcher = threading.Thread(target=self._watch, name="advisory-lock", daemon=True)
        self._watcher.start()
        return self

    def also(self, name: str) -> None:
        """Take one more name; raises as `acquire`."""
        with self._guard:
            if name in self._names:
                return
            self._names.append(name)
            try:
                if self._connection is not None:
                    self._lock(self._connection, name)
            except sqlalchemy.exc.DBAPIError:
                pass  # the watcher sees that the connection is lost, and takes them all again
            except StoppedError as error:
                self.trouble, self.gone = error, True
                raise

    def release(self) -> None:
        self._end.set()
        if self._watcher is not None:
            self._watcher.join(timeout=2)
        self._leave()

    def _take(self) -> None:
        self._leave()
        self._engine = sqlalchemy.create_engine(
            self._address.url,
            poolclass=sqlalchemy.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={
                **self._address.engine_kwargs.get("connect_args", {}),
                "application_name": self._title,
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            },
        )
        self._connection = self._engine.connect()
        for statement in SESSION:
            with contextlib.suppress(sqlalchemy.exc.ProgrammingError):  # a server that has no such setting
                self._connection.exec_driver_sql(statement)
        for name in self._names:
            self._lock(self._connection, name)

    def _lock(self, connection: sqlalchemy.Connection, name: str) -> None:
        key = key_of(name)
        if not connection.scalar(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
            raise StoppedError(
                f"another driver runs this sweep: {_described(connection.scalar(HOLDER, {'key': key}))}",
                key=str(self._address),
                hint="raysched status shows its progress; stop it, or give this sweep another --name",
            )

    def _watch(self) -> None:
        while not self._end.wait(self._every_s) and not self.gone:
            with self._guard:
                self._check()

    def _check(self) -> None:
        """Is the session that holds the lock still there? If not, a new one takes it again."""
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("SELECT 1")
                return
        except sqlalchemy.exc.DBAPIError:
            pass
        until = time.monotonic() + self._patience_s
        self.trouble = self._lost("is away; waiting for it")
        while not self._end.is_set():
            try:
                self._take()
                self.trouble = None
                return
            except StoppedError as error:
                self.trouble, self.gone = error, True
                return
            except sqlalchemy.exc.DBAPIError as error:
                if time.monotonic() > until or HOPELESS.search(str(error.orig)):
                    self.trouble, self.gone = self._lost(f"stayed away: {str(error.orig).strip()}"), True
                    return
            self._end.wait(min(1.0, self._every_s))

    def _lost(self, what: str) -> StoppedError:
        return StoppedError(
            f"the database that locks the sweep {what}",
            key=str(self._address),
            hint="the same command continues once it is back",
        )

    def _leave(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self._connection.close()
        if self._engine is not None:
            self._engine.dispose()
        self._connection = self._engine = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _described(title: Any) -> str:
    parts = str(title or "").split(" ", 3)
    if len(parts) != 4 or parts[0] != MARK or not parts[2].isdigit():
        return "its host and pid are not known"
    since = datetime.fromtimestamp(int(parts[2])).astimezone().isoformat(sep=" ", timespec="seconds")
    return f"host {parts[3]}, pid {parts[1]}, since {since}"
