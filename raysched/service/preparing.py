"""Every input of a study fetched ahead, into the hub cache that a cluster's machines share: its sweep asks no hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysched import hub
from raysched.errors import MissingError
from raysched.runners import preflight
from raysched.study.identity import Content, Resolved
from raysched.study.load import LoadedStudy

CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
"""Environment variables that name the cache itself, and come before HF_HOME."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A repository of the hub, or what lies elsewhere: `place` is `hub`, `mini` (the package), or `folder`."""

    name: str
    where: str
    revision: str
    place: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the studies need, each input once; `fetched` bytes were not there before."""

    cache: Path
    inputs: tuple[Input, ...]
    fetched: int

    @property
    def size(self) -> int:
        return sum(one.size for one in self.inputs if one.place == "hub")

    @property
    def local(self) -> tuple[Input, ...]:
        """What must be at the same path where the sweep's driver runs."""
        return tuple(one for one in self.inputs if one.place == "folder")


def prepare(
    parts: Sequence[LoadedStudy], to: Path | None = None, said: Callable[[Input], object] = lambda _: None
) -> Prepared:
    """Fetch, at the revisions the hub has now, what is not there yet, and check that it is found without the hub.

    `to` becomes HF_HOME of this process. With HF_HUB_OFFLINE nothing is fetched, and what lacks is an error.

    Raises:
        MissingError: the hub does not give it, the cache cannot be written, or it does not hold it afterwards.
        StudyError: an input is not what the study takes it for.
    """
    if to is not None:
        for name in CACHES:
            os.environ.pop(name, None)
        os.environ["HF_HOME"] = str(to.expanduser().absolute())
    cache = hub.cache_folder()
    _check_writable(cache)
    before = _bytes(cache)
    found: dict[tuple[str, str], Input] = {}
    resolved: Resolved | None = None
    for part in parts:
        resolved = preflight.resolve(part.study, device="cpu", known=resolved)
        preflight.fetch(resolved, part.study)
        with preflight.without_hub():
            _check_again(part, resolved)
            for name, kind, content in _named(resolved):
                if (content.where, content.revision) not in found:
                    found[content.where, content.revision] = _input(name, kind, content)
                    said(found[content.where, content.revision])
    return Prepared(cache=cache, inputs=tuple(found.values()), fetched=_bytes(cache) - before)


def _check_writable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(
            f"the folder {cache} cannot be made: {error.strerror}", key="--to", hint="give a folder that can be written"
        ) from error
    if not hub.offline() and not os.access(cache, os.W_OK | os.X_OK):
        raise MissingError(f"the folder {cache} cannot be written", key="--to", hint="give a folder that can be")
    preflight.check_disk(cache)


def _check_again(part: LoadedStudy, resolved: Resolved) -> None:
    """Resolve anew as a cluster without the hub will, once the cache says which commit each branch was."""
    for _, kind, content in _named(resolved):
        if _place(content) == "hub":
            _remember(kind, content)
    again = preflight.resolve(part.study, device="cpu")
    lacking = [
        name
        for (name, _, content), (_, _, other) in zip(_named(resolved), _named(again), strict=True)
        if content != other
    ]
    if lacking:
        raise MissingError(
            f"{hub.cache_folder()} does not give what was fetched of {part.name}: {', '.join(lacking)}",
            key="--to",
            hint="give an empty folder with --to",
        )


def _remember(kind: hub.Kind, content: Content) -> None:
    """Note the commit as that of `main`: without the hub a study's inputs are asked for by this name."""
    reference = hub.snapshot_folder(content.where, kind, content.revision).parent.parent / "refs" / "main"
    if not reference.is_file() or reference.read_text() != content.revision:
        reference.parent.mkdir(parents=True, exist_ok=True)
        beside = reference.with_name(f".{reference.name}.{os.getpid()}")
        beside.write_text(content.revision)
        os.replace(beside, reference)


def _named(resolved: Resolved) -> list[tuple[str, hub.Kind, Content]]:
    """Every input with its name and kind, in a fixed order."""
    found: list[tuple[str, hub.Kind, Content]] = [("backbone", "model", resolved.backbone)]
    adapters = sorted(resolved.language_adapters.items())
    found += [(f"language adapter {language}", "model", content) for language, content in adapters]
    found += [("training data", "dataset", resolved.train), ("dev data", "dataset", resolved.dev)]
    for test in (resolved.test, *(resolved.also[name] for name in sorted(resolved.also))):
        found += [("test data", "dataset", content) for _, content in sorted(test.items())]
    if resolved.replay is not None:
        found.append(("replayed order", "dataset", resolved.replay))
    return found


def _input(name: str, kind: hub.Kind, content: Content) -> Input:
    place = _place(content)
    folder = Path(content.path) if content.path is not None else None
    if place == "hub":
        folder = hub.snapshot_folder(content.where, kind, content.revision)
    size = sum(path.stat().st_size for path in _paths(folder)) if folder is not None else 0
    return Input(name=name, where=content.where, revision=content.revision, place=place, size=size)


def _place(content: Content) -> str:
    if content.where == "mini" or content.where.startswith("mini:"):
        return "mini"
    return "folder" if content.path is not None else "hub"


def _paths(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())


def _bytes(cache: Path) -> int:
    """What the cache holds; its snapshots are links to these."""
    return sum(path.stat().st_size for path in cache.glob("*/blobs/*") if path.is_file())
