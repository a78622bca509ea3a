"""Ray Tune places and runs attempts; it remembers nothing.

Each call of `execute` is a fresh Tune run over whatever the driver still has to do. Tune's own state goes to a
private temporary folder; nothing of it is ever restored (decision 1).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysched.errors import RayschedError, StoppedError
from raysched.records import files
from raysched.runners.control import Control
from raysched.runners.driver import Driver
from raysched.runners.ray_cluster import OWNER, Cluster, Slots, sweep_up  # before ray itself: it sets what ray reads
from raysched.runners.ray_ends import Ends, Watchdog, classify, one_loss_ends_one_trial
from raysched.runners.ray_run import AdapterRun
from raysched.runners.worker import stop_file

from ray import tune  # isort: skip
from ray.tune.execution import class_cache  # isort: skip
from ray.tune.search import Searcher  # isort: skip

# Tune would hand the driver's keys to its actors by way of the cluster's own logs; nodes have keys of their own.
class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}

logger = logging.getLogger(__name__)

SEEN_S = 2.5
"""A worker that still speaks so long after it was asked does not see the file that asks: Tune stops it."""
GRACE_S = 4.0
"""So long workers may take to save and stop when asked; after that they are ended."""
LEAVE_S = 2.0
"""After so much more the executor leaves, whatever it still waits for."""
WAIT_S = 0.5
"""Between two looks at what holds a sweep up."""
RESTARTS = 3
RESTARTS_S = 3600.0
"""An executor that broke is started again from the ledger, so many times in so many seconds."""
PRIVATE = "raysched-tune-"


class Hand(Searcher):
    """Hands Tune the driver's next attempt. It keeps nothing of its own, so a pickle of it is empty."""

    def __init__(self, driver: Driver, slots: Callable[[], int], control: Control) -> None:
        """`slots` says how many runs may be out now."""
        super().__init__(metric="at_step", mode="max")
        self._driver, self._slots, self._control = driver, slots, control
        self.keys: dict[str, str] = {}
        self.fatal: RayschedError | None = None

    def suggest(self, trial_id: str) -> Any:
        if self.fatal is not None:
            return Searcher.FINISHED
        try:
            return self._next(trial_id)
        except RayschedError as error:  # the ledger is full or another driver's: Tune would only wrap it
            self.fatal = error
            return Searcher.FINISHED

    def _next(self, trial_id: str) -> Any:
        driver, control = self._driver, self._control
        driver.stopping = driver.stopping or control.stop() or control.paused()
        if driver.done:
            return Searcher.FINISHED
        if control.held() is not None:
            return None if driver.running else Searcher.FINISHED
        if len(driver.running) >= self._slots():
            return None
        assignment = driver.next()
        if assignment is None:
            return Searcher.FINISHED if driver.done else None
        self.keys[trial_id] = assignment.key
        return {"assignment": assignment.to_json()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._driver.progress(self.keys[trial_id], int(result["at_step"]), int(result["of_steps"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            return  # `Ends.on_trial_error` knows why
        result = result or {}
        outcome = result.get("outcome") or "stopped"
        self.ended(trial_id, outcome, result.get("cause") or None, result.get("message", ""))

    def ended(self, trial_id: str, outcome: str, cause: str | None, message: str) -> None:
        """Tell the driver how an attempt left its worker."""
        try:
            self._driver.ended(self.keys[trial_id], outcome, cause, message)
        except RayschedError as error:
            self.fatal = self.fatal or error

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Stopper(tune.Stopper):
    """Ends trials whose workers did not see that they were asked to stop, and at last the whole Tune run."""

    def __init__(self, asked_for: Callable[[], float], broken: Callable[[], bool] = lambda: False) -> None:
        """`asked_for`: seconds since workers were asked to stop."""
        self._asked_for, self._broken = asked_for, broken

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._asked_for() > SEEN_S  # its actor saves as it is cleaned up

    def stop_all(self) -> bool:
        return self._asked_for() > GRACE_S + LEAVE_S or self._broken()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Asked:
    """Asks workers to save and stop when the driver is to stop or to pause, and counts the time since."""

    def __init__(self, driver: Driver, control: Control, clock: Callable[[], float] = time.monotonic) -> None:
        self._driver, self._control, self._clock = driver, control, clock
        self._at: float | None = None

    def since(self) -> float:
        """Seconds since workers were asked; 0 before that. Once asked, they are not told to go on."""
        if self._at is None and (self._control.stop() or self._control.paused()):
            self._at = self._clock()
            files.write_atomic(stop_file(self._driver.layout), str(self._driver.ledger.epoch))
            with contextlib.suppress(OSError, RayschedError):  # a store that is away: workers are ended a little later
                self._driver.layout.push(stop_file(self._driver.layout))
        return self._clock() - self._at if self._at is not None else 0.0


def execute(driver: Driver, on: Cluster, control: Control, say: Callable[[str], object] = logger.warning) -> None:
    """Run what the driver has to do until it is done, or asked to stop; workers then save and stop.

    A pause lets the workers save and stop as well; the driver waits until it is over. `say` takes what the user
    should know meanwhile, a line each.

    Raises:
        StoppedError: Tune broke more often than `RESTARTS` times an hour, or what holds the sweep up does not end.
    """
    sweep_up(Path(tempfile.gettempdir()), PRIVATE)

    def ask() -> None:
        if on.wish is not None:
            on.wish.want(driver.left)

    slots = Slots(on.now, on.slots, say=say, looking=ask)
    broke: list[float] = []
    while True:
        driver.stopping = False
        if driver.done:
            return
        _wait(control)
        if control.stop():
            return
        stop_file(driver.layout).unlink(missing_ok=True)
        driver.layout.push(stop_file(driver.layout))
        try:
            _fit_once(driver, on, slots, control)
        except RayschedError:
            raise
        except Exception as error:
            now = time.monotonic()
            broke = [*(at for at in broke if now - at < RESTARTS_S), now]
            say(f"the executor broke ({type(error).__name__}: {str(error)[:200]}) and is started again")
            cause = classify(error)
            for key in list(driver.running):  # no fault of theirs, unless the cause is one that runs have
                driver.ended(key, "stopped" if cause == "unknown" else "lost", cause, str(error)[:500])
            if len(broke) > RESTARTS:
                raise StoppedError(
                    f"the executor broke {len(broke)} times within an hour, last with {type(error).__name__}: {error}",
                    hint="look at the worker's logs; the same command continues the sweep",
                ) from error


def _wait(control: Control) -> None:
    """While nothing runs: until a pause is over, or what holds the sweep up ends.

    Raises what makes the driver leave.
    """
    while not control.stop():
        held = control.held()
        if held is not None and held.leave:
            raise held.why
        if held is None and not control.paused():
            return
        time.sleep(WAIT_S)


def _fit_once(driver: Driver, on: Cluster, slots: Callable[[], int], control: Control) -> None:
    hand = Hand(driver, slots, control)
    asked = Asked(driver, control)
    ends = Ends(hand, Watchdog(driver.study.budget.hang_s), lambda: asked.since() > GRACE_S)
    bundle: dict[str, float] = {"CPU": on.cpu}
    if on.gpu:
        bundle["GPU"] = on.gpu
    if on.memory_bytes:
        bundle["memory"] = on.memory_bytes
    private = Path(tempfile.mkdtemp(prefix=PRIVATE))
    (private / OWNER).write_text(str(os.getpid()))
    try:
        with one_loss_ends_one_trial():
            tune.Tuner(
                tune.with_resources(AdapterRun, tune.PlacementGroupFactory([bundle])),
                tune_config=tune.TuneConfig(
                    search_alg=hand,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: trial.trial_id,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=str(private),
                    stop=_Stopper(asked.since, lambda: hand.fatal is not None),
                    verbose=0,
                    callbacks=[ends],
                    # Runs keep their own; Tune's would go to the driver's private folder, which other machines lack.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            ).fit()
        if hand.fatal is not None:
            raise hand.fatal
        for key in list(driver.running):  # ended by the stopper: what they saved is in their folders
            driver.ended(key, "stopped")
    finally:
        shutil.rmtree(private, ignore_errors=True)
