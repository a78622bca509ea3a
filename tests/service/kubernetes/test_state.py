"""Every state that KubeRay's operator writes, in words, with what to do next and the exit code of who waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from raysched.service.kubernetes.refusals import Asked, explained, shown
from raysched.service.kubernetes.state import RayJob, read, told

DEPLOYMENTS = ("", "Initializing", "Running", "Complete", "Failed", "ValidationFailed", "Suspending", "Suspended")
DEPLOYMENTS += ("Retrying", "Waiting")
JOBS = ("", "PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED")
REASONS = ("", "SubmissionFailed", "DeadlineExceeded", "PreRunningDeadlineExceeded", "AppFailed", "ValidationFailed")
REASONS += ("JobDeploymentStatusTransitionGracePeriodExceeded", "JobStatusCheckTimeoutExceeded")
EXITED = "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\nx"


def rayjob(queue: str | None = None, backoff: int = 0, suspend: bool = False, **status: Any) -> RayJob:
    labels = {"raysched.io/sweep": "a-x"} | ({} if queue is None else {"kueue.x-k8s.io/queue-name": queue})
    notes = {"raysched.io/name": "a", "raysched.io/storage": "/s", "raysched.io/study": "d", "raysched.io/version": "1"}
    spec = {"backoffLimit": backoff, "suspend": suspend, "shutdownAfterJobFinishes": True}
    about = {"name": "a-x", "uid": "1", "labels": labels, "annotations": notes}
    return read({"metadata": about, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        ({}, "waits for KubeRay's operator", None),
        ({"jobDeploymentStatus": "Initializing"}, "its cluster is being made", None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}, "driver is being started", None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "runs", None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "failed": 1}, "runs (attempt 2 of 4)", None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"}, "has ended (SUCCEEDED)", None),
        ({"jobDeploymentStatus": "Retrying", "failed": 1}, "a new cluster is made, and continues it (attempt 2", None),
        ({"failed": 2}, "a new one is made, and continues it (attempt 3 of 4)", None),
        ({"jobDeploymentStatus": "Waiting"}, "waits for somebody to name a job", None),
        ({"jobDeploymentStatus": "Newest"}, "does not know: Newest", None),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "done", 0),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "was stopped", 75),
        ({"reason": "AppFailed", "message": EXITED.format(1)}, "some runs failed", 1),
        ({"reason": "AppFailed", "message": EXITED.format(2)}, "malformed", 2),
        ({"reason": "AppFailed", "message": EXITED.format(3)}, "is not there", 3),
        ({"reason": "AppFailed", "message": EXITED.format(75)}, "can be continued", 75),
        ({"reason": "AppFailed", "message": EXITED.format(143)}, "everything is saved", 143),
        ({"reason": "AppFailed", "message": EXITED.format(-9)}, "killed by signal 9", 75),
        ({"reason": "AppFailed", "message": EXITED.format(9), "failed": 3}, "exit code 9 (tried on 3 clusters)", 9),
        ({"reason": "AppFailed", "message": "The node is dead"}, "was lost with its driver", 75),
        ({"reason": "AppFailed", "message": "no such file"}, "failed: no such file", 75),
        ({"reason": "SubmissionFailed", "message": "BackoffLimitExceeded"}, "could not be submitted to Ray: Back", 3),
        ({"reason": "DeadlineExceeded"}, "ended by its deadline", 75),
        ({"reason": "PreRunningDeadlineExceeded", "message": "m"}, "did not come up in time", 3),
        ({"reason": "JobStatusCheckTimeoutExceeded"}, "answered the operator no more", 75),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "name too long"}, "refuses it: name too long", 2),
        (
            {
                "jobDeploymentStatus": "Complete",
                "jobStatus": "SUCCEEDED",
                "reason": "JobDeploymentStatusTransitionGracePeriodExceeded",
            },
            "done",
            0,
        ),
    ],
)  # fmt: skip
def test_states_in_words(status: dict[str, Any], words: str, code: int | None) -> None:
    if "reason" in status:
        status = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"} | status
    state = told(rayjob(backoff=3, **status))
    assert words in str(state)
    assert state.exit_code == code
    if code not in (None, 0):
        assert state.next


def test_why_pods_wait_is_told() -> None:
    assert str(told(rayjob(jobDeploymentStatus="Initializing"), waits="head: ImagePullBackOff")).endswith(
        "its cluster is being made: head: ImagePullBackOff"
    )


def test_who_suspended_it() -> None:
    for status, suspend, words, code in (
        ({"jobDeploymentStatus": "Suspending", "jobStatus": "RUNNING"}, True, "is being paused", 75),
        ({"jobDeploymentStatus": "Suspended"}, True, "is paused", 75),
        ({"jobDeploymentStatus": "Initializing"}, True, "is being paused", 75),
    ):
        assert words in str(told(rayjob(suspend=suspend, **status)))
        assert told(rayjob(suspend=suspend, **status)).exit_code == code
    preempted = told(rayjob(queue="team", suspend=True, jobDeploymentStatus="Suspending", jobStatus="RUNNING"))
    assert "was preempted in the queue team" in str(preempted)
    assert preempted.exit_code is None
    waiting = told(rayjob(queue="team", suspend=True, jobDeploymentStatus="Suspended"))
    assert "waits in the queue team" in str(waiting)
    assert waiting.exit_code is None


def test_a_stopped_driver_that_saved() -> None:
    job = rayjob(jobDeploymentStatus="Complete", jobStatus="STOPPED")
    assert "everything is saved" in str(told(job, ["stopped; everything done so far is saved"]))
    assert "from its last checkpoints" in str(told(job, ["0/4 runs done"]))


def test_no_combination_is_without_words() -> None:
    for deployment in DEPLOYMENTS:
        for job in JOBS:
            for reason in REASONS:
                for queue in (None, "team"):
                    one = rayjob(queue=queue, jobDeploymentStatus=deployment, jobStatus=job, reason=reason)
                    state = told(one)
                    assert str(state)
                    assert (state.exit_code is not None) == one.over or deployment in ("Suspending", "Suspended")


@pytest.mark.parametrize(
    ("namespace", "named"), [("raysched", "a --kubernetes"), ("b", "a --kubernetes --namespace b")]
)
def test_what_to_do_next_names_the_namespace(namespace: str, named: str) -> None:
    raw = {"metadata": {"name": "a", "namespace": namespace}, "spec": {"suspend": True}}
    assert told(read(raw)).next == f"raysched resume {named}"
    raw = {"metadata": {"name": "a", "namespace": namespace}, "status": {"jobDeploymentStatus": "Complete"}}
    assert told(read(raw)).next == f"raysched logs {named}"


def test_what_is_being_deleted() -> None:
    raw = {"metadata": {"name": "a", "deletionTimestamp": "2026-11-21T10:00:00Z"}}
    assert "is being deleted" in str(told(read(raw)))
    assert read(raw).sweep == "a"


def test_credentials_are_not_shown() -> None:
    for text in (
        "Bearer abc.def", "bearer geheim", "token=geheim", "password=geheim",
        "https://me:geheim@cluster", "eyJhbGciOiJSUzI1NiJ9.geheim.x",
    ):  # fmt: skip
        assert "geheim" not in shown(f"it said {text} here")
        assert "abc" not in shown(text)
    assert len(shown("x" * 5000)) < 700


def test_answers_that_are_no_status() -> None:
    asked = Asked(verb="get", resource="rayjobs", namespace="n", name="a")
    assert "HTTP 502" in str(explained(502, "<html>Bad Gateway</html>", asked))
    assert "HTTP 500" in str(explained(500, '["list"]', asked))
    assert "was changed by somebody else" in str(explained(409, '{"kind": "Status", "reason": "Conflict"}', asked))
