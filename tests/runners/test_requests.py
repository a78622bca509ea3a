"""Requests from other processes: seldom read, never lost, honoured once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysched.errors import MissingError, StoppedError
from raysched.records.files import read_checked, write_checked
from raysched.records.layout import SweepLayout
from raysched.runners import requests
from raysched.runners.control import Control, Held
from raysched.runners.requests import LOOK_S, Requests, ask, begin, standing, withdraw


@pytest.fixture
def layout(tmp_path: Path) -> SweepLayout:
    return SweepLayout(tmp_path, "demo").create()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_last_word_counts(layout: SweepLayout) -> None:
    assert standing(layout) is None
    withdraw(layout)
    assert not requests.request_file(layout).exists()
    for verb in ("pause", "stop", "pause"):
        ask(layout, verb)
        found = standing(layout)
        assert found is not None
        assert (found.verb, found.pid) == (verb, os.getpid())
    withdraw(layout)
    assert standing(layout) is None
    assert requests.request_file(layout).stat().st_mode & 0o777 == 0o600


def test_a_stop_that_comes_while_a_driver_starts_is_meant_for_it(layout: SweepLayout) -> None:
    before = standing(layout)
    ask(layout, "stop")
    begin(layout, before)
    found = standing(layout)
    assert found is not None
    assert found.verb == "stop"


def test_asking_twice_changes_nothing(layout: SweepLayout) -> None:
    ask(layout, "stop")
    before = requests.request_file(layout).stat().st_mtime_ns
    ask(layout, "stop")
    assert requests.request_file(layout).stat().st_mtime_ns == before


def test_a_new_driver_ends_a_stop_and_respects_a_pause(layout: SweepLayout) -> None:
    begin(layout, standing(layout))
    ask(layout, "stop")
    begin(layout, standing(layout))
    assert standing(layout) is None
    ask(layout, "pause")
    with pytest.raises(StoppedError, match=r"is paused \(host .*(\n.*)*raysched resume demo"):
        begin(layout, standing(layout))
    assert standing(layout) is not None


def test_the_file_is_looked_at_twice_a_second_and_read_when_it_changed(
    layout: SweepLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> dict[str, object]:
        read.append(path)
        return read_checked(path)

    monkeypatch.setattr(requests, "read_checked", counted)
    clock = Clock()
    seen = Requests(layout, clock)
    assert seen.standing() is None
    ask(layout, "stop")
    read.clear()
    assert seen.standing() is None  # not looked at again yet
    for _ in range(100):
        clock.now += LOOK_S / 10
        seen.standing()
    assert len(read) == 1
    found = seen.standing()
    assert found is not None
    withdraw(layout)
    clock.now += LOOK_S
    assert seen.standing() is None


def test_fields_of_a_later_version_are_passed_over(layout: SweepLayout) -> None:
    value = {"verb": "stop", "host": "there", "pid": 7, "time_ms": 1, "urgency": 3}
    write_checked(requests.request_file(layout), value)
    found = standing(layout)
    assert found is not None
    assert (found.verb, found.host) == ("stop", "there")
    write_checked(requests.request_file(layout), {**value, "verb": "dance"})
    assert standing(layout) is None


def test_control_says_each_change_once(layout: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LOOK_S", 0.0)
    said: list[str] = []
    control = Control(layout, note=said.append)
    assert not control.stop()
    for verb in ("pause", "stop"):
        ask(layout, verb)
        for _ in range(3):
            assert (control.paused(), control.stop()) == (verb == "pause", verb == "stop")
    withdraw(layout)
    assert not control.stop()
    assert [text.partition(" by ")[0] for text in said] == [
        "asked to pause",
        "asked to stop",
        "the request to stop is over",
    ]


def test_what_makes_a_driver_leave(layout: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LOOK_S", 0.0)
    full, code = [False], [0]
    held = Held(why=MissingError("the disk is full"), now=True)

    def refuses(_: str) -> None:
        raise StoppedError("the ledger takes nothing")

    control = Control(layout, lambda: code[0], [lambda: None, lambda: held if full[0] else None], refuses)
    assert (control.stop(), control.why(), control.held()) == (False, None, None)
    full[0] = True
    assert control.stop()
    assert control.why() is held.why
    ask(layout, "stop")  # goes first, and a ledger that takes no note does not matter
    assert str(control.why()).startswith("demo: was asked to stop (host ")
    full[0], code[0] = False, 130
    withdraw(layout)
    assert control.why() is None
    assert control.stop()
