"""A sweep in one file: everything that was found out, checked; nothing that can be made again from it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from raysched.errors import DamageError, MissingError, StudyError
from raysched.records import files
from raysched.records import ledger as ledgers
from raysched.records.layout import SweepLayout
from raysched.records.ledger_objects import object_name
from raysched.records.record import read_record
from raysched.records.state import SweepState
from raysched.runners.holding import hold
from raysched.runners.options import Options

MANIFEST = "archive.json"
"""First in the archive: the sweep, and the SHA-256 of every other member."""
SCHEMA = 1
OPTIONAL = ("result.json", "error.txt")
"""Of an accepted attempt, beside what its record names."""
PRIVATE_SQLITE = ("-wal", "-shm", "-journal")
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """`made` is False where the very same archive was there already."""

    path: Path
    members: int
    size: int
    made: bool
    deleted: bool
    database: str
    """The search's database, where it is not in the sweep's folder, and so not in the archive."""


def archive(layout: SweepLayout, to: Path, *, delete: bool = False) -> Archived:
    """Pack a sweep that no driver runs into the file `to`; with `delete`, remove the sweep once that was verified.

    `tar -xzf` below any storage gives a sweep again. Its unfinished runs then start anew: checkpoints are left out.

    Raises:
        StoppedError: a driver runs it.
        StudyError: `to` is another file already, or lies in the sweep's own folder.
        MissingError: the folder of `to` is not there.
        DamageError: a file of the sweep is not what was recorded, or the archive could not be read back.
    """
    to = _place(layout, to)
    with hold(layout, Options(storage=layout.uri)), tempfile.TemporaryDirectory(prefix="raysched-archive-") as private:
        entries = ledgers.read(layout.ledger)
        state = SweepState.of(entries)
        sources = dict(sorted(_sources(layout, state, Path(private)).items()))
        listed = {name: files.sha256_file(path) for name, path in sources.items()}
        about = {"schema_version": SCHEMA, "sweep": layout.name, "uid": state.uid, "files": listed}
        if made := not to.exists():
            _write(to, layout.name, about, sources, max(entry.time_ms for entry in entries) // 1000)
        elif _is_other(to, about):
            raise StudyError(
                f"is there already, and is no archive of {layout.name!r} as it is now",
                key=str(to),
                hint="give another file with --to",
            )
        if delete:
            _remove(layout)
    return Archived(
        path=to,
        members=len(listed),
        size=to.stat().st_size,
        made=made,
        deleted=delete,
        database=state.opened.database if state.opened else "",
    )


def verify(path: Path) -> dict[str, Any]:
    """The manifest of an archive, every member of which is what it says.

    Raises:
        DamageError: it is no archive of a sweep, or was changed since it was written.
    """
    about: dict[str, Any] = {}
    seen: dict[str, str] = {}
    try:
        with gzip.open(path) as zipped, tarfile.open(fileobj=zipped, mode="r|") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if not (member.isfile() or member.isdir()) or name.is_absolute() or ".." in name.parts:
                    raise DamageError(f"holds {member.name!r}, which no archive of a sweep does", key=str(path))
                if member.isdir():
                    continue
                content = tar.extractfile(member)
                assert content is not None
                inside = "/".join(name.parts[1:])
                if not about:
                    about = _manifest(inside, content.read(), name.parts[0])
                else:
                    seen[inside] = _digest(content)
            _digest(zipped)  # to its very end, where its own checksum is
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise DamageError(f"is no archive of a sweep: {error}", key=str(path)) from error
    if not about or seen != about["files"]:
        listed = about.get("files", {})
        wrong = sorted(name for name in seen.keys() | listed.keys() if seen.get(name) != listed.get(name))
        raise DamageError(f"does not hold what its manifest lists: {', '.join(wrong[:5])}", key=str(path))
    return about


def _is_other(path: Path, about: Mapping[str, Any]) -> bool:
    try:
        return verify(path) != about
    except DamageError:
        return True


def _manifest(inside: str, content: bytes, folder: str) -> dict[str, Any]:
    about = json.loads(content)
    if inside != MANIFEST or about["sweep"] != folder or about["schema_version"] > SCHEMA:
        raise ValueError("it does not begin with the manifest of a sweep")
    return dict(about)


def _digest(content: IO[bytes] | gzip.GzipFile) -> str:
    value = hashlib.sha256()
    while block := content.read(CHUNK):
        value.update(block)
    return value.hexdigest()


def _place(layout: SweepLayout, to: Path) -> Path:
    to = to.expanduser().absolute()
    to = to / f"{layout.name}.tar.gz" if to.is_dir() else to
    if to.resolve().is_relative_to(layout.root.resolve()):
        raise StudyError("lies in the sweep's own folder", key=f"--to {to}", hint="put the archive somewhere else")
    if not to.parent.is_dir():
        raise MissingError("there is no such folder", key=f"--to {to.parent}", hint="make it first, or give another")
    return to


def _sources(layout: SweepLayout, state: SweepState, private: Path) -> dict[str, Path]:
    """Name below the sweep's folder -> the file with its content."""
    layout.pull(layout.reports, *(layout.run(run_id).record for run_id in state.recorded), layout.optuna)
    layout.pull(layout.derived, layout.root / "tracking.json")
    paths = [layout.ledger, *_whole(layout.reports), *_whole(layout.derived), *_whole(layout.mlflow_artifacts)]
    for folder in sorted(layout.runs.iterdir()) if layout.runs.is_dir() else ():
        if layout.run(folder.name).record.is_file():
            paths += [layout.run(folder.name).record, *_accepted(layout, folder.name)]
    found = {path.relative_to(layout.root).as_posix(): path for path in paths}
    if (target := layout.root / "tracking.json").is_file():  # where it is tracked; of what is there, nothing
        found[target.name] = target
    for path in (layout.mlflow_db, *layout.root.glob("optuna*")):
        if path.is_file() and not path.name.endswith((*PRIVATE_SQLITE, ".lock")):
            found[path.name] = _settled(path, private)
    return found


