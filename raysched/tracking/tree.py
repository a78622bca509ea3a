"""Sweep > cell > run: brings the nested MLflow runs of one sweep to what its ledger and records say.

Their tag `raysched.key` is sweep:<name>, cell:<cell_id>, run:<run_id>; `raysched.sweep_uid` tells apart two sweeps of
one name. Where MLflow holds what is not the beginning of the accepted attempt's history (the newest attempt's, while
none is accepted), the MLflow run is made anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from raysched.errors import MissingError
from raysched.records.entries import Ended, Opened, PointTaken
from raysched.records.files import canonical
from raysched.records.layout import SweepLayout
from raysched.records.ledger import LedgerReader
from raysched.records.record import Record, read_record
from raysched.records.state import SweepState
from raysched.study.identity import Resolved, evaluation_id
from raysched.study.model import Study
from raysched.study.stored import stored
from raysched.tracking import describe, rows
from raysched.tracking.cursor import Cursor, Cursors
from raysched.tracking.data_inputs import data_inputs
from raysched.tracking.mlflow_store import Status, Store
from raysched.tracking.nodes import Nodes, described
from raysched.tracking.run_upload import RunUpload
from raysched.tracking.store_errors import RunGone

GIVE_UP_AFTER = 3
"""Failures of the store in a row that end a pass: the server is away, not one run broken."""


def end_mark(ended: Ended) -> str:
    """Which leaving of a driver this is."""
    return f"{ended.epoch} {ended.time_ms}"


def holds_all(layout: SweepLayout, store: Store, ended: Ended) -> bool:
    """Whether an uploader brought `store` all that was there when a driver left; asks nobody."""
    return Cursors(layout.uploads, store.identity).get(f"sweep:{layout.name}").complete == end_mark(ended)


class Tree:
    """One sweep in one store. `bring_up` is one pass; `backlog` counts the nodes it could not bring up to date.

    `moved` is called before each node: a pass over a whole sweep takes its time.
    """

    def __init__(
        self,
        layout: SweepLayout,
        store: Store,
        *,
        driver_alive: bool,
        stopping: Callable[[], bool],
        failed: Callable[[Exception], None],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout, self.store, self.driver_alive = layout, store, driver_alive
        self.stopping, self.failed, self.moved = stopping, failed, moved
        self.backlog = 0
        self.away = False
        """Whether the store failed in the last pass; what else fails is on disk."""
        self.ledger = SweepState()
        self._reader = LedgerReader(layout.ledger)
        self._cursors = Cursors(layout.uploads, store.identity)
        self._nodes = Nodes(store, self._cursors)
        self._known: tuple[int, Study, Resolved] | None = None
        self._verified = False
        self._failures_in_a_row = 0

    def bring_up(self) -> None:
        """One pass. Failures of single nodes go to `failed`; raises DamageError for a damaged ledger."""
        self.backlog = self._failures_in_a_row = 0
        self.away = False
        for entry in self._reader.new():
            self.ledger.add(entry)
        if self.ledger.opened is None:
            return
        self._nodes.uid = self.ledger.uid
        self._nodes.common_tags = {
            "raysched.sweep": self.layout.name,
            "raysched.status": "running",
            "mlflow.source.name": "raysched",
            **rows.flatten({"provenance": self.opened.provenance}),
        }
        self._verify()
        sweep = self._guarded(f"sweep:{self.layout.name}", f"open {self.opened.time_ms}", self._sweep)
        if sweep.mlflow_id is None:
            self.backlog += len(self.ledger.points)
            return
        seen: set[str] = set()
        for point in self.ledger.points.values():
            if point.cell_id not in seen:
                seen.add(point.cell_id)
                self._cell_and_runs(point, sweep.mlflow_id)
        if not self.backlog:
            self._finish_sweep(sweep)

    @property
    def runs(self) -> list[str]:
        """Every run of the points that were asked, once."""
        return list(dict.fromkeys(run_id for point in self.ledger.points.values() for run_id in point.run_ids.values()))

    @property
    def complete(self) -> int:
        """Runs that are done, and that MLflow holds wholly."""
        return sum(bool(self._cursors.get(f"run:{run_id}").settled) for run_id in self.ledger.recorded)

    def waiting_bytes(self) -> int:
        """Length of the history on disk that MLflow does not hold, the unsealed rest of running attempts left out."""
        total = 0
        for run_id, newest in self.ledger.attempts.items():
            cursor = self._cursors.get(f"run:{run_id}")
            if not (cursor.settled and run_id in self.ledger.recorded):
                sent = {segment.name for segment in cursor.segments}
                folder = self.layout.run(run_id).attempt(newest.epoch, newest.attempt).segments
                for path in folder.glob("*.jsonl"):
                    with contextlib.suppress(FileNotFoundError):
                        total += path.stat().st_size if path.name not in sent else 0
        return total

    def _verify(self) -> None:
        """Once: a store that was emptied holds nothing of what the cursors say."""
        if self._verified:
            return
        cursor = self._cursors.get(f"sweep:{self.layout.name}")
        try:
            found = self.store.find(cursor.key, self.ledger.uid)
        except MissingError:
            self.away = True
            raise
        if cursor.mlflow_id is not None and (found is None or found[0] != cursor.mlflow_id):
            self._cursors.clear()
        self._verified = True

    def _guarded(self, key: str, settled: str, work: Callable[[Cursor], None]) -> Cursor:
        """Do one node's work unless it is settled; a failure is noted, and the other nodes go on."""
        cursor = self._cursors.get(key)
        if settled and cursor.settled == settled:
            return cursor
        self.moved()
        if self.stopping() or self._failures_in_a_row >= GIVE_UP_AFTER:
            self.backlog += 1
            return cursor
        try:
            try:
                work(cursor)
            except RunGone:  # somebody deleted it in MLflow: make it anew, once
                cursor.reset()
                work(cursor)
            if settled:
                cursor.settled = settled
                self._cursors.save(cursor)
            self._failures_in_a_row = 0
        except Exception as error:
            self.failed(error)
            self.backlog += 1
            if isinstance(error, MissingError):
                self._failures_in_a_row += 1
                self.away = True
        return cursor

    @property
    def opened(self) -> Opened:
        assert self.ledger.opened is not None
        return self.ledger.opened

    def _inputs(self) -> tuple[Study, Resolved]:
        opened = self.opened
        if self._known is None or self._known[0] != opened.time_ms:
            study = stored(opened.study)
            self._known = (opened.time_ms, study, Resolved.model_validate_json(canonical(opened.resolved)))
        return self._known[1:]

    def _unfinished(self) -> Status:
        return "RUNNING" if self.driver_alive and self.ledger.ended is None else "KILLED"

    def _last_ms(self) -> int:
        """When the driver left, or was last heard of."""
        known = [
            self.ledger.ended,
            self.ledger.takeover,
            *self.ledger.attempts.values(),
            *self.ledger.recorded.values(),
        ]
        return max((entry.time_ms for entry in known if entry), default=0)

    # -- nodes ------------------------------------------------------------------------------------------------

    def _sweep(self, cursor: Cursor) -> None:
        opened = self.opened
        params = rows.flatten(opened.study)
        if cursor.params not in ("", described(params)):  # it was extended: MLflow changes no parameter
            self._nodes.drop(cursor)
        run_id = self._nodes.create(
            cursor,
            name=self.layout.name,
            tags={"raysched.level": "sweep"},
            params=params,
            parent=None,
            start_ms=self.ledger.opened_ms,
        )
        self.store.log_text(run_id, rows.mask(canonical(opened.study)), "study.json")
        self.store.log_text(run_id, rows.mask(canonical(opened.resolved)), "inputs.json")

    def _finish_sweep(self, cursor: Cursor) -> None:
        ended = self.ledger.ended
        statuses: dict[str, Status] = {"finished": "FINISHED", "failed": "FAILED"}
        status = statuses.get(ended.outcome, "KILLED") if ended else self._unfinished()
        self._guarded(cursor.key, "", lambda cursor: self._nodes.set_status(cursor, status, self._last_ms()))
        complete = end_mark(ended) if ended and not self.backlog else ""
        if cursor.complete != complete:
            cursor.complete = complete
            self._cursors.save(cursor)

    def _cell_and_runs(self, point: PointTaken, sweep_id: str) -> None:
        recorded = {
            run_id: self.ledger.recorded[run_id] for run_id in point.run_ids.values() if run_id in self.ledger.recorded
        }
        over = len(recorded) == len(point.run_ids)
        finished = sum(entry.status == "finished" for entry in recorded.values()) == len(point.run_ids)
        status: Status = ("FINISHED" if finished else "FAILED") if over else self._unfinished()
        marks = [str(entry.time_ms) for entry in (self.opened, point, *recorded.values())]
        settled = " ".join([status, sweep_id, *marks])
        cell = self._guarded(
            f"cell:{point.cell_id}", settled, lambda cursor: self._cell(cursor, point, sweep_id, status, over)
        )
        if cell.mlflow_id is None:
            self.backlog += len(point.run_ids)
            return
        for seed, run_id in point.run_ids.items():
            if run_id in self.ledger.attempts or run_id in recorded:
                self._one_run(point, seed, run_id, cell.mlflow_id)

    def _cell(self, cursor: Cursor, point: PointTaken, sweep_id: str, status: Status, over: bool) -> None:
        if cursor.status == "FAILED" and status != "FAILED":  # a run of it is tried again
            self._nodes.drop(cursor)
        run_id = self._nodes.create(
            cursor,
            name=rows.point_name(point.params),
            tags=describe.cell_tags(point),
            params=describe.cell_params(point),
            parent=sweep_id,
            start_ms=point.time_ms,
        )
        recorded = self.ledger.recorded
        ended = [recorded[run].time_ms for run in point.run_ids.values() if run in recorded]
        end_ms = max(ended, default=self._last_ms()) if over else self._last_ms()
        if over:
            records = [self._record(run) for run in point.run_ids.values() if run in recorded]
            ids = [self._evaluations(record) for record in records]
            source = self._inputs()[0].model.source_language
            self.store.log(run_id, rows.cell_scalars(records, ids, len(point.run_ids), source, end_ms))
        self._nodes.set_status(cursor, status, end_ms)

    def _record(self, run_id: str) -> Record:
        return read_record(self.layout.run(run_id).record)

    def _evaluations(self, record: Record) -> dict[str, str]:
        """The ids of the record's evaluations, by test set."""
        study, resolved = self._inputs()
        method = record.params.get("method", "adapters")
        return {name: evaluation_id(study, resolved, record.run_id, name, method) for name in study.test_sets}

    def _one_run(self, point: PointTaken, seed: int, run_id: str, cell_id: str) -> None:
        entry = self.ledger.recorded.get(run_id)
        opened = self.opened
        settled = f"{entry.status} {entry.time_ms} {opened.time_ms} {cell_id}" if entry else ""
        self._guarded(f"run:{run_id}", settled, lambda cursor: self._run_node(cursor, point, seed, run_id, cell_id))

    def _run_node(self, cursor: Cursor, point: PointTaken, seed: int, run_id: str, cell_id: str) -> None:
        record = self._record(run_id) if run_id in self.ledger.recorded else None
        if cursor.status == "FAILED" and (record is None or record.status == "finished"):  # it is tried again
            self._nodes.drop(cursor)
        upload = RunUpload(self._nodes, cursor, self.layout.run(run_id), record, self.stopping)
        upload.find_attempt(self.ledger.attempts.get(run_id))
        upload.drop_unless_it_fits()
        first = self.ledger.first_attempts.get(run_id)
        self._nodes.create(
            cursor,
            name=describe.run_name(point, seed),
            tags=describe.run_tags(point, run_id),
            params=describe.run_params(point, seed, self.opened.study),
            parent=cell_id,
            start_ms=first.time_ms if first else point.time_ms,
        )
        upload.inputs(data_inputs(*self._inputs()))
        upload.segments()
        if record is None:
            running = self.driver_alive and self.ledger.running(run_id)
            self._nodes.set_status(cursor, "RUNNING" if running else "KILLED", self._last_ms())
            return
        upload.results(self._evaluations(record), self._inputs()[0].model.source_language)
        status: Status = "FINISHED" if record.status == "finished" else "FAILED"
        self._nodes.set_status(cursor, status, record.ended_ms or self.ledger.recorded[run_id].time_ms)
