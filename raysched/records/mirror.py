"""A sweep on an object store: the working copy in a local folder, and how files move between the two.

What is written lies in the working copy first and is pushed from there; what is read is pulled into it. Files of an
attempt never change once they are stored, so one that is here is not asked for again. The file that names others
(manifest, result, record) is pushed last and pulled last: a half-uploaded checkpoint has no manifest.

The search's database is stored once for each epoch of the driver (`search/<epoch>/<name>`): a driver that lost the
sweep can only write the copy of its own epoch, which nobody reads any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

from raysched.errors import DamageError
from raysched.records.files import create, make_folder, sha256_file, write_atomic
from raysched.records.ledger_objects import FOLDER as LEDGER
from raysched.records.ledger_objects import LedgerObjects
from raysched.records.remote import Remote, Stored

T = TypeVar("T")

AT_ONCE = 8
"""Files on their way at the same time."""
LEASES = "driver.lock"
SEARCH = "search"
_LAST = ("manifest.json", "result.json", "record.json")
"""They name other files, which must be there before them."""
_OF_ATTEMPT = re.compile(r"runs/[^/]+/attempt-\d+-\d+/.+")
_CHANGING = ("error.txt",)
_OURS = (f"{LEDGER}/", f"{LEASES}/", f"{SEARCH}/")
"""Objects that are no files of the working copy."""


def cache() -> Path:
    """Where working copies lie: below `$RAYSCHED_CACHE`, or ~/.cache/raysched."""
    return Path(os.environ.get("RAYSCHED_CACHE") or "~/.cache/raysched").expanduser().absolute() / "storage"


def folder_of(uri: str) -> Path:
    """The local folder that stands for a storage; `uri` is canonical."""
    return cache() / hashlib.sha256(uri.encode()).hexdigest()[:16]


_OPEN: dict[Path, Mirror] = {}
_OPENING = threading.Lock()


def opened(uri: str, name: str) -> Mirror:
    """The mirror of one sweep: one for each process and working copy."""
    root = folder_of(uri) / name
    with _OPENING:
        if root not in _OPEN:
            _OPEN[root] = Mirror(Remote(f"{uri}/{name}"), root)
        return _OPEN[root]


def of(path: Path) -> Mirror | None:
    """The mirror whose working copy `path` lies in; None for the files of a folder storage."""
    if not _OPEN:
        return None
    return next((_OPEN[parent] for parent in (path, *path.parents) if parent in _OPEN), None)


class Mirror:
    """One sweep's working copy at `root`, and its objects below `remote`."""

    def __init__(self, remote: Remote, root: Path) -> None:
        self.remote, self.root = remote, root
        self.ledger = LedgerObjects(remote, root / "ledger.jsonl", forget=self._forget)
        self.epoch = 0
        """Of the driver of this process, once it holds the ledger."""
        self._pushed: dict[str, tuple[int, int]] = {}
        """Key -> size and time of the file that was pushed last."""
        self._pulled: dict[str, str] = {}
        """Key -> stamp of the object that was pulled last."""

    def key(self, path: Path) -> str:
        return "" if path == self.root else path.relative_to(self.root).as_posix()

    # -- there ------------------------------------------------------------------------------------------------

    def push(self, *paths: Path) -> None:
        """Store files and folders as they are here; what is not here any more is deleted there too.

        Raises MissingError or StoppedError where the store does not take them.
        """
        found, gone = [], []
        for path in paths:
            if path.is_dir():
                found += [file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path))]
            elif path.is_file():
                found.append(path)
            else:
                gone.append(path)
        _all(self._push_one, [path for path in found if path.name not in _LAST])
        for name in _LAST:
            _all(self._push_one, [path for path in found if path.name == name])
        for path in gone:
            self.delete(path)

    def _push_one(self, path: Path) -> None:
        key = self.key(path)
        if key.startswith(("ledger.jsonl", ".")) or key.endswith(".lock"):
            return
        if _is_search(key):
            return self._push_search(path)
        about = path.stat()
        mark = (about.st_size, about.st_mtime_ns)
        if self._pushed.get(key) == mark:
            return
        self.remote.put_file(path, key)
        self._pushed[key] = mark
        self._pulled.pop(key, None)

    def delete(self, *paths: Path) -> None:
        """Delete files and folders there; a manifest goes before what it names."""
        keys = [key for path in paths for key in (self.remote.below(self.key(path)) or [self.key(path)])]
        self.delete_keys(keys)

    def delete_keys(self, keys: Iterable[str]) -> None:
        wanted = [key for key in keys if key]
        for last in (True, False):
            self.remote.delete(key for key in wanted if (PurePosixPath(key).name in _LAST) is last)
        for key in wanted:
            self._pushed.pop(key, None)
            self._pulled.pop(key, None)

    # -- here -------------------------------------------------------------------------------------------------

    def pull(self, *paths: Path) -> None:
        """Make files and folders here what they are there; what was never stored is left alone.

        Raises MissingError or StoppedError where the store does not answer.
        """
        for path in paths:
            key = self.key(path)
            if key == "ledger.jsonl" or not key:
                self.ledger.refresh()
            if not key:
                self.pull_search()
            if _is_search(key):
                self.pull_search()
            elif key != "ledger.jsonl" and (path.is_dir() or not self._pull_file(path, key)):
                self._pull_below(key)

    def _pull_file(self, path: Path, key: str) -> bool:
        """Whether it is a file."""
        if not key:
            return False
        if path.is_file() and _OF_ATTEMPT.fullmatch(key) and path.name not in _CHANGING:
            return True
        try:
            content = self.remote.get(key)
        except FileNotFoundError:
            known = key in self._pulled or key in self._pushed
            if known:  # it was there: somebody has deleted it since
                self._pulled.pop(key, None)
                self._pushed.pop(key, None)
                path.unlink(missing_ok=True)
            return path.is_file() or known
        if not path.is_file() or path.read_bytes() != content:
            make_folder(path.parent)
            write_atomic(path, content)
            self._pushed.pop(key, None)
        self._pulled[key] = ""
        return True

    def _pull_below(self, prefix: str) -> None:
        found = {key: stored for key, stored in self.remote.below(prefix).items() if not key.startswith(_OURS)}
        self.fetch({key: stored for key, stored in found.items() if not self._same(key, stored)})

    def _same(self, key: str, stored: Stored) -> bool:
        path = self._inside(key)
        if not path.is_file() or path.stat().st_size != stored.size:
            return False
        return bool(_OF_ATTEMPT.fullmatch(key)) or self._pulled.get(key) == stored.stamp

    def fetch(self, found: Mapping[str, Stored]) -> None:
        """Fetch objects, those that name others last."""
        first = [key for key in found if PurePosixPath(key).name not in _LAST]
        last = [key for key in found if PurePosixPath(key).name in _LAST]
        for keys in (first, last):
            _all(lambda key: self._fetch_one(key, found[key]), keys)

    def _fetch_one(self, key: str, stored: Stored) -> None:
        path = self._inside(key)
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            self.remote.get_file(key, path)
            self._pulled[key] = stored.stamp
            self._pushed.pop(key, None)

    def _inside(self, key: str) -> Path:
        """Where the working copy has an object. Raises DamageError for a name that no sweep has."""
        name = PurePosixPath(key)
        if name.is_absolute() or ".." in name.parts or not name.parts or "\0" in key:
            raise DamageError("is an object whose name leaves the sweep's folder", key=f"{self.remote.uri}/{key}")
        return self.root / name

    def anew(self, path: Path) -> None:
        """Fetch a file that is not what it must be once more; one that is not stored is left as it is."""
        key = self.key(path)
        with contextlib.suppress(FileNotFoundError):
            self.remote.get_file(key, path)
            self._pushed.pop(key, None)

    def pull_records(self, recorded: Mapping[str, int]) -> None:
        """Fetch the records the working copy has not, or has older: run_id -> when the ledger says it was recorded."""
        wanted = {}
        for run_id, time_ms in recorded.items():
            key = f"runs/{run_id}/record.json"
            path = self._inside(key)
            if not path.is_file() or path.stat().st_mtime_ns != time_ms * 1_000_000:
                wanted[key] = time_ms
        for key, content in self.remote.get_many(wanted):
            path = self._inside(key)
            if not path.is_file() or path.read_bytes() != content:
                make_folder(path.parent)
                write_atomic(path, content)
            os.utime(path, ns=(wanted[key] * 1_000_000,) * 2)

    def attempt_names(self, run: Path) -> list[str]:
        """Folders of a run, here and there."""
        here = [path.name for path in run.iterdir()] if run.is_dir() else []
        return sorted({*here, *self.remote.folders(self.key(run))})

    # -- the search's database --------------------------------------------------------------------------------

    def _push_search(self, path: Path) -> None:
        with _snapshot(path) as whole:
            self.remote.put_file(whole, f"{SEARCH}/{self.epoch:08d}/{path.name}")

    def pull_search(self) -> None:
        """The search's files as the newest epoch left them."""
        newest: dict[str, str] = {}
        for key in sorted(self.remote.below(SEARCH)):
            if _is_search(name := key.rpartition("/")[2]):
                newest[name] = key
        for name, key in newest.items():
            for beside in ("-journal", "-wal", "-shm"):  # of the older content
                (self.root / f"{name}{beside}").unlink(missing_ok=True)
            self.remote.get_file(key, self.root / name)

    # -- other ------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """The working copy is of another sweep of this name, which is there no more."""
        self._pushed.clear()
        self._pulled.clear()
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith("."):
                path.unlink(missing_ok=True)


def holds(path: Path, sha256: str) -> bool:
    """Whether a file is there and is what was written."""
    return path.is_file() and sha256_file(path) == sha256


def _all(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Several at a time; the first error is raised once the others have ended."""
    if len(items) < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        for done in [pool.submit(work, item) for item in items]:
            done.result()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_search(key: str) -> bool:
    return "/" not in key and key.startswith("optuna")


@contextlib.contextmanager
def _snapshot(path: Path) -> Iterator[Path]:
    """A copy that nobody writes: of an SQLite database the committed state, whatever its journal holds."""
    copy = path.with_name(f".{path.name}.snapshot")
    for stale in path.parent.glob(f"{copy.name}*"):  # of a process that was killed
        stale.unlink(missing_ok=True)
    try:
        os.close(create(copy, os.O_WRONLY))
        if path.suffix == ".db":
            with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as to:
                source.backup(to)
        else:
            shutil.copyfile(path, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)
