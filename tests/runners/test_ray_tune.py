"""What stands between Tune and the driver, without a cluster: who is handed what, and why attempts ended."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError
from ray.tune.search import Searcher

from raysched.errors import StoppedError
from raysched.records.entries import AttemptEnded
from raysched.records.ledger import Ledger
from raysched.runners.control import Control
from raysched.runners.driver import Assignment
from raysched.runners.policy import again
from raysched.runners.ray_ends import Ends, Watchdog, classify
from raysched.runners.ray_tune import Hand, _Stopper
from tests.runners.bed import Bed, claim

NewBed = Callable[..., Bed]


WORKER_DIED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR. Some common causes: "
    "(1) the process was killed by the OOM killer due to high memory usage, (2) ... If the process was killed by the "
    "kernel OOM killer (verifiable by checking for OOM in dmesg of the OOMing node), ... to prevent node deaths"
)
"""What Ray says of any worker that died."""


class Died(ActorDiedError):
    """With a text of ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text


def caused_by(error: Exception) -> Exception:
    outer = RuntimeError("the trial failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OutOfMemoryError("killed"), "oom"),
        (caused_by(OutOfMemoryError("killed")), "oom"),
        (RuntimeError("Task was killed due to the node running low on memory."), "oom"),
        (NodeDiedError("gone"), "node_lost"),
        (RayTaskError("f", "traceback", NodeDiedError("gone")), "node_lost"),
        (Died("The actor died because its node has died. Node Id: 12"), "node_lost"),
        (Died(WORKER_DIED), "worker_lost"),
        (ActorDiedError(), "worker_lost"),
        (RuntimeError("anything else"), "unknown"),
        (None, "unknown"),
    ],
    ids=str,
)
def test_why_an_attempt_was_lost(error: Exception | None, cause: str) -> None:
    assert classify(error) == cause
    assert again(cause, 1, 3)


def assigned(suggestion: Any) -> Assignment:
    assert isinstance(suggestion, dict)
    return Assignment.from_json(suggestion["assignment"])


def test_the_hand_gives_one_attempt_to_a_slot(new_bed: NewBed) -> None:
    bed = new_bed(search__schedule=["standard"])
    driver = bed.driver()
    hand = Hand(driver, lambda: 1, Control(bed.layout))
    first = assigned(hand.suggest("t1"))
    assert hand.suggest("t2") is None  # no slot now, perhaps later
    hand.on_trial_result("t1", {"at_step": 3, "of_steps": 10})
    assert (driver.running[first.key].step, driver.running[first.key].total) == (3, 10)
    claim(first)
    hand.on_trial_complete("t1", {"outcome": "finished", "cause": "", "message": ""})
    second = assigned(hand.suggest("t2"))
    assert second.spec.seed == 1
    claim(second)
    hand.on_trial_complete("t2", {"outcome": "finished"})
    assert hand.suggest("t3") == Searcher.FINISHED
    bed.check_whole()


def test_a_lost_attempt_is_told_once_with_its_cause(new_bed: NewBed, tmp_path: Path) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1)
    driver = bed.driver()
    hand = Hand(driver, lambda: 1, Control(bed.layout))
    ends = Ends(hand, Watchdog(None))
    assigned(hand.suggest("t1"))
    error = tmp_path / "error.pkl"
    error.write_bytes(ray.cloudpickle.dumps(NodeDiedError("gone")))
    ends.on_trial_error(1, [], SimpleNamespace(trial_id="t1", pickled_error_file=str(error)))
    hand.on_trial_complete("t1", error=True)
    again = assigned(hand.suggest("t2"))
    assert again.number == 2
    (end,) = [entry for entry in bed.entries() if isinstance(entry, AttemptEnded)]
    assert (end.outcome, end.cause) == ("lost", "node_lost")


def test_an_attempt_that_ends_without_a_word_was_stopped(new_bed: NewBed) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1, budget__attempts=1)
    hand = Hand(bed.driver(), lambda: 1, Control(bed.layout))
    assigned(hand.suggest("t1"))
    hand.on_trial_complete("t1")
    assert assigned(hand.suggest("t2")).number == 2  # and cost no attempt


def test_a_driver_that_lost_the_sweep_ends_the_executor(new_bed: NewBed) -> None:
    bed = new_bed()
    hand = Hand(bed.driver(), lambda: 1, Control(bed.layout))
    assigned(hand.suggest("t1"))
    Ledger.take_over(bed.layout.ledger, host="there", pid=2).close()
    hand.on_trial_complete("t1", {"outcome": "failed", "cause": "code"})
    assert isinstance(hand.fatal, StoppedError)
    assert hand.suggest("t2") == Searcher.FINISHED
    assert bed.records() == []


def test_a_stop_ends_the_handing_out(new_bed: NewBed) -> None:
    bed, asked = new_bed(), [False]
    driver = bed.driver()
    hand = Hand(driver, lambda: 2, Control(bed.layout, lambda: asked[0]))
    first = assigned(hand.suggest("t1"))
    asked[0] = True
    assert hand.suggest("t2") is None  # the first one is still saving
    driver.ended(first.key, "stopped")
    assert hand.suggest("t2") == Searcher.FINISHED
    asked[0] = False
    assert hand.suggest("t2") == Searcher.FINISHED  # a stop is not taken back


def test_nothing_of_the_driver_is_ever_pickled(new_bed: NewBed) -> None:
    driver = new_bed().driver()
    hand = Hand(driver, lambda: 2, Control(driver.layout))
    for thing in (hand, Ends(hand, Watchdog(None)), _Stopper(lambda: 0.0)):
        assert b"ledger" not in pickle.dumps(thing)
        assert thing.__getstate__() == {}


def test_an_assignment_holds_no_secret(new_bed: NewBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assignment = new_bed().driver().next()
    assert assignment is not None
    assert "hf_secret" not in assignment.to_json()
    assert json.loads(assignment.to_json()).keys() == {"spec", "epoch", "number", "sweep", "storage", "late"}
