"""What Ray executes: one adapter run in an actor. Light to import, so that whatever is slow is watched as training."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from raysched.runners import ray_cluster  # noqa: F401  (before ray itself: it sets what ray reads at import)

import ray  # isort: skip
from ray import tune  # isort: skip

if TYPE_CHECKING:
    from raysched.runners.worker import Worker

DRAIN_LOOK_S = 5.0
"""A worker looks so often whether its node is being taken away."""


class Preempted(Exception):
    """This worker is to die, and has saved what it did: no fault of its run."""


class Spent(Exception):
    """Memory was short in this worker's process, which may stay so: no other run gets it."""


class Notice:
    """Word that this process, or its node, is about to be ended."""

    def __init__(self) -> None:
        self._asked = False
        self._looked = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler would leave in the middle of a step. A second SIGTERM still does.
            self._before = signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self._asked = True
        signal.signal(number, self._before)

    def __call__(self) -> bool:
        if not self._asked and time.monotonic() - self._looked > DRAIN_LOOK_S:
            self._looked = time.monotonic()
            self._asked = _drained()
        return self._asked


def _drained() -> bool:
    """Whether this process's node is to be taken away, as by a spot market or Kubernetes."""
    try:
        return ray.get_runtime_context().get_node_id() in ray._private.state.state.get_draining_nodes()
    except Exception:  # not a public part of Ray; without it the node's end is noticed when it comes
        return False


class AdapterRun(tune.Trainable):
    """One adapter run on its share of a GPU. The actor is reused: its bench stays warm from run to run."""

    _worker: Worker | None = None
    _notice: Notice | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing slow, and nothing that may fail: it would show as a worker that never came."""
        self._assigned: str | None = config["assignment"]
        if self._notice is None:
            self._notice = Notice()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._worker is None:  # its imports alone take seconds: a word before the next ones
            self._worker = self._new_worker()
            return {"done": False, "at_step": 0, "of_steps": 0, "outcome": "", "cause": "", "message": ""}
        if self._assigned is not None:
            from raysched.runners.assignment import Assignment

            self._worker.take(Assignment.from_json(self._assigned))
            self._assigned = None
        report = self._worker.advance()
        if report.cause == "preempted":
            # Ended by an exception, an actor is not used again: the next attempt gets another process.
            raise Preempted(f"saved at step {report.step}: {report.message}")
        if report.cause == "memory":
            raise Spent(report.message)
        return {
            "done": report.outcome is not None,
            "at_step": report.step,
            "of_steps": report.total,
            "outcome": report.outcome or "",
            "cause": report.cause or "",
            "message": report.message,
        }

    def _new_worker(self) -> Worker:
        os.umask(0o077)  # what it writes is its owner's alone
        os.environ["HF_HUB_OFFLINE"] = "1"  # preflight has fetched what is needed
        from raysched.runners import preflight, ray_inputs
        from raysched.runners.worker import Worker

        os.environ.pop(preflight.UNSAFE, None)  # of another machine, which nobody could refuse
        assert self._notice is not None
        return Worker(localize=ray_inputs.localize, preempted=self._notice)

    def cleanup(self) -> None:
        if self._worker is not None:
            self._worker.save()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Runs keep their own checkpoints, in the sweep's storage."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""
