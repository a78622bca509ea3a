"""A run that is done, tested on test sets that its study named later. Nothing is trained again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from raysched.errors import DamageError, MissingError, RunError, StudyError
from raysched.records import files
from raysched.records.history import copy_sealed
from raysched.records.layout import CANDIDATES, AttemptLayout
from raysched.records.record import Record
from raysched.records.remote import StorageLost
from raysched.study.identity import RunSpec
from raysched.training import checkpoint
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.events import Finished, TrainingEvent
from raysched.training.loop import State, TrainingRun
from raysched.unfreezing.config import Replay

ADAPTER, PREDICTIONS = "adapter/", "predictions/"


class LateEvaluation(Attempt):
    """An attempt that begins where the recorded one ended and adds the evaluations it has not.

    Testing needs the selected tensors only: what the record saved (task adapter or backbone, and head), or, where that
    is damaged, a checkpoint of any attempt at this run that holds the very same.

    Its `result.json` holds everything the record does, so that the driver can put it in the record's place: history,
    order and times are those of the training, and only tests and predictions are new.
    """

    def __init__(
        self,
        bench: Bench,
        spec: RunSpec,
        layout: AttemptLayout,
        earlier: list[AttemptLayout],
        *,
        record: Record,
        **about: Any,
    ) -> None:
        """Like `Attempt`; `record` is that of the run, and names a folder beside `layout`.

        Raises:
            RunError: what was trained, or another file of the record, is gone or damaged.
        """
        self.record, self.accepted = record, AttemptLayout(layout.root.parent / record.attempt_folder)
        super().__init__(bench, spec, layout, earlier, **about)

    def _resume(self, attempts: list[AttemptLayout]) -> None:
        record = self.record
        self.accepted.pull(
            *(self.accepted.segments / segment.name for segment in record.segments),
            *(self.accepted.root / name for name in record.files),
        )
        try:
            copy_sealed(self.accepted.segments, self.layout.segments, record.segments)
            for name in record.files:
                if name.startswith(PREDICTIONS):
                    self._copy(name)
        except StorageLost:
            raise
        except (DamageError, OSError) as error:
            raise self._lost(f"a file of its record is: {error}") from error
        try:
            self._load_saved()
        except StorageLost:
            raise
        except (DamageError, StudyError, MissingError, OSError, RuntimeError, KeyError, SafetensorError) as error:
            checkpoint.fetch(attempts)
            if not any(self._load_checkpoint(attempt) for attempt in attempts):
                raise self._lost(f"{error}; and no checkpoint of its attempts holds the same") from error
        self.run.best_tensors = self.run.model.task_state()
        self.run.state = State(
            step=record.steps,
            told="checkpoint",
            best_step=record.selected_step or 0,
            best_scores=dict(record.source_dev),
        )
        self.sealed, self.covered = list(record.segments), record.steps
        self.saved = (record.steps, self.run.state.told)
        self.tested = {name: dict(scores) for name, scores in record.tests.items()}

    def _lost(self, why: str) -> RunError:
        return RunError(
            f"what run {self.record.run_id} left in {self.accepted.root} is gone or damaged: {why}",
            cause="checkpoint",
            hint="put that folder back from a backup, or sweep under another --name, which trains the run again",
        )

    def _copy(self, name: str) -> None:
        self._check(self.accepted, [name])
        self.predictions[name.removeprefix(PREDICTIONS)] = self._copied(name)

    def _copied(self, name: str) -> Path:
        target = self.layout.root / name
        files.make_folder(target.parent)
        shutil.copyfile(self.accepted.root / name, target)
        return target

    def _check(self, attempt: AttemptLayout, names: Iterable[str]) -> None:
        """Raises DamageError where a file is not what the record says."""
        for name in names:
            if not attempt.has(name, self.record.files[name]):
                raise DamageError("is missing or is not what was recorded", key=str(attempt.root / name))

    def _load_saved(self) -> None:
        """Put what the recorded attempt saved into the model."""
        self._check(self.accepted, [name for name in self.record.files if name.startswith(ADAPTER)])
        self.run.model.load_saved(self.accepted.root / ADAPTER)

    def _load_checkpoint(self, attempt: AttemptLayout) -> bool:
        """The same from the selected tensors of an attempt's last checkpoint, if they are those of the record."""
        self.run = TrainingRun(self.bench, self.spec)
        try:
            checkpoint.load(checkpoint.read(attempt.checkpoint(self.record.steps)), self.run)
            self.run.model.load_task_state(self.run.best_tensors)
            self.run.model.save_task(self.layout.root / ADAPTER)
            tensors = [name for name in self.record.files if name.startswith(ADAPTER) and name.endswith(".safetensors")]
            self._check(self.layout, tensors)
        except (DamageError, ValueError, OSError):
            return False
        return True

    def _candidates(self) -> list[Path]:
        """Those of the record that are whole; nothing depends on the others."""
        there: dict[str, list[str]] = {}
        for name in self.record.files:
            if name.startswith(f"{CANDIDATES}/"):
                there.setdefault(name.rpartition("/")[0], []).append(name)
        copied = []
        for names in there.values():
            if all(self.accepted.has(name, self.record.files[name]) for name in names):
                copied += [self._copied(name) for name in names]
        return copied

    def events(self) -> Iterator[TrainingEvent]:
        """Test what is missing and write `result.json`."""
        missing = [name for name, id_ in self.spec.evaluation_ids.items() if id_ not in self.record.tests]
        for event in self.run.test(self._keep, missing):
            self._append(event)
            if isinstance(event, Finished):
                self._finish(event)
            yield event

    def _facts(self) -> dict[str, Any]:
        names = ("started_ms", "ended_ms", "train_seconds", "provenance")
        return {name: getattr(self.record, name) for name in names}

    def _order(self) -> Replay:
        return self.record.unfreeze_order
