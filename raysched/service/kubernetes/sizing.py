"""How many workers a study's plan can use, as Ray counts what a run takes."""

from __future__ import annotations

import math

from raysched.errors import StudyError
from raysched.service.kubernetes.options import BYTES, ClusterOptions, bytes_of, option_name
from raysched.study.load import LoadedStudy, Suite
from raysched.study.model import Resources


def default_gpus(loaded: LoadedStudy | Suite) -> int:
    """1 where a run asks for a GPU, or takes one where there is one and its backbone is not the mini world's."""
    return int(
        any(
            one.study.model.backbone != "mini" if one.study.resources.gpu == "auto" else one.study.resources.gpu > 0
            for one in parts_of(loaded)
        )
    )


def parts_of(loaded: LoadedStudy | Suite) -> tuple[LoadedStudy, ...]:
    return loaded.parts if isinstance(loaded, Suite) else (loaded,)


def runs_per_worker(resources: Resources, options: ClusterOptions) -> int:
    """How many runs one worker pod holds, as Ray counts them.

    Raises:
        StudyError: not even one; what it lacks is named.
    """
    if resources.gpu == "auto" and options.autoscale:
        raise StudyError(
            "must be a number where workers come on demand: without one there, nobody knows whether it has a GPU",
            key="resources.gpu",
            hint=f"--set resources.gpu={min(options.gpus, 1)}, or a share such as 0.5",
        )
    gpu = float(min(options.gpus, 1)) if resources.gpu == "auto" else float(resources.gpu)
    memory = (resources.memory_gb or 0) * 1e9
    has = {
        "gpus": (options.gpus, gpu, "GPU"),
        "worker_cpu": (options.worker_cpu, resources.cpu, "CPU"),
        "worker_memory": (bytes_of(options.worker_memory), memory, "bytes"),
    }
    for field, (given, asked, unit) in has.items():
        if asked > given:
            needed = math.ceil(asked / BYTES["Gi"]) if unit == "bytes" else math.ceil(asked)
            raise StudyError(
                f"a run asks for {asked:g} {unit}, but a worker pod has {given:g}",
                key=option_name(field),
                hint=f"{option_name(field)} {needed}{'Gi' if unit == 'bytes' else ''}, or let a run ask for less: "
                "--set resources...",
            )
    return min(int(given / asked + 1e-9) for given, asked, _ in has.values() if asked)


def most_workers(loaded: LoadedStudy | Suite, options: ClusterOptions, max_concurrent: int | None) -> int:
    """Worker pods beyond which none would ever have a run. Parts of a suite run one after the other."""
    return max(
        math.ceil(most_runs(part, max_concurrent) / runs_per_worker(part.study.resources, options))
        for part in parts_of(loaded)
    )


def most_runs(loaded: LoadedStudy | Suite, max_concurrent: int | None) -> int:
    """At a time."""
    runs = max(part.n_runs for part in parts_of(loaded))
    return min(runs, max_concurrent or runs)


def group_sizes(most: int, options: ClusterOptions) -> tuple[int, int]:
    """Most workers on demand and on spot, where `most` would have runs. What comes and goes may be either."""
    spot = min(options.spot_workers, most)
    return min(options.workers, most if options.autoscale else most - spot), spot


def runs_with_room(loaded: LoadedStudy | Suite, options: ClusterOptions, max_concurrent: int | None) -> int:
    """How many runs at a time the largest cluster has room for: asked for more, Ray's autoscaler adds nothing."""
    workers = sum(group_sizes(most_workers(loaded, options, max_concurrent), options))
    room = workers * min(runs_per_worker(part.study.resources, options) for part in parts_of(loaded))
    return min(most_runs(loaded, max_concurrent), room)
