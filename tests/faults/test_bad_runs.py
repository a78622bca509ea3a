"""Runs that harm their workers: each ends alone, with its cause and what its user can do about it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from raysched.errors import SOME_RUNS_FAILED, TERMINATED
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, Recorded
from raysched.records.layout import SweepLayout
from raysched.runners import requests
from tests.faults import poison
from tests.faults.conftest import Figures
from tests.processes import shell, wait
from tests.runners.world import NAME, arguments, attempts, mlflow_runs, records, trials
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
ENDS = {  # schedule -> its record's status, its cause, its attempts, and what its message must say
    "standard": ("finished", None, 1, ""),
    "gu": ("finished", None, 1, ""),
    "abort": ("failed", "worker_lost", 3, "next: its worker died every time"),
    "host": ("failed", "memory", 1, "MemoryError"),
    "device": ("failed", "cuda_oom", 2, "--set training.batch_size to less"),
    "hog": ("failed", "oom", 2, "next: fewer runs to a machine: --set resources.memory_gb"),
}


def _memory() -> tuple[int, int]:
    """(all, used) bytes of this machine."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, total - free


def test_every_bad_run_ends_alone(tiny: Tiny, tmp_path: Path, figures: Figures) -> None:
    total, used = _memory()
    environment = poison.install(tmp_path / "site")
    environment |= {"RAY_memory_usage_threshold": f"{(used + 3 * 1024**3) / total:.4f}"}
    layout = SweepLayout(tmp_path / "storage", NAME)
    settings = {"search__schedule": list(ENDS), "seeds": 1, "training__steps": 100}
    with shell(tmp_path / "shell", **environment) as one:
        code, output = one.run(*arguments(tiny, layout.storage, **settings), timeout_s=350)
        assert code == SOME_RUNS_FAILED, output
        status = one.run("status", NAME, "--storage", layout.storage)[1]
    assert "the executor broke" not in output
    found = {record.params["schedule"]: record for record in records(layout).values()}
    print({schedule: record.message for schedule, record in found.items()})
    assert found.keys() == ENDS.keys()
    for schedule, (outcome, cause, tries, message) in ENDS.items():
        record = found[schedule]
        assert (record.status, record.cause) == (outcome, cause), record.message
        assert record.attempt == tries or cause is None, record.message
        assert message in record.message
        if cause is not None:
            assert cause in status
    entries = ledgers.read(layout.ledger)
    assert len({entry.run_id for entry in entries if isinstance(entry, Recorded)}) == len(ENDS)
    assert sorted(trials(layout)) == ["COMPLETE"] * 2 + ["FAIL"] * 4
    assert {run.status for run in mlflow_runs(layout) if run.level == "run"} == {"FINISHED", "FAILED"}
    figures("abort, MemoryError, CUDA and host memory in one sweep", "all classed, the others done", "100 %")


def test_a_stop_does_not_wait_for_a_busy_worker_and_a_pause_is_obeyed(
    tiny: Tiny, tmp_path: Path, figures: Figures
) -> None:
    """One worker is inside an event of 90 s; a pause, its end, and SIGTERM are each obeyed at once."""
    layout = SweepLayout(tmp_path / "storage", NAME)
    settings = {"search__schedule": ["slow"], "seeds": 1, "search__k": [40]}
    with shell(tmp_path / "shell", **poison.install(tmp_path / "site")) as one:
        command = one.raysched(*arguments(tiny, layout.storage, **settings))
        wait(lambda: list(layout.runs.glob("*/attempt-*/checkpoints/step-*/manifest.json")), 120)
        time.sleep(5)
        began = time.monotonic()
        requests.ask(layout, "pause")
        wait(lambda: ends(layout), 30)
        figures("pause: workers free after", f"{time.monotonic() - began:.1f} s", "-")
        assert [end.outcome for end in ends(layout)] == ["stopped"]
        time.sleep(2)
        assert command.running
        assert len(attempts(layout)) == 1

        requests.withdraw(layout)
        wait(lambda: len(attempts(layout)) == 2, 30)
        time.sleep(15)
        began = time.monotonic()
        os.kill(command.pid, signal.SIGTERM)
        assert command.end() == TERMINATED, command.text
        took = time.monotonic() - began
        figures("SIGTERM during an event of 90 s: ended after", f"{took:.1f} s", "10 s")
        assert took < 15
        assert [end.outcome for end in ends(layout)] == ["stopped"] * 2
        assert "Traceback" not in command.text
        assert one.settle() == []


def ends(layout: SweepLayout) -> list[AttemptEnded]:
    return [entry for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptEnded)]
