"""What a worker makes of an attempt that goes wrong, and that it works on afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raysched.errors import DamageError, Diverged, MissingError, RunError, StudyError
from raysched.records.layout import SweepLayout
from raysched.records.record import read_result
from raysched.runners import local
from raysched.runners.assignment import Assignment
from raysched.runners.worker import Report, Worker, _classify, stop_file
from raysched.study.identity import RunSpec
from tests.training.tiny_training import STEPS, Tiny, history


@pytest.fixture
def assign(tmp_path: Path) -> Callable[..., Assignment]:
    def make(spec: RunSpec, number: int = 1, epoch: int = 1) -> Assignment:
        return Assignment(spec=spec, epoch=epoch, number=number, sweep="tiny", storage=str(tmp_path / "storage"))

    return make


def work(worker: Worker, assignment: Assignment, seconds: float = 60) -> Report:
    worker.take(assignment)
    while True:
        report = worker.advance(seconds)
        if report.outcome is not None:
            return report


def poisoned(worker: Worker) -> None:
    """From the next run on, the head's first weights are not numbers."""
    assert worker._bench is not None
    task = worker._bench.task
    make = task.head

    def head(**options: Any) -> torch.nn.Module:
        made = make(**options)
        for parameter in made.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        return made

    task.head = head  # type: ignore[method-assign]


@pytest.mark.parametrize("settings", [{}, {"tracking__log_every_steps": 1000, "evaluation__dev_points": 1}])
def test_divergence_is_told_and_the_worker_goes_on(
    tiny: Tiny, assign: Callable[..., Assignment], settings: dict[str, int]
) -> None:
    worker, good = Worker(), assign(tiny.spec("gu", **settings))
    assert work(worker, good).outcome == "finished"
    poisoned(worker)
    bad = assign(tiny.spec("gu", seed=1, **settings))
    report = work(worker, bad)
    assert (report.outcome, report.cause) == ("diverged", "nan"), report.message
    assert report.message.startswith("Diverged: ")
    assert "not finite" in report.message
    assert "raise Diverged" in (bad.layout.root / "error.txt").read_text()
    assert not bad.layout.result.exists()
    assert not list(bad.layout.checkpoints.iterdir()), "weights that are not numbers are never saved"
    assert work(worker, assign(bad.spec, number=2)).outcome == "finished"


def test_a_bad_number_between_two_looks_is_found(tiny: Tiny, assign: Callable[..., Assignment]) -> None:
    """Nobody looks at steps 1 to 9, and what made the gradient infinite is gone by step 10."""
    worker = Worker()
    worker.take(assign(tiny.spec("gu", tracking__log_every_steps=1000, evaluation__dev_points=1)))
    worker.advance(0)
    assert worker._attempt is not None
    assert worker._attempt.step == 0
    bias = worker._attempt.run.parameters["head.bias"].requires_grad_(True)
    calls: list[int] = []

    def once(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * float("inf") if len(calls) == 4 else gradient

    bias.register_hook(once)
    report = worker.advance(60)
    assert (report.outcome, report.cause) == ("diverged", "nan"), report.message


def test_an_infinite_learning_rate_diverges(tiny: Tiny, assign: Callable[..., Assignment]) -> None:
    spec = tiny.spec("standard", training__weight_decay=1e30, evaluation__dev_points=1)
    report = work(Worker(), assign(spec))
    assert (report.outcome, report.cause) == ("diverged", "nan"), report.message
    assert 0 <= report.step < report.total


def test_missing_data_is_told(tiny: Tiny, assign: Callable[..., Assignment], tmp_path: Path) -> None:
    spec = tiny.spec("gu")
    gone = spec.resolved.backbone.model_copy(update={"path": str(tmp_path / "nowhere")})
    bad = replace(spec, resolved=spec.resolved.model_copy(update={"backbone": gone}))
    worker = Worker()
    report = work(worker, assign(bad))
    assert (report.outcome, report.cause) == ("failed", "data")
    assert "nowhere" in report.message
    assert "Traceback" in (assign(bad).layout.root / "error.txt").read_text()
    assert work(worker, assign(spec, number=2)).outcome == "finished"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Diverged("x"), ("diverged", "nan")),
        (RunError("x", cause="hang"), ("failed", "hang")),
        (torch.OutOfMemoryError("x"), ("failed", "cuda_oom")),
        (MemoryError(), ("failed", "memory")),
        (DamageError("x"), ("failed", "checkpoint")),
        (StudyError("x"), ("failed", "data")),
        (MissingError("x"), ("failed", "data")),
        (OSError(28, "No space left on device"), ("failed", "storage")),
        (KeyError("x"), ("failed", "code")),
    ],
)
def test_an_error_in_a_run_ends_the_run_and_not_the_worker(
    tiny: Tiny,
    assign: Callable[..., Assignment],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: tuple[str, str],
) -> None:
    assert _classify(error) == expected
    worker, assignment = Worker(), assign(tiny.spec("gu"))

    def begin() -> None:
        raise error

    monkeypatch.setattr(worker, "_begin", begin)
    report = work(worker, assignment)
    assert (report.outcome, report.cause) == expected
    assert type(error).__name__ in report.message
    assert type(error).__name__ in (assignment.layout.root / "error.txt").read_text()
    assert expected[1] in RunError.CAUSES


def test_a_stop_request_saves_and_the_next_attempt_continues(tiny: Tiny, assign: Callable[..., Assignment]) -> None:
    spec = tiny.spec("fun")
    first, second, alone = assign(spec), assign(spec, number=2, epoch=2), assign(tiny.spec("fun"), epoch=3)
    worker = Worker()
    worker.take(first)
    while worker.advance(0.02).step < 2:
        pass
    stop = stop_file(SweepLayout(first.storage, first.sweep))
    stop.parent.mkdir(parents=True, exist_ok=True)
    stop.write_text("0")  # of an earlier driver
    assert worker.advance(0).outcome is None
    stop.write_text("1")
    report = worker.advance(0)
    assert report.outcome == "stopped"
    assert report.step >= 2
    assert list(first.layout.checkpoints.glob(f"step-{report.step:08d}"))
    assert not first.layout.result.exists()
    assert work(Worker(), second).outcome == "finished"
    result = read_result(second.layout.result)
    assert (result.steps, result.epoch, result.attempt) == (STEPS, 2, 2)
    reference = replace(alone, storage=alone.storage + "-alone")
    assert work(worker, reference).outcome == "finished"
    expected = read_result(reference.layout.result)
    assert history(second.layout, result.segments) == history(reference.layout, expected.segments)


def test_one_run_without_ray(tiny: Tiny, tmp_path: Path) -> None:
    reports: list[Report] = []
    assignment, result = local.run(tiny.spec("gu"), str(tmp_path), "one", reports.append)
    assert reports[-1].outcome == "finished"
    assert result.status == "finished"
    assert sorted(path.name for path in assignment.layout.predictions.iterdir()) == [
        "orl.parquet",
        "vel.parquet",
        "xim.parquet",
    ]
    diverges = tiny.spec("standard", training__weight_decay=1e30)
    with pytest.raises(RunError, match=r"Diverged(.|\n)*error\.txt"):
        local.run(diverges, str(tmp_path), "two", reports.append)
