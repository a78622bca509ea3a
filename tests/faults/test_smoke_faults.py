"""`sweep --smoke` where the tiny runs themselves are disturbed: nothing is started, and nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from raysched.errors import CTRL_C, OUTSIDE_MISSING
from raysched.records.layout import SweepLayout
from tests.processes import Command, Process, Shell, processes, shell, wait
from tests.runners.world import NAME, arguments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


def smokers(of: Path) -> list[Process]:
    """Processes that execute tiny runs."""
    return [process for process in processes(of) if process.command.startswith("ray::_Worker")]


def begun(one: Shell, tiny: Tiny, layout: SweepLayout) -> Command:
    """A sweep whose first tiny run has begun."""
    command = one.raysched(*arguments(tiny, layout.storage, "--smoke"))
    wait(lambda: not command.running or (smokers(one.folder) and list(layout.root.glob("smoke-*/smoke/runs/*"))), 200)
    assert command.running, command.text
    one.alive()
    return command


def check_nothing_was_started(layout: SweepLayout, one: Shell) -> None:
    assert not layout.ledger.exists()
    assert not list(layout.root.glob("smoke-*"))
    assert not list(layout.runs.iterdir())
    assert one.settle() == []


def test_a_killed_process_refuses_the_sweep(tiny: Tiny, tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path / "storage", NAME)
    with shell(tmp_path) as one:
        command = begun(one, tiny, layout)
        os.kill(smokers(tmp_path)[0].pid, signal.SIGKILL)
        assert command.end() == OUTSIDE_MISSING, command.text
        assert "standard  failed: worker_lost" in command.text
        assert "gu        ok" in command.text
        assert (
            f"{NAME}: 1 of 2 tiny runs failed, and nothing was started: standard (adapters): worker_lost"
            in command.text
        )
        assert "Traceback" not in command.text
        check_nothing_was_started(layout, one)


def test_ctrl_c_ends_tiny_runs(tiny: Tiny, tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path / "storage", NAME)
    with shell(tmp_path) as one:
        command = begun(one, tiny, layout)
        os.kill(command.pid, signal.SIGINT)
        assert command.end(30) == CTRL_C, command.text
        assert "stopped by Ctrl-C; nothing was begun" in command.text
        assert "Traceback" not in command.text
        check_nothing_was_started(layout, one)
