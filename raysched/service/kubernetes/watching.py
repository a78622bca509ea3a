"""What a RayJob comes to while somebody looks: its states, why its pods wait, and what its driver prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raysched.errors import RESUMABLE
from raysched.service.kubernetes.client import LOST_S, Cluster
from raysched.service.kubernetes.log_lines import Place
from raysched.service.kubernetes.pod_state import Pod
from raysched.service.kubernetes.refusals import Lost
from raysched.service.kubernetes.state import RayJob, Told, read, told
from raysched.service.submit import OF_RAY

START_S = 60.0
"""So long a submission watches whether its cluster comes up; nodes that must be made first take longer."""
LOOK_EVERY_S = 2.0
DELETED = Told("was deleted from the cluster: submit it again to continue", None, RESUMABLE)
Say = Callable[[str], None]


def look(cluster: Cluster, name: str) -> RayJob | None:
    """A RayJob as it is now; None once it is gone."""
    return None if (raw := cluster.rayjob(name)) is None else read(raw)


def waits(cluster: Cluster, job: RayJob) -> str:
    """Why the pods of a RayJob do not run, if they do not and somebody has said why."""
    if job.over or job.deployment not in ("Initializing", "Running"):
        return ""
    pods = cluster.pods(f"ray.io/cluster={job.cluster}") if job.cluster else []
    if job.deployment == "Running" and job.job != "RUNNING":
        pods += cluster.pods(f"job-name={job.name}")
    return next((f"{pod.name}: {pod.waits}" for pod in pods if pod.waits), "")


def started(cluster: Cluster, job: RayJob, say: Say) -> Told:
    """What a new RayJob has come to: it runs, it has ended, or `START_S` have passed. Each step is said."""
    state, until = told(job), cluster.clock() + START_S
    for raw in cluster.watch(job.name, until):
        if raw is None:
            return DELETED
        job = read(raw)
        if (state := told(job)).exit_code is not None or job.job == "RUNNING" or job.suspend:
            return state
        say(str(state))
    return told(job, waits=waits(cluster, job))


def submitter(cluster: Cluster, job: RayJob) -> Pod | None:
    """The newest pod that shows the driver's output; a cluster that was made anew has another one."""
    return next((pod for pod in reversed(cluster.pods(f"job-name={job.name}")) if pod.has_log), None)


def last_lines(cluster: Cluster, job: RayJob, most: int) -> list[str]:
    """The end of what the driver printed, without what Ray adds."""
    pod = submitter(cluster, job)
    lines = [] if pod is None else cluster.log(pod.name, 10 * most)
    return [line for line in lines if line.strip() and not OF_RAY.match(line)][-most:]


def follow(cluster: Cluster, job: RayJob, write: Say, say: Say) -> RayJob | None:
    """`write` what the driver prints until it ends or is paused; the RayJob then, None where it was deleted.

    `say` each step of a sweep whose driver prints nothing: its cluster is made, or made anew, or waits in a queue.
    """
    name, said, lost, place, of = job.name, "", None, Place(), ""
    while True:
        try:
            now = look(cluster, name)
            if now is None:
                return None
            pod = submitter(cluster, now)
            lost = None
            if pod is None and (words := str(told(now, waits=waits(cluster, now)))) != said:
                say(said := words)
            if pod is not None:
                place, of = (place, of) if pod.name == of else (Place(), pod.name)
                for line in cluster.follow(pod.name, place):
                    write(f"{line}\n")
            if now.over or (now.deployment == "Suspended" and now.queue is None):
                return now
        except Lost:  # a quiet driver, or a broken connection: the next round knows
            lost = cluster.clock() if lost is None else lost
            if cluster.clock() - lost > LOST_S:
                raise
        cluster.sleep(LOOK_EVERY_S)


def summary(cluster: Cluster, job: RayJob, most: int) -> tuple[Told, list[str]]:
    """A RayJob in words, and the last lines of its driver."""
    log = last_lines(cluster, job, most)
    return told(job, log, waits(cluster, job)), log


def as_json(job: RayJob, state: Told, log: Sequence[str]) -> dict[str, Any]:
    """For scripts; the keys are those of a sweep that was submitted to a job server, and a few more."""
    return {
        "sweep": job.sweep,
        "job": job.name,
        "state": job.job,
        "deployment": job.deployment,
        "reason": job.reason,
        "meaning": state.words,
        "next": state.next,
        "started": job.started,
        "ended": job.ended,
        "exit_code": job.exit_code,
        "failed": job.failed,
        "queue": job.queue,
        "cluster": job.cluster,
        "storage": job.storage,
        "version": job.version,
        "last_lines": list(log),
    }
