"""A merged sweep on disk: its ledger, its search database, and the files of its runs, each as it was recorded."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysched.errors import DamageError
from raysched.records import files
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, AttemptStarted, Ended, Note, Opened, PointTaken, Recorded, Told
from raysched.records.history import copy_sealed
from raysched.records.layout import AttemptLayout, RunLayout, SweepLayout
from raysched.records.ledger import Ledger, now_ms
from raysched.records.record import AttemptResult, Record, write_record, write_result
from raysched.reports.sweep import Sweep
from raysched.runners import searching
from raysched.runners.options import Options
from raysched.search.cells import CellBook, SourceDevScore, Verdict
from raysched.study.identity import RunSpec
from raysched.study.model import Study
from raysched.study.space import Point, n_points

HOST = socket.gethostname()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A run's record, and the sweep it is of."""

    record: Record
    sweep: Sweep

    @property
    def run(self) -> RunLayout:
        return self.sweep.layout.run(self.record.run_id)

    @property
    def attempt(self) -> AttemptLayout:
        return AttemptLayout(self.run.root / self.record.attempt_folder)


class Writer:
    """Writes a merged sweep beside its place, and puts it there when it is whole."""

    def __init__(
        self,
        to: SweepLayout,
        study: Study,
        opened: Opened,
        sources: Mapping[str, Sequence[Source]],
        optuna_uri: str | None,
    ) -> None:
        """`sources` are the records of each run, the one to take first."""
        self.to, self.study, self.opened, self.sources, self.optuna_uri = to, study, opened, sources, optuna_uri
        self.time_ms = 0
        """Of the next ledger entries; now where it is 0."""

    def write(self, taken: Sequence[Point], plan: Sequence[Mapping[int, RunSpec]], note: str) -> None:
        """`plan` holds the runs of each point, by seed."""
        files.make_folder(self.to.root.parent)
        private = self.to.root.parent / f".merge-{secrets.token_hex(4)}"
        try:
            layout = SweepLayout(files.make_folder(private), self.to.name).create()
            self._write(layout, taken, plan, note)
            self._publish(layout)
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def _publish(self, layout: SweepLayout) -> None:
        """The merged sweep is there from the moment its ledger is."""
        entries = ledgers.read(layout.ledger)
        if self.to.remote is not None:
            layout.ledger.unlink()
            shutil.rmtree(self.to.root, ignore_errors=True)  # a working copy of what is not stored
        os.rename(layout.root, self.to.root)
        files.sync_folder(self.to.root.parent)
        if self.to.remote is not None:
            self.to.push(*sorted(self.to.root.iterdir()))
            with Ledger.take_over(self.to.ledger, host=HOST, pid=os.getpid(), clock=self._clock) as ledger:
                for entry in entries[1:]:
                    self.time_ms = entry.time_ms
                    ledger.append(entry)

    def _write(
        self, layout: SweepLayout, taken: Sequence[Point], plan: Sequence[Mapping[int, RunSpec]], note: str
    ) -> None:
        options = Options(storage=layout.uri, optuna_uri=self.optuna_uri)
        starts = [source.record.started_ms for sources in self.sources.values() for source in sources]
        self.time_ms = min((start for start in starts if start), default=0)
        with contextlib.ExitStack() as stack:
            ledger = Ledger.take_over(layout.ledger, host=HOST, pid=os.getpid(), clock=self._clock)
            stack.enter_context(ledger)
            database = searching.database(layout, options)
            opened = ledger.append(self.opened.model_copy(update={"database": database}))
            optuna = searching.open_search(layout, options, self.study.search, [opened])
            stack.enter_context(contextlib.closing(optuna))
            if taken:
                optuna.rebuild(dict(enumerate(taken)))
            for number, (point, specs) in enumerate(zip(taken, plan, strict=True)):
                verdict = self._cell(layout, ledger, number, point, specs)
                if verdict is not None:
                    optuna.tell(number, verdict.mean, verdict.attrs())
                    state = "fail" if verdict.mean is None else "complete"
                    ledger.append(Told(number=number, state=state, value=verdict.mean))  # type: ignore[arg-type]
            self.time_ms = 0
            ledger.append(Note(text=note))
            whole = len(self.sources) == n_points(self.study.search) * len(self.study.seeds)
            failed = any(sources[0].record.status != "finished" for sources in self.sources.values())
            ledger.append(Ended(outcome="stopped" if not whole else "failed" if failed else "finished"))

    def _clock(self) -> int:
        return self.time_ms or now_ms()

    def _cell(
        self, layout: SweepLayout, ledger: Ledger, number: int, point: Point, specs: Mapping[int, RunSpec]
    ) -> Verdict | None:
        """A cell with every run that has an end; its verdict where all have."""
        first = next(iter(specs.values()))
        run_ids = {seed: spec.run_id for seed, spec in specs.items()}
        ledger.append(PointTaken(number=number, params=point.params(), cell_id=first.cell_id, run_ids=run_ids))
        book = CellBook()
        verdict = book.open(number, point, run_ids)
        for run_id in run_ids.values():
            if run_id not in self.sources:
                continue
            record = self._copy(layout.run(run_id), self.sources[run_id])
            self.time_ms = record.started_ms or self.time_ms
            ledger.append(AttemptStarted(run_id=run_id, attempt=record.attempt))
            self.time_ms = record.ended_ms or self.time_ms
            ended = AttemptEnded(
                run_id=run_id,
                attempt=record.attempt,
                outcome=record.status,
                cause=record.cause,
                message=record.message[:2000],
            )
            ledger.append(ended)
            ledger.append(Recorded(run_id=run_id, status=record.status))
            if record.status == "finished":
                score = SourceDevScore.of(record.source_dev, first.study.search.objective)
                verdict = book.finished(run_id, score)
            else:
                verdict = book.failed(run_id, record.cause or "code")
        return verdict

    def _copy(self, run: RunLayout, sources: Sequence[Source]) -> Record:
        """The run's record and its attempt's files, verified; another sweep's copy where the first is damaged."""
        problem: DamageError | None = None
        for source in sources:
            if sources[0].record.status == "finished" and source.record.status != "finished":
                break
            try:
                return self._copy_one(run, source)
            except DamageError as error:
                problem = problem or error
                shutil.rmtree(run.root, ignore_errors=True)
        assert problem is not None
        raise problem

    def _copy_one(self, run: RunLayout, source: Source) -> Record:
        """As attempt 1 of the merged sweep's first epoch: its own attempts have higher numbers."""
        record = source.record
        provenance = record.provenance | {
            "merged_from": {"sweep": source.sweep.layout.name, "attempt": record.attempt_folder}
        }
        folder = run.attempt(1, 1)
        changes = {"epoch": 1, "attempt": 1, "attempt_folder": folder.name, "provenance": provenance}
        copied = record.model_copy(update=changes)
        folder.create()
        copy_sealed(source.attempt.segments, folder.segments, record.segments)
        for name, sha256 in record.files.items():
            _copy_file(source.attempt.root / name, folder.root / name, sha256)
        if (source.attempt.root / "error.txt").is_file():
            shutil.copyfile(source.attempt.root / "error.txt", folder.root / "error.txt")
        write_result(folder.result, AttemptResult.model_validate(copied.model_dump()))
        write_record(run.record, copied)
        return copied


def _copy_file(source: Path, to: Path, sha256: str) -> None:
    files.make_folder(to.parent)
    try:
        with source.open("rb") as content, os.fdopen(files.create(to, os.O_WRONLY | os.O_EXCL), "wb") as copy:
            shutil.copyfileobj(content, copy)
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError as error:
        raise DamageError("is missing, though the record names it", key=str(source)) from error
    if files.sha256_file(to) != sha256:
        raise DamageError("is not what was recorded", key=str(source))
