"""How attempts leave their workers without a word: why, as a cause, and who notices those that never say anything."""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from raysched.runners import ray_cluster  # noqa: F401  (before ray itself: it sets what ray reads at import)
from raysched.runners.ray_run import Preempted, Spent

import ray  # isort: skip
from ray import cloudpickle, exceptions, tune  # isort: skip
from ray.air.execution._internal.actor_manager import RayActorManager  # isort: skip

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks for attempts that hang."""
DEAF_S = 5.0
"""Looks so far apart: the driver did something else, and did not listen to anybody."""
MEDIANS = 5.0
"""An attempt may be silent for so many times the median silence, however short the study's limit."""
GAPS = (10, 999)
"""The median is that of so many silences, at least and at most."""
START_S = 60.0
"""An attempt may be silent for so long before its first step, however short the study's limit: a worker starts cold."""
CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (Preempted, "preempted"),
    (Spent, "memory"),
    (exceptions.OutOfMemoryError, "oom"),
    (exceptions.NodeDiedError, "node_lost"),
    (exceptions.LocalRayletDiedError, "node_lost"),
    (exceptions.ActorUnavailableError, "node_lost"),  # perhaps it lives: epoch and attempt make that harmless
    (exceptions.ActorUnschedulableError, "node_lost"),
    (exceptions.TaskUnschedulableError, "node_lost"),
    (exceptions.ActorPlacementGroupRemoved, "node_lost"),
    (exceptions.TaskPlacementGroupRemoved, "node_lost"),
    (exceptions.ObjectLostError, "node_lost"),
    (exceptions.RpcError, "node_lost"),
    (exceptions.OutOfDiskError, "storage"),
    (exceptions.ObjectStoreFullError, "storage"),
    (exceptions.RayActorError, "worker_lost"),
    (exceptions.WorkerCrashedError, "worker_lost"),
    (exceptions.RayTaskError, "code"),
    (exceptions.UserCodeException, "code"),
)
"""Exceptions that leave Ray, the first that fits; whatever is not here is `unknown`."""


def classify(error: BaseException | None) -> str:
    """The cause of an exception that left Ray; `unknown` where nothing is known of it."""
    text = str(error)
    # Whole phrases: what Ray says of any dead worker speaks of memory, killing and nodes as well.
    if "running low on memory" in text:
        return "oom"
    if "its node has died" in text:
        return "node_lost"
    if any(isinstance(one, exceptions.RayActorError) and one.preempted for one in _chain(error)):
        return "preempted"
    found = [
        next((rank for rank, (kind, _) in enumerate(CAUSES) if isinstance(one, kind)), len(CAUSES))
        for one in _chain(error)
    ]
    best = min(found, default=len(CAUSES))
    return CAUSES[best][1] if best < len(CAUSES) else "unknown"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those behind it."""
    seen: list[int] = []
    while isinstance(error, BaseException) and id(error) not in seen:
        if not isinstance(error, Lost):  # says nothing of its own
            yield error
        seen.append(id(error))
        error = error.__cause__ or getattr(error, "cause", None)


class Lost(exceptions.RayActorError):
    """What Ray says of one actor, in the only form in which Tune ends one trial for it, and not all of them."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error_msg=f"{type(error).__name__}: {error}")
        self.cause = error

    def __reduce__(self) -> tuple[Any, ...]:
        return Lost, (self.cause,)


