"""A ledger on an object store: every line is an object of its own, `ledger/<number>.jsonl`, from 00000000 on.

A line is stored only if its number is free, before the driver believes that it is written. A driver that was taken
over meets the number of its successor's first line and writes nothing: no clock and no lock is needed for that. The
local file holds the same lines; it is never ahead of the store, and is brought up to it before it is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from raysched.errors import DamageError, StoppedError
from raysched.records.files import create, make_folder, parse_crc_line
from raysched.records.remote import AT_ONCE, Remote

FOLDER = "ledger"
_NUMBER = re.compile(r"[0-9]{8,18}")


def object_name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.jsonl"


class LedgerObjects:
    """The objects of one ledger, and the local file with the same lines."""

    def __init__(self, remote: Remote, path: Path, forget: Callable[[], None] = lambda: None) -> None:
        """`forget` clears what else lies beside a local file that turns out to be another sweep's."""
        self.remote, self.path, self._forget = remote, path, forget
        self._known = (0, 0)
        """Bytes and lines of the local file that were seen to be whole."""
        self._verified = False
        self._mine = threading.Lock()

    def exists(self) -> bool:
        return self.remote.exists(object_name(0))

    def count(self) -> int:
        """Lines that are stored, told by the highest number."""
        names = (PurePosixPath(key).stem for key in self.remote.below(FOLDER))
        return max((int(name) + 1 for name in names if _NUMBER.fullmatch(name)), default=0)

    def gap(self, number: int) -> DamageError:
        """Line `number` is not stored, and a later one is: lines that were acknowledged would not be seen."""
        return DamageError(
            "is missing, and later lines of the ledger are there",
            key=f"{self.remote.uri}/{object_name(number)}",
            hint="restore the object from a copy, or, of a sweep that was to be deleted, delete what is left of it; "
            "nothing was changed",
        )

    def refresh(self) -> None:
        """Append to the local file what is stored and missing in it.

        Raises DamageError where an object is no whole line; MissingError or StoppedError without the store.
        """
        with self._mine:
            if not self._verified:
                self._verify()
            with self._local() as descriptor:
                self._known = self._whole(descriptor)
            first = self._known[1]
            newer = list(self._newer(first))  # nobody waits for the store with the local file held
            if not newer:
                return
            with self._local() as descriptor:
                size, lines = self._whole(descriptor)
                for line in newer[lines - first :]:
                    os.pwrite(descriptor, line, size)
                    size, lines = size + len(line), lines + 1
                self._known = (size, lines)

    def add(self, number: int, line: bytes) -> None:
        """Store line `number`, or raise StoppedError where another driver has written one of that number."""
        try:
            self.remote.create(object_name(number), line)
        except FileExistsError as error:
            raise StoppedError(
                "taken over: another driver has written to the ledger since",
                key=f"{self.remote.uri}/{object_name(number)}",
                hint="raysched status shows the sweep as the other driver continues it",
            ) from error

    def append_local(self, offset: int, line: bytes) -> None:
        """The same line into the local file, at its place; another process of this machine may have fetched it."""
        with self._mine, self._local() as descriptor:
            if os.pread(descriptor, len(line), offset) != line:
                os.ftruncate(descriptor, offset)
                os.pwrite(descriptor, line, offset)
            os.fdatasync(descriptor)

    # -- local ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _local(self) -> Iterator[int]:
        """The local file, which the processes of this machine change one at a time."""
        make_folder(self.path.parent)
        guard = create(self.path.with_name(".ledger.lock"), os.O_RDWR)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            descriptor = create(self.path, os.O_RDWR)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        finally:
            os.close(guard)

    def _whole(self, descriptor: int) -> tuple[int, int]:
        """Bytes and number of its whole lines; what follows them is cut off, for the store has it if it counts."""
        at, lines = self._known
        size = os.fstat(descriptor).st_size
        if size < at:
            at, lines = 0, 0
        data = os.pread(descriptor, size - at, at)
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            try:
                parse_crc_line(data[start:end])
            except ValueError:
                break
            start, lines = end + 1, lines + 1
        if at + start < size:
            os.ftruncate(descriptor, at + start)
        return at + start, lines

    # -- stored -----------------------------------------------------------------------------------------------

    def _newer(self, number: int) -> Iterator[bytes]:
        """Stored lines from `number` on: one is asked for, then more and more at a time."""
        many = 1
        while True:
            wanted = [object_name(one) for one in range(number, number + many)]
            found = dict(self.remote.get_many(wanted))
            for name in wanted:
                if name not in found:
                    return
                yield self._checked(name, found[name])
                number += 1
            many = min(4 * many, 4 * AT_ONCE)

    def _checked(self, name: str, line: bytes) -> bytes:
        try:
            if line.count(b"\n") != 1:
                raise ValueError("not one line")
            parse_crc_line(line.removesuffix(b"\n"))
        except ValueError as error:
            raise DamageError(
                f"is damaged: {error}",
                key=f"{self.remote.uri}/{name}",
                hint="restore the object from a copy; nothing was changed",
            ) from error
        return line

    def _verify(self) -> None:
        """Once: the local file may be of a sweep that was deleted, or damaged; then it is made anew."""
        with self._local() as descriptor:
            _, lines = self._whole(descriptor)
            content = self.path.read_bytes()
        if lines:
            newest = content.splitlines(keepends=True)[lines - 1]
            if dict(self.remote.get_many([object_name(lines - 1)])).get(object_name(lines - 1)) != newest:
                self._known = (0, 0)
                self._forget()
        self._verified = True