def _accepted(layout: SweepLayout, run_id: str) -> Iterator[Path]:
    """The files of a run's accepted attempt, each as recorded."""
    record = read_record(layout.run(run_id).record)
    root = layout.run(run_id).root / record.attempt_folder
    recorded = {**record.files, **{f"segments/{sealed.name}": sealed.sha256 for sealed in record.segments}}
    layout.pull(*(root / name for name in (*recorded, *OPTIONAL)))
    for name, sha256 in recorded.items():
        path = root / name
        if not path.is_file() or files.sha256_file(path) != sha256:
            raise DamageError(
                "is missing or is not what was recorded", key=str(path), hint="put it back from a copy; then archive"
            )
        yield path
    yield from (root / name for name in OPTIONAL if (root / name).is_file())


def _whole(folder: Path) -> Iterator[Path]:
    """Every file below a folder; links lead elsewhere, and nothing of raysched makes them."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink():
            raise DamageError("is a link, which raysched never makes", key=str(path), hint="remove it; then archive")
        if path.is_file():
            yield path


def _settled(path: Path, private: Path) -> Path:
    """A database as one file: what its last user left beside it is taken in, in a copy."""
    if not any(path.with_name(path.name + suffix).exists() for suffix in PRIVATE_SQLITE):
        return path
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(private / path.name)) as copy:
        source.backup(copy)
    return private / path.name


def _write(to: Path, name: str, about: Mapping[str, Any], sources: Mapping[str, Path], time_s: int) -> None:
    """Beside its place, synced, read back, renamed. Every member has the time of the ledger's last entry, so that the
    same sweep gives the same bytes."""
    beside = to.with_name(f".{to.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(files.create(beside, os.O_WRONLY | os.O_EXCL), "wb") as raw:
            with (
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped,
                tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                text = json.dumps(about, sort_keys=True, indent=1) + "\n"
                _add(tar, f"{name}/{MANIFEST}", io.BytesIO(text.encode()), len(text.encode()), time_s)
                for folder in sorted({str(parent) for one in sources for parent in PurePosixPath(one).parents}):
                    _add(tar, name if folder == "." else f"{name}/{folder}", None, 0, time_s)
                for one, path in sources.items():
                    with path.open("rb") as content:
                        _add(tar, f"{name}/{one}", content, os.fstat(content.fileno()).st_size, time_s)
            raw.flush()
            os.fsync(raw.fileno())
        if verify(beside) != about:
            raise DamageError("could not be read back as it was written", key=str(to), hint="try another disk")
        os.replace(beside, to)
    finally:
        beside.unlink(missing_ok=True)
    files.sync_folder(to.parent)


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes] | None, size: int, time_s: int) -> None:
    """One member, with nothing of this machine in it: no owner, no times of its own."""
    info = tarfile.TarInfo(name)
    info.mtime, info.size = time_s, size
    info.type, info.mode = (
        (tarfile.DIRTYPE, files.FOLDER_MODE) if content is None else (tarfile.REGTYPE, files.FILE_MODE)
    )
    tar.addfile(info, content)


def _remove(layout: SweepLayout) -> None:
    """Out of the storage at once, then file by file."""
    if layout.remote is not None:
        layout.remote.delete([object_name(0)])
        layout.remote.delete(layout.remote.below(""))
    gone = layout.storage / f".{layout.name}.{secrets.token_hex(4)}.deleted"
    os.rename(layout.root, gone)
    files.sync_folder(layout.storage)
    shutil.rmtree(gone)
