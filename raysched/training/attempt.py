"""One attempt at a run: it trains, keeps the history, saves checkpoints and ends with `result.json`.

It writes only below its own folder, so whatever a dead or stale attempt wrote changes nothing for another.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raysched.errors import DamageError
from raysched.records import files
from raysched.records.history import Row, Sealed, SegmentWriter, copy_sealed
from raysched.records.layout import AttemptLayout
from raysched.records.ledger import now_ms
from raysched.records.record import AttemptResult, write_result
from raysched.records.remote import StorageLost
from raysched.study.identity import RunSpec
from raysched.study.model import MAIN
from raysched.tasks import predictions as parquet
from raysched.tasks.predictions import Prediction
from raysched.training import checkpoint
from raysched.training.bench import Bench
from raysched.training.events import (
    CheckpointDue,
    Evaluated,
    Finished,
    FisherMeasured,
    StepDone,
    Tested,
    TrainingEvent,
    Unfroze,
)
from raysched.training.loop import TrainingRun
from raysched.unfreezing.config import Replay


def to_row(event: TrainingEvent, evaluation_ids: Mapping[str, str], time_ms: int) -> Row | None:
    """The history row of an event; None for events that leave no trace there."""
    data = {key: value for key, value in asdict(event).items() if key != "step"}
    match event:
        case StepDone(metrics=metrics) if metrics:
            return Row(kind="metrics", step=event.step, time_ms=time_ms, data={"values": dict(metrics)})
        case Unfroze():
            return Row(kind="unfroze", step=event.step, time_ms=time_ms, data=data)
        case FisherMeasured():
            return Row(kind="fisher", step=event.step, time_ms=time_ms, data=data)
        case Evaluated():
            return Row(kind="evaluated", step=event.step, time_ms=time_ms, data=data)
        case Tested():
            data |= {"evaluation_id": evaluation_ids[event.test_set]}
            return Row(kind="tested", step=event.step, time_ms=time_ms, data=data)
        case _:
            return None


class Attempt:
    """Executes a run in `layout`, from the furthest good checkpoint of `earlier` attempts or from nothing.

    `events()` may be left at any event; `save()` then keeps what was done.
    """

    def __init__(
        self,
        bench: Bench,
        spec: RunSpec,
        layout: AttemptLayout,
        earlier: list[AttemptLayout],
        *,
        epoch: int = 0,
        number: int = 0,
        provenance: Mapping[str, Any] | None = None,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.bench, self.spec, self.layout, self.now_ms = bench, spec, layout, now_ms
        self.epoch, self.number, self.provenance = epoch, number, dict(provenance or {})
        layout.create()
        self.run = TrainingRun(bench, spec)
        self.writer = SegmentWriter(layout.segments)
        self.sealed: list[Sealed] = []
        self._stored: set[str] = set()
        """Names of the segments that are safe in the storage."""
        self.started_ms, self.clock = now_ms(), time.monotonic()
        self.covered = 0
        self.saved = (0, "")
        self.predictions: dict[str, Path] = {}
        """Name below `predictions/` -> its file."""
        self.tested: dict[str, dict[str, dict[str, float]]] = {}
        """evaluation_id -> language -> scores."""
        self._resume([layout, *earlier])

    def _resume(self, attempts: list[AttemptLayout]) -> None:
        """Continue from the furthest checkpoint that is whole; a damaged one is never used, and its place noted."""
        checkpoint.fetch(attempts)
        passed = []
        for folder in checkpoint.newest_first(attempt.checkpoints for attempt in attempts):
            source = folder.parent.parent
            try:
                found = checkpoint.read(folder)
                # Verified even where they lie here already: a record names them.
                copy_sealed(source / self.layout.segments.name, self.layout.segments, found.segments)
                checkpoint.load(found, self.run)
                self.sealed, self.covered = list(found.segments), found.step
                self.saved = (found.step, self.run.state.told)
                break
            except StorageLost:  # says nothing of the checkpoint
                raise
            except (DamageError, OSError) as error:
                passed.append(f"checkpoint passed over: {error}")
                self.run = TrainingRun(self.bench, self.spec)
                if source == self.layout.root:  # or it would count as one of those that are kept
                    shutil.rmtree(folder, ignore_errors=True)
                    self.layout.push(folder)
        for text in passed:
            self.writer.append(Row(kind="note", step=self.step, time_ms=self.now_ms(), data={"text": text}))

    @property
    def step(self) -> int:
        return self.run.state.step

    @property
    def total(self) -> int:
        return self.run.total

    def events(self) -> Iterator[TrainingEvent]:
        """Train, checkpoint, test and write `result.json`; every event is in the history before it is yielded.

        Raises:
            Diverged: the loss is not finite.
        """
        for event in self.run.events():
            self._append(event)
            if isinstance(event, CheckpointDue):
                self.save()
            yield event
        for event in self.run.test(self._keep, list(self.spec.evaluation_ids)):
            self._append(event)
            if isinstance(event, Finished):
                self._finish(event)
            yield event

    def _append(self, event: TrainingEvent) -> None:
        if isinstance(event, Tested):
            self.tested.setdefault(self.spec.evaluation_ids[event.test_set], {})[event.language] = dict(event.scores)
        row = to_row(event, self.spec.evaluation_ids, self.now_ms())
        if row is not None:
            self.writer.append(row)

    def save(self) -> None:
        """Seal the history so far and save a checkpoint that covers it; nothing happens where nothing is new."""
        state = self.run.state
        if state.step == 0 or (state.step, state.told) == self.saved:
            return
        self._seal()
        before = checkpoint.newest_first([self.layout.checkpoints])
        saved = checkpoint.save(self.layout.checkpoints, self.run, self.sealed)
        self.saved = (state.step, state.told)
        self._push_segments()
        self.layout.push(saved.folder)
        self.layout.push(*(folder for folder in before if not folder.exists()))

    def _push_segments(self) -> None:
        """Store the sealed segments, the copied ones too: what names them is stored next."""
        new = [segment.name for segment in self.sealed if segment.name not in self._stored]
        self.layout.push(*(self.layout.segments / name for name in new))
        self._stored.update(new)

    def _seal(self) -> None:
        self.sealed.append(self.writer.seal(self.covered, self.step))
        self.covered = self.step

    def _keep(self, test_set: str, language: str, predictions: list[Prediction]) -> None:
        name = f"{language}.parquet" if test_set == MAIN else f"{test_set}/{language}.parquet"
        origin = parquet.Origin(
            run_id=self.spec.run_id,
            evaluation_id=self.spec.evaluation_ids[test_set],
            language=language,
            split="test",
        )
        parquet.write(self.layout.predictions / name, predictions, origin)
        self.predictions[name] = self.layout.predictions / name

    def _finish(self, event: Finished) -> None:
        """Save the adapter, seal the rest and write this attempt's claim: a run is done when the driver accepts it."""
        run, root = self.run, self.layout.root
        adapter = self.layout.root / "adapter"
        shutil.rmtree(adapter, ignore_errors=True)
        saved = [*run.model.save_task(adapter), *self._candidates()]
        woken = self._order()
        order = {
            "schedule": self.spec.point.schedule,
            "n_layers": run.model.n_layers,
            "initial": woken[0][1],
            "order": woken[1:],
        }
        order_path = root / "unfreeze_order.json"
        files.write_atomic(order_path, json.dumps(order) + "\n")
        self._seal()
        kept = [*saved, order_path, *self.predictions.values()]
        self._push_segments()
        self.layout.push(*kept)
        write_result(
            self.layout.result,
            AttemptResult(
                run_id=self.spec.run_id,
                epoch=self.epoch,
                attempt=self.number,
                status="finished",
                steps=self.step,
                selected_step=event.selected_step,
                source_dev=dict(event.source_dev),
                tests=self.tested,
                unfreeze_order=woken,
                segments=tuple(self.sealed),
                files={str(path.relative_to(root)): files.sha256_file(path) for path in kept},
                **self._facts(),
            ),
        )

    def _candidates(self) -> list[Path]:
        """The files of `candidates/step-…/`, folders laid out as `adapter/` is; the selected tensors stay loaded."""
        model, saved = self.run.model, list[Path]()
        shutil.rmtree(self.layout.candidates, ignore_errors=True)
        for step, tensors in self.run.candidates.items():
            model.load_task_state(tensors)
            saved += model.save_task(files.make_folder(self.layout.candidate(step)))
        model.load_task_state(self.run.best_tensors)
        return saved

    def _order(self) -> Replay:
        """(step, layers) of every event; step 0 holds the layers awake from the start."""
        return ((0, tuple(sorted(self.run.schedule.initial))), *self.run.schedule.order)

    def _facts(self) -> dict[str, Any]:
        """When the run was trained, and by what."""
        return {
            "started_ms": self.started_ms,
            "ended_ms": self.now_ms(),
            "train_seconds": time.monotonic() - self.clock,
            "provenance": self.provenance,
        }
