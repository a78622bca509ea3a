"""Backbones, adapters and data for workers on machines that have none of them: through Ray's object store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from raysched.errors import RunError
from raysched.runners import (
    inputs,
    ray_cluster,  # noqa: F401  (before ray itself: it sets what ray reads at import)
)
from raysched.runners.inputs import Entry
from raysched.study.identity import Resolved

import ray  # isort: skip
from ray.exceptions import RayError, RayTaskError  # isort: skip
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # isort: skip

SERVER = "raysched-inputs"
"""Name of the actor that hands inputs out; it lives in the namespace of its driver's job alone."""
THREADS = 4
ANSWER_S = 120.0
"""So long one answer may take: the first one about an input reads it through."""


class Server(inputs.Shelf):
    """The driver's shelf, in a process on the driver's machine."""

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


class Remote:
    """The driver's shelf, seen from a worker."""

    def __init__(self, actor: ray.actor.ActorHandle) -> None:
        self._actor = actor

    def _ask(self, method: str, *arguments: object) -> object:
        try:
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=ANSWER_S)
        except RayTaskError as error:
            raise RunError(f"the driver's machine cannot read an input: {error.cause}", cause="storage") from error
        except (RayError, TimeoutError) as error:
            raise RunError(
                f"the driver's machine does not hand out inputs: {type(error).__name__}", cause="node_lost"
            ) from error

    def node(self) -> str:
        return str(self._ask("node"))

    def listing(self, key: str) -> list[Entry]:
        return self._ask("listing", key)  # type: ignore[return-value]

    def read(self, key: str, name: str, offset: int) -> bytes:
        return self._ask("read", key, name, offset)  # type: ignore[return-value]


@contextlib.contextmanager
def offered(resolved: Resolved) -> Iterator[None]:
    """While the block lasts, workers of other machines may fetch these inputs from this one.

    Nothing is read before one asks.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = (
        ray.remote(Server)
        .options(name=SERVER, num_cpus=0, max_restarts=-1, max_concurrency=THREADS, scheduling_strategy=here)
        .remote(inputs.held(resolved))
    )
    try:
        yield
    finally:
        with contextlib.suppress(RayError):
            ray.kill(actor)


def localize(resolved: Resolved) -> Resolved:
    """The same inputs, at paths that exist on this machine; fetched where they are not there yet.

    Raises:
        RunError: an input is nowhere to be had (data), or its machine does not answer (node_lost, storage).
        OSError: this machine's disk does not take it.
    """
    if not ray.is_initialized():
        return resolved
    try:
        source = Remote(ray.get_actor(SERVER))
    except ValueError:  # nothing is handed out: all machines are this one
        return resolved
    if source.node() == ray.get_runtime_context().get_node_id():
        return resolved
    return inputs.localize(resolved, source, inputs.cache_folder())
