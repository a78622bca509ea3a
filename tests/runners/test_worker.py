"""A worker in this process: slices, causes, Ctrl-C, and a bench that stays warm without a trace of the run before.

How single attempts diverge, stop and fail in it is tested beside the training they are about.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from raysched.errors import CTRL_C, DamageError, Diverged, Interrupted, MissingError, RunError, StudyError
from raysched.records.layout import SweepLayout
from raysched.records.record import read_result
from raysched.runners import local
from raysched.runners.assignment import Assignment
from raysched.runners.worker import Report, Worker, _classify, limit_threads, stop_file
from raysched.study.identity import RunSpec
from raysched.training.checkpoint import newest_first
from tests.training.tiny_training import Tiny, history


def assignment(storage: Path, spec: RunSpec, number: int = 1, epoch: int = 1) -> Assignment:
    return Assignment(spec=spec, epoch=epoch, number=number, sweep="demo", storage=str(storage))


def finish(worker: Worker, one: Assignment) -> list[Report]:
    worker.take(one)
    reports = [worker.advance(60)]
    while reports[-1].outcome is None:
        reports.append(worker.advance(60))
    return reports


def left(one: Assignment) -> tuple[Any, ...]:
    """Everything of a finished attempt that depends neither on the time nor on the machine."""
    claim = read_result(one.layout.result)
    rows = [row for row in history(one.layout, claim.segments) if row[0] != "note"]
    files = {name: digest for name, digest in claim.files.items() if not name.startswith("predictions/")}
    return claim.steps, claim.selected_step, claim.source_dev, claim.tests, claim.unfreeze_order, files, rows


def test_a_warm_worker_leaves_what_cold_ones_leave(tiny: Tiny, tmp_path: Path) -> None:
    specs = [tiny.spec("gu"), tiny.spec("fun", seed=1), tiny.spec("standard"), tiny.spec("gu", seed=1)]
    warm, benches = Worker(), set()
    for spec in specs:
        (*_, last) = finish(warm, assignment(tmp_path / "warm", spec))
        assert (last.outcome, last.step, last.total) == ("finished", 10, 10)
        benches.add(id(warm._bench))
    for spec in reversed(specs):
        finish(Worker(), assignment(tmp_path / "cold", spec))
        assert left(assignment(tmp_path / "warm", spec)) == left(assignment(tmp_path / "cold", spec))
    assert len(benches) == 1


def test_the_bench_is_kept_for_runs_of_one_study(tiny: Tiny, tmp_path: Path) -> None:
    worker = Worker()
    finish(worker, assignment(tmp_path, tiny.spec("gu")))
    bench = worker._bench
    finish(worker, assignment(tmp_path, tiny.spec("gu", seed=1)))
    assert worker._bench is bench
    finish(worker, assignment(tmp_path, tiny.spec("gu", evaluation__dev_limit=10)))
    assert worker._bench is not bench


def test_a_slice_ends_in_time_and_the_next_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    worker, one = Worker(), assignment(tmp_path, tiny.spec("gu"))
    worker.take(one)
    reports = [worker.advance(0)]
    while reports[-1].outcome is None:
        reports.append(worker.advance(0))  # one event at a time
    steps = [report.step for report in reports]
    assert steps == sorted(steps)
    assert set(range(1, 11)) <= set(steps)
    assert all(report.total == 10 for report in reports)


@pytest.mark.parametrize(
    ("text", "stops"), [("1", True), ("2", True), ("0", False), ("", False), ("one", False), (None, False)]
)
def test_who_may_ask_it_to_stop(tiny: Tiny, tmp_path: Path, text: str | None, stops: bool) -> None:
    layout = SweepLayout(tmp_path, "demo").create()
    if text is not None:
        stop_file(layout).write_text(text)
    worker = Worker()
    worker.take(assignment(tmp_path, tiny.spec("gu")))
    assert worker._stop_asked() is stops


@pytest.mark.parametrize(
    ("error", "outcome", "cause"),
    [
        (Diverged("loss is nan"), "diverged", "nan"),
        (RunError("lost", cause="hang"), "failed", "hang"),
        (torch.OutOfMemoryError("CUDA out of memory"), "failed", "cuda_oom"),
        (MemoryError(), "failed", "memory"),
        (DamageError("does not match"), "failed", "checkpoint"),
        (StudyError("too long"), "failed", "data"),
        (MissingError("no file"), "failed", "data"),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "storage"),
        (ZeroDivisionError(), "failed", "code"),
    ],
)
def test_causes(error: Exception, outcome: str, cause: str) -> None:
    assert _classify(error) == (outcome, cause)
    assert cause in RunError.CAUSES


@pytest.mark.parametrize(("error", "cause"), [(MemoryError(), "memory"), (torch.OutOfMemoryError(), "cuda_oom")])
def test_memory_that_is_short_is_no_fault_of_a_plug_in(error: Exception, cause: str) -> None:
    wrapped = RunError("the schedule failed", cause="code")
    wrapped.__cause__ = error
    assert _classify(wrapped) == ("failed", cause)


def test_threads_are_limited_before_torch_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "16")
    limit_threads(3)
    assert [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")] == ["3"] * 3


def test_ctrl_c_saves_a_local_run(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Worker", Impatient)
    spec = tiny.spec("gu")

    def show(report: Report) -> None:
        if report.step >= 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped by Ctrl-C at step") as stopped:
        local.run(spec, str(tmp_path), "demo.run", show)
    assert stopped.value.exit_code == CTRL_C
    one = Assignment(spec=spec, epoch=0, number=1, sweep="demo.run", storage=str(tmp_path))
    assert newest_first([one.layout.checkpoints])
    monkeypatch.undo()
    local.run(spec, str(tmp_path), "demo.run", lambda _: None)  # the same call continues
    finish(Worker(), cold := assignment(tmp_path / "cold", spec))
    assert left(one) == left(cold)


class Impatient(Worker):
    """Looks outside after every event."""

    def advance(self, seconds: float = 0) -> Report:
        return super().advance(0)
