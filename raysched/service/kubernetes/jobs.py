"""A sweep as a RayJob: submitted once, watched, paused, stopped, and continued by another RayJob once it has ended."""

from __future__ import annotations

from collections.abc import Sequence

from raysched.errors import MissingError, RayschedError, StudyError
from raysched.service.kubernetes.client import AGAIN_S, Cluster, Manifest
from raysched.service.kubernetes.names import sweep_label
from raysched.service.kubernetes.options import ClusterOptions
from raysched.service.kubernetes.rayjob import LABEL, manifests
from raysched.service.kubernetes.refusals import Taken
from raysched.service.kubernetes.state import OPERATOR, RayJob, read
from raysched.service.kubernetes.watching import DELETED, LOOK_EVERY_S
from raysched.service.ray_jobs import STORAGE, STUDY
from raysched.service.submit import STOP_WAIT_S, Order, pick_named

END_S = STOP_WAIT_S + 60.0
"""A driver saves, its pods are given a minute to leave, and the operator looks every few seconds."""
TRIES = 5
NOT_OURS = "Kueue decides when a job of a queue runs"


def submit(cluster: Cluster, order: Order, options: ClusterOptions) -> tuple[RayJob, bool]:
    """The RayJob of this sweep, and whether it is a new one: where one is under way, nothing is sent.

    A sweep whose RayJob has ended gets another one, which continues it and takes its place.

    Raises:
        StudyError: the study or an option is refused, here or by the cluster; or another study has this name there.
        MissingError: no cluster, no KubeRay, no right to do it, no quota left.
    """
    label = sweep_label(order.loaded.name, order.storage)
    for _ in range(TRIES):
        there = [job for job in jobs(cluster) if job.sweep == order.loaded.name]
        if leaving := next((job for job in there if job.deleting), None):
            _gone(cluster, leaving)
            continue
        for job in there:
            if not job.over:
                _same(job, order)
                _complete(cluster, job, manifests(order, options, _number(job.name, job.label)))
                return job, False
        ended = [job for job in there if job.label == label]
        *others, body = _made(manifests(order, options, next_number(ended)))
        try:
            job = create(cluster, body, others)
        except Taken:  # somebody else submitted it just now
            cluster.sleep(AGAIN_S)
            continue
        for one in ended:
            cluster.delete(one.name, one.uid)
        return job, True
    raise MissingError(f"the sweep {order.loaded.name!r} was submitted and deleted by others at once", hint="try again")


def _made(objects: Sequence[Manifest]) -> list[Manifest]:
    """The RayJob last."""
    return sorted(objects, key=lambda one: one["kind"] == "RayJob")


def create(cluster: Cluster, body: Manifest, others: Sequence[Manifest]) -> RayJob:
    """Create a RayJob, and what it needs, as its own: Kubernetes deletes that together with it.

    Everything is tried first, so that a refusal leaves nothing behind.
    """
    for one in (*others, body):
        cluster.create(one, dry_run=True)
    job = read(cluster.create(body))
    try:
        _create_owned(cluster, job, others)
    except RayschedError:
        cluster.delete(job.name, job.uid)
        raise
    return job


def _create_owned(cluster: Cluster, job: RayJob, others: Sequence[Manifest]) -> None:
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": job.name, "uid": job.uid}
    for one in others:
        cluster.create(one | {"metadata": one["metadata"] | {"ownerReferences": [owner]}})


def _complete(cluster: Cluster, job: RayJob, objects: Sequence[Manifest]) -> None:
    """Create what a RayJob lacks whose submission was cut off halfway."""
    *others, _ = _made(objects)
    try:
        _create_owned(cluster, job, others)
    except Taken:
        return


def _same(job: RayJob, order: Order) -> None:
    wanted = order.metadata
    if (job.study, job.storage) != (wanted[STUDY], wanted[STORAGE]):
        other = "another study" if job.study != wanted[STUDY] else f"a sweep in {job.storage}"
        raise StudyError(
            f"{other} runs there under the name {job.sweep!r} (RayJob {job.name})",
            key="--name",
            hint=f"give this one another name: --name {job.sweep}-2",
        )


