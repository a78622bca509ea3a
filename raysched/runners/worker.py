"""Executing attempts inside one process, one after the other, on a bench that stays warm."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raysched.errors import DamageError, Diverged, MissingError, RunError, StudyError
from raysched.records import files
from raysched.records.layout import SweepLayout
from raysched.records.record import read_record
from raysched.runners.assignment import Assignment
from raysched.study.identity import Resolved
from raysched.tracking.provenance import collect
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.late_evaluation import LateEvaluation

SLICE_S = 1.0
"""How long a worker trains between two looks at the outside."""
LOOK_S = 2.0
"""Between two looks into an object store for the driver's request to stop."""
SHARE = 20.0
"""A store that is slow to answer is not asked again for so many times as long."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says of a disk, a quota or a file that takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far an attempt is. `outcome` is set when it left the worker: finished, stopped, failed or diverged."""

    step: int
    total: int
    outcome: str | None = None
    cause: str | None = None
    message: str = ""


def stop_file(layout: SweepLayout) -> Path:
    """The driver's request to its workers to save and stop; it holds the driver's epoch."""
    return layout.root / "stop"


def _classify(error: Exception) -> tuple[str, str]:
    """(outcome, cause) of an exception that ended an attempt."""
    if isinstance(error.__cause__, (MemoryError, torch.OutOfMemoryError)):
        error = error.__cause__  # whatever it was wrapped in, such as an error of a plug-in
    if isinstance(error, Diverged):
        return "diverged", "nan"
    if isinstance(error, RunError):
        return "failed", error.cause
    if isinstance(error, torch.OutOfMemoryError):
        return "failed", "cuda_oom"
    if isinstance(error, MemoryError):
        return "failed", "memory"
    if isinstance(error, DamageError):
        return "failed", "checkpoint"
    if isinstance(error, OSError):  # an object store that is away is one as well
        return "failed", "storage"
    if isinstance(error, (StudyError, MissingError)):
        return "failed", "data"
    return "failed", "code"


def _told(error: Exception, folder: Path) -> str:
    """An exception in words; of a disk that is full, where it is and what is free there."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in FULL:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        text += f"; {shutil.disk_usage(there).free} bytes are free on the disk of {there}"
    return text


class Worker:
    """Keeps one bench warm; `take` an assignment, `advance` it until its report has an outcome."""

    def __init__(
        self,
        localize: Callable[[Resolved], Resolved] = lambda resolved: resolved,
        preempted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`localize` gives the same inputs, at paths of this machine; `preempted` says that the process is to die."""
        self._localize, self._preempted = localize, preempted
        self._bench: Bench | None = None
        self._bench_key = ""
        self._look_at = 0.0
        self.provenance = collect()

    def take(self, assignment: Assignment) -> None:
        """Begin an attempt; what goes wrong in it shows in the reports, never here."""
        self.assignment = assignment
        self.sweep = SweepLayout(assignment.storage, assignment.sweep)
        self._attempt: Attempt | None = None

    def _begin(self) -> Attempt:
        spec = self.assignment.spec
        key = Bench.key(spec.study, spec.resolved)
        if self._bench is None or key != self._bench_key:
            self._bench = None  # the old one's memory is free before the new one is made
            self._bench = Bench(spec.study, self._localize(spec.resolved), self.sweep.features)
            self._bench_key = key
        about: dict[str, Any] = {
            "epoch": self.assignment.epoch,
            "number": self.assignment.number,
            "provenance": self.provenance,
        }
        layout, earlier = self.assignment.layout, self.assignment.earlier()
        if not self.assignment.late:
            return Attempt(self._bench, spec, layout, earlier, **about)
        self.sweep.pull(self.sweep.run(spec.run_id).record)
        record = read_record(self.sweep.run(spec.run_id).record)
        return LateEvaluation(self._bench, spec, layout, earlier, record=record, **about)

    def _stop_asked(self) -> bool:
        return any(epoch >= self.assignment.epoch for epoch in self._asked_by())

    def _asked_by(self) -> Iterator[int]:
        """Epochs of drivers that asked: by a file of this machine, which the driver alone writes, or in the store."""
        with contextlib.suppress(OSError, ValueError):
            yield int(stop_file(self.sweep).read_text())
        if self.sweep.remote is not None and time.monotonic() >= self._look_at:
            began = time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # a store that is away asks for nothing
                # Straight from the store: a copy would stay here when the request is over.
                yield int(self.sweep.remote.get(stop_file(self.sweep).name, patience_s=0))
            now = time.monotonic()
            self._look_at = now + max(LOOK_S, SHARE * (now - began))

    def advance(self, seconds: float = SLICE_S) -> Report:
        """Train for about `seconds`."""
        try:
            if self._preempted():
                return self._leave()
            if self._attempt is None:
                self._attempt = self._begin()
                self._events = self._attempt.events()
            until = time.monotonic() + seconds
            while True:  # at least one event, however short the slice
                if next(self._events, None) is None:
                    return self._report("finished")
                if time.monotonic() >= until or self._preempted():
                    break
            if self._preempted():
                return self._leave()
            if self._stop_asked():
                self.save()
                return self._report("stopped")
            return self._report()
        except Exception as error:  # one bad run never ends a sweep
            outcome, cause = _classify(error)
            try:
                log = self.assignment.layout.create().root / "error.txt"
                files.write_atomic(log, traceback.format_exc())
                self.assignment.layout.push(log)
            except OSError:
                pass  # the report below still tells
            self._bench = None  # whatever state it is in
            return self._report(outcome, cause, _told(error, self.sweep.root))

    def _leave(self) -> Report:
        self.save()
        return self._report("stopped", "preempted", "its worker, or its machine, is being taken away")

    def save(self) -> None:
        """Keep what was done, if there is an attempt that has not ended."""
        if self._attempt is not None:
            self._attempt.save()

    def _report(self, outcome: str | None = None, cause: str | None = None, message: str = "") -> Report:
        attempt = self._attempt
        step, total = (attempt.step, attempt.total) if attempt is not None else (0, 0)
        if outcome is not None:
            self._attempt = None
        return Report(step=step, total=total, outcome=outcome, cause=cause, message=message)


def limit_threads(threads: int) -> None:
    """Before torch is imported: no library of this process starts more threads than the study allows."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
