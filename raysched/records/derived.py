"""Results that were made of what finished runs left, without training: averages of adapters, and single candidates.

    <sweep>/derived/<derived_id>/
        result.json             what was scored, and its scores; carries its own SHA-256
        predictions/            as a run's: <language>.parquet, <test set>/<language>.parquet

None of them is a record: nothing steers by them, no run is done because of them, and all can be made again from the
adapters and candidates that the records name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from raysched.errors import DamageError, MissingError
from raysched.records import mirror
from raysched.records.files import make_folder, write_checked
from raysched.records.layout import CANDIDATES, SweepLayout
from raysched.records.record import Inside, Scores, read_as
from raysched.study.identity import digest

SCHEMA = 1
Kind = Literal["checkpoint_average", "seed_average", "candidate"]
RESULT = "result.json"
_STEP = re.compile(rf"{CANDIDATES}/step-(\d+)/")


class Derived(BaseModel):
    """Scores (0-100) of tensors that no run selected.

    `checkpoint_average`: the mean of one run's candidates after `steps`; `seed_average`: the mean of the selected
    adapters and heads of several runs, after `steps[i]` of `run_ids[i]`; `candidate`: one candidate as it is.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: int = SCHEMA
    kind: Kind
    cell_id: str
    run_ids: tuple[str, ...]
    seed: int | None
    """None for an average over seeds."""
    steps: tuple[int, ...]
    evaluations: dict[str, str]
    """test set -> what it held, as `evaluation_id` says it of no run."""
    source_dev: Scores
    tests: dict[str, dict[str, Scores]]
    """test set -> language -> scores."""
    files: dict[Inside, str] = {}
    """Predictions, below the folder, with their SHA-256."""
    versions: dict[str, Any] = {}

    @property
    def derived_id(self) -> str:
        return derived_id(self.kind, self.run_ids, self.steps, self.evaluations)

    @property
    def n(self) -> int:
        """Sets of tensors that went into it."""
        return len(self.steps)


def derived_id(kind: Kind, run_ids: Sequence[str], steps: Sequence[int], evaluations: Mapping[str, str]) -> str:
    """A content hash: the same tensors on the same tests have one place."""
    return digest({"kind": kind, "runs": list(run_ids), "steps": list(steps), "evaluations": dict(evaluations)})


def candidate_steps(files: Mapping[str, str]) -> tuple[int, ...]:
    """Steps of the candidates that a record's `files` name, in growing order."""
    return tuple(sorted({int(match[1]) for name in files if (match := _STEP.match(name))}))


def folder(layout: SweepLayout, name: str) -> Path:
    """Of the entry with the `derived_id` `name`."""
    return layout.derived / name


def write(layout: SweepLayout, derived: Derived) -> None:
    """On disk, and stored, when this returns, with the predictions that it names."""
    place = make_folder(folder(layout, derived.derived_id))
    write_checked(place / RESULT, derived.model_dump())
    layout.push(place)


def read(layout: SweepLayout, name: str) -> Derived:
    """Raises DamageError where the file is not what was written, FileNotFoundError where there is none."""
    path = folder(layout, name) / RESULT
    found = read_as(path, Derived, SCHEMA)
    if found.derived_id != name:
        raise DamageError(f"is of another place ({found.derived_id})", key=str(path))
    return found


def read_all(layout: SweepLayout) -> tuple[dict[str, Derived], list[str]]:
    """derived_id -> entry of everything that was derived of a sweep; and, in words, what could not be read."""
    found: dict[str, Derived] = {}
    damaged: list[str] = []
    names = _names(layout)
    layout.pull(*(folder(layout, name) / RESULT for name in names))
    for name in names:
        try:
            found[name] = read(layout, name)
        except FileNotFoundError:
            continue  # half-made: its predictions are there, and no result yet
        except (DamageError, MissingError) as error:
            damaged.append(str(error).replace("\n", " "))
    return found, damaged


def _names(layout: SweepLayout) -> list[str]:
    there = {path.name for path in layout.derived.iterdir()} if layout.derived.is_dir() else set[str]()
    copy = mirror.of(layout.root)
    if copy is not None:
        there |= set(copy.remote.folders(copy.key(layout.derived)))
    return sorted(name for name in there if not name.startswith("."))
