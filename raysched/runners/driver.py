"""The driver of one sweep: it alone writes the ledger and the records (decision 13).

It knows no Ray: an executor asks it for the next `Assignment` and reports how each ended. Whatever it is told is
on disk before it has an effect, so the same command continues after any kill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from raysched.errors import RayschedError, StoppedError
from raysched.records.entries import AttemptEnded, AttemptStarted, Ended, Recorded, Told
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.record import AttemptResult, Record, write_record
from raysched.records.state import SweepState
from raysched.runners.assignment import Assignment, Progress
from raysched.runners.claims import claim
from raysched.runners.policy import ALONE, advised, again
from raysched.runners.recovery import open_cell, recover
from raysched.search.cells import CellBook, SourceDevScore, Verdict
from raysched.study.identity import Resolved, RunSpec
from raysched.study.model import Study
from raysched.study.space import n_points

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
        retry: frozenset[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        recorded: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`retry` are failed runs that get another try, an empty set all of them.

        `recorded` is called after every change of the ledger that an uploader may want to see.
        """
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
        self.alone: set[str] = set()
        """Runs that memory was short for: they are tried again with nothing beside them."""
        self.behind: dict[str, None] = {}
        """Runs that are done and were not yet tested on every test set of the study, in the order of their cells."""
        self.untested: dict[str, str] = {}
        """run_id -> why such a test failed."""
        self.n_tested = 0
        """Runs that were tested on what came later, by this driver."""
        self.agreed: dict[int, float | None] = {}
        """Cells that the search's database was told under earlier drivers, each with its mean."""
        self.refused: RayschedError | None = None
        """Why the ledger takes nothing more: it is full, or another driver's."""
        self.all_asked = False
        self.stopping = False
        recover(self, retry)

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
    def left(self) -> int:
        """Runs without an end, those of points that are still to be asked among them."""
        unasked = 0 if self.all_asked else max(0, n_points(self.study.search) - len(self.book.cells))
        return sum(cell.left for cell in self.book.cells) + unasked * len(self.study.seeds) + len(self.behind)

    @property
    def complete(self) -> bool:
        """Every point was asked, every one of its runs has ended, and what could be tested is tested."""
        return self.all_asked and not self.behind and not any(cell.left for cell in self.book.cells)

    def next(self) -> Assignment | None:
        """The next attempt to execute, started in the ledger; None if there is none now."""
        at_work = {one.assignment.spec.run_id for one in self.running.values()}
        if self.stopping or self.out_of_time or at_work & self.alone:
            return None
        run = self.book.next_run()
        while run is None and not self.all_asked:
            asked = self.optuna.ask()
            if asked is None:
                self.all_asked = True
            elif all(cell.number != asked.number for cell in self.book.cells):
                open_cell(self, asked.number, asked.point)
            run = self.book.next_run()
        if run is not None:
            if at_work and run.run_id in self.alone:
                return None
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
            storage=self.layout.uri,
            late=late,
        )
        self.append(AttemptStarted(run_id=run_id, attempt=assignment.number))
        self.tries[run_id] = self.tries.get(run_id, 0) + 1
        self.running[assignment.key] = Progress(assignment=assignment)
        return assignment

    def progress(self, key: str, step: int, total: int) -> None:
        """A running attempt was heard of."""
        if key in self.running:
            here = self.running[key]
            here.step, here.total = step, total
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
                record = self.accept(spec, result)
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
            if cause in ALONE:
                self.alone.add(spec.run_id)
        else:
            status: Literal["diverged", "failed"] = "diverged" if outcome == "diverged" else "failed"
            result = AttemptResult(
                run_id=spec.run_id,
                epoch=assignment.epoch,
                attempt=assignment.number,
                status=status,
                cause=cause or "code",
                message=advised(cause, message, self.study.resources.gpu),
            )
            self._finish(self.accept(spec, result))

    def _late_ended(self, spec: RunSpec, outcome: str, cause: str | None, message: str) -> None:
        """A test of a done run did not come to its end: the run stays what it was."""
        retried = cause != "checkpoint" and again(cause, self.tries[spec.run_id], self.study.budget.attempts)
        if outcome == "stopped" or retried:
            self.behind[spec.run_id] = None
            return
        logger.warning("run %s (%s seed %d) cannot be tested: %s", spec.run_id, spec.point, spec.seed, message)
        self.untested[spec.run_id] = f"{cause}: {message}"

    def _attempt_ended(self, assignment: Assignment, outcome: Any, cause: str | None = None, message: str = "") -> None:
        self.append(
            AttemptEnded(
                run_id=assignment.spec.run_id,
                attempt=assignment.number,
                outcome=outcome,
                cause=cause,
                message=message[:2000],
            )
        )

    def accept(self, spec: RunSpec, result: AttemptResult) -> Record:
        """Accept an attempt's end: the run is done from here on."""
        result = result.model_copy(
            update={"provenance": self.provenance | {k: v for k, v in result.provenance.items() if v}}
        )
        record = result.to_record(cell_id=spec.cell_id, params=spec.point.params(), seed=spec.seed)
        write_record(self.layout.run(spec.run_id).record, record)
        self.append(Recorded(run_id=record.run_id, status=record.status))
        return record

    def _finish(self, record: Record) -> None:
        verdict = self.end(record)
        if verdict is not None:
            self.tell(verdict)

    def end(self, record: Record) -> Verdict | None:
        """A run has ended, now or under an earlier driver; the verdict if that completes its cell."""
        self.records[record.run_id] = record
        if record.status == "finished":
            score = SourceDevScore.of(record.source_dev, self.study.search.objective)
            return self.book.finished(record.run_id, score)
        return self.book.failed(record.run_id, record.cause or "code")

    def tell(self, verdict: Verdict) -> None:
        """Tell Optuna a complete cell: the same again changes nothing, and other words only where the cell grew."""
        number, told = verdict.number, verdict.number in self.state.told
        if told and number in self.agreed and self.agreed[number] == verdict.mean:
            return
        tell = self.optuna.amend if number in self.state.grown and not told else self.optuna.tell
        tell(number, verdict.mean, verdict.attrs())
        if not told:
            self.append(Told(number=number, state="fail" if verdict.mean is None else "complete", value=verdict.mean))

    def append(self, entry: Any) -> None:
        """Into the ledger, and into what is known of it. After a first refusal nothing more goes in."""
        if self.refused is not None:
            raise self.refused
        try:
            self.state.add(self.ledger.append(entry))
        except RayschedError as error:
            self.refused = error
            raise
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
        self.append(Ended(outcome=outcome))  # type: ignore[arg-type]

    def raise_unless_complete(self) -> None:
        """Raises StoppedError where the budget of hours ended the sweep early."""
        if not self.complete and self.out_of_time:
            raise StoppedError(
                f"budget.hours={self.study.budget.hours:g} is used up", hint="the same command continues the sweep"
            )
