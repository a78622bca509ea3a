"""The tiny runs of `--smoke` on the cluster: each begins in one worker process and is finished in another."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from raysched.errors import Interrupted
from raysched.records import files
from raysched.records.layout import SweepLayout
from raysched.runners import ray_inputs, smoke
from raysched.runners.assignment import Assignment
from raysched.runners.control import AGAIN
from raysched.runners.ray_cluster import Cluster
from raysched.runners.ray_ends import classify
from raysched.runners.signals import interrupted_by, signals
from raysched.runners.smoke import Part, Place, Smoked, Smoker
from raysched.study.identity import Resolved
from raysched.study.model import Study

import ray  # isort: skip
from ray.exceptions import RayError  # isort: skip

LIMIT_S = 1800.0
"""One part of a tiny run that takes longer is taken to hang."""
LOOK_S = 0.5
CLEAN_S = 30.0
What = Literal["begin", "finish"]
WHAT: tuple[What, ...] = ("begin", "finish")


class _Worker(Smoker):
    def __init__(self) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # preflight has fetched what is needed
        super().__init__(localize=ray_inputs.localize)

    def part(self, what: What, one: Assignment, order: str | None) -> Part:
        """`order` is the recorded order of the tiny run, for machines that do not see the driver's file."""
        recorded = one.spec.resolved.replay
        if order is not None and recorded is not None and recorded.path and not Path(recorded.path).exists():
            files.make_folder(Path(recorded.path).parent)
            files.write_atomic(Path(recorded.path), order)
        return self.begin(one) if what == "begin" else self.finish(one)

    def clean(self, place: Place) -> None:
        place.clear_here()


class _Process:
    """One worker process with a run's resources; a new one takes the place of one that died."""

    def __init__(self, on: Cluster, asked: Callable[[], int]) -> None:
        self._asked = asked
        self._actor: Any = None
        options: dict[str, Any] = {"num_cpus": on.cpu, "num_gpus": on.gpu, "max_restarts": 0, "max_task_retries": 0}
        if on.memory_bytes:
            options["memory"] = on.memory_bytes
        self._new: Any = ray.remote(**options)(_Worker)

    def part(self, what: What, assignment: Assignment) -> Part:
        """Raises Interrupted."""
        if self._actor is None:
            self._actor = self._new.remote()
        recorded = assignment.spec.resolved.replay if assignment.spec.point.schedule == "replay" else None
        order = Path(recorded.path).read_text() if recorded is not None and recorded.path else None
        pending = self._actor.part.remote(what, assignment, order)
        until = time.monotonic() + LIMIT_S
        while not ray.wait([pending], timeout=LOOK_S)[0]:
            if code := self._asked():
                raise Interrupted(f"stopped by {interrupted_by(code)}; nothing was begun", exit_code=code, hint=AGAIN)
            if time.monotonic() > until:
                self.drop()
                return Part(cause="hang", message=f"no end within {LIMIT_S / 60:.0f} min")
        try:
            return ray.get(pending)  # type: ignore[no-any-return]
        except RayError as error:
            self.drop()
            return Part(cause=classify(error), message=str(error).strip().splitlines()[0][:300])

    def drop(self, place: Place | None = None) -> None:
        """End the process as kill -9 does; before that it clears its machine where `place` is given."""
        if self._actor is not None:
            with contextlib.suppress(RayError):
                if place is not None:
                    ray.get(self._actor.clean.remote(place), timeout=CLEAN_S)
            ray.kill(self._actor)
            self._actor = None


def run(
    study: Study, resolved: Resolved, on: Cluster, layout: SweepLayout, stage: Callable[[str], None]
) -> list[Smoked]:
    """The tiny run of every schedule and method of the study, in a place of the sweep's storage that is cleared.

    Raises:
        StudyError, MissingError: a tiny study cannot be made of this one.
        Interrupted: Ctrl-C or SIGTERM.
    """
    chosen = smoke.chosen(study.search)
    place = Place.beside(layout)
    parts: list[list[Part]] = [[] for _ in chosen]
    process = None
    try:
        specs = [smoke.tiny(study, resolved, point, place.here) for point in chosen]
        with signals() as asked:
            for number, what in enumerate(WHAT, start=1):
                process = _Process(on, asked)
                for point, spec, done in zip(chosen, specs, parts, strict=True):
                    if any(part.cause for part in done):
                        continue
                    verb = "begins" if what == "begin" else "goes on in another process"
                    stage(f"smoke: {point.schedule} ({point.method}) {verb}")
                    done.append(process.part(what, smoke.assignment(spec, place.storage, number)))
                process.drop(place if place.remote else None)
    finally:
        if process is not None:
            process.drop()
        place.clear()
    return [
        Smoked(schedule=point.schedule, method=point.method, parts=tuple(done))
        for point, done in zip(chosen, parts, strict=True)
    ]
