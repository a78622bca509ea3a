"""Why attempts ended, who hangs, and how many may run: with a clock of the test's own, and without a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import exceptions

from raysched.errors import RunError
from raysched.runners import ray_ends
from raysched.runners.policy import RULES
from raysched.runners.ray_cluster import OWNER, Slots, _fitting, sweep_up
from raysched.runners.ray_ends import Ends, Lost, Watchdog, classify, one_loss_ends_one_trial
from raysched.runners.ray_run import Preempted

KNOWN = {
    "oom": ["OutOfMemoryError"],
    "node_lost": [
        *("NodeDiedError", "LocalRayletDiedError", "ActorUnavailableError", "ActorUnschedulableError"),
        *("TaskUnschedulableError", "ActorPlacementGroupRemoved", "TaskPlacementGroupRemoved", "RpcError"),
        *("ObjectLostError", "ObjectFetchTimedOutError", "ReferenceCountingAssertionError", "ObjectFreedError"),
        *("OwnerDiedError", "ObjectReconstructionFailedError"),
    ],
    "storage": ["OutOfDiskError", "ObjectStoreFullError"],
    "worker_lost": ["RayActorError", "ActorDiedError", "WorkerCrashedError"],
    "code": ["RayTaskError", "UserCodeException"],
}
"""Cause -> exceptions of Ray; all others are `unknown`."""
CAUSES = {name: cause for cause, names in KNOWN.items() for name in names}


def kinds() -> list[type[BaseException]]:
    """Every exception that Ray has."""
    found = [value for value in vars(exceptions).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, BaseException) and value.__module__ == "ray.exceptions"]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_exception_of_ray_has_a_cause(kind: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    error = kind.__new__(kind)
    vars(error).update(_preempted=False)
    monkeypatch.setattr(kind, "__str__", lambda self: "what it says", raising=False)
    cause = classify(error)
    assert cause == CAUSES.get(kind.__name__, "unknown")
    assert cause in RULES
    assert cause in RunError.CAUSES


def test_no_exception_was_forgotten() -> None:
    assert CAUSES.keys() <= {kind.__name__ for kind in kinds()}


class Manager:
    """What of Ray's actor manager is asked here."""

    def __init__(self) -> None:
        self.seen: list[Exception] = []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (exceptions.OutOfMemoryError("killed"), "oom"),
        (exceptions.ObjectLostError("1", None, ""), "node_lost"),
        (exceptions.RaySystemError("broken"), "unknown"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else one,
)
def test_what_tune_does_not_know_ends_one_trial(error: Exception, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager: Any = Manager()
    monkeypatch.setattr(
        ray_ends.RayActorManager, "_actor_task_failed", lambda self, task, exception: self.seen.append(exception)
    )
    plain = ray_ends.RayActorManager._actor_task_failed
    with one_loss_ends_one_trial():
        for one in (error, exceptions.ActorDiedError()):
            ray_ends.RayActorManager._actor_task_failed(manager, None, one)
    assert ray_ends.RayActorManager._actor_task_failed is plain
    lost, died = manager.seen
    assert isinstance(lost, exceptions.RayActorError)
    assert isinstance(died, exceptions.ActorDiedError)
    again = ray.cloudpickle.loads(ray.cloudpickle.dumps(lost))
    assert classify(lost) == classify(again) == cause
    assert type(error).__name__ in str(again)


def test_a_preempted_worker_is_told_apart() -> None:
    error = exceptions.RayTaskError("step", "traceback", Preempted("saved at step 3")).as_instanceof_cause()
    assert classify(error) == "preempted"
    assert classify(exceptions.ActorDiedError()) == "worker_lost"
    node = exceptions.RayActorError(preempted=True)
    assert classify(node) == "preempted"


def test_silence_is_measured_from_the_last_word() -> None:
    now = [0.0]
    dog = Watchdog(300, lambda: now[0])
    dog.began("a")
    now[0] = 299
    dog.began("a")  # seen again is no word
    assert dog.hung() == {}
    now[0] = 301
    assert dog.hung() == {"a": 301}  # nothing was heard of it at all
    dog.heard("a", trains=True)
    dog.began("b")
    now[0] = 700
    dog.left("b")
    assert dog.hung() == {"a": 399}


def test_slow_words_make_it_patient() -> None:
    now = [0.0]
    dog = Watchdog(10, lambda: now[0])
    dog.began("a")
    for _ in range(10):
        now[0] += 8
        dog.heard("a", trains=True)
    now[0] += 39
    assert dog.hung() == {}
    now[0] += 2  # five times eight is over
    assert dog.hung() == {"a": 41}
    assert Watchdog(None, lambda: now[0]).hung() == {}


def test_a_worker_may_take_a_minute_to_start() -> None:
    now = [0.0]
    dog = Watchdog(5, lambda: now[0])
    dog.began("a")
    now[0] = 40
    dog.heard("a", trains=False)  # it has a worker, and now loads its model
    now[0] = 99
    assert dog.hung() == {}
    now[0] = 101
    assert dog.hung() == {"a": 61}
    dog.heard("a", trains=True)
    now[0] = 107
    assert dog.hung() == {"a": 6}


class Trial:
    def __init__(self, trial_id: str, actor: object) -> None:
        self.trial_id, self.pickled_error_file = trial_id, None
        self.temporary_state = self
        self.ray_actor = actor


def test_a_silent_worker_is_killed_once_and_its_attempt_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now, killed, told, late = [0.0], [], [], [False]
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(ray_ends.time, "monotonic", lambda: now[0])

    class Tell:
        def ended(self, *what: Any) -> None:
            told.append(what)

    callback = Ends(Tell(), Watchdog(300, lambda: now[0]), lambda: late[0])
    trials = [Trial("a", "actor of a"), Trial("b", "actor of b"), Trial("c", None)]

    def look(at: float) -> None:
        while now[0] < at:
            now[0] = min(now[0] + 1, at)
            callback.on_step_begin(1, trials)

    look(2)
    look(200)
    callback.on_trial_result(1, trials, trials[1], {"at_step": 3})
    look(301)
    assert killed == []
    look(303)
    assert killed == ["actor of a"]
    callback.on_trial_error(1, trials, trials[0])
    assert told == [("a", "lost", "hang", "its worker said nothing for 301 s (budget.hang_s), and was killed")]
    trials[0].ray_actor = None
    late[0] = True
    look(306)
    assert killed == ["actor of a", "actor of b"]
    callback.on_trial_error(1, trials, trials[1])
    assert told[1][:3] == ("b", "stopped", None)
    assert Ends.__getstate__(callback) == {}


def test_a_driver_that_was_held_up_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database was away for ten minutes: it heard nobody, but nobody was silent."""
    now, killed = [0.0], []
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(ray_ends.time, "monotonic", lambda: now[0])
    callback = Ends(None, Watchdog(300, lambda: now[0]))
    trials = [Trial("a", "actor of a")]
    for at in (2.0, 3.0, 603.0, 604.0, 605.0):
        now[0] = at
        callback.on_step_begin(1, trials)
    assert killed == []
    while now[0] < 905:
        now[0] += 1
        callback.on_step_begin(1, trials)
    assert killed == ["actor of a"]


def test_the_slots_follow_the_cluster() -> None:
    now, found, said = [0.0], [2], []
    slots = Slots(lambda: found[0], 1, say=said.append, clock=lambda: now[0])
    assert slots() == 1  # as counted at the start
    now[0] = 3
    assert slots() == 2
    found[0] = 0
    assert slots() == 2
    now[0] = 6
    assert slots() == 0
    now[0], found[0] = 9, 3
    assert slots() == 3
    assert said[0] == "2 runs at a time from here"
    assert said[1].startswith("no machine of the cluster has room for a run; waiting for one since 20")
    assert said[2] == "3 runs at a time from here"


def test_a_head_that_does_not_answer_changes_no_slots() -> None:
    now = [0.0]

    def away() -> int:
        raise exceptions.RpcError("no answer")

    slots = Slots(away, 4, clock=lambda: now[0])
    now[0] = 10
    assert slots() == 4


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        ({"CPU": 1.0, "GPU": 0.0, "memory": 0.0}, 6),
        ({"CPU": 1.0, "GPU": 0.5, "memory": 0.0}, 4),
        ({"CPU": 3.0, "GPU": 0.0, "memory": 0.0}, 1),
        ({"CPU": 1.0, "GPU": 0.0, "memory": 4e9}, 2),
        ({"CPU": 0.1, "GPU": 0.1, "memory": 0.0}, 20),
    ],
)
def test_runs_fit_on_single_nodes(wanted: dict[str, float], fitting: int) -> None:
    nodes: list[dict[str, float]] = [{"CPU": 4, "GPU": 2, "memory": 8e9}, {"CPU": 2, "memory": 1e9}]
    assert _fitting(nodes, wanted) == fitting


def test_what_killed_drivers_left_is_swept_up(tmp_path: Path) -> None:
    for name, pid in (("raysched-tune-dead", 2**22 + 1), ("raysched-tune-alive", os.getpid()), ("other", 2**22 + 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / OWNER).write_text(str(pid))
    (tmp_path / "raysched-tune-nobodys").mkdir()
    sweep_up(tmp_path, "raysched-tune-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "raysched-tune-alive", "raysched-tune-nobodys"]


def test_a_lost_actor_says_what_was_lost() -> None:
    assert str(Lost(exceptions.RaySystemError("no more"))).startswith("RaySystemError: System error: no more")
