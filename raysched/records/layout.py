"""Where everything of a sweep lies. Names that come from outside are checked here and nowhere else.

A storage is a folder (local, or NFS mounted by every machine) or an object store. For an object store all paths are
those of a working copy, below `$RAYSCHED_CACHE`; `push` and `pull` move files between the two. On a folder they do
nothing. Files of the working copy's own, never stored: MLflow's default store (`mlflow.db` and its artifacts: made
again from the history by `raysched sync`), features, what the uploader remembers, locks.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raysched.errors import StudyError
from raysched.records import mirror
from raysched.records.files import make_folder
from raysched.records.remote import Remote
from raysched.records.storage_uri import DEFAULT_STORAGE, canonical, is_remote
from raysched.study.lookup import SWEEP_NAME, check_sweep_name

RUN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ATTEMPT = re.compile(r"attempt-(\d+)-(\d+)")
CANDIDATES = "candidates"
"""Folder of an attempt: the adapters of its last source-dev evaluations."""
_MANIFEST = re.compile(r"/step-(\d+)/manifest\.json$")


def _step(manifest: str) -> int:
    match = _MANIFEST.search(manifest)
    return int(match[1]) if match else 0


def check_name(name: str) -> str:
    """A sweep's name, unchanged. Raises StudyError where it could be anything but one folder's name."""
    return check_sweep_name(name, key="--name", hint="pick another name, such as xquad-xlmr-2")


def storage_folder(storage: str | Path) -> Path:
    """The absolute folder of a storage's URI: a path or file://..., or where the working copies of a store lie.

    Raises:
        StudyError: the URI is malformed, or of no store that can be written.
    """
    text = str(storage)
    if is_remote(text):
        return mirror.folder_of(canonical(text))
    if "://" not in text:
        return Path(text).expanduser().absolute()
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise StudyError(
            f"names the host {parts.netloc!r}, whose files are not seen from here",
            key="--storage",
            choices=("a local or mounted folder", "file:///absolute/folder"),
        )
    return Path(unquote(parts.path))


@dataclass(frozen=True, slots=True)
class AttemptLayout:
    """One execution of a run: the only folder its worker writes."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def segments(self) -> Path:
        return self.root / "segments"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"

    @property
    def candidates(self) -> Path:
        return self.root / CANDIDATES

    def candidate(self, step: int) -> Path:
        """What was trained, as it was after `step` steps; laid out as `adapter/` is."""
        return self.candidates / f"step-{step:08d}"

    def push(self, *paths: Path) -> None:
        """See `SweepLayout.push`."""
        copy = mirror.of(self.root)
        if copy is not None:
            copy.push(*paths)

    def pull(self, *paths: Path) -> None:
        """See `SweepLayout.pull`."""
        copy = mirror.of(self.root)
        if copy is not None:
            copy.pull(*paths)

    def has(self, name: str, sha256: str) -> bool:
        """Whether one of its files is there as it was written, on an object store fetched anew where it is not here."""
        path = self.root / name
        if not mirror.holds(path, sha256) and (copy := mirror.of(path)) is not None:
            copy.anew(path)
        return mirror.holds(path, sha256)

    def manifests(self) -> dict[int, bytes]:
        """Step -> manifest of every checkpoint that is wholly stored, nothing else of which needs to be here."""
        copy = mirror.of(self.root)
        if copy is not None:
            return {_step(key): content for key, content in copy.remote.get_many(self._manifest_keys(copy))}
        found = {}
        for path in self.checkpoints.glob("step-*/manifest.json"):
            with contextlib.suppress(OSError):  # dropped since: newer ones are there
                found[_step(path.as_posix())] = path.read_bytes()
        return found

    def saved_steps(self) -> list[int]:
        """Steps of the checkpoints that are wholly stored, in growing order."""
        copy = mirror.of(self.root)
        if copy is not None:
            return sorted(map(_step, self._manifest_keys(copy)))
        return sorted(_step(path.as_posix()) for path in self.checkpoints.glob("step-*/manifest.json"))

    def _manifest_keys(self, copy: mirror.Mirror) -> list[str]:
        return [key for key in copy.remote.below(copy.key(self.checkpoints)) if _MANIFEST.search(key)]

    def create(self) -> AttemptLayout:
        for folder in (self.segments, self.checkpoints, self.predictions):
            make_folder(folder)
        return self


