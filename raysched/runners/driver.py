"""The driver of one sweep: it alone writes the ledger and the records (decision 13).

It knows no Ray: an executor asks it for the next `Assignment` and reports how each ended. Whatever it is told is
on disk before it has an effect, so the same command continues after any kill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from raysched.errors import DamageError, StoppedError
from raysched.records.layout import SweepLayout
from raysched.records.ledger import (
    AttemptEnded,
    AttemptStarted,
    Ended,
    Ledger,
    Note,
    PointTaken,
    Recorded,
    Told,
)
from raysched.records.record import AttemptResult, Record, read_record, write_record
from raysched.records.state import SweepState
from raysched.runners.assignment import Assignment, Progress
from raysched.runners.claims import claim, is_behind, was_started
from raysched.runners.policy import again
from raysched.search.cells import CellBook, SourceDevScore, Verdict
from raysched.study.identity import Resolved, RunSpec
from raysched.study.model import Study
from raysched.study.space import Point

if TYPE_CHECKING:  # importing Optuna takes a second, of every worker too
    from raysched.search.optuna_study import OptunaStudy

logger = logging.getLogger(__name__)


class Driver:
    """Hands out attempts and takes their ends. Not thread-safe: one thread, the executor's, calls it."""

    def __init__(
        self,
        layout: SweepLayout,
        study: Study,
        resolved: Resolved,
        ledger: Ledger,
        optuna: OptunaStudy,
        *,
        provenance: Mapping[str, Any] | None = None,
        recorded: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`recorded` is called after every change of the ledger that an uploader may want to see."""
        self.layout, self.study, self.resolved = layout, study, resolved
        self.ledger, self.optuna = ledger, optuna
        self.provenance = dict(provenance or {})
        self.notify, self.clock = recorded, clock
        self.started = clock()
        self.book = CellBook()
        self.specs: dict[str, RunSpec] = {}
        self.records: dict[str, Record] = {}
        self.state = SweepState.of(ledger.entries)
        self.running: dict[str, Progress] = {}
        self.tries: dict[str, int] = {}
        self.behind: dict[str, None] = {}
        """Runs that are done and were not yet tested on every test set of the study, in the order of their cells."""
        self.untested: dict[str, str] = {}
        """run_id -> why such a test failed."""
        self.n_tested = 0
        """Runs that were tested on what came later, by this driver."""
        self.all_asked = False
        self.stopping = False
        self._recover()

    # -- start ------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Cells of earlier drivers, whose every end is known by its record."""
        asked = {trial.number: trial for trial in self.optuna.asked()}
        for number in sorted(self.state.points):
            if number not in asked:
                raise DamageError(
                    f"point {number} of the ledger is not in the search database",
                    key=str(self.layout.optuna),
                    hint="restore the file from a copy; the records and the ledger are whole",
                )
            self._open(number, asked[number].point)

    def _open(self, number: int, point: Point) -> None:
        """Open a cell; runs that have a record, or an unrecorded but complete result, have ended already."""
        specs = {seed: RunSpec.make(self.study, self.resolved, point, seed) for seed in self.study.seeds}
        first = next(iter(specs.values()))
        if number not in self.state.points:
            self._append(
                PointTaken(
                    number=number,
                    params=point.params(),
                    cell_id=first.cell_id,
                    run_ids={seed: spec.run_id for seed, spec in specs.items()},
                )
            )
        verdict = self.book.open(number, point, {seed: spec.run_id for seed, spec in specs.items()})
        for spec in specs.values():
            self.specs[spec.run_id] = spec
            record = self._known(spec)
            if record is not None:
                verdict = self._end(record)
                if record.status == "finished" and is_behind(spec, record):
                    self.behind[spec.run_id] = None
        if verdict is not None:
            self._tell(verdict)

    def _known(self, spec: RunSpec) -> Record | None:
        """The run's record, if it is done; an attempt that finished just before its driver died is accepted now."""
        run = self.layout.run(spec.run_id)
        try:
            record = read_record(run.record)
        except FileNotFoundError:
            record = None
        except DamageError as error:
            self._append(Note(text=f"record passed over: {error}", run_id=spec.run_id))
            record = None
        if record is not None and spec.run_id not in self.state.recorded:
            self._append(Recorded(run_id=record.run_id, status=record.status))
        if record is not None and (record.status != "finished" or not is_behind(spec, record)):
            return record
        tested = record.tests.keys() if record is not None else frozenset()
        for _, _, attempt in reversed(run.attempts()):
            result = claim(attempt)
            if (
                result is None
                or result.status != "finished"
                or not was_started(result, (*self.ledger.entries, *self.state.attempts.values()))
            ):
                continue
            if record is None or result.tests.keys() > tested:
                return self._record(spec, result)
        return record

    # -- work -------------------------------------------------------------------------------------------------

    @property
    def out_of_time(self) -> bool:
        hours = self.study.budget.hours
        return hours is not None and self.clock() - self.started > hours * 3600

    @property
    def done(self) -> bool:
        """Nothing runs, and nothing more is to be started."""
        return not self.running and (self.stopping or self.out_of_time or (self.all_asked and not self._pending()))

    def _pending(self) -> bool:
        return bool(self.behind) or self.book.next_run() is not None

    @property
    def complete(self) -> bool:
        """Every point was asked, every one of its runs has ended, and what could be tested is tested."""
        return self.all_asked and not self.behind and not any(cell.left for cell in self.book.cells)

    def next(self) -> Assignment | None:
        """The next attempt to execute, started in the ledger; None if there is none now."""
        if self.stopping or self.out_of_time:
            return None
        run = self.book.next_run()
        while run is None and not self.all_asked:
            asked = self.optuna.ask()
            if asked is None:
                self.all_asked = True
            elif all(cell.number != asked.number for cell in self.book.cells):
                self._open(asked.number, asked.point)
            run = self.book.next_run()
        if run is not None:
            assignment = self._start(run.run_id)
            self.book.launched(run.run_id)
            return assignment
        if self.behind:
            run_id = next(iter(self.behind))
            del self.behind[run_id]
            return self._start(run_id, late=True)
        return None

    def _start(self, run_id: str, *, late: bool = False) -> Assignment:
        """A new attempt, in the ledger before anybody may execute it."""
        assignment = Assignment(
            spec=self.specs[run_id],
            epoch=self.ledger.epoch,
            number=self.state.n_attempts.get(run_id, 0) + 1,
            sweep=self.layout.name,
            storage=str(self.layout.storage),
            late=late,
        )
        self._append(AttemptStarted(run_id=run_id, attempt=assignment.number))
        self.tries[run_id] = self.tries.get(run_id, 0) + 1
        self.running[assignment.key] = Progress(assignment=assignment, clock=self.clock())
        return assignment

    def progress(self, key: str, step: int, total: int) -> None:
        """A running attempt was heard of."""
        if key in self.running:
            here = self.running[key]
            here.step, here.total, here.clock = step, total, self.clock()
            self.notify()

    def ended(self, key: str, outcome: str = "lost", cause: str | None = None, message: str = "") -> None:
        """An attempt left its worker. `finished` counts only with a whole `result.json` of this very attempt."""
        if key not in self.running:
            return
        assignment = self.running.pop(key).assignment
        spec = assignment.spec
        if outcome == "finished":
            result = claim(assignment.layout)
            if result is not None and (result.epoch, result.attempt) == (assignment.epoch, assignment.number):
                self._attempt_ended(assignment, "finished")
                record = self._record(spec, result)
                if assignment.late:
                    self.records[spec.run_id] = record
                    self.n_tested += 1
                else:
                    self._finish(record)
                return
            outcome, cause, message = "lost", "storage", "the attempt's result.json is missing or damaged"
        self._attempt_ended(assignment, outcome, cause, message)
        if assignment.late:
            self._late_ended(spec, outcome, cause, message)
        elif outcome == "stopped":
            self.book.requeue(spec.run_id)
            self.tries[spec.run_id] -= 1
        elif again(cause, self.tries[spec.run_id], self.study.budget.attempts):
            logger.warning("run %s (%s seed %d): %s; trying again", spec.run_id, spec.point, spec.seed, cause)
            self.book.requeue(spec.run_id)
        else:
            status: Literal["diverged", "failed"] = "diverged" if outcome == "diverged" else "failed"
            result = AttemptResult(
                run_id=spec.run_id,
                epoch=assignment.epoch,
                attempt=assignment.number,
                status=status,
                cause=cause or "code",
                message=message,
            )
            self._finish(self._record(spec, result))

    def _late_ended(self, spec: RunSpec, outcome: str, cause: str | None, message: str) -> None:
        """A test of a done run did not come to its end: the run stays what it was."""
        retried = cause != "checkpoint" and again(cause, self.tries[spec.run_id], self.study.budget.attempts)
        if outcome == "stopped" or retried:
            self.behind[spec.run_id] = None
            return
        logger.warning("run %s (%s seed %d) cannot be tested: %s", spec.run_id, spec.point, spec.seed, message)
        self.untested[spec.run_id] = f"{cause}: {message}"

    def _attempt_ended(self, assignment: Assignment, outcome: Any, cause: str | None = None, message: str = "") -> None:
        self._append(
            AttemptEnded(
                run_id=assignment.spec.run_id,
                attempt=assignment.number,
                outcome=outcome,
                cause=cause,
                message=message[:2000],
            )
        )

    def _record(self, spec: RunSpec, result: AttemptResult) -> Record:
        """Accept an attempt's end: the run is done from here on."""
        result = result.model_copy(
            update={"provenance": self.provenance | {k: v for k, v in result.provenance.items() if v}}
        )
        record = result.to_record(cell_id=spec.cell_id, params=spec.point.params(), seed=spec.seed)
        write_record(self.layout.run(spec.run_id).record, record)
        self._append(Recorded(run_id=record.run_id, status=record.status))
        return record

    def _finish(self, record: Record) -> None:
        verdict = self._end(record)
        if verdict is not None:
            self._tell(verdict)

    def _end(self, record: Record) -> Verdict | None:
        self.records[record.run_id] = record
        if record.status == "finished":
            score = SourceDevScore.of(record.source_dev, self.study.search.objective)
            return self.book.finished(record.run_id, score)
        return self.book.failed(record.run_id, record.cause or "code")

    def _tell(self, verdict: Verdict) -> None:
        """Tell Optuna a complete cell, once: the same again changes nothing there."""
        self.optuna.tell(verdict.number, verdict.mean, verdict.attrs())
        if verdict.number not in self.state.told:
            self._append(
                Told(number=verdict.number, state="fail" if verdict.mean is None else "complete", value=verdict.mean)
            )

    def _append(self, entry: Any) -> None:
        self.state.add(self.ledger.append(entry))
        self.notify()

    # -- end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Say in the ledger how the driver leaves."""
        for key in list(self.running):
            self.ended(key, "stopped")
        if not self.complete or self.untested:
            outcome = "stopped"
        else:
            outcome = "failed" if any(record.status != "finished" for record in self.records.values()) else "finished"
        self._append(Ended(outcome=outcome))  # type: ignore[arg-type]

    def raise_unless_complete(self) -> None:
        """Raises StoppedError where the budget of hours ended the sweep early."""
        if not self.complete and self.out_of_time:
            raise StoppedError(
                f"budget.hours={self.study.budget.hours:g} is used up", hint="the same command continues the sweep"
            )
