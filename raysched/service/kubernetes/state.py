"""What has become of a sweep's RayJob, in words: from the status that KubeRay's operator writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING, RESUMABLE
from raysched.service.kubernetes.options import NAMESPACE
from raysched.service.kubernetes.rayjob import ANNOTATIONS, LABEL
from raysched.service.kubernetes.rules import QUEUE
from raysched.service.ray_jobs import STORAGE, STUDY, SWEEP, VERSION
from raysched.service.submit import MEANING, SAVED

ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})
EXIT_CODE = re.compile(r"failed with exit code (-?\d+)")
"""In Ray's words about a driver that failed."""
LOST = re.compile(r"(?i)node|actor died|job supervisor|raylet")
AGAIN = "submit it again to continue"
OPERATOR = (
    "is the operator there, and does it watch this namespace? "
    "kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """A RayJob of raysched as the cluster shows it; times in seconds since 1970.

    `deployment` is the operator's state of the whole, `job` that of the Ray job in it. `failed` counts the clusters
    on which it has failed. `study` is a digest.
    """

    name: str
    namespace: str
    uid: str
    sweep: str
    label: str
    storage: str
    study: str
    version: str
    queue: str | None
    suspend: bool
    pausable: bool
    deleting: bool
    backoff_limit: int
    failed: int
    deployment: str
    job: str
    reason: str
    message: str
    cluster: str
    created: float | None
    started: float | None
    ended: float | None

    @property
    def named(self) -> str:
        """Its sweep, as a command names it."""
        elsewhere = f" --namespace {self.namespace}" if self.namespace != NAMESPACE else ""
        return f"{self.sweep} --kubernetes{elsewhere}"

    @property
    def over(self) -> bool:
        return self.deployment in ENDED

    @property
    def exit_code(self) -> int | None:
        """The driver's, where Ray has told it."""
        if self.over and self.job == "SUCCEEDED":
            return DONE
        found = EXIT_CODE.search(self.message) if self.over else None
        return None if found is None else int(found[1])


def read(raw: Mapping[str, Any]) -> RayJob:
    """A RayJob from what the cluster sends."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    ours = {key: notes.get(name, "") for key, name in ANNOTATIONS.items()}
    ray = status.get("rayJobInfo") or {}
    return RayJob(
        name=metadata["name"],
        namespace=metadata.get("namespace", NAMESPACE),
        uid=metadata.get("uid", ""),
        sweep=ours[SWEEP] or metadata["name"],
        label=labels.get(LABEL, ""),
        storage=ours[STORAGE],
        study=ours[STUDY],
        version=ours[VERSION],
        queue=labels.get(QUEUE),
        suspend=bool(spec.get("suspend")),
        pausable=bool(spec.get("shutdownAfterJobFinishes")),
        deleting="deletionTimestamp" in metadata,
        backoff_limit=spec.get("backoffLimit") or 0,
        failed=status.get("failed") or 0,
        deployment=status.get("jobDeploymentStatus") or "",
        job=status.get("jobStatus") or "",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        cluster=status.get("rayClusterName") or "",
        created=_seconds(metadata.get("creationTimestamp")),
        started=_seconds(ray.get("startTime") or status.get("startTime")),
        ended=_seconds(ray.get("endTime") or status.get("endTime")),
    )


@dataclass(frozen=True, slots=True)
class Told:
    """A state in words, and what to do next. `exit_code` is that of a command that waits; None where it goes on."""

    words: str
    next: str | None = None
    exit_code: int | None = None

    def __str__(self) -> str:
        return self.words


def told(job: RayJob, log: Sequence[str] = (), waits: str = "") -> Told:
    """`log` are the last lines of its driver, `waits` why its pods do not run."""
    if job.deleting:
        return Told(f"is being deleted: {AGAIN}, once it is gone")
    if job.over:
        return _ended(job, log)
    if job.deployment in ("Suspending", "Suspended") or (job.suspend and job.deployment in ("", "Initializing")):
        return _suspended(job)
    return _going(job, waits)


def _going(job: RayJob, waits: str) -> Told:
    attempt = f" (attempt {job.failed + 1} of {job.backoff_limit + 1})" if job.failed else ""
    why = f": {waits}" if waits else ""
    match job.deployment, job.job:
        case "", _:
            again = "its cluster was lost: a new one is made, and continues it" if job.failed else ""
            return Told(
                (again or "waits for KubeRay's operator to take it up") + attempt,
                None if again else OPERATOR,
            )
        case "Retrying", _:
            return Told(f"its cluster was lost, or its driver failed: a new cluster is made, and continues it{attempt}")
        case "Initializing", _:
            return Told(f"its cluster is being made{attempt}{why}")
        case "Running", "RUNNING":
            return Told(f"runs{attempt}")
        case "Running", "SUCCEEDED" | "FAILED" | "STOPPED":
            return Told(f"its driver has ended ({job.job}); the operator winds it up")
        case "Running", _:
            return Told(f"its cluster is up, and its driver is being started{attempt}{why}")
        case "Waiting", _:
            return Told(
                "waits for somebody to name a job, which raysched never asks for", "stop it, and submit it again"
            )
        case _:
            return Told(f"is in a state that this version does not know: {job.deployment} {job.job}".rstrip())


def _suspended(job: RayJob) -> Told:
    if job.queue is None:
        words = "is being paused: its cluster is taken away" if job.deployment != "Suspended" else "is paused"
        return Told(f"{words}; what its checkpoints hold is kept", f"raysched resume {job.named}", RESUMABLE)
    if job.deployment == "Suspending" and job.job:
        return Told(f"was preempted in the queue {job.queue}: Kueue takes its cluster, and starts it again by itself")
    return Told(
        f"waits in the queue {job.queue} for Kueue to start it; if it has run before, it continues",
        "kubectl get workloads shows its place",
    )


def _ended(job: RayJob, log: Sequence[str]) -> Told:
    message = " ".join(job.message.split())[:400]
    of_operator = {
        "ValidationFailed": Told(
            f"KubeRay's operator refuses it: {message}",
            "correct what it names, and submit it again",
            BAD_INPUT,
        ),
        "SubmissionFailed": Told(
            f"its driver could not be submitted to Ray: {message}",
            "look into the submitter: kubectl describe job, kubectl logs; then submit it again",
            OUTSIDE_MISSING,
        ),
        "DeadlineExceeded": Told(
            "was ended by its deadline (activeDeadlineSeconds)", f"{AGAIN}, with a longer one", RESUMABLE
        ),
        "PreRunningDeadlineExceeded": Told(
            f"its cluster did not come up in time (preRunningDeadlineSeconds): {message}",
            "ask for less, or for other nodes, or wait longer",
            OUTSIDE_MISSING,
        ),
        "JobStatusCheckTimeoutExceeded": Told(
            "its head answered the operator no more, and was given up", AGAIN, RESUMABLE
        ),
    }
    key = "ValidationFailed" if job.deployment == "ValidationFailed" else job.reason
    if key in of_operator:
        return of_operator[key]
    if job.job == "STOPPED":
        how = "everything is saved" if any(SAVED in line for line in log) else "it continues from its last checkpoints"
        return Told(f"was stopped; {how}", AGAIN, RESUMABLE)
    if job.exit_code is not None:
        return _driver(job, job.exit_code)
    tried = f" on {job.failed} clusters" if job.failed > 1 else ""
    if job.job == "FAILED" or job.deployment == "Failed":
        why = f": {message}" if message else ""
        what = "was lost with its driver" if LOST.search(message) or not message else "failed"
        return Told(f"{what}{tried}{why}", AGAIN, RESUMABLE)
    return Told("came to its end, and Ray has not told how", f"raysched logs {job.named}", OUTSIDE_MISSING)


def _driver(job: RayJob, code: int) -> Told:
    tried = f" (tried on {job.failed} clusters)" if job.failed > 1 else ""
    if code < 0:
        return Told(f"its driver was killed by signal {-code}{tried}", AGAIN, RESUMABLE)
    words, _, then = MEANING.get(code, f"its driver ended with exit code {code}").partition(": submit")
    look = None if code == DONE else f"raysched logs {job.named} shows what it printed"
    return Told(f"{words}{tried}", f"submit{then}" if then else look, code)


def _seconds(stamp: str | None) -> float | None:
    return None if not stamp else datetime.fromisoformat(stamp).timestamp()
