"""`stop`, `pause`, `resume`, and what `status` says of them, with a driver that obeys and runs nothing."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from raysched.cli import controlling, sweeping
from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING, RESUMABLE
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, AttemptStarted, Ended, Note, Opened, PointTaken
from raysched.records.files import write_atomic
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.lock import DriverLock
from raysched.runners import requests
from raysched.runners.control import Control
from raysched.runners.options import Options
from raysched.study.load import LoadedStudy
from raysched.study.space import points
from tests.cli.conftest import Raysched
from tests.processes import wait
from tests.reports.conftest import resolved, study

POINT = points(study().search)[0]


def opened(storage: Path, name: str) -> SweepLayout:
    layout = SweepLayout(storage, name).create()
    with Ledger.take_over(layout.ledger, host="here", pid=1) as ledger:
        of = study()
        ledger.append(Opened(study=of.model_dump(mode="json"), resolved=resolved(of).model_dump(mode="json")))
    return layout


class Obedient(threading.Thread):
    """Holds the lock, keeps one run going, and obeys as the executor does."""

    def __init__(self, layout: SweepLayout, *, deaf: bool = False) -> None:
        super().__init__(daemon=True)
        self.layout, self.deaf = layout, deaf
        self.ready, self.end = threading.Event(), threading.Event()

    def run(self) -> None:
        with (
            DriverLock(self.layout.lock),
            Ledger.take_over(self.layout.ledger, host="here", pid=2) as ledger,
        ):
            control = Control(self.layout, note=lambda text: ledger.append(Note(text=text)))
            ledger.append(PointTaken(number=0, params=POINT.params(), cell_id="c", run_ids={0: "r"}))
            number, going = 0, False
            while not self.end.is_set():
                if not self.deaf and control.stop():
                    break
                paused = not self.deaf and control.paused()
                if going and paused:
                    ledger.append(AttemptEnded(run_id="r", attempt=number, outcome="stopped"))
                elif not going and not paused:
                    number += 1
                    ledger.append(AttemptStarted(run_id="r", attempt=number))
                going = not paused
                self.ready.set()
                time.sleep(0.02)
            ledger.append(Ended(outcome="stopped"))

    def __enter__(self) -> Obedient:
        self.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.join(10)
        assert not self.is_alive()


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepLayout:
    monkeypatch.setattr(requests, "LOOK_S", 0.05)
    return opened(tmp_path / "raysched-runs", "demo")


def notes(layout: SweepLayout) -> list[str]:
    return [entry.text for entry in ledgers.read(layout.ledger) if isinstance(entry, Note)]


def status(raysched: Raysched) -> dict[str, object]:
    value = json.loads(raysched("status", "demo", "--json").out)
    return {key: value[key] for key in ("state", "driver", "request")}


def test_stop_waits_until_the_driver_has_left(raysched: Raysched, layout: SweepLayout) -> None:
    with Obedient(layout) as driver:
        assert status(raysched)["state"] == "running"
        answer = raysched("stop", "demo")
        assert (answer.code, answer.err) == (DONE, "")
        driver.join(10)
    assert "demo: asked its driver (host " in answer.out
    assert "waiting until its workers have saved and it has left" in answer.out
    assert "demo: stopped; everything done so far is saved. To continue: raysched resume demo" in answer.out
    assert notes(layout)[0].startswith("asked to stop by host ")
    assert status(raysched)["state"] == "stopped"
    again = raysched("stop")
    assert (again.code, again.out) == (DONE, "demo: no driver runs it now; nothing to stop\n")


def test_stop_of_a_driver_that_hangs(layout: SweepLayout, raysched: Raysched, monkeypatch: pytest.MonkeyPatch) -> None:
    with Obedient(layout, deaf=True):
        monkeypatch.setattr(controlling.stop, "__defaults__", (0.5,))
        answer = raysched("stop", "demo")
        assert answer.code == RESUMABLE
        assert "has not left after 0.5 s; the request stands" in answer.err
        assert "next:  raysched status demo" in answer.err
        found = status(raysched)
        assert found["state"] == "stopping"
        assert "asked to stop by host" in raysched("status").out


def test_pause_and_resume(raysched: Raysched, layout: SweepLayout) -> None:
    with Obedient(layout):
        for _ in range(2):
            answer = raysched("pause", "demo")
            assert (answer.code, answer.err) == (DONE, "")
            assert "demo: paused; its workers have saved and stopped, its driver (host " in answer.out
            assert "To go on: raysched resume demo" in answer.out
        found = status(raysched)
        assert found["state"] == "paused"
        assert found["request"]["verb"] == "pause"  # type: ignore[index]
        shown = raysched("status").out
        assert "(paused)\nasked to pause by host " in shown
        assert "raysched resume demo goes on" in shown
        answer = raysched("resume", "demo")
        assert (answer.code, answer.err) == (DONE, "")
        assert "demo: goes on: host " in answer.out
        wait(lambda: status(raysched)["state"] == "running", 10)
        assert "demo: is not paused; it runs: host " in raysched("resume").out
        started = [entry for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptStarted)]
        wait(lambda: len(notes(layout)) == 2, 10)
    assert len(started) <= 2
    assert [note.partition(" by ")[0] for note in notes(layout)] == ["asked to pause", "the request to pause is over"]


def test_a_paused_driver_can_be_stopped(raysched: Raysched, layout: SweepLayout) -> None:
    with Obedient(layout) as driver:
        raysched("pause", "demo")
        assert raysched("stop", "demo").code == DONE
        driver.join(10)
        assert not driver.is_alive()


def test_a_sweep_without_a_driver(raysched: Raysched, layout: SweepLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be paused; then only `resume` starts it, with the study it has."""
    answer = raysched("pause", "demo")
    assert answer.code == DONE
    assert "demo: paused; no driver runs it now, and `raysched sweep` will not until the pause is over" in answer.out
    with pytest.raises(Exception, match=r"demo: is paused \(host .*\)\n  next:  raysched resume demo"):
        requests.begin(layout, requests.standing(layout))
    assert status(raysched)["state"] == "paused"
    swept: list[LoadedStudy] = []

    def sweep(loaded: LoadedStudy, options: Options) -> int:
        requests.begin(layout, requests.standing(layout))
        swept.append(loaded)
        return 1 if options.max_concurrent == 3 else 0

    monkeypatch.setattr(sweeping, "sweep", sweep)
    assert raysched("resume", "demo", "--max-concurrent", "3").code == 1
    assert (swept[0].name, swept[0].study, swept[0].source) == ("demo", study(), layout.ledger)
    assert raysched("resume", "demo").code == DONE
    assert len(swept) == 2
    assert status(raysched)["state"] == "stopped"


