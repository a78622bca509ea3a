"""A database locked or away, a disk that is full, a driver too many: the sweep waits, or says so, and goes on."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysched.errors import DONE, RESUMABLE, StoppedError
from raysched.records import ledger as ledgers
from raysched.records.entries import Note, Told
from raysched.records.layout import SweepLayout
from raysched.runners.driver import Driver
from raysched.runners.holding import hold
from raysched.runners.options import Options
from raysched.runners.sweep import sweep
from raysched.study.load import load_study
from tests.faults.checker import check_history, witness
from tests.faults.conftest import Figures
from tests.postgres import PASSWORD, Postgres
from tests.processes import Command, shell, wait
from tests.runners.world import NAME, Left, arguments, attempts, overrides, records, segments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
LOCKED_S, AWAY_S = 30, 10
REFUSED_S, RETAKEN_S = 2, 5
TMPFS_BYTES = 300 * 1024**2
LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
database.rollback()
"""


class Silent:
    """Somebody who watches a sweep and says nothing."""

    def stage(self, text: str) -> None: ...

    def started(self, driver: Driver, slots: int) -> None: ...

    def warn(self, text: str) -> None: ...


def until(command: Command, condition: Callable[[], object], timeout_s: float = 200) -> None:
    """Wait for a condition that must come while the command runs."""
    wait(lambda: not command.running or condition(), timeout_s)
    assert command.running, command.text


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the SQLite database for itself."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate(b"\n")


@contextlib.contextmanager
def away(postgres: Postgres) -> Iterator[None]:
    """The server has crashed, and comes back."""
    postgres.stop(immediate=True)
    try:
        yield
    finally:
        postgres.start()


@pytest.mark.parametrize("database", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def test_a_second_driver_and_a_database_that_does_not_answer(
    database: str,
    tiny: Tiny,
    undisturbed: dict[str, Left],
    tmp_path: Path,
    figures: Figures,
    request: pytest.FixtureRequest,
) -> None:
    postgres = None if database == "SQLite" else request.getfixturevalue("postgres")
    uri = None if postgres is None else postgres.new_database()
    layout = SweepLayout(tmp_path / "storage", NAME)
    options = Options(storage=str(layout.storage), optuna_uri=uri, max_concurrent=2)
    with shell(tmp_path, **({} if uri is None else {"RAYSCHED_OPTUNA": uri})) as one, witness(layout) as seen:
        command = one.raysched(*arguments(tiny, layout.storage))
        until(command, lambda: attempts(layout))
        refused = refused_after(tiny, options, command)
        one.alive()  # remember the private Ray folder
        command.kill()
        retaken = retaken_after(layout, options)
        figures(
            f"a second driver ({database}) is refused, told who holds the sweep", f"{refused:.2f} s", f"{REFUSED_S} s"
        )
        figures(f"its holder killed ({database}): the sweep can be taken", f"{retaken:.2f} s", f"{RETAKEN_S} s")

        command = one.raysched(*arguments(tiny, layout.storage))
        until(command, lambda: attempts(layout, epoch=2))
        began, before, told = time.monotonic(), segments(layout), n_told(layout)
        with locked(layout.optuna) if postgres is None else away(postgres):
            n_done = len(records(layout))
            least = LOCKED_S if postgres is None else AWAY_S
            # So long that a cell may be complete in the meantime, and cannot be told.
            wait(lambda: time.monotonic() - began > least and len(records(layout)) > n_done, 300)
            assert command.running, command.text
            assert n_told(layout) == told
            trained = segments(layout) - before
        took = time.monotonic() - began
        assert command.end(600) == DONE, command.text
        assert "Traceback" not in command.text
        assert trained > 0
        seen.look()
        check_history(layout, undisturbed, seen=seen, optuna_uri=uri, canaries=[PASSWORD])
    what = "SQLite locked" if postgres is None else "PostgreSQL crashed and away"
    figures(
        f"{what} for {took:.0f} s in the middle of a sweep",
        f"training went on ({trained} segments); nothing lost",
        "waited out; nothing lost",
    )


def refused_after(tiny: Tiny, options: Options, holder: Command) -> float:
    """Seconds until a second driver, once its program is loaded, is told who holds the sweep."""
    loaded = load_study(NAME, overrides(tiny)[1::2])
    umask = os.umask(0o077)
    began = time.monotonic()
    try:
        who = f"another driver runs this sweep: host {re.escape(socket.gethostname())}, pid {holder.pid}, since 20"
        with pytest.raises(StoppedError, match=who) as caught:
            sweep(loaded, options, Silent())
    finally:
        os.umask(umask)
    took = time.monotonic() - began
    assert caught.value.exit_code == RESUMABLE
    assert took < REFUSED_S
    return took


def retaken_after(layout: SweepLayout, options: Options) -> float:
    """Seconds until the next driver can hold the sweep."""
    began = time.monotonic()
    while True:
        try:
            with hold(layout, options):
                took = time.monotonic() - began
                assert took < RETAKEN_S
                return took
        except StoppedError:
            assert time.monotonic() - began < RETAKEN_S


def n_told(layout: SweepLayout) -> int:
    return sum(isinstance(entry, Told) for entry in ledgers.read(layout.ledger))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 300 MB."""
    folder = Path(tempfile.mkdtemp(prefix="rs-disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=0700", "tmpfs", str(folder)]
    try:
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("a small file system needs root and the right to mount")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # files read in this process may be mapped yet
    finally:
        folder.rmdir()


def fill(path: Path) -> None:
    """Take all that is free on the disk of `path`."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 2**16):
            pass


def test_a_full_disk(
    small_disk: Path, tiny: Tiny, undisturbed: dict[str, Left], tmp_path: Path, figures: Figures
) -> None:
    """Filled in the middle of a sweep: it pauses, or leaves with a message; with room again it comes to its end."""
    layout = SweepLayout(small_disk / "storage", NAME)
    with shell(tmp_path) as one:
        command = one.raysched(*arguments(tiny, layout.storage))
        until(command, lambda: segments(layout) > 3)
        fill(small_disk / "other")
        began = time.monotonic()
        wait(lambda: not command.running or said(layout, command), 120)
        noticed = time.monotonic() - began
        time.sleep(5)  # full for as long as it takes to go wrong
        (small_disk / "other").unlink()
        code = command.end(300)
        assert code in (DONE, RESUMABLE), command.text
        assert "Traceback" not in command.text
        message = said(layout, command)
        assert message is not None, command.text
        if code == RESUMABLE:
            assert "next:  " in command.text
            assert one.run(*arguments(tiny, layout.storage), timeout_s=300)[0] == DONE
        check_history(layout, undisturbed)
    how = "paused, and went on with room" if code == DONE else "left with 75; the same command completed it"
    figures(
        "disk full in the middle of a sweep", f"{how}; said after {noticed:.1f} s", "no loss; path and free bytes said"
    )


def said(layout: SweepLayout, command: Command) -> str | None:
    """What was said of the disk: its path, and how much is free."""
    notes = [entry.text for entry in ledgers.read(layout.ledger) if isinstance(entry, Note)]
    text = "\n".join([*notes, command.text])
    found = re.search(rf"[^\n]*\d+ bytes are free[^\n]*{re.escape(str(layout.root))}[^\n]*", text)
    return found[0] if found else None
