"""A sweep as a report sees it: its ledger and its records, read from the storage at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from raysched.errors import DamageError, MissingError
from raysched.records import ledger
from raysched.records.history import Row, read_segments
from raysched.records.layout import SweepLayout, sweeps
from raysched.records.record import Record, Scores, read_record
from raysched.records.state import SweepState
from raysched.study.identity import Resolved, evaluation_id
from raysched.study.model import MAIN, Study
from raysched.study.space import Point, points
from raysched.study.stored import stored


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything reports are made of. `damaged` names what could not be read; its runs count as not done."""

    layout: SweepLayout
    state: SweepState
    study: Study
    resolved: Resolved
    records: dict[str, Record]
    damaged: tuple[str, ...] = ()

    @cached_property
    def points(self) -> dict[int, Point]:
        """By number, in the order of the study: schedule, method, lr, k, then its arms."""
        taken = {number: Point(**entry.params) for number, entry in self.state.points.items()}
        place = {point: index for index, point in enumerate(points(self.study.search))}
        order = sorted(taken, key=lambda number: place.get(taken[number], len(place)))
        return {number: taken[number] for number in order}

    def targets(self, test_set: str = MAIN) -> tuple[str, ...]:
        """Tested languages but the source."""
        source = self.study.model.source_language
        return tuple(one for one in self.study.test_sets[test_set].languages if one != source)

    @property
    def training_rows(self) -> str:
        """Where they are from, and how many where not all."""
        data = self.study.data
        return (
            data.train if data.train_examples is None else f"{data.train_examples} rows ({data.subset}) of {data.train}"
        )

    def cell(self, number: int) -> list[Record]:
        """The records of a cell's runs so far, by seed."""
        run_ids = self.state.points[number].run_ids
        return [self.records[run_ids[seed]] for seed in sorted(run_ids) if run_ids[seed] in self.records]

    def tests(self, record: Record, test_set: str = MAIN) -> dict[str, Scores]:
        """language -> scores on a test set of this study; empty where it was not evaluated yet."""
        method = record.params.get("method", "adapters")
        return record.tests.get(evaluation_id(self.study, self.resolved, record.run_id, test_set, method), {})

    def n_tested(self, test_set: str = MAIN) -> dict[str, int]:
        """language -> rows of a test set, as counted in the predictions of a run that was tested on it."""
        counts: dict[str, int] = {}
        for record in self.records.values():
            for language in self.tests(record, test_set).keys() - counts.keys():
                name = f"{language}.parquet" if test_set == MAIN else f"{test_set}/{language}.parquet"
                path = self.layout.run(record.run_id).root / record.attempt_folder / "predictions" / name
                with suppress(OSError, pa.ArrowException):  # what is gone or damaged is not counted
                    self.layout.pull(path)
                    counts[language] = pq.read_metadata(path).num_rows
        return counts

    def history(self, record: Record) -> Iterator[Row]:
        """Raises DamageError where a sealed segment is not what was written."""
        folder = self.layout.run(record.run_id).root / record.attempt_folder / "segments"
        return read_segments(folder, record.segments)


def read_sweep(layout: SweepLayout) -> Sweep:
    """Needs no lock, and works while the sweep runs. Raises MissingError for no sweep, DamageError for its ledger."""
    state = SweepState.of(ledger.read(layout.ledger))
    if state.opened is None:
        raise MissingError(
            f"no sweep {layout.name} under {layout.uri}",
            choices=[other.name for other in sweeps(layout.uri)],
            hint="give the storage of the sweep with --storage",
        )
    records, damaged = {}, []
    for taken in state.points.values():
        for run_id in taken.run_ids.values():
            try:
                record = read_record(layout.run(run_id).record)
                if state.counts(run_id, record.attempt):
                    records[run_id] = record
            except FileNotFoundError:
                continue
            except DamageError as error:
                damaged.append(str(error).replace("\n", " "))
    return Sweep(
        layout=layout,
        state=state,
        study=stored(state.opened.study),
        resolved=Resolved.model_validate_json(json.dumps(state.opened.resolved)),
        records=records,
        damaged=tuple(damaged),
    )
