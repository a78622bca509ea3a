"""A real PostgreSQL server for tests: a folder and a port of its own, loopback and a unix socket only."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "raysched", "canary-database-password"
INSTALLED = Path("/usr/lib/postgresql")


def why_not() -> str | None:
    """What keeps a server from being started here; None if nothing does."""
    if _programs() is None:
        return f"PostgreSQL is not installed (no {INSTALLED}/*/bin/initdb)"
    if os.getuid() == 0 and _unprivileged() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody"
    return None


def _programs() -> Path | None:
    """The folder of the newest version."""
    found = [path.parent for path in INSTALLED.glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def _unprivileged() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


@dataclass
class Postgres:
    """One server. A database's `url` holds the password."""

    folder: Path
    port: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def make(cls) -> Postgres:
        """A new server with its own data, not started yet. Its folder must be short: a socket lies in it."""
        folder = Path(tempfile.mkdtemp(prefix="rs-pg-", dir="/tmp"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            server = cls(folder, probe.getsockname()[1])
        (folder / "password").write_text(PASSWORD)
        if (user := _unprivileged()) is not None and os.getuid() == 0:
            for path in (folder, folder / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        server._call(
            "initdb",
            *("--pgdata", folder / "data", "--username", USER, "--pwfile", folder / "password"),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )
        return server

    @property
    def url(self) -> str:
        """The server's own database, `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """The URL of an empty database, or of a copy of another one (by name) that nobody uses at the moment."""
        name = f"db{next(self._numbers)}"
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return self.url_of(name)

    def execute(self, statement: str, url: str | None = None) -> list[Any]:
        """Run one statement; its rows, if it has any."""
        import psycopg

        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=50"
        self._control("start", "-l", self.folder / "log", "-o", options)

    def stop(self, *, immediate: bool = False) -> None:
        """`immediate` is a crash: no connection is told, and recovery runs at the next start."""
        self._control("stop", "-m", "immediate" if immediate else "fast")

    def restart(self, *, immediate: bool = False) -> None:
        self.stop(immediate=immediate)
        self.start()

    @property
    def running(self) -> bool:
        return self._call("pg_ctl", "status", "-D", self.folder / "data", check=False) == 0

    def remove(self) -> None:
        """Stop it if it runs, and delete all it has."""
        if self.running:
            self.stop(immediate=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *arguments: str | Path) -> None:
        self._call("pg_ctl", *arguments, "-w", "-t", "60", "-D", self.folder / "data")

    def _call(self, program: str, *arguments: str | Path, check: bool = True) -> int:
        programs, user = _programs(), _unprivileged()
        assert programs is not None
        as_user: dict[str, Any] = {}
        if user is not None and os.getuid() == 0:
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with tempfile.TemporaryFile() as output:  # a pipe would stay open for as long as the server lives
            done = subprocess.run(
                [programs / program, *arguments],
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C of a test run stops the tests, which then stop the server
                **as_user,
            )
            output.seek(0)
            assert not check or done.returncode == 0, output.read().decode()
        return done.returncode


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server; a test that stops it starts it again. Skipped, with the reason, where it cannot run."""
    if (why := why_not()) is not None:
        pytest.skip(why)
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'raysched[postgres]'")
    server = Postgres.make()
    try:
        server.start()
        yield server
    finally:
        server.remove()
