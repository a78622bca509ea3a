"""Where everything of a sweep lies. Names that come from outside are checked here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raysched.errors import StudyError
from raysched.records.files import make_folder
from raysched.study.lookup import SWEEP_NAME, check_sweep_name

RUN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ATTEMPT = re.compile(r"attempt-(\d+)-(\d+)")


def check_name(name: str) -> str:
    """A sweep's name, unchanged. Raises StudyError where it could be anything but one folder's name."""
    return check_sweep_name(name, key="--name", hint="pick another name, such as xquad-xlmr-2")


def storage_folder(storage: str | Path) -> Path:
    """The absolute folder of a storage URI: a path or file://... Raises StudyError for any other scheme."""
    text = str(storage)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise StudyError(
            f"cannot store a sweep under {parts.scheme}://",
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
        names = (path.name for path in self.root.iterdir()) if self.root.is_dir() else iter(())
        found = sorted((int(match[1]), int(match[2])) for match in map(ATTEMPT.fullmatch, names) if match)
        return [(epoch, n, self.attempt(epoch, n)) for epoch, n in found]


class SweepLayout:
    """One sweep's folder below the storage."""

    def __init__(self, storage: str | Path, name: str) -> None:
        self.name = check_name(name)
        self.storage = storage_folder(storage)
        self.root = self.storage / name
        self.ledger = self.root / "ledger.jsonl"
        self.lock = self.root / "driver.lock"
        self.optuna = self.root / "optuna.db"
        self.mlflow_db = self.root / "mlflow.db"
        self.mlflow_artifacts = self.root / "mlflow-artifacts"
        self.uploads = self.root / "uploads"
        self.features = self.root / "features"
        self.reports = self.root / "reports"
        self.runs = self.root / "runs"

    @property
    def uri(self) -> str:
        """The storage as another machine would name it."""
        return str(self.storage)

    def push(self, *paths: Path) -> None:
        """Files or folders of the sweep were written here: store them. Nothing to do for a folder."""

    def pull(self, *paths: Path) -> None:
        """Bring what was stored below these paths, and is not here. Nothing to do for a folder."""

    def __repr__(self) -> str:
        return f"SweepLayout({str(self.storage)!r}, {self.name!r})"

    def exists(self) -> bool:
        return self.ledger.is_file()

    def create(self) -> SweepLayout:
        make_folder(self.runs)
        return self

    def run(self, run_id: str) -> RunLayout:
        if not RUN_ID.fullmatch(run_id):
            raise StudyError(f"a run_id must be up to 64 of a-z, 0-9, '-' and '_', but got {run_id[:80]!r}")
        return RunLayout(self.runs / run_id)


def sweeps(storage: str | Path) -> list[SweepLayout]:
    """Every sweep below a storage, by name."""
    folder = storage_folder(storage)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    layouts = [SweepLayout(folder, name) for name in names if SWEEP_NAME.fullmatch(name) and ".." not in name]
    return [layout for layout in layouts if layout.exists()]
