"""What MLflow is known to hold: one small file per run, cell and sweep, saved after every acknowledged batch.

Without its file a node starts over: what MLflow holds of it is found by its key, and made anew if it is not empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from raysched.errors import DamageError
from raysched.records.files import make_folder, read_checked, write_checked
from raysched.records.history import Sealed

SCHEMA = 1


class Cursor(BaseModel):
    """Mutable; `save` after each change that MLflow has acknowledged."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int = SCHEMA
    key: str
    mlflow_id: str | None = None
    parent: str | None = None
    described: bool = False
    """Parameters and first tags are there."""
    params: str = ""
    """SHA-256 of the parameters, which MLflow never changes."""
    segments: list[Sealed] = []
    sending: Sealed | None = None
    """A segment of which MLflow may hold a part."""
    artifacts: dict[str, str] = {}
    """Artifact -> SHA-256."""
    inputs: str = ""
    """SHA-256 of the data sets that were named."""
    status: str = "RUNNING"
    settled: str = ""
    """The state of the ledger to which MLflow was brought, wholly."""
    complete: str = ""
    """Of the sweep: the driver's end up to which MLflow holds everything."""

    def reset(self) -> None:
        for name, value in Cursor(key=self.key):
            setattr(self, name, value)

    def fits(self, target: Sequence[Sealed], *, final: bool) -> bool:
        """Whether what was sent is the beginning of `target`; a target that is still growing may be behind."""
        sent = [*self.segments, *([self.sending] if self.sending else [])]
        common = sent if final or len(sent) <= len(target) else sent[: len(target)]
        return common == list(target[: len(common)])


class Cursors:
    """The cursors of one sweep for one store, below `uploads/<store>/`.

    Two processes that take turns (a driver and a sync) see what the other has saved.
    """

    def __init__(self, folder: Path, store_identity: str) -> None:
        self.folder = folder / hashlib.sha256(store_identity.encode()).hexdigest()[:12]
        self._open: dict[str, Cursor] = {}
        self._seen: dict[str, tuple[int, ...]] = {}

    def _path(self, key: str) -> Path:
        return self.folder / f"{key.replace(':', '-')}.json"

    def get(self, key: str) -> Cursor:
        seen = _version(self._path(key))
        if key not in self._open or self._seen[key] != seen:
            self._seen[key] = seen
            try:
                self._open[key] = Cursor.model_validate(read_checked(self._path(key)))
            except (
                FileNotFoundError,
                DamageError,
                ValidationError,
                json.JSONDecodeError,
            ):
                self._open[key] = Cursor(key=key)
        return self._open[key]

    def save(self, cursor: Cursor) -> None:
        make_folder(self.folder)
        write_checked(self._path(cursor.key), cursor.model_dump())
        self._seen[cursor.key] = _version(self._path(cursor.key))

    def clear(self) -> None:
        """Start over: the store does not hold what the cursors say."""
        self._open.clear()
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)


def _version(path: Path) -> tuple[int, ...]:
    """What changes with every save: each one is a new file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_size)
