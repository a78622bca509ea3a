"""The small zip that travels with a submitted sweep: its study, what the study names, and a folder if one is asked for.

Everything else of a job (code, models, data) is in the cluster's image, on its storage, or on the hub.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysched.errors import MissingError, StudyError
from raysched.service.ray_jobs import MOST_BYTES
from raysched.study.load import LoadedStudy, Suite
from raysched.study.lookup import find_study, packaged_folder
from raysched.study.model import Study
from raysched.study.yaml_text import to_yaml

FOLDER = "submitted"
STAYS = frozenset({"venv", "__pycache__", "raysched-runs"})
"""Names that stay behind, as all hidden files do (.git, .venv, .env)."""
SHOWN = 3
PATHS = ("train", "dev", "test", "folder", "backbone", "language_adapters", "replay")
"""Keys of a study whose value may be a path."""
SAME_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file: the same files make the same zip, which is uploaded once."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What travels, by its name in the job's working folder: a file of this machine, or text made here.

    `study` is how the job names the study: its name in the image's package, or its file in this parcel.
    """

    study: str
    files: dict[str, Path | str]

    def write(self, path: Path) -> Path | None:
        """Zip it; None where nothing travels.

        Raises:
            StudyError: it is larger than a job server takes; the largest files are named.
            MissingError: a file cannot be read.
        """
        sizes = {name: _size(content) for name, content in self.files.items()}
        if (total := sum(sizes.values())) > MOST_BYTES:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN]
            raise StudyError(
                f"{total / 1024**2:.0f} MiB would travel with the job, but a job server takes at most "
                f"{MOST_BYTES // 1024**2} MiB; the largest: "
                + ", ".join(f"{name} ({sizes[name] / 1024**2:.1f} MiB)" for name in largest),
                key="--working-dir",
                hint="give a smaller folder, and put the rest into the cluster's image or storage",
            )
        if not self.files:
            return None
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, SAME_TIME)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                packed.writestr(entry, content if isinstance(content, str) else _read(content))
        return path


def parcel(asked: str, loaded: LoadedStudy | Suite, working_dir: Path | None, cwd: Path) -> Parcel:
    """What has to travel for `loaded`, which was asked for as `asked`.

    A study of the package is taken from the cluster's image. One of a file travels whole, with all that it extends
    and its overrides in it; the recorded order it replays travels along.

    Raises:
        StudyError: the folder is none, or a link in it leads out of it; the study names a file of this machine that
            does not travel.
    """
    files: dict[str, Path | str] = dict(_files_of(working_dir)) if working_dir is not None else {}
    studies = [part.study for part in loaded.parts] if isinstance(loaded, Suite) else [loaded.study]
    for key, text in dict.fromkeys(named for study in studies for named in _named(study)):
        if not _travels(text, files) and _exists(text, cwd):
            if key != "training.replay" or ".." in Path(text).parts:
                raise StudyError(
                    f"{text} is a path on this machine, which does not go with the job",
                    key=key,
                    hint="give an absolute path that the cluster sees, or take it along: --working-dir . "
                    f"(at most {MOST_BYTES // 1024**2} MiB)",
                )
            files[Path(text).as_posix()] = cwd / text
    if loaded.source.resolve().is_relative_to(packaged_folder().resolve()):
        _, part = find_study(asked, cwd=cwd)
        return Parcel(loaded.source.stem + (f".{part}" if part else ""), files)
    name = f"{FOLDER}/{loaded.source.stem}.yaml"
    return Parcel(name, files | {name: _written(loaded)})


def _written(loaded: LoadedStudy | Suite) -> str:
    """All values as one file that extends nothing."""
    if isinstance(loaded, LoadedStudy):
        return loaded.text
    parts = {part.name.removeprefix(f"{loaded.name}."): part.study.model_dump(mode="json") for part in loaded.parts}
    return to_yaml({"description": loaded.description, "parts": parts})


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise StudyError(f"{folder} is no folder", key="--working-dir", hint="give a small folder that the job needs")
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part in STAYS or part.startswith(".") for part in name.parts):
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise StudyError(
                f"{name} is a link that leads out of {folder}",
                key="--working-dir",
                hint="put the file itself there, or remove the link",
            )
        if path.is_file():
            yield name.as_posix(), path


def _named(study: Study) -> Iterator[tuple[str, str]]:
    """Key and value of everything in a study that may be a path."""

    def walk(value: Any, at: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, below in value.items():
                yield from walk(below, (*at, key))
        elif isinstance(value, str) and (at[-1] in PATHS or "language_adapter_overrides" in at):
            yield ".".join(at), value

    for section in ("data", "model", "training", "evaluation"):
        yield from walk(study.model_dump(mode="json")[section], (section,))


def _fixed(text: str) -> Path:
    """The part of a path before {language}."""
    fixed, brace, _ = text.partition("{")
    return Path(fixed) if not brace or fixed.endswith("/") else Path(fixed).parent


def _exists(text: str, cwd: Path) -> bool:
    """Whether `text` is a relative path that leads to something here; `mini` and names of the hub are none."""
    fixed = _fixed(text)
    return text != "mini" and fixed != Path() and not fixed.is_absolute() and (cwd / fixed).exists()


def _travels(text: str, files: dict[str, Path | str]) -> bool:
    fixed = _fixed(text).as_posix()
    return any(name == fixed or name.startswith(f"{fixed}/") for name in files)


def _size(content: Path | str) -> int:
    if isinstance(content, str):
        return len(content.encode())
    try:
        return content.stat().st_size
    except OSError as error:
        raise MissingError(f"{content} cannot be read: {error.strerror}", key="--working-dir") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror}", key="--working-dir") from error
