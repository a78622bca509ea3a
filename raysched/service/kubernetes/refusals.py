"""Why a Kubernetes cluster said no, in words: from an answer's number and text, with no credentials in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from raysched.errors import MissingError, RayschedError, StudyError

LONGEST = 600
"""Characters that are shown of what a server says."""
INSTALL = (
    "install KubeRay 1.7: helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0 (deploy/README.md)"
)
CREDENTIALS = re.compile(
    r"(?i)\b(bearer|basic)\s+\S+|\beyJ[\w-]{8,}(\.[\w-]+)*|(token|password|secret)=\S+|://[^/\s@]+@"
)
WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request:? *(.*)', re.DOTALL)
QUOTA = re.compile(r"exceeded quota: (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of a cluster: `verb` on `resource`, as roles name them; `name` of one object, if of one."""

    verb: str
    resource: str
    namespace: str
    name: str = ""

    @property
    def can_i(self) -> str:
        what = {"rayjobs": "rayjobs.ray.io", "pods/log": "pods --subresource=log"}.get(self.resource, self.resource)
        return f"kubectl auth can-i {self.verb} {what} -n {self.namespace}"


class Taken(StudyError):
    """An object of this name is there already."""


class Absent(MissingError):
    """The object that was asked for is not there."""


class Gone(Exception):
    """What a watch was to go on from is forgotten (410): list again."""


class Lost(MissingError):
    """The connection broke, or nothing answers."""


def shown(text: str) -> str:
    """What a server said, on one line, without credentials, and not too much of it."""
    words = " ".join(CREDENTIALS.sub("...", text).split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."


def explained(status: int | None, body: str, asked: Asked) -> RayschedError | Gone:
    """The error of an answer that says no. `body` is a Status of Kubernetes, or whatever was sent instead."""
    reason, said, told = _read(body)
    if (webhook := WEBHOOK.search(said)) is not None:
        return StudyError(
            f"the cluster's admission webhook {webhook[1]} refuses it: {shown(webhook[2]) or 'it gave no reason'}",
            hint="change what it names, or ask who runs the cluster",
        )
    if (quota := QUOTA.search(said)) is not None:
        return MissingError(
            f"the quota of the namespace {asked.namespace} is used up: {shown(quota[1])}",
            hint=f"ask for less, or wait: kubectl describe resourcequota -n {asked.namespace}",
        )
    if status == 401:
        return MissingError(
            "the cluster does not know who you are (HTTP 401)",
            hint=f"log in again: `kubectl get rayjobs -n {asked.namespace}` must work",
        )
    if status == 403:
        return _forbidden(said, asked)
    if status == 404:
        return _not_found(reason, said, told, asked)
    if status == 409:
        if reason == "AlreadyExists":
            return Taken(f"{asked.name} is there already in the namespace {asked.namespace}")
        return MissingError(f"{asked.name} was changed by somebody else just now", hint="try again")
    if status == 410:
        return Gone(shown(said))
    if status in (400, 422):
        return _malformed(said, asked)
    return MissingError(
        f"the cluster could not {asked.verb} {asked.resource} (HTTP {status}): {shown(said) or 'it gave no reason'}",
        hint="try again in a minute, or ask who runs the cluster",
    )


def _read(body: str) -> tuple[str, str, bool]:
    """Reason and message of a Status, and whether it is one."""
    try:
        status = json.loads(body)
        if isinstance(status, dict) and status.get("kind") == "Status":
            return str(status.get("reason") or ""), str(status.get("message") or ""), True
    except ValueError:
        pass
    return "", body, False


def _forbidden(said: str, asked: Asked) -> RayschedError:
    if "being terminated" in said:
        return MissingError(f"the namespace {asked.namespace} is being deleted", hint="give another: --namespace")
    if "PodSecurity" in said:
        return StudyError(f"the namespace {asked.namespace} does not let such pods in: {shown(said)}")
    return MissingError(
        f"you may not {asked.verb} {asked.resource} in the namespace {asked.namespace}",
        hint=f"ask for the role raysched-submitter there, and check with: {asked.can_i}",
    )


def _not_found(reason: str, said: str, told: bool, asked: Asked) -> RayschedError:
    if re.search(r'namespaces? "[^"]*" not found', said):
        return Absent(
            f"there is no namespace {asked.namespace} on the cluster",
            key="--namespace",
            hint=f"kubectl create namespace {asked.namespace}, or name another",
        )
    named = bool(asked.name) and asked.name in said
    if asked.resource == "rayjobs" and not (told and named):
        return MissingError("the cluster knows no RayJob: KubeRay is not installed", hint=INSTALL)
    return Absent(f"there is no {asked.name or asked.resource} in the namespace {asked.namespace}")


def _malformed(said: str, asked: Asked) -> RayschedError:
    if asked.resource == "pods/log":  # its container has not started yet, or is gone
        return Absent(shown(said))
    if "strict decoding error" in said:
        return StudyError(
            f"the cluster's KubeRay does not know what is asked: {shown(said.partition('strict decoding error: ')[2])}",
            hint=INSTALL,
        )
    return StudyError(f"the cluster refuses {asked.name or asked.resource}: {shown(said) or 'it gave no reason'}")


def unreachable(server: str, error: BaseException) -> Lost:
    """No answer at all. `error` is of the network or TLS."""
    words = f"{type(error).__name__} {error}"
    reach = "check the address of the cluster and your VPN: kubectl cluster-info"
    if "CERTIFICATE_VERIFY_FAILED" in words or "SSLError" in words:
        return Lost(f"the certificate of {server} is not trusted here", hint="check the cluster's entry in kubeconfig")
    if "Timeout" in words or "timed out" in words:
        return Lost(f"no answer from the cluster at {server}", hint=reach)
    if "NewConnection" in words or "Resolution" in words or "refused" in words:
        return Lost(f"no cluster answers at {server}", hint=reach)
    return Lost(f"the connection to the cluster at {server} broke", hint="try again")
