"""One run's history and results on their way to MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from raysched.errors import DamageError, StoppedError
from raysched.records.entries import AttemptStarted
from raysched.records.files import sha256_bytes, sha256_file
from raysched.records.history import Row, Sealed, read_segments
from raysched.records.layout import CANDIDATES, AttemptLayout, RunLayout
from raysched.records.record import Record
from raysched.tracking import rows, tables
from raysched.tracking.cursor import Cursor
from raysched.tracking.data_inputs import DataInput
from raysched.tracking.nodes import Nodes


def newest_segments(attempt: AttemptLayout) -> list[Sealed] | None:
    """The segments that the newest readable checkpoint manifest of an attempt seals; None where there is none."""
    for _, manifest in sorted(attempt.manifests().items(), reverse=True):
        try:
            return [Sealed.model_validate(value) for value in json.loads(manifest)["segments"]]
        except (ValueError, KeyError, TypeError):
            continue  # half-written or damaged: an older one counts
    return None


class RunUpload:
    """Brings one MLflow run to what an attempt has sealed, and to its record."""

    def __init__(
        self,
        nodes: Nodes,
        cursor: Cursor,
        layout: RunLayout,
        record: Record | None,
        stopping: Callable[[], bool],
    ) -> None:
        self.nodes, self.cursor = nodes, cursor
        self.store, self.cursors = nodes.store, nodes.cursors
        self.layout, self.record, self.stopping = layout, record, stopping
        self.attempt: AttemptLayout | None = None
        self.target: Sequence[Sealed] | None = None
        self.damage: list[str] = []

    def find_attempt(self, newest: AttemptStarted | None) -> None:
        """Whose history MLflow shall hold: the accepted attempt's, else the newest one's.

        `target` stays None where that attempt sealed nothing and there may be more to see of an earlier one.
        """
        if self.record is not None:
            self.attempt = AttemptLayout(self.layout.root / self.record.attempt_folder)
            self.target = self.record.segments or newest_segments(self.attempt)
            if self.target is None and self.record.status == "finished":
                self.target = []
        elif newest is not None:
            self.attempt = self.layout.attempt(newest.epoch, newest.attempt)
            self.target = newest_segments(self.attempt)

    def drop_unless_it_fits(self) -> None:
        """Where MLflow holds rows that the attempt does not, its run is made anew."""
        if self.target is not None and not self.cursor.fits(self.target, final=self.record is not None):
            self.nodes.drop(self.cursor)

    def segments(self) -> None:
        """Upload the sealed segments that MLflow does not hold yet, one acknowledged batch after the other."""
        if self.target is None or self.attempt is None:
            return
        assert self.cursor.mlflow_id is not None
        for segment in self.target[len(self.cursor.segments) :]:
            if self.stopping():
                raise StoppedError("the uploader was stopped; the rest is uploaded later")
            try:
                found = list(read_segments(self.attempt.segments, [segment]))
            except DamageError as error:
                if self.record is None:
                    raise
                self.damage.append(str(error))
                return
            self.cursor.sending = segment
            self.cursors.save(self.cursor)
            self.store.log(self.cursor.mlflow_id, [scalar for row in found for scalar in rows.scalars(row)])
            self.cursor.segments.append(segment)
            self.cursor.sending = None
            self.cursors.save(self.cursor)

    def inputs(self, found: Sequence[DataInput]) -> None:
        """The data sets of the run, told once."""
        assert self.cursor.mlflow_id is not None
        digest = sha256_bytes(repr(found).encode())
        if self.cursor.inputs != digest:
            self.store.log_inputs(self.cursor.mlflow_id, found)
            self.cursor.inputs = digest
            self.cursors.save(self.cursor)

    def results(self, evaluation_ids: Mapping[str, str], source_language: str) -> None:
        """Test scores, tags and artifacts of a run that is done."""
        record, run_id = self.record, self.cursor.mlflow_id
        assert record is not None
        assert run_id is not None
        self.store.log(run_id, rows.final_scalars(record, evaluation_ids, source_language))
        tags = {
            "unfreeze_order": rows.unfreeze_text(record.unfreeze_order),
            "raysched.attempt": record.attempt_folder,
            "raysched.cause": record.cause or "",
            "raysched.message": rows.short(record.message),
            **rows.flatten({"provenance": record.provenance}),
        }
        self._artifacts(record, run_id)
        made = {
            tables.SCORES: tables.scores(record, evaluation_ids, source_language),
            tables.ORDER: tables.order(record),
        }
        shown = {name: text for name, text in made.items() if text is not None}
        for name, text in shown.items():
            self._text(run_id, name, text)
        tags[tables.LOGGED] = tables.logged(shown) if shown else ""
        if self.damage:
            tags["raysched.damaged"] = rows.short("; ".join(self.damage))
        self.store.set_tags(run_id, {key: value for key, value in tags.items() if value})

    def _artifacts(self, record: Record, run_id: str) -> None:
        if "unfreeze_order.json" not in record.files and record.unfreeze_order:
            (_, initial), *order = record.unfreeze_order
            self._text(run_id, "unfreeze_order.json", json.dumps({"initial": initial, "order": order}) + "\n")
        fisher = self._fisher()
        if fisher:
            self._text(run_id, "fisher_trace.csv", rows.fisher_csv(fisher))
        assert self.attempt is not None
        for name, sha256 in record.files.items():
            if self.cursor.artifacts.get(name) == sha256 or name.startswith(f"{CANDIDATES}/"):
                continue  # there already; or many times the adapter, and of no use in MLflow
            path = self.attempt.root / name
            inside = path.resolve().is_relative_to(self.attempt.root.resolve())
            if inside:
                self.attempt.pull(path)
            if not inside or not path.is_file() or sha256_file(path) != sha256:
                self.damage.append(f"{name} is not what was recorded")
                continue
            folder = str(Path(name).parent)
            self.store.log_file(run_id, path, "" if folder == "." else folder)
            self.cursor.artifacts[name] = sha256
            self.cursors.save(self.cursor)

    def _fisher(self) -> list[Row]:
        if self.attempt is None or self.target is None:
            return []
        try:
            history = list(read_segments(self.attempt.segments, self.cursor.segments))
        except DamageError as error:
            self.damage.append(str(error))
            return []
        return [row for row in history if row.kind == "fisher"]

    def _text(self, run_id: str, name: str, text: str) -> None:
        sha256 = sha256_bytes(text.encode())
        if self.cursor.artifacts.get(name) != sha256:
            self.store.log_text(run_id, text, name)
            self.cursor.artifacts[name] = sha256
            self.cursors.save(self.cursor)
