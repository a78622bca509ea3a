"""A sweep's inputs for machines that do not have them: handed out by revision, fetched once, checked, kept.

The driver's machine has a `Shelf`: it opens only what was put on it, and only files that it lists itself. A worker
asks it for what its own machine lacks. Nothing here knows how the two talk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from raysched import hub, mini
from raysched.errors import RunError
from raysched.mini.languages import LANGUAGES as MINI_LANGUAGES
from raysched.records import files
from raysched.study.identity import Content, Resolved

CHUNK_BYTES = 32 * 1024**2
REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MINI = "mini"
_whole: set[tuple[str, str]] = set()
"""(path, revision) of what this process has read through and found to be what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file that can be had: its name below the input's folder, and what it holds."""

    name: str
    size: int
    sha256: str


class Source(Protocol):
    """Where inputs come from; what it raises is a RunError or an OSError."""

    def listing(self, key: str) -> list[Entry]:
        """The files of an input; none where it is not known."""

    def read(self, key: str, name: str, offset: int) -> bytes:
        """At most `CHUNK_BYTES` of a file; none at its end."""


class Shelf:
    """What the driver's machine hands out."""

    def __init__(self, held: Mapping[str, Mapping[str, str]]) -> None:
        """`held` gives the files of every input: by key, and then by name, their paths here."""
        self._held = {key: dict(named) for key, named in held.items()}
        self._listed: dict[str, list[Entry]] = {}

    def listing(self, key: str) -> list[Entry]:
        if key not in self._listed:
            found = [(name, Path(path)) for name, path in sorted(self._held.get(key, {}).items())]
            self._listed[key] = [
                Entry(name=name, size=path.stat().st_size, sha256=files.sha256_file(path)) for name, path in found
            ]
        return self._listed[key]

    def read(self, key: str, name: str, offset: int) -> bytes:
        path = self._held.get(key, {}).get(name)
        if path is None:
            raise FileNotFoundError(f"no file {name!r} of input {key!r} was offered")
        with Path(path).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)


def held(resolved: Resolved) -> dict[str, dict[str, str]]:
    """What a `Shelf` of this machine holds of these inputs. The hub's files must have been fetched."""
    found: dict[str, dict[str, str]] = {}
    for kind, content in _contents(resolved):
        if content.path is not None:
            root = Path(content.path)
            paths = {root.name: root} if root.is_file() else _below(root)
        elif content.where == MINI:
            continue
        else:
            folder = hub.snapshot_folder(content.where, kind, content.revision)
            paths = _below(folder)
            if kind == "model":
                paths = {name: paths[name] for name in hub.model_files(content) if name in paths}
        found[key_of(content, kind)] = {name: str(path) for name, path in paths.items()}
    return found


