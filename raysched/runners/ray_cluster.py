"""A Ray cluster to run on: one of our own, or one at an address. With `ray_tune`, the package's only door to Ray."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raysched.errors import MissingError, StudyError
from raysched.study.model import Resources, Study

for _name, _value in {
    "RAY_AUTH_MODE": "token",  # an unprotected head runs anybody's code
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the signals are ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_INIT": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",  # `Hand` decides how many are out
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}.items():
    os.environ.setdefault(_name, _value)

ALONE = {
    "RAY_AUTH_MODE": "token",
    # Ray's exporters of metrics would answer everybody, on all interfaces; there is no port -1 to answer on.
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
}
"""Environment of a cluster of our own."""

import ray  # noqa: E402  (the environment above is read at import)
from ray.exceptions import RayError  # noqa: E402

from raysched.runners.ray_scaling import Wish, most_at_a_time, wait_for_room  # noqa: E402

logger = logging.getLogger(__name__)

PRIVATE = "rs-"
"""Prefix of a private cluster's folder in /tmp: sockets below it must have short names."""
OWNER = "driver.pid"
SLOTS_EVERY_S = 2.0
"""The nodes of the cluster are counted so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a sweep runs on: what one run takes, the device it gets, and the slots for runs at the start."""

    slots: int
    cpu: float
    gpu: float
    memory_bytes: int | None
    device: str
    max_concurrent: int | None = None
    wish: Wish | None = None
    """Where machines come on demand: what asks for them."""

    def now(self) -> int:
        """Slots on the nodes that are alive now and are not being taken away."""
        return min(_fitting(_nodes(), _wanted(self)), self.max_concurrent or sys.maxsize)


