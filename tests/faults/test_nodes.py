"""A sweep over three machines of which two see neither backbone nor adapters, and one of those is lost mid-way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from raysched.errors import DONE
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded
from raysched.records.files import sha256_tree
from raysched.records.layout import SweepLayout
from tests.faults.conftest import Figures
from tests.faults.machines import Machine, machines, why_not
from tests.processes import wait
from tests.runners.world import NAME, Left, arguments, check_equal, check_exactly_once, check_no_step_twice, segments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)


def test_a_machine_without_a_disk_in_common_is_lost_mid_way(
    tiny: Tiny, tmp_path: Path, undisturbed: dict[str, Left], figures: Figures
) -> None:
    layout = SweepLayout(tmp_path / "storage", NAME)
    with machines(tmp_path / "machines", [tiny.folder]) as rack:
        first, second = rack.add(), rack.add()
        began = time.monotonic()
        command = rack.shell.raysched(
            *arguments(tiny, layout.storage, "--max-concurrent", "3", "--address", rack.address, "--smoke")
        )

        def at_work(machine: Machine) -> bool:
            return (
                bool(machine.workers()) and (machine.cache / "inputs" / sha256_tree(tiny.folder / "backbone")).is_dir()
            )

        wait(lambda: not command.running or (at_work(first) and at_work(second)), 300)
        wait(lambda: not command.running or segments(layout) > 5, 200)
        assert command.running, command.text
        second.cut()
        lost = time.monotonic()
        wait(lambda: not command.running or "node_lost" in causes(layout), 120)
        noticed = time.monotonic() - lost
        code = command.end(600)
        assert code == DONE, command.text
        took = time.monotonic() - began
    assert "node_lost" in causes(layout), command.text
    check_exactly_once(layout, 4, 2)
    check_no_step_twice(layout)
    check_equal(layout, undisturbed)
    for machine in (first, second):
        fetched = {path.name for path in (machine.cache / "inputs").iterdir() if not path.name.startswith(".")}
        assert fetched == {
            sha256_tree(folder) for folder in (tiny.folder / "backbone", *tiny.folder.glob("adapters/*"))
        }
    figures("3 machines, 2 without backbone and adapters: 1 cut off, noticed", f"{noticed:.1f} s", "30 s")
    figures("the same sweep: runs lost, doubled, or different", f"0 of 4, in {took:.0f} s", "0")


def causes(layout: SweepLayout) -> list[str | None]:
    return [entry.cause for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptEnded)]