def _below(folder: Path) -> dict[str, Path]:
    """Every file below a folder, hidden ones left out."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not any(p.startswith(".") for p in name.split("/"))}


def _contents(resolved: Resolved) -> Iterator[tuple[hub.Kind, Content]]:
    for content in (resolved.backbone, *resolved.language_adapters.values()):
        yield "model", content
    tests = [resolved.test, *resolved.also.values()]
    for content in (resolved.train, resolved.dev, *(one for test in tests for one in test.values())):
        yield "dataset", content
    if resolved.replay is not None:
        yield "dataset", resolved.replay


def key_of(content: Content, kind: hub.Kind) -> str:
    """The name under which an input is handed out."""
    return content.revision if content.path is not None else f"{kind} {content.where} {content.revision}"


def cache_folder() -> Path:
    """Where this machine keeps what it fetched: below `$RAYSCHED_CACHE`, or ~/.cache/raysched."""
    return Path(os.environ.get("RAYSCHED_CACHE") or "~/.cache/raysched").expanduser().absolute() / "inputs"


def localize(resolved: Resolved, source: Source, cache: Path) -> Resolved:
    """The same inputs at paths of this machine; what is not here, or is not the same, comes from `source`.

    Raises:
        RunError: an input is nowhere, is no longer what was resolved, or was not handed out whole.
        OSError: this machine's disk does not take it.
    """

    def here(content: Content, kind: hub.Kind) -> Content:
        if not REVISION.fullmatch(content.revision):
            raise RunError(f"{content.where} has no revision, but {content.revision[:80]!r}", cause="data")
        if content.path is None:
            if content.where != MINI:
                _fill_snapshot(content, kind, source)
            return content
        for path in filter(None, (_of_package(content), Path(content.path))):
            if _is(path, content.revision):
                return content.model_copy(update={"path": str(path)})
        return content.model_copy(update={"path": str(_fetched(content, source, cache))})

    def several(contents: Mapping[str, Content], kind: hub.Kind) -> dict[str, Content]:
        return {language: here(content, kind) for language, content in contents.items()}

    return resolved.model_copy(
        update={
            "train": here(resolved.train, "dataset"),
            "dev": here(resolved.dev, "dataset"),
            "test": several(resolved.test, "dataset"),
            "also": {name: several(test, "dataset") for name, test in resolved.also.items()},
            "backbone": here(resolved.backbone, "model"),
            "language_adapters": several(resolved.language_adapters, "model"),
            "replay": here(resolved.replay, "dataset") if resolved.replay is not None else None,
        }
    )


def _of_package(content: Content) -> Path | None:
    """The folder of an input that comes with the package, wherever this machine has it installed."""
    if content.where == MINI:
        return mini.backbone_path()
    language = content.where.removeprefix(f"{MINI}:")
    return mini.adapter_path(language) if language != content.where and language in MINI_LANGUAGES else None


def _is(path: Path, revision: str) -> bool:
    """Whether a file or folder of this machine is there, and is what was resolved; read through once per process."""
    if (str(path), revision) in _whole and path.exists():
        return True
    if path.is_dir():
        same = files.sha256_tree(path) == revision
    else:
        same = path.is_file() and files.sha256_file(path) == revision
    if same:
        _whole.add((str(path), revision))
    return same


def _fetched(content: Content, source: Source, cache: Path) -> Path:
    """A file or folder of another machine, below this one's cache."""
    revision, offered = content.revision, _listing(content, "model", source)
    name = Path(content.path or "").name
    # A folder's revision is that of a tree of files; a file's is its own.
    single = [entry.name for entry in offered] == [name] and offered[0].sha256 == revision
    root = cache / revision
    target = root / name if single else root
    with _locked(cache, revision):
        if _is(target, revision):
            return target  # fetched earlier, or by another process of this machine
        if target.exists():
            shutil.rmtree(root)
        beside = files.make_folder(cache / f".{revision}.{secrets.token_hex(4)}")
        try:
            for entry in offered:
                _copy(source, revision, entry, beside / _safe(entry.name))
            if single:
                files.make_folder(root)
                os.replace(beside / name, target)
            else:
                os.replace(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        if not _is(target, revision):
            shutil.rmtree(root, ignore_errors=True)
            raise RunError(
                f"{content.where} has changed on the driver's machine since the sweep was opened",
                cause="data",
                hint=f"restore {content.path}, or start another sweep with --name",
            )
    return target


def _fill_snapshot(content: Content, kind: hub.Kind, source: Source) -> None:
    """Put what the driver's machine has of a pinned repository into this machine's own Hugging Face cache."""
    folder = hub.snapshot_folder(content.where, kind, content.revision)
    if not hub.REPOSITORY.fullmatch(content.where):
        raise RunError(f"{content.where[:200]!r} is no name on the hub", cause="data")
    if (str(folder), content.revision) in _whole:
        return
    key = key_of(content, kind)
    offered = [(entry, folder / _safe(entry.name)) for entry in _listing(content, kind, source)]
    with _locked(folder.parent, content.revision):
        for entry, path in offered:
            if not path.is_file() or path.stat().st_size != entry.size:
                _copy(source, key, entry, path)
    _whole.add((str(folder), content.revision))


def _listing(content: Content, kind: hub.Kind, source: Source) -> list[Entry]:
    offered = source.listing(key_of(content, kind))
    if not offered:
        raise RunError(
            f"{content.where} is not on this machine, and the driver's does not hand it out",
            cause="data",
            hint="put it where every machine of the cluster sees it",
        )
    return offered


def _safe(name: str) -> str:
    """A name that stays below the folder it is put in. Raises RunError for any other."""
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name != "/".join(parts)
        or name.startswith("/")
        or {"..", "."} & {*parts}
        or set(name) & {"\\", "\0"}
    ):
        raise RunError(f"{name[:200]!r} is no name of a file of an input", cause="data")
    return name


def _copy(source: Source, key: str, entry: Entry, path: Path) -> None:
    """One file, whole or not at all."""
    files.make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(files.create(beside, os.O_WRONLY | os.O_EXCL), "wb") as file:
            offset = 0
            while offset < entry.size and (chunk := source.read(key, entry.name, offset)):
                file.write(chunk)
                offset += len(chunk)
        if files.sha256_file(beside) != entry.sha256:
            raise RunError(f"{entry.name} did not come whole from the driver's machine", cause="storage")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path, revision: str) -> Iterator[None]:
    """One process of this machine fetches an input, the others wait for it; what killed ones left is removed."""
    files.make_folder(folder)
    descriptor = files.create(folder / f".{revision}.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for stale in folder.glob(f".{revision}.*"):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
