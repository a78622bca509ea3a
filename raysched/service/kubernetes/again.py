"""A paused sweep goes on, and one that has ended is submitted again from what its RayJob was made of."""

from __future__ import annotations

from typing import Any

from raysched.errors import MissingError, StudyError
from raysched.service.kubernetes.client import Cluster, Manifest
from raysched.service.kubernetes.jobs import NOT_OURS, create, jobs, next_number
from raysched.service.kubernetes.rayjob import STUDY_SUFFIX
from raysched.service.kubernetes.state import RayJob, read
from raysched.service.kubernetes.watching import DELETED


def resume(cluster: Cluster, job: RayJob) -> tuple[RayJob, bool]:
    """End a pause. A sweep that has ended gets another RayJob like its last, which is a new one; one that runs, none.

    Raises:
        StudyError: it is in a queue of Kueue, which starts it.
        MissingError: its files are gone.
    """
    if job.over:
        return _again(cluster, job), True
    if not job.suspend:
        return job, False
    if job.queue is not None:
        raise StudyError(
            f"{job.sweep} waits in the queue {job.queue}: {NOT_OURS}",
            hint="it starts by itself once the queue has room: kubectl get workloads",
        )
    return read(cluster.suspend(job.name, False)), False


def _again(cluster: Cluster, job: RayJob) -> RayJob:
    """Submit what an ended RayJob was, under the next name, and delete that."""
    raw, there = cluster.rayjob(job.name), [one for one in jobs(cluster) if one.label == job.label]
    if raw is None:
        raise MissingError(f"{job.sweep} {DELETED}")
    name = f"{job.label}-{next_number(there)}"
    files, others = f"{job.name}{STUDY_SUFFIX}", []
    if files in _strings(raw["spec"]):
        if (kept := cluster.config_map(files)) is None:
            raise MissingError(f"the files of {job.sweep} are gone from the cluster", hint="submit its study again")
        others.append(_renamed(kept, f"{name}{STUDY_SUFFIX}"))
    body = _renamed(raw, name)
    body["spec"] = {key: _moved(value, files, f"{name}{STUDY_SUFFIX}") for key, value in raw["spec"].items()}
    for key in ("suspend", "jobId"):
        body["spec"].pop(key, None)
    made = create(cluster, body, others)
    for ended in there:
        cluster.delete(ended.name, ended.uid)
    return made


def _renamed(raw: Manifest, name: str) -> Manifest:
    """What an object was made from, under another name."""
    kept = {key: value for key, value in raw["metadata"].items() if key in ("namespace", "labels", "annotations")}
    return {key: value for key, value in raw.items() if key != "status"} | {"metadata": {"name": name} | kept}


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _moved(below, old, new) for key, below in value.items()}
    if isinstance(value, list):
        return [_moved(below, old, new) for below in value]
    return new if value == old else value


def _strings(value: Any) -> set[str]:
    if isinstance(value, dict | list):
        return {text for below in (value.values() if isinstance(value, dict) else value) for text in _strings(below)}
    return {value} if isinstance(value, str) else set()