@contextlib.contextmanager
def one_loss_ends_one_trial() -> Iterator[None]:
    """Tune raises out of its loop at any exception of an actor it does not know, such as the memory monitor's."""
    plain = RayActorManager._actor_task_failed

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> Any:
        if not isinstance(exception, (exceptions.RayActorError, exceptions.RayTaskError)):
            exception = Lost(exception)
        return plain(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = plain  # type: ignore[method-assign]


class Watchdog:
    """Knows how long each attempt has been silent. Every time is that of a monotonic clock."""

    def __init__(self, limit_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s` is the study's `budget.hang_s`; None: no attempt ever hangs."""
        self._limit_s, self._clock = limit_s, clock
        self._heard: dict[str, float] = {}
        self._gaps: deque[float] = deque(maxlen=GAPS[1])
        self._trains: set[str] = set()

    def began(self, trial_id: str) -> None:
        """It has a worker; its silence counts from the first time this is said."""
        self._heard.setdefault(trial_id, self._clock())

    def heard(self, trial_id: str, *, trains: bool) -> None:
        """`trains`: it has done a step."""
        now = self._clock()
        if trial_id in self._heard:
            self._gaps.append(now - self._heard[trial_id])
        self._heard[trial_id] = now
        if trains:
            self._trains.add(trial_id)

    def deaf(self, seconds: float) -> None:
        """The driver itself was held up so long, by its database or its disk: no attempt could be heard."""
        now = self._clock()
        self._heard = {trial_id: min(now, heard + seconds) for trial_id, heard in self._heard.items()}

    def left(self, trial_id: str) -> None:
        self._heard.pop(trial_id, None)
        self._trains.discard(trial_id)

    def hung(self) -> dict[str, float]:
        """trial_id -> seconds, of those that were silent for too long."""
        if self._limit_s is None:
            return {}
        usual = statistics.median(self._gaps) if len(self._gaps) >= GAPS[0] else 0.0
        limit, now = max(self._limit_s, MEDIANS * usual), self._clock()
        silent = {trial_id: now - heard for trial_id, heard in self._heard.items()}
        return {
            trial_id: seconds
            for trial_id, seconds in silent.items()
            if seconds > (limit if trial_id in self._trains else max(limit, START_S))
        }


class Told(Protocol):
    """Who is told how attempts end."""

    def ended(self, trial_id: str, outcome: str, cause: str | None, message: str) -> None: ...


class Ends(tune.Callback):
    """Tells why an attempt left its worker without a word, and ends those that hang or do not stop in time."""

    def __init__(self, told: Told, watchdog: Watchdog, late: Callable[[], bool] = lambda: False) -> None:
        """`late`: workers were asked to stop, and their time for that is over."""
        self._told, self._watchdog, self._late = told, watchdog, late
        self._killed: dict[str, tuple[str, str | None, str]] = {}
        self._looked = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if (passed := time.monotonic() - self._looked) < LOOK_S:
            return
        self._looked = time.monotonic()
        if passed > DEAF_S:
            self._watchdog.deaf(passed - DEAF_S)
        # A reused actor has its trial before the trial has begun: one that hangs in between is seen as well.
        there = {trial.trial_id: trial for trial in trials if trial.temporary_state.ray_actor is not None}
        for trial_id in there:
            self._watchdog.began(trial_id)
        if self._late():
            for trial in there.values():
                self._kill(trial, "stopped", None, "its worker was busy for longer than a stop waits, and was ended")
        for trial_id, seconds in self._watchdog.hung().items():
            if trial_id in there:
                text = f"its worker said nothing for {seconds:.0f} s (budget.hang_s), and was killed"
                self._kill(there[trial_id], "lost", "hang", text)

    def _kill(self, trial: Any, outcome: str, cause: str | None, text: str) -> None:
        """Ray's end of the actor, which a stopped or endless process cannot refuse; Tune then sees the trial fail."""
        if trial.trial_id not in self._killed:
            self._killed[trial.trial_id] = (outcome, cause, text)
            ray.kill(trial.temporary_state.ray_actor)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self._watchdog.heard(trial.trial_id, trains=int(result["at_step"]) > 0)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watchdog.left(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watchdog.left(trial.trial_id)
        killed = self._killed.get(trial.trial_id)
        outcome, cause, text = killed if killed is not None else _how(_why(trial))
        self._told.ended(trial.trial_id, outcome, cause, text)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _how(error: BaseException | None) -> tuple[str, str | None, str]:
    cause = classify(error)
    *_, inner = (None, *_chain(error))  # the outer ones are wrapped around it, with a traceback
    text = f"{type(inner).__name__}: {inner}"[:1000] if inner is not None else "no reason given"
    return "stopped" if cause == "preempted" else "lost", cause, text


def _why(trial: Any) -> BaseException | None:
    """The exception that ended a trial: Tune has just written it into its private folder, and copies it only later."""
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return cloudpickle.load(file)  # type: ignore[no-any-return]
