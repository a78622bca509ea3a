"""What the user of a sweep sees while it runs: tiny runs, progress, and why nothing is launched."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from raysched.cli import sweeping
from raysched.cli.sweeping import Screen
from raysched.errors import StoppedError
from raysched.runners import requests
from raysched.runners.control import Control, Held
from raysched.runners.smoke import Part, Smoked
from tests.processes import wait
from tests.runners.bed import Bed
from tests.runners.conftest import new_bed, search_database  # noqa: F401 - fixtures

NewBed = Callable[..., Bed]
HELD = Held(why=StoppedError("only 5 MB are free", key="--storage", hint="free some"))


def screen(runs: int = 4) -> tuple[Screen, io.StringIO]:
    text = io.StringIO()
    return Screen(Console(file=text, width=160), runs), text


def test_tiny_runs_are_a_table() -> None:
    shown, text = screen()
    good = Part(seconds=(9.0, 0.5, 0.7), peak_bytes=2 * 10**9, device_bytes=80 * 10**9)
    bad = Part(cause="cuda_oom", message="out of memory", device_bytes=80 * 10**9, peak_bytes=10**9)
    shown.smoked(
        [
            Smoked(schedule="gu", method="adapters", parts=(good, good)),
            Smoked(schedule="fun", method="full", parts=(bad,)),
        ]
    )
    _, gu, fun = text.getvalue().splitlines()
    assert gu.split() == ["gu", "ok", "0.6", "s", "2.00", "GB", "fits", "resources.gpu=0.0625"]
    assert fun.split() == ["fun", "full", "failed:", "cuda_oom", "-", "1.00", "GB"]


def test_lines_and_table_say_why_nothing_is_launched(
    new_bed: NewBed,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeping, "PLAIN_EVERY_S", 0.02)
    bed = new_bed()
    holds: list[Held | None] = [None]
    control = Control(bed.layout, holds=[lambda: holds[0]])
    shown, text = screen()
    shown.started(bed.driver(), 2, control)
    try:
        wait(lambda: "time left: not known yet; running: -" in text.getvalue(), 10)
        holds[0] = HELD
        control.held()  # as the executor asks
        wait(lambda: "nothing is launched now: only 5 MB are free" in text.getvalue(), 10)
        holds[0] = None
        control.held()
        requests.ask(bed.layout, "pause")
        wait(control.paused, 10)
        wait(lambda: f"nothing is launched now: paused, {control._obeyed}; raysched resume demo" in text.getvalue(), 10)
        table = io.StringIO()
        Console(file=table, width=160).print(shown._table())
        assert "0/4 runs, nothing is launched now: paused" in table.getvalue()
    finally:
        shown.close()
    assert "0 of 4 runs are done; 2 at a time from here" in text.getvalue()
