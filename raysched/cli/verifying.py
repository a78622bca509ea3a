"""`verify`: LaTeX tables against the sweeps that their numbers came from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from raysched.cli.looking import find_all
from raysched.errors import DONE, SOME_RUNS_FAILED, MissingError
from raysched.records.layout import sweeps

if TYPE_CHECKING:  # it imports what reads Parquet
    from raysched.reports.sweep import Sweep


def verify(tables: list[Path], names: list[str], storage: str) -> int:
    """Print every mismatch, and how much was compared; 1 where there is any.

    Raises:
        StudyError: no file holds a mark of raysched.
        MissingError: there is no such file or sweep.
    """
    from raysched.reports.sweep import read_sweep
    from raysched.reports.verifying import verify as reports

    texts = {str(path): _text(path) for path in tables}
    layouts = {layout.name: layout for layout in (find_all(names, storage) if names else sweeps(storage))}
    if not layouts:
        raise MissingError(
            f"there is no sweep in {storage}", key="--storage", hint="give the storage of the sweeps with --storage"
        )

    @cache
    def stored(name: str) -> Sweep | None:
        return read_sweep(layouts[name]) if name in layouts else None

    found = [reports.verify(text, file, stored) for file, text in texts.items()]
    reports.refuse_unmarked(found)
    for one in found:
        for finding in one.findings:
            print(finding)  # noqa: T201
        if one.unmarked:
            lines = ", ".join(map(str, one.unmarked[:8])) + (", ..." if len(one.unmarked) > 8 else "")
            rows = f"{len(one.unmarked)} row{'s' if len(one.unmarked) > 1 else ''} with numbers"
            print(f"{one.file}: {rows} and no mark, not compared (line {lines})")  # noqa: T201
    print(reports.told(found))  # noqa: T201
    return SOME_RUNS_FAILED if any(finding.wrong for one in found for finding in one.findings) else DONE


def _text(path: Path) -> str:
    """The file; letters that are not UTF-8 do not matter to numbers."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        raise MissingError(
            "there is no such file", key=str(path), hint="`raysched report` writes tables/*.tex"
        ) from None
    except IsADirectoryError:
        raise MissingError("is a folder", key=str(path), hint=f"name its files: {path}/*.tex") from None
