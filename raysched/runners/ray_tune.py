"""Ray Tune places and runs attempts; it remembers nothing.

Each call of `execute` is a fresh Tune run over whatever the driver still has to do. Tune's own state goes to a
private temporary folder; nothing of it is ever restored (decision 1).
"""

from __future__ import annotations

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
from raysched.runners import ray_inputs
from raysched.runners.control import Control
from raysched.runners.driver import Driver
from raysched.runners.ray_cluster import Cluster  # before ray itself: it sets what ray reads at import
from raysched.runners.worker import Worker, stop_file

from ray import cloudpickle, tune  # isort: skip
from ray.exceptions import NodeDiedError, OutOfMemoryError  # isort: skip
from ray.tune.search import Searcher  # isort: skip

logger = logging.getLogger(__name__)

GRACE_S = 4.0
"""So long workers may take to save and stop when asked; after that they are ended."""
WAIT_S = 0.5
"""Between two looks at what holds a sweep up."""
RESTARTS = 3
"""So many times an executor that broke is started again from the ledger."""


class AdapterRun(tune.Trainable):
    """One adapter run on its share of a GPU. The actor is reused: its bench stays warm from run to run."""

    def setup(self, config: dict[str, Any]) -> None:
        from raysched.runners.assignment import Assignment

        if not hasattr(self, "_worker"):
            os.environ["HF_HUB_OFFLINE"] = "1"  # preflight has fetched what is needed
            self._worker = Worker(localize=ray_inputs.localize)
        self._worker.take(Assignment.from_json(config["assignment"]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        report = self._worker.advance()
        return {
            "done": report.outcome is not None,
            "at_step": report.step,
            "of_steps": report.total,
            "outcome": report.outcome or "",
            "cause": report.cause or "",
            "message": report.message,
        }

    def cleanup(self) -> None:
        self._worker.save()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Runs keep their own checkpoints, in the sweep's storage."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""


class Hand(Searcher):
    """Hands Tune the driver's next attempt. It keeps nothing of its own, so a pickle of it is empty."""

    def __init__(self, driver: Driver, slots: int, control: Control) -> None:
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
        if len(driver.running) >= self._slots:
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


class Ends(tune.Callback):
    """Tells the driver why an attempt left its worker without a word."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = _why(trial)
        self._hand.ended(trial.trial_id, "lost", classify(error), str(error)[:500])

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _why(trial: Any) -> BaseException | None:
    """The exception that ended a trial: Tune has just written it into its private folder, and copies it only later."""
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return cloudpickle.load(file)  # type: ignore[no-any-return]


def classify(error: BaseException | None) -> str:
    """The cause of an exception that left Ray."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OutOfMemoryError):
            return "oom"
        if isinstance(seen, NodeDiedError):
            return "node_lost"
        seen = seen.__cause__ or getattr(seen, "cause", None)
    # Whole phrases: what Ray says of any dead worker speaks of memory, killing and nodes as well.
    text = str(error)
    if "running low on memory" in text:
        return "oom"
    if "its node has died" in text:
        return "node_lost"
    return "worker_lost"


class _Stopper(tune.Stopper):
    """Ends what has not stopped by itself within the grace time."""

    def __init__(self, late: Callable[[], bool]) -> None:
        self._late = late

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._late()

    def __getstate__(self) -> dict[str, Any]:
        return {}


def execute(driver: Driver, on: Cluster, control: Control) -> None:
    """Run what the driver has to do until it is done, or asked to stop; workers then save and stop.

    A pause lets the workers save and stop as well; the driver waits until it is over.

    Raises:
        StoppedError: Tune broke more often than `RESTARTS` times, or what holds the sweep up does not end.
    """
    broke = 0
    while True:
        driver.stopping = False
        if driver.done:
            return
        stop_file(driver.layout).unlink(missing_ok=True)
        try:
            _fit_once(driver, on, control)
        except RayschedError:
            raise
        except Exception as error:
            # Ray's memory monitor, for one, makes Tune raise: the ledger knows what is left to do.
            broke += 1
            logger.warning("the executor broke (%s) and is started again", type(error).__name__)
            for key in list(driver.running):
                driver.ended(key, "lost", classify(error), str(error)[:500])
            if broke > RESTARTS:
                raise StoppedError(
                    f"the executor broke {broke} times, last with {type(error).__name__}: {error}",
                    hint="look at the worker's logs; the same command continues the sweep",
                ) from error
        _wait(control)
        if control.stop():
            return


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


def _fit_once(driver: Driver, on: Cluster, control: Control) -> None:
    hand = Hand(driver, on.slots, control)
    asked_at: list[float] = []

    def late() -> bool:
        if (control.stop() or control.paused()) and not asked_at:
            asked_at.append(time.monotonic())
            files.write_atomic(stop_file(driver.layout), str(driver.ledger.epoch))
        return bool(asked_at) and time.monotonic() - asked_at[0] > GRACE_S

    bundle: dict[str, float] = {"CPU": on.cpu}
    if on.gpu:
        bundle["GPU"] = on.gpu
    if on.memory_bytes:
        bundle["memory"] = on.memory_bytes
    private = tempfile.mkdtemp(prefix="raysched-tune-")
    try:
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
                storage_path=private,
                stop=_Stopper(lambda: late() or hand.fatal is not None),
                verbose=0,
                callbacks=[Ends(hand)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()
        if hand.fatal is not None:
            raise hand.fatal
        for key in list(driver.running):  # ended by the stopper: what they saved is in their folders
            driver.ended(key, "stopped")
    finally:
        shutil.rmtree(private, ignore_errors=True)