class Slots:
    """How many runs fit: nodes join and leave while a sweep runs. Asked often, it asks Ray seldom."""

    def __init__(
        self,
        now: Callable[[], int],
        start: int,
        *,
        say: Callable[[str], object] = lambda _: None,
        looking: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`say` takes a line at every change of the number, with the time since when there is none.

        `looking` is called before each look.
        """
        self._now, self._slots, self._say, self._looking, self._clock = now, start, say, looking, clock
        self._looked = clock()

    def __call__(self) -> int:
        if self._clock() - self._looked >= SLOTS_EVERY_S:
            self._looked, before = self._clock(), self._slots
            with contextlib.suppress(
                RayError, OSError, RuntimeError
            ):  # a head that does not answer now: what is known still holds
                self._looking()
                self._slots = self._now()
            if self._slots != before:
                runs = f"{self._slots} run{'s' if self._slots > 1 else ''}"
                self._say(f"{runs} at a time from here" if self._slots else _waiting())
        return self._slots


def _waiting() -> str:
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return f"no machine of the cluster has room for a run; waiting for one since {since}"


@contextlib.contextmanager
def cluster(address: str | None, study: Study, max_concurrent: int | None) -> Iterator[Cluster]:
    """Connect to the Ray cluster at `address`, or start one of our own for as long as the block lasts.

    Never joins a cluster by accident: without an address it always starts its own, on a private folder.

    Raises:
        MissingError: no cluster answers, or it can never give what a run asks for.
    """
    from raysched.runners.worker import limit_threads  # and torch with it, which no light process needs

    limit_threads(study.training.threads)
    with _connected(address), _wishing(study.resources) as wish:
        yield replace(_fit(study.resources, max_concurrent), wish=wish)


@contextlib.contextmanager
def _wishing(resources: Resources) -> Iterator[Wish | None]:
    """Where machines come on demand: ask for the first, wait for it, and let all of them go in the end."""
    most = most_at_a_time()
    if most is None:
        yield None
        return
    if resources.gpu == "auto":
        raise StudyError(
            "must be a number where machines come on demand: without one there, nobody knows whether it has a GPU",
            key="resources.gpu",
            choices=("0", "a share such as 0.5", "1"),
        )
    one = _asked(resources, float(resources.gpu))
    wish = Wish(_wanted(one), most)
    try:
        wish.want(1)
        wait_for_room(one.now, lambda: logger.warning(_waiting()))
        yield wish
    finally:
        with contextlib.suppress(RayError, OSError, RuntimeError):  # a cluster that is gone keeps no machines
            wish.want(0)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    private: Path | None = None
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    if address:
        options["address"] = address
    else:
        sweep_up(Path("/tmp"), PRIVATE)
        os.environ |= ALONE  # whatever the environment says of other clusters
        private = Path(tempfile.mkdtemp(prefix=PRIVATE, dir="/tmp"))
        (private / OWNER).write_text(str(os.getpid()))
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # for this cluster alone, and in no file
        options |= {"address": "local", "include_dashboard": False, "_temp_dir": str(private)}
    try:
        try:
            ray.init(**options)
            # The driver says how each attempt ended; Tune would add a traceback to it.
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
            raise MissingError(
                f"cannot reach {where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
                key="--address",
                hint="check the address and RAY_AUTH_TOKEN, or leave --address out to run on this machine",
            ) from error
        yield
    finally:
        ray.shutdown()
        if private is not None:
            shutil.rmtree(private, ignore_errors=True)


def _fit(resources: Resources, max_concurrent: int | None) -> Cluster:
    """How many runs fit on the nodes that are alive now."""
    nodes = _nodes()
    gpus = max((node.get("GPU", 0) for node in nodes), default=0)
    gpu = (1.0 if gpus >= 1 else 0.0) if resources.gpu == "auto" else float(resources.gpu)
    found = replace(_asked(resources, gpu), max_concurrent=max_concurrent)
    wanted = _wanted(found)
    slots = _fitting(nodes, wanted)
    if slots == 0:
        largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
        short = [name for name, amount in wanted.items() if amount > largest[name]]
        key = {"CPU": "resources.cpu", "GPU": "resources.gpu", "memory": "resources.memory_gb"}[
            short[0] if short else "CPU"
        ]
        raise MissingError(
            f"a run asks for {resources.cpu:g} CPU, {gpu:g} GPU, {resources.memory_gb or 0:g} GB, "
            f"but the largest node has {largest['CPU']:g} CPU, {largest['GPU']:g} GPU, "
            f"{largest['memory'] / 1e9:.1f} GB",
            key=key,
            hint=f"ask for less, for example --set {key}={'auto' if key == 'resources.gpu' else 1}, or add a node",
        )
    device = "cpu"
    if gpu:
        probe = ray.remote(num_cpus=0, num_gpus=gpu, max_retries=0)(_has_cuda)
        device = "cuda" if ray.get(probe.remote(), timeout=120) else "cpu"
    return replace(found, slots=min(slots, max_concurrent or slots), device=device)


def _asked(resources: Resources, gpu: float) -> Cluster:
    """What a run asks for, before anybody has looked at machines."""
    memory = int(resources.memory_gb * 1e9) if resources.memory_gb else None
    return Cluster(slots=0, cpu=resources.cpu, gpu=gpu, memory_bytes=memory, device="cpu")


def _nodes() -> list[dict[str, float]]:
    """Resources of the nodes that are alive; those that are being taken away get nothing new."""
    try:
        leaving = set(ray._private.state.state.get_draining_nodes())
    except Exception:  # not a public part of Ray
        leaving = set()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]


def _wanted(one: Cluster) -> dict[str, float]:
    """What one run takes."""
    return {"CPU": one.cpu, "GPU": one.gpu, "memory": float(one.memory_bytes or 0)}


def _fitting(nodes: list[dict[str, float]], wanted: Mapping[str, float]) -> int:
    """How many runs fit on the nodes."""
    asked = {name: amount for name, amount in wanted.items() if amount}
    return sum(
        int(min((node.get(name, 0) / amount + 1e-9 for name, amount in asked.items()), default=0)) for node in nodes
    )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def sweep_up(folder: Path, prefix: str) -> None:
    """Remove what drivers that were killed left behind in `folder`; each of theirs names its owner."""
    for owner in folder.glob(f"{prefix}*/{OWNER}"):
        with contextlib.suppress(OSError, ValueError):
            if owner.stat().st_uid == os.getuid() and not Path(f"/proc/{int(owner.read_text())}").exists():
                shutil.rmtree(owner.parent, ignore_errors=True)


def describe(address: str) -> str:
    """The resources of the cluster at `address`, in words. Raises MissingError where none answers."""
    with _connected(address):
        total = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        return f"{address}: {nodes} nodes, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
