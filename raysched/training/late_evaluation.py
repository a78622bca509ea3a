"""A run that is done, tested on test sets that its study named later. Nothing is trained again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

from raysched.errors import DamageError, RunError
from raysched.records import files
from raysched.records.history import copy_sealed
from raysched.records.layout import AttemptLayout
from raysched.records.record import Record
from raysched.study.identity import RunSpec
from raysched.training import checkpoint
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.events import Finished, TrainingEvent

PREDICTIONS = "predictions/"


def _link(source: str, target: str) -> None:
    """The same file under a second name; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class LateEvaluation(Attempt):
    """An attempt that begins where the recorded one ended and adds the evaluations it has not.

    Its `result.json` holds everything the record does, so that the driver can put it in the record's place: history,
    order and times are those of the training, and only tests and predictions are new.
    """

    def __init__(
        self,
        bench: Bench,
        spec: RunSpec,
        layout: AttemptLayout,
        *,
        record: Record,
        accepted: AttemptLayout,
        **about: Any,
    ) -> None:
        """Like `Attempt`, without `earlier`; `accepted` is the folder that `record` names.

        Raises:
            RunError: the training's last checkpoint, or a file of the record, is gone or damaged.
        """
        self.record = record
        super().__init__(bench, spec, layout, [accepted], **about)

    def _resume(self, attempts: list[AttemptLayout]) -> None:
        record, accepted = self.record, attempts[-1]
        try:
            copy_sealed(accepted.segments, self.layout.segments, record.segments)
            last = self.layout.checkpoint(record.steps)
            shutil.rmtree(last, ignore_errors=True)
            shutil.copytree(accepted.checkpoint(record.steps), last, copy_function=_link)
            checkpoint.load(checkpoint.read(last), self.run)
            for name, sha256 in record.files.items():
                if name.startswith(PREDICTIONS):
                    self._copy(accepted, name, sha256)
        except (DamageError, OSError, shutil.Error) as error:
            raise RunError(f"the run cannot be tested again without its files: {error}", cause="checkpoint") from error
        self.sealed, self.covered = list(record.segments), record.steps
        self.saved = (record.steps, self.run.state.told)
        self.tested = {name: dict(scores) for name, scores in record.tests.items()}

    def _copy(self, accepted: AttemptLayout, name: str, sha256: str) -> None:
        target = self.layout.root / name
        files.make_folder(target.parent)
        shutil.copyfile(accepted.root / name, target)
        if files.sha256_file(target) != sha256:
            raise DamageError("is not what was recorded", key=str(accepted.root / name))
        self.predictions[name.removeprefix(PREDICTIONS)] = target

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
