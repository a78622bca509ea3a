"""The ledger: what the driver of a sweep decided, one checked line each, in order (spec: journal, locks, epoch).

Only the driver that holds the lock writes. Anybody may read, at any time, without a lock. On an object store every
line is an object as well, written before the local file, and what is read is brought up to the store first: see
`ledger_objects`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from raysched.errors import DamageError, RayschedError, StoppedError
from raysched.records import mirror
from raysched.records.entries import AnyEntry, Recorded, Takeover, entry_of
from raysched.records.files import (
    crc_line,
    create,
    free_bytes,
    make_folder,
    parse_crc_line,
    sync_folder,
)
from raysched.records.ledger_objects import LedgerObjects


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class LedgerReader:
    """Reads a ledger piece by piece: each call of `new` gives what was appended since the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        """Bytes of complete, valid lines read so far."""
        self.lines = 0
        """The same, counted."""
        self.epoch = 0
        """Highest epoch seen."""

    def new(self) -> list[AnyEntry]:
        """Entries not yet given. A torn tail is left for later; a broken line before a whole one is DamageError.

        From an object store, the records they speak of are fetched with them.
        """
        copy = mirror.of(self.path)
        if copy is None or copy.ledger.path != self.path:
            return self._new()
        copy.ledger.refresh()
        entries = self._new()
        copy.pull_records({entry.run_id: entry.time_ms for entry in entries if isinstance(entry, Recorded)})
        return entries

    def _new(self) -> list[AnyEntry]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        entries = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            try:
                value = parse_crc_line(data[start:end])
            except ValueError:
                self._only_torn(data, end + 1, self.offset + start)
                break
            entry = entry_of(value, self.path)
            if entry.epoch >= self.epoch:  # a driver that lost the sweep may write nothing that counts
                self.epoch = entry.epoch
                entries.append(entry)
            start = end + 1
            self.lines += 1
        self.offset += start
        return entries

    def _only_torn(self, data: bytes, start: int, at: int) -> None:
        for line in data[start:].split(b"\n")[:-1]:
            try:
                parse_crc_line(line)
            except ValueError:
                continue
            raise DamageError(
                f"is damaged at byte {at}: a broken line is followed by whole ones, so this is no interrupted write",
                key=str(self.path),
                hint="restore the file from a copy; nothing was changed",
            )


def read(path: Path) -> list[AnyEntry]:
    """Every entry that counts; an empty list where there is no ledger. Raises DamageError."""
    return LedgerReader(path).new()


class Ledger:
    """The driver's hold on the ledger, for one epoch."""

    def __init__(self, path: Path, epoch: int | None, clock: Callable[[], int] = now_ms) -> None:
        """`epoch` None: the one after all that are there."""
        make_folder(path.parent)
        self.path, self.clock = path, clock
        self._reader = LedgerReader(path)
        copy = mirror.of(path)
        self._objects = copy.ledger if copy is not None and copy.ledger.path == path else None
        stored = self._objects.count() if self._objects is not None else 0
        self.entries: tuple[AnyEntry, ...] = tuple(self._reader.new())
        """What the ledger held when it was opened."""
        if self._objects is not None and self._reader.lines < stored:
            raise self._objects.gap(self._reader.lines)
        self.epoch = self._reader.epoch + 1 if epoch is None else epoch
        self._check_epoch()
        self._file: int | None = create(path, os.O_RDWR | os.O_APPEND)
        self.torn_bytes = os.fstat(self._file).st_size - self._reader.offset
        """Length of the interrupted write that was cut off at opening."""
        if self.torn_bytes:
            os.ftruncate(self._file, self._reader.offset)
            os.fsync(self._file)
        sync_folder(path.parent)
        if copy is not None:
            copy.epoch = self.epoch

    @classmethod
    def open(cls, path: Path, epoch: int, clock: Callable[[], int] = now_ms) -> Ledger:
        """Cut a torn tail and be ready to append. Raises DamageError, and StoppedError for a stale epoch."""
        return cls(path, epoch, clock)

    @classmethod
    def take_over(cls, path: Path, *, host: str, pid: int, clock: Callable[[], int] = now_ms) -> Ledger:
        """Open with the next epoch and say so in the ledger. Call it with the driver's lock held."""
        ledger = cls(path, None, clock)
        ledger.append(Takeover(host=host, pid=pid))
        return ledger

    def append(self, entry: AnyEntry) -> AnyEntry:
        """Write one line; when this returns it is on disk. Returns the entry with its epoch and time.

        Raises StoppedError where the sweep was taken over, or the storage is full or away.
        """
        if self._file is None:
            raise StoppedError(
                "is closed after a write that failed",
                key=str(self.path),
                hint="run the same command again",
            )
        self._check_file()
        stamped = entry.model_copy(update={"epoch": self.epoch, "time_ms": self.clock()})
        line = crc_line(stamped.model_dump())
        before = os.fstat(self._file).st_size
        if self._objects is not None:
            self._store(self._objects, line, before)
            return stamped
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
            os.fdatasync(self._file)
        except OSError as error:
            self._give_up(before)
            raise StoppedError(
                f"cannot be written: {error.strerror or error}; "
                f"{free_bytes(self.path.parent)} bytes are free on the disk of {self.path.parent}",
                key=str(self.path),
                hint="free space and run the same command again",
            ) from error
        self._reader.offset = before + len(line)
        self._reader.lines += 1
        return stamped

    def _store(self, objects: LedgerObjects, line: bytes, before: int) -> None:
        try:
            objects.add(self._reader.lines, line)
            objects.append_local(before, line)
        except Exception as error:  # whether it is stored is not known: only a new driver can tell
            self.close()
            if isinstance(error, RayschedError):
                raise
            raise StoppedError(
                f"cannot be written: {error}", key=str(self.path), hint="free space and run the same command again"
            ) from error
        self._reader.offset = before + len(line)
        self._reader.lines += 1

    def _check_file(self) -> None:
        """See what others appended: nothing, in a sweep that is ours."""
        assert self._file is not None
        mine = os.fstat(self._file)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise StoppedError("was removed or replaced under its driver", key=str(self.path))
        if mine.st_size != self._reader.offset:
            self._reader.new()
            self._check_epoch()
            os.ftruncate(self._file, self._reader.offset)  # a stale driver's interrupted write
        self._check_epoch()  # again and again, once a higher one was seen

    def _check_epoch(self) -> None:
        if self._reader.epoch > self.epoch:
            raise StoppedError(
                f"taken over: another driver holds epoch {self._reader.epoch}, this one had epoch {self.epoch}",
                key=str(self.path),
                hint="raysched status shows the sweep as the other driver continues it",
            )

    def _give_up(self, size: int) -> None:
        assert self._file is not None
        with contextlib.suppress(OSError):  # the next driver cuts it off
            os.ftruncate(self._file, size)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