@dataclass(frozen=True, slots=True)
class RunLayout:
    """One run: its attempts, and its record once one of them is accepted."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    def attempt(self, epoch: int, n: int) -> AttemptLayout:
        return AttemptLayout(self.root / f"attempt-{epoch}-{n}")

    def attempts(self) -> list[tuple[int, int, AttemptLayout]]:
        """(epoch, n, layout) of every attempt's folder, oldest first."""
        copy = mirror.of(self.root)
        if copy is not None:
            names = iter(copy.attempt_names(self.root))
        else:
            names = (path.name for path in self.root.iterdir()) if self.root.is_dir() else iter(())
        found = sorted((int(match[1]), int(match[2])) for match in map(ATTEMPT.fullmatch, names) if match)
        return [(epoch, n, self.attempt(epoch, n)) for epoch, n in found]


class SweepLayout:
    """One sweep's folder below the storage, or its working copy."""

    def __init__(self, storage: str | Path, name: str) -> None:
        self.name = check_name(name)
        self.storage = storage_folder(storage)
        self.uri = canonical(str(storage)) if is_remote(str(storage)) else str(self.storage)
        """The storage as another machine would name it."""
        self._copy = mirror.opened(self.uri, name) if is_remote(self.uri) else None
        self.remote = self._copy.remote if self._copy is not None else None
        """The sweep's objects; None where the storage is a folder."""
        self.root = self.storage / name
        self.ledger = self.root / "ledger.jsonl"
        self.lock = self.root / "driver.lock"
        self.optuna = self.root / "optuna.db"
        self.mlflow_db = self.root / "mlflow.db"
        self.mlflow_artifacts = self.root / "mlflow-artifacts"
        self.uploads = self.root / "uploads"
        self.features = self.root / "features"
        self.reports = self.root / "reports"
        self.derived = self.root / "derived"
        self.runs = self.root / "runs"

    def push(self, *paths: Path) -> None:
        """Files or folders of the sweep were written here, or removed: store that. Nothing to do for a folder.

        Raises:
            MissingError, StoppedError: the store does not take them; both are OSErrors.
        """
        if self._copy is not None:
            self._copy.push(*paths)

    def pull(self, *paths: Path) -> None:
        """Make files or folders here what is stored; what was never stored is left alone. Nothing to do for a folder.

        Raises:
            MissingError, StoppedError: the store does not answer; both are OSErrors.
        """
        if self._copy is not None:
            self._copy.pull(*paths)

    def pull_records(self, recorded: Mapping[str, int]) -> None:
        """Bring the records of runs up to the ledger's word: run_id -> `time_ms` of its `Recorded`."""
        if self._copy is not None:
            self._copy.pull_records(recorded)

    def __repr__(self) -> str:
        return f"SweepLayout({self.uri!r}, {self.name!r})"

    @property
    def named(self) -> str:
        """How a further command names the sweep: with the storage, unless that is the default one from here."""
        return self.name if self.uri == str(storage_folder(DEFAULT_STORAGE)) else f"{self.name} --storage {self.uri}"

    def exists(self) -> bool:
        return self.ledger.is_file() if self._copy is None else self._copy.ledger.exists()

    def create(self) -> SweepLayout:
        make_folder(self.runs)
        return self

    def run(self, run_id: str) -> RunLayout:
        if not RUN_ID.fullmatch(run_id):
            raise StudyError(f"a run_id must be up to 64 of a-z, 0-9, '-' and '_', but got {run_id[:80]!r}")
        return RunLayout(self.runs / run_id)


def sweeps(storage: str | Path) -> list[SweepLayout]:
    """Every sweep below a storage, by name."""
    names: list[str]
    if is_remote(str(storage)):
        names = Remote(str(storage)).folders()
    else:
        folder = storage_folder(storage)
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    layouts = [SweepLayout(storage, name) for name in names if SWEEP_NAME.fullmatch(name) and ".." not in name]
    return [layout for layout in layouts if layout.exists()]
