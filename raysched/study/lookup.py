"""Where a study is found: as a path, then in `./search_spaces`, then in the package."""

from __future__ import annotations

import re
from pathlib import Path

from raysched.errors import StudyError
from raysched.study.choices import closest

SWEEP_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
PART = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
"""Name of a part of a suite; its sweep is named SUITE.PART."""
SUFFIXES = ("", ".yaml", ".yml")


def packaged_folder() -> Path:
    """The studies that come with raysched: inside the wheel, or beside the package in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def folders(cwd: Path) -> list[Path]:
    return [cwd / "search_spaces", packaged_folder()]


def study_files(cwd: Path) -> dict[str, Path]:
    """Every study by name; the user's own hide those of the package. A leading `_` hides a file from the list."""
    found: dict[str, Path] = {}
    for folder in folders(cwd):
        for path in sorted(folder.glob("*.y*ml")):
            if path.suffix in SUFFIXES and not path.name.startswith("_") and path.is_file():
                found.setdefault(path.stem, path)
    return found


def find_study(name: str, *, cwd: Path, beside: Path | None = None, at: str = "") -> tuple[Path, str | None]:
    """The file of the study `name`, looked for beside the file `beside` first; for SUITE.PART the part as well.

    Raises StudyError with the names that exist; `at` is the place that asked for it.
    """
    suite, _, part = name.rpartition(".")
    for stem, of in ((name, None), (suite, part)):
        if stem and "\0" not in stem and (of is None or PART.fullmatch(of)):
            for folder in [*([beside.parent] if beside else []), cwd, *folders(cwd)]:
                for suffix in SUFFIXES:
                    path = folder / (stem + suffix)
                    if _is_file(path):
                        return path, of
    raise no_such_study(name, cwd=cwd, at=at)


def no_such_study(name: str, *, cwd: Path, at: str = "") -> StudyError:
    names = sorted(study_files(cwd))
    meant = closest(Path(name).stem if name else "", names)
    return StudyError(
        "names no study: neither a file of this path, nor one in ./search_spaces, nor one of the package"
        + (f"\n  at:    {at}" if at else ""),
        key=repr(name)[:120],
        choices=names,
        hint=f"did you mean {meant}?" if meant else "give one of these names, or the path of your own file",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, a folder that may not be read
        return False


def check_sweep_name(name: str, *, key: str, hint: str) -> str:
    """A sweep's name becomes a folder and part of an address: nothing that could lead elsewhere (S8)."""
    if not SWEEP_NAME.fullmatch(name) or ".." in name:
        raise StudyError(
            f"must match ^[a-z0-9][a-z0-9._-]{{0,62}}$ and hold no .., but got {name!a}",
            key=key,
            choices=["lower-case letters, digits, and . _ - after the first character, 63 at most"],
            hint=hint,
        )
    return name