def test_a_finished_sweep_is_not_paused(raysched: Raysched, layout: SweepLayout) -> None:
    with Ledger.take_over(layout.ledger, host="here", pid=1) as ledger:
        ledger.append(Ended(outcome="finished"))
    assert raysched("pause").out == "demo: has come to its end (finished); nothing to pause\n"
    assert requests.standing(layout) is None


def test_a_suite_is_stopped_and_paused_whole(raysched: Raysched, layout: SweepLayout, tmp_path: Path) -> None:
    parts = [opened(tmp_path / "raysched-runs", f"suite.{part}") for part in ("one", "two")]
    assert raysched("pause", "suite").out.count("paused; no driver") == 2
    assert all(requests.standing(part) for part in parts)
    assert requests.standing(layout) is None
    assert raysched("stop", "suite").out.count("nothing to stop") == 2


@pytest.mark.parametrize("verb", ["stop", "pause", "resume"])
def test_sweeps_that_are_not_there(raysched: Raysched, layout: SweepLayout, tmp_path: Path, verb: str) -> None:
    answer = raysched(verb, "none")
    assert answer.code == OUTSIDE_MISSING
    assert "SWEEP: there is no sweep 'none' in ./raysched-runs\n  valid: demo" in answer.err
    assert raysched(verb, "../x").code == BAD_INPUT
    assert raysched(verb, "demo", "--storage", "empty").code == OUTSIDE_MISSING
    assert [path.name for path in tmp_path.iterdir()] == ["raysched-runs"]
    assert raysched(verb, "demo", "--nonsense").code == BAD_INPUT


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00", b'{"verb": "stop"}', b'{"sha256": "0", "verb": "stop"}'])
def test_a_damaged_request_asks_for_nothing(
    raysched: Raysched, layout: SweepLayout, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    write_atomic(requests.request_file(layout), content)
    assert not Control(layout).stop()
    assert "a request to the driver of demo is passed over" in caplog.text
    assert status(raysched)["state"] == "stopped"
    requests.ask(layout, "pause")
    assert Control(layout).paused()
