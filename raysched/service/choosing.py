"""Which run of a sweep leaves it, and what goes along: for `export`, and for the model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raysched.errors import DamageError, MissingError, StudyError
from raysched.records import files
from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.reports.sweep import Sweep
from raysched.study.identity import RunSpec
from raysched.study.space import Point

if TYPE_CHECKING:
    from raysched.training.export import About

Tests = dict[str, dict[str, dict[str, float]]]
"""test set -> language -> metric -> score (0-100)."""


def best(sweep: Sweep) -> Record:
    """The seed with the best source-dev score in the cell with the best source-dev mean; targets are not looked at.

    Raises:
        MissingError: no run is done yet.
    """
    from raysched.reports.tables import cell_rows, merit

    metric = sweep.study.search.objective.partition("/")[2]
    rows = [row for row in cell_rows(sweep, metric) if row.n]
    if not rows:
        raise MissingError(f"no run of {sweep.layout.name} is done yet", key="SWEEP", hint="see raysched status")
    number = max(rows, key=merit).number
    done = [record for record in sweep.cell(number) if record.status == "finished"]
    return max(done, key=lambda record: (record.source_dev[metric], -record.seed))


def named(sweep: Sweep, run: str) -> Record:
    """The finished run whose id begins with `run`.

    Raises:
        StudyError: there is none, there are several, or it did not finish.
    """
    found = [record for run_id, record in sweep.records.items() if run_id.startswith(run)] if run else []
    if len(found) != 1:
        raise StudyError(
            f"{len(found)} runs of {sweep.layout.name} begin with {run!r}"
            if found
            else f"no run of {sweep.layout.name} begins with {run!r}",
            key="--run",
            choices=[f"{r.run_id} ({point(r)} seed={r.seed})" for r in (found or sweep.records.values())][:20],
        )
    if found[0].status != "finished":
        raise StudyError(f"run {found[0].run_id} {found[0].status} ({found[0].cause})", key="--run")
    return found[0]


def point(record: Record) -> Point:
    return Point(**record.params)


def tests(sweep: Sweep, record: Record) -> Tests:
    """What a run scored on every test set of its study."""
    return {name: sweep.tests(record, name) for name in sweep.study.test_sets}


def about(sweep: Sweep, record: Record) -> About:
    """Where the run's adapter comes from, and all that is needed to score it again."""
    from raysched.training.export import About

    return About(
        spec=RunSpec.make(sweep.study, sweep.resolved, point(record), record.seed),
        sweep=sweep.layout.name,
        source_dev=record.source_dev,
        tests=tests(sweep, record),
        versions=record.provenance,
    )


def verified(layout: SweepLayout, record: Record) -> Path:
    """The accepted attempt's adapter, every file of it compared with its hash. Raises DamageError."""
    root = layout.run(record.run_id).root / record.attempt_folder
    for name, sha256 in record.files.items():
        path = root / name
        if name.startswith("adapter/"):
            layout.pull(path)
        if name.startswith("adapter/") and (not path.is_file() or files.sha256_file(path) != sha256):
            raise DamageError("is missing or is not what was recorded", key=str(path), hint="export another run")
    return root / "adapter"


def seeds(sweep: Sweep, record: Record) -> list[tuple[int, Tests]]:
    """(seed, scores) of every finished run of the record's cell."""
    number = next(n for n, taken in sweep.state.points.items() if record.run_id in taken.run_ids.values())
    return [(one.seed, tests(sweep, one)) for one in sweep.cell(number) if one.status == "finished"]


def write(sweep: Sweep, record: Record, to: Path) -> None:
    """Fill the folder `to` with the run's adapter, its head and a card, in AdapterHub layout.

    Raises:
        StudyError: the task's head has no counterpart in the `adapters` library.
        DamageError: the run's files are not what was recorded.
        MissingError: the backbone is not there.
    """
    from raysched import hub
    from raysched.training import card, export

    told = about(sweep, record)
    saved = verified(sweep.layout, record)
    export.write(to, saved, hub.local_folder(told.spec.resolved.backbone), told)
    files.write_atomic(to / "README.md", card.text(told, seeds(sweep, record)))