def _number(name: str, label: str) -> int:
    """Of a RayJob's name: LABEL, LABEL-2, LABEL-3, ..."""
    number = name.removeprefix(label).removeprefix("-")
    return int(number) if number.isdigit() else 1


def next_number(there: Sequence[RayJob]) -> int:
    return 1 + max((_number(job.name, job.label) for job in there), default=0)


def jobs(cluster: Cluster) -> list[RayJob]:
    """The RayJobs of raysched in the namespace, the newest first."""
    found = [read(raw) for raw in cluster.rayjobs(LABEL)]
    return sorted(found, key=lambda job: (job.created or 0.0, _number(job.name, job.label)), reverse=True)


def pick(found: Sequence[RayJob], name: str | None, namespace: str) -> RayJob:
    """The RayJob of the sweep `name`, or the one of this name; without a name that of the only sweep.

    Raises:
        MissingError: no RayJob of raysched is there, or none of this name.
        StudyError: several sweeps are there, and none was named.
    """
    if not found:
        raise MissingError(
            f"no sweep was submitted to the namespace {namespace}",
            hint="raysched submit STUDY --kubernetes; or name another with --namespace",
        )
    listed = [(job.sweep, job.name, job.over, job) for job in found]
    return pick_named(listed, name, f"in the namespace {namespace}")


def pause(cluster: Cluster, job: RayJob) -> RayJob:
    """Let KubeRay take the cluster of a sweep away, and wait until it has.

    Its driver is not asked to save first: KubeRay takes the pods at once. What was done since the last checkpoints is
    done again. `stop` asks.

    Raises:
        StudyError: it has ended, it is in a queue of Kueue, or its RayJob cannot be suspended.
        MissingError: it has not happened in `END_S`.
    """
    if job.queue is not None:
        raise StudyError(
            f"{job.sweep} is in the queue {job.queue}: {NOT_OURS}",
            hint=f"raysched stop {job.named} ends it; submit it again to continue",
        )
    if job.over or job.deleting:
        raise StudyError(f"{job.sweep} has ended: there is nothing to pause", hint="submit it again to continue")
    if not job.pausable:
        raise StudyError(
            f"the RayJob {job.name} keeps its cluster when it ends, and such a one cannot be suspended",
            hint=f"raysched stop {job.named} ends it; submit it again to continue",
        )
    if not job.suspend:
        cluster.suspend(job.name, True)
    for raw in cluster.watch(job.name, cluster.clock() + END_S):
        if raw is None:
            raise MissingError(f"{job.sweep} {DELETED}")
        job = read(raw)
        if job.deployment == "Suspended" or job.over:
            return job
    raise MissingError(
        f"{job.sweep} was asked to pause, but its cluster is there after {END_S:.0f} s",
        hint=f"look again: raysched status {job.named}",
    )


def stop(cluster: Cluster, job: RayJob) -> bool:
    """Delete a sweep's RayJob, and wait until its pods are gone; False where it had ended already.

    Before the cluster goes KubeRay asks Ray to stop the driver, which then saves. To suspend it would not ask.

    Raises:
        MissingError: it is not gone in `END_S`.
    """
    if job.over:
        return False
    if not job.deleting:
        cluster.delete(job.name, job.uid)
    _gone(cluster, job)
    return True


def _gone(cluster: Cluster, job: RayJob) -> None:
    """Wait until a RayJob that is being deleted is gone, and the pods of its cluster."""
    until = cluster.clock() + END_S
    for raw in cluster.watch(job.name, until):
        if raw is None or read(raw).uid != job.uid:
            break
    else:
        raise _stuck(job)
    while job.cluster and cluster.pods(f"ray.io/cluster={job.cluster}"):
        if cluster.clock() > until:
            raise _stuck(job)
        cluster.sleep(LOOK_EVERY_S)


def _stuck(job: RayJob) -> MissingError:
    return MissingError(
        f"the RayJob {job.name} was deleted, but is not gone after {END_S:.0f} s",
        hint=f"KubeRay's operator has to let it go: {OPERATOR}",
    )
