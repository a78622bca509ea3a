"""A double of a cluster: an HTTP server that speaks enough of the Kubernetes API, and plays KubeRay's operator.

It is no cluster: nothing runs. RayJobs that it is given are checked against KubeRay's schemas where those are, and go
through the states that `ray-operator/controllers/ray/rayjob_controller.go` describes. A state lasts until a client has
read it, so that what a client is told does not hang on time.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy import crd
from tests.service.kubernetes.api import Answer, Api, Server, status

TOKEN = "geheim-of-the-kubeconfig"
LEAVES_S = 10.0
START, END = "2026-11-21T10:00:00Z", "2026-11-21T10:05:00Z"
Object = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """What happens on one cluster of a RayJob.

    `end`: SUCCEEDED, STOPPED, a driver's exit code, the operator's reason for a failure, `hold` (it runs until it is
    suspended or deleted), `stuck` (its cluster never comes up), or `preempt` (Kueue takes it away).
    """

    end: str | int = "SUCCEEDED"
    log: tuple[str, ...] = ("0/4 runs done", "4/4 runs done")
    message: str = ""
    waits: str = ""


@dataclass
class Operator:
    """The cluster's state. `plays` are the attempts to come; the last one is played again.

    `refusals` by (verb, resource): how often, and the answer. `cut_watches`, `gone_watches`: so many watches break, or
    are told 410. `cut_logs` after so many lines each. `linger`: how often the pods of a deleted cluster are seen yet.
    """

    plays: list[Attempt] = field(default_factory=lambda: [Attempt()])
    kueue: bool = False
    answers: bool = True
    refusals: dict[tuple[str, str], tuple[int, Answer]] = field(default_factory=dict)
    cut_watches: int = 0
    gone_watches: int = 0
    cut_logs: list[int] = field(default_factory=list)
    linger: int = 0
    invalid: str = ""
    rayjobs: dict[str, Object] = field(default_factory=dict)
    configmaps: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    events: list[tuple[int, str, Object]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    """Jobs whose driver Ray was asked to stop."""
    version: int = 100
    changed: threading.Condition = field(default_factory=threading.Condition)
    read: dict[str, int] = field(default_factory=dict)
    clusters: int = 0
    closed: bool = False

    def job(self) -> Object:
        (only,) = self.rayjobs.values()
        return only

    def seen(self, one: Object) -> None:
        """A client has read this RayJob."""
        name, version = one["metadata"]["name"], int(one["metadata"]["resourceVersion"])
        self.read[name] = max(version, self.read.get(name, 0))
        self.changed.notify_all()

    def write(self, one: Object, kind: str = "MODIFIED") -> None:
        """A RayJob has changed."""
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, kind, copy.deepcopy(one)))
        self.changed.notify_all()

    def create(self, resource: str, body: Object, dry_run: bool) -> Object | Answer:
        """What an API server does with a new object."""
        kept: dict[str, Object] = getattr(self, resource)
        name = body["metadata"]["name"]
        if resource == "rayjobs" and crd.definitions() and (wrong := crd.problems(body)):
            strict = [one for one in wrong if "Additional properties" in one]
            said = (
                f"strict decoding error: unknown field {strict[0]}"
                if strict
                else f"RayJob {name} is invalid: {wrong[0]}"
            )
            return status(400, "BadRequest", said) if strict else status(422, "Invalid", said)
        if name in kept:
            return status(409, "AlreadyExists", f'{resource} "{name}" already exists')
        one = copy.deepcopy(body)
        self.version += 1
        one["metadata"] |= {
            "uid": f"uid-{self.version}",
            "creationTimestamp": f"2026-11-21T10:{self.version // 60 % 60:02}:{self.version % 60:02}Z",
            "resourceVersion": str(self.version),
        }
        if not dry_run:
            kept[name] = one
            if resource == "rayjobs":
                if self.kueue and "kueue.x-k8s.io/queue-name" in one["metadata"].get("labels", {}):
                    one["spec"]["suspend"] = True
                self.write(one, "ADDED")
        return one

    def delete(self, one: Object) -> None:
        """KubeRay's finalizer holds a RayJob until the operator has seen that it is to go."""
        one["metadata"].setdefault("deletionTimestamp", "2026-11-21T11:00:00Z")
        self.write(one)

    def play(self) -> None:
        """The operator: every RayJob goes one state on once a client has read the one before."""
        with self.changed:
            while not self.closed:
                moved = [self._move(one) for one in list(self.rayjobs.values()) if self.answers and self._known(one)]
                if not any(moved):
                    self.changed.wait(0.2)

    def answer(self) -> None:
        """The operator is back."""
        with self.changed:
            self.answers = True
            self.changed.notify_all()

    def _known(self, one: Object) -> bool:
        if "deletionTimestamp" in one["metadata"]:
            return True
        return self.read.get(one["metadata"]["name"], 0) >= int(one["metadata"]["resourceVersion"])

    def _move(self, one: Object) -> bool:
        """Whether anything has changed."""
        name, now = one["metadata"]["name"], one.setdefault("status", {})
        state, suspend = now.get("jobDeploymentStatus", ""), one["spec"].get("suspend", False)
        if "deletionTimestamp" in one["metadata"]:
            return self._finalize(one)
        if state in ("Complete", "Failed", "ValidationFailed") or (state == "Suspended" and suspend and not self.kueue):
            return False
        if state == "Suspended":  # Kueue admits it
            one["spec"]["suspend"] = False
            now |= {"jobDeploymentStatus": "", "jobStatus": ""}
        elif state in ("Suspending", "Retrying"):
            self._remove_pods(name, now.get("rayClusterName", ""))
            kept = {"failed": now.get("failed", 0)}
            one["status"] = kept | {"jobDeploymentStatus": "Suspended" if state == "Suspending" else ""}
        elif self.invalid:
            now |= {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": self.invalid}
        elif suspend and state in ("Initializing", "Running"):
            now["jobDeploymentStatus"] = "Suspending"
        else:
            return self._run(one, now, state)
        self.write(one)
        return True

    def _run(self, one: Object, now: Object, state: str) -> bool:
        name, play = one["metadata"]["name"], self.plays[0]
        if state == "":
            self.clusters += 1
            cluster = f"{name}-{self.clusters:05}"
            now |= {
                "jobDeploymentStatus": "Initializing",
                "rayClusterName": cluster,
                "startTime": "2026-11-21T10:00:00Z",
            }
            self._pod(
                f"{cluster}-head", {"ray.io/cluster": cluster}, "Pending" if play.waits else "Running", play.waits
            )
        elif state == "Initializing":
            if play.end == "stuck":
                return False
            if play.end == "PreRunningDeadlineExceeded":
                return self._fail(one, now, play, "")
            self._pod(f"{name}-{self.clusters}", {"job-name": name}, "Running")
            self.logs[f"{name}-{self.clusters}"] = list(play.log)
            now |= {"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}
        elif now.get("jobStatus") == "PENDING":
            if play.end == "SubmissionFailed":
                return self._fail(one, now, play, "PENDING")
            now |= {"jobStatus": "RUNNING", "rayJobInfo": {"startTime": "2026-11-21T10:00:30Z"}}
        elif play.end == "preempt":
            one["spec"]["suspend"] = True
            now["jobDeploymentStatus"] = "Suspending"
            self._next()
        elif play.end == "hold":
            return False
        elif play.end in ("SUCCEEDED", "STOPPED"):
            self._end_pod(name, 0 if play.end == "SUCCEEDED" else 1)
            now |= {"jobDeploymentStatus": "Complete", "jobStatus": play.end, "endTime": END}
            now["succeeded"] = now.get("succeeded", 0) + (play.end == "SUCCEEDED")
            self._next()
        else:
            return self._fail(one, now, play, "FAILED" if isinstance(play.end, int) else "RUNNING")
        self.write(one)
        return True

    def _fail(self, one: Object, now: Object, play: Attempt, job: str) -> bool:
        """As the operator does: any failure but that of a deadline is retried on a new cluster."""
        said = f"Job entrypoint command failed with exit code {play.end}, last available logs (truncated):\n"
        now |= {
            "failed": now.get("failed", 0) + 1,
            "jobStatus": job,
            "reason": "AppFailed" if isinstance(play.end, int) else play.end,
            "message": play.message or (said + "\n".join(play.log) if isinstance(play.end, int) else ""),
            "endTime": END,
        }
        retried = now["failed"] <= one["spec"].get("backoffLimit", 0) and play.end != "DeadlineExceeded"
        now["jobDeploymentStatus"] = "Retrying" if retried else "Failed"
        self._end_pod(one["metadata"]["name"], 1)
        self._next()
        self.write(one)
        return True

    def _next(self) -> None:
        if len(self.plays) > 1:
            self.plays.pop(0)

    def _finalize(self, one: Object) -> bool:
        name, now = one["metadata"]["name"], one.get("status", {})
        if now.get("jobStatus") not in ("SUCCEEDED", "FAILED", "STOPPED"):
            self.stopped.append(name)
        if not self.linger:
            self._remove_pods(name, now.get("rayClusterName", ""))
        self.configmaps = {
            key: kept
            for key, kept in self.configmaps.items()
            if one["metadata"]["uid"] not in [owner["uid"] for owner in kept["metadata"].get("ownerReferences", [])]
        }
        del self.rayjobs[name]
        self.write(one, "DELETED")
        return True

    def _pod(self, name: str, labels: dict[str, str], phase: str, waits: str = "") -> None:
        self.version += 1
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": waits}]
        self.pods[name] = {
            "metadata": {"name": name, "labels": labels, "creationTimestamp": f"2026-11-21T10:00:{self.clusters:02}Z"},
            "status": {"phase": phase, "conditions": conditions if waits else []},
        }

    def _end_pod(self, job: str, code: int) -> None:
        if pod := self.pods.get(f"{job}-{self.clusters}"):
            pod["status"]["phase"] = "Failed" if code else "Succeeded"
            ended = {"name": "ray-job-submitter", "state": {"terminated": {"exitCode": code}}}
            pod["status"]["containerStatuses"] = [ended]
        self.changed.notify_all()

    def _remove_pods(self, job: str, cluster: str) -> None:
        for name, pod in list(self.pods.items()):
            labels = pod["metadata"]["labels"]
            if labels.get("job-name") == job or labels.get("ray.io/cluster") == cluster:
                del self.pods[name]
        self.changed.notify_all()


@contextlib.contextmanager
def operator(folder: Path) -> Iterator[tuple[Operator, Path]]:
    """A cluster for as long as the block lasts, and the kubeconfig that names it."""
    cluster = Operator()
    server = Server(("127.0.0.1", 0), Api)
    server.cluster, server.token = cluster, TOKEN
    config = folder / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        f"clusters: [{{name: here, cluster: {{server: 'http://127.0.0.1:{server.server_port}'}}}}]\n"
        "contexts: [{name: here, context: {cluster: here, user: dev}}]\n"
        f"users: [{{name: dev, user: {{token: {TOKEN}}}}}]\n"
    )
    config.chmod(0o600)
    threads = [threading.Thread(target=one, daemon=True) for one in (lambda: server.serve_forever(0.05), cluster.play)]
    try:
        for thread in threads:
            thread.start()
        yield cluster, config
    finally:
        with cluster.changed:
            cluster.closed = True
            cluster.changed.notify_all()
        server.hang_up()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join(LEAVES_S)


def until(holds: Any, seconds: float = 10.0) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.01)
