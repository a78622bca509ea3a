"""A sweep that lost a worker once too often is retried, then extended: on real Ray, each from the ledger alone."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, DONE, SOME_RUNS_FAILED
from raysched.records.layout import SweepLayout
from tests.processes import shell, wait, workers
from tests.runners.world import NAME, arguments, left, mlflow_runs, records, segments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 100


def test_retry_and_extend(tiny: Tiny, tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path / "storage", NAME)
    there = ("--storage", str(layout.storage), "--max-concurrent", "2")
    # The search is in a journal: every command has to find it there.
    with shell(tmp_path, RAYSCHED_OPTUNA="journal") as one:
        sweep = one.raysched(*arguments(tiny, layout.storage, budget__attempts=1, training__steps=STEPS))
        wait(lambda: segments(layout) or not sweep.running, 200)
        (victim, *_) = wait_for_workers(tmp_path)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        assert sweep.end(400) == SOME_RUNS_FAILED, sweep.text
        before = left_of_finished(layout)
        (failed,) = [record for record in records(layout).values() if record.status == "failed"]
        assert failed.cause == "worker_lost"

        code, output = one.run("retry", NAME, "--failed", *there, timeout_s=400)
        assert (code, "trying 1 failed run again" in output) == (DONE, True), output
        after = left(layout)
        assert len(after) == 4
        assert {run_id: after[run_id] for run_id in before} == before
        assert after[failed.run_id].seed == failed.seed
        assert {run.status for run in mlflow_runs(layout)} == {"FINISHED"}

        code, output = one.run("retry", NAME, "--failed", *there)
        assert (code, "no run failed; nothing to retry" in output) == (DONE, True), output

        code, output = one.run(*arguments(tiny, layout.storage, budget__attempts=1, training__steps=STEPS, seeds=3))
        assert code == BAD_INPUT
        assert f"raysched extend {NAME} --seeds 3" in output

        code, output = one.run("extend", NAME, "--seeds", "3", "--set", "search.k=[20,40]", *there, timeout_s=600)
        assert (code, "5 new runs" in output) == (DONE, True), output
        assert len(left(layout)) == 9
        assert {run_id: one for run_id, one in left(layout).items() if run_id in after} == after
        assert {run.status for run in mlflow_runs(layout)} == {"FINISHED"}

        code, output = one.run("extend", NAME, "--seeds", "3", *there)
        assert (code, "has all of that already" in output, "Ray" in output) == (DONE, True, False), output
        assert not layout.optuna.exists()


def wait_for_workers(folder: Path) -> list[int]:
    wait(lambda: workers(folder), 60)
    return [process.pid for process in workers(folder)]


def left_of_finished(layout: SweepLayout) -> dict[str, object]:
    return {run_id: run for run_id, run in left(layout).items() if records(layout)[run_id].status == "finished"}
