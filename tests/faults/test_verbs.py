"""`stop`, `pause` and `resume` from other processes, on real Ray: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from raysched.errors import DONE, RESUMABLE
from raysched.records import ledger as ledgers
from raysched.records.entries import Note
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from tests.faults.conftest import Figures
from tests.processes import shell, wait, workers
from tests.runners.world import NAME, Left, arguments, check_equal, check_exactly_once, segments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
STOPPED_S = 20
"""So long a stop may take on a busy machine, from the command to the word that the driver has left the sweep."""


def executing(layout: SweepLayout) -> int:
    state = SweepState.of(ledgers.read(layout.ledger))
    return sum(map(state.executing, state.attempts))


def test_paused_resumed_stopped_and_resumed_by_other_processes(
    tiny: Tiny, tmp_path: Path, undisturbed: dict[str, Left], figures: Figures
) -> None:
    layout, where = SweepLayout(tmp_path / "storage", NAME), ("--storage", str(tmp_path / "storage"))
    with shell(tmp_path) as one:
        driver = one.raysched(*arguments(tiny, layout.storage))
        wait(lambda: segments(layout) or not driver.running, 200)
        one.alive()
        assert driver.running, driver.text

        began = time.monotonic()
        code, output = one.run("pause", NAME, *where)
        figures("pause from another process", f"{time.monotonic() - began:.1f} s", "workers saved and stopped")
        assert code == DONE, output
        assert f"{NAME}: paused; its workers have saved and stopped, its driver (host " in output
        assert executing(layout) == 0
        before, entries = segments(layout), len(ledgers.read(layout.ledger))
        code, output = one.run("sweep", *arguments(tiny, layout.storage)[1:])
        assert (code, "another driver runs this sweep" in output) == (RESUMABLE, True), output
        assert (segments(layout), len(ledgers.read(layout.ledger)), driver.running) == (before, entries, True)
        assert "(paused)" in one.run("status", NAME, *where)[1]

        code, output = one.run("resume", NAME, *where)
        assert (code, f"{NAME}: goes on: host " in output) == (DONE, True), output
        wait(lambda: segments(layout) > before or not driver.running, 120)
        assert driver.running, driver.text

        began = time.monotonic()
        code, output = one.run("stop", NAME, *where)
        assert (code, f"{NAME}: stopped; everything done so far is saved" in output) == (DONE, True), output
        took = time.monotonic() - began
        assert driver.end(60) == RESUMABLE, driver.text  # Ray, of which the sweep knows nothing any more, ends after it
        figures("stop from another process", f"{took:.1f} s", f"<= {STOPPED_S} s, exit {RESUMABLE}")
        assert took < STOPPED_S
        assert f"{NAME}: was asked to stop (host " in driver.text
        assert "the same command continues the sweep" in driver.text
        assert workers(tmp_path) == []
        assert one.run("stop", NAME, *where) == (DONE, f"{NAME}: no driver runs it now; nothing to stop\n")

        assert one.run("pause", NAME, *where)[0] == DONE
        code, output = one.run("sweep", *arguments(tiny, layout.storage)[1:])
        assert (code, f"{NAME}: is paused (host " in output) == (RESUMABLE, True), output
        code, output = one.run("resume", NAME, *where, "--max-concurrent", "2", timeout_s=300)
        assert code == DONE, output
        assert "4 runs are done" in output
    notes = [entry.text.partition(" by ")[0] for entry in ledgers.read(layout.ledger) if isinstance(entry, Note)]
    assert notes[:3] == ["asked to pause", "the request to pause is over", "asked to stop"]
    check_exactly_once(layout, 4, 2)
    check_equal(layout, undisturbed)
