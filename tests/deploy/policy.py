"""What every rendered manifest must keep to; each rule tells what breaks it, and nothing where all is well."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.deploy.reach import matches
from tests.deploy.references import resolved
from tests.deploy.workloads import SERVERS, Object, Pod, pods

WRITABLE_ROOT: Mapping[str, str] = {}
"""Containers whose root may be written, and why: {"Deployment name/container": reason}."""
CLUSTER_WIDE = ("Namespace", "ClusterQueue", "ResourceFlavor", "WorkloadPriorityClass")
HIDDEN = re.compile(r"(password|passwd|secret|token|api_?key|access_?key)", re.IGNORECASE)
WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+]*://[^/\s:@]*:[^/\s@]+@")
SAFE_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI", "ephemeral"}

Rule = Callable[[Sequence[Object]], Iterator[str]]


def _containers(objects: Sequence[Object]) -> Iterator[tuple[Pod, Mapping[str, Any], str]]:
    for pod in pods(objects):
        for one in pod.containers:
            yield pod, one, f"{pod.where}/{one['name']}"


def non_root(objects: Sequence[Object]) -> Iterator[str]:
    """What Pod Security `restricted` asks of a pod and its containers."""
    for pod, one, where in _containers(objects):
        context = {**pod.spec.get("securityContext", {}), **one.get("securityContext", {})}
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser", 0):
            yield f"{where}: may run as root"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where}: keeps capabilities"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{where}: has no seccomp profile"
        if context.get("privileged"):
            yield f"{where}: is privileged"


def autoscaler(objects: Sequence[Object]) -> Iterator[str]:
    """The operator's sidecar takes its security and resources from the cluster's spec alone."""
    for one in objects:
        cluster = one.get("spec", {}).get("rayClusterSpec", {}) if one["kind"] == "RayJob" else {}
        if not cluster.get("enableInTreeAutoscaling"):
            continue
        where, options = f"RayJob {one['metadata']['name']} autoscaler", cluster.get("autoscalerOptions", {})
        if options.get("version") != "v2":
            yield f"{where}: is not version 2"
        context = options.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where}: may run as root"
        if not {"requests", "limits"} <= set(options.get("resources", {})):
            yield f"{where}: has no requests or limits"


def read_only_root(objects: Sequence[Object]) -> Iterator[str]:
    for _, one, where in _containers(objects):
        if where not in WRITABLE_ROOT and one.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{where}: may write to its image"


def images(objects: Sequence[Object]) -> Iterator[str]:
    for _, one, where in _containers(objects):
        image = one["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"{where}: {image} is no fixed image"


def resources(objects: Sequence[Object]) -> Iterator[str]:
    """CPU and memory asked for and bounded; memory the same, so that no node promises what it lacks."""
    for _, one, where in _containers(objects):
        asked = one.get("resources", {}).get("requests", {})
        most = one.get("resources", {}).get("limits", {})
        if missing := {"cpu", "memory"} - (set(asked) & set(most)):
            yield f"{where}: no request or limit of {', '.join(sorted(missing))}"
        elif asked["memory"] != most["memory"]:
            yield f"{where}: asks for {asked['memory']} and may take {most['memory']}"


def probes(objects: Sequence[Object]) -> Iterator[str]:
    """Of servers. The operator adds those of Ray's pods, and a Job ends by itself."""
    for pod in pods(objects):
        if pod.owner["kind"] in SERVERS:
            for one in pod.spec["containers"]:
                if missing := {"startupProbe", "readinessProbe", "livenessProbe"} - set(one):
                    yield f"{pod.where}/{one['name']}: no {', '.join(sorted(missing))}"


def no_plain_secrets(objects: Sequence[Object]) -> Iterator[str]:
    for one in objects:
        if one["kind"] == "Secret":
            yield f"Secret {one['metadata']['name']}: stands in the repository"
        for where, text in _texts(one):
            if WITH_PASSWORD.search(text):
                yield f"{one['kind']} {one['metadata']['name']}: a password in {where}"
    for _, container, where in _containers(objects):
        for env in container.get("env", ()):
            if HIDDEN.search(env["name"]) and env.get("value"):
                yield f"{where}: {env['name']} is written out"


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(below, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _texts(below, f"{where}.{number}")
    elif isinstance(value, str):
        yield where, value


def closed(objects: Sequence[Object]) -> Iterator[str]:
    """Nothing is shown to the outside, and nothing of a node is seen from a pod."""
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] in ("Ingress", "Gateway", "HTTPRoute"):
            yield f"{name}: shows a server to the outside"
        if one["kind"] == "Service" and one["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{name}: is a {one['spec']['type']}"
        if one["kind"] == "RayJob":
            service = one["spec"]["rayClusterSpec"]["headGroupSpec"].get("serviceType", "ClusterIP")
            if service != "ClusterIP" or "enableIngress" in one["spec"]["rayClusterSpec"]["headGroupSpec"]:
                yield f"{name}: shows its head to the outside"
    for pod in pods(objects):
        if shared := [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key)]:
            yield f"{pod.where}: {shared[0]}"
        for volume in pod.spec.get("volumes", ()):
            if kinds := set(volume) - {"name"} - SAFE_VOLUMES:
                yield f"{pod.where}: volume {volume['name']} is a {kinds.pop()}"
        if any("hostPort" in port for one in pod.containers for port in one.get("ports", ())):
            yield f"{pod.where}: takes a port of its node"


def no_token(objects: Sequence[Object]) -> Iterator[str]:
    """No container holds a key to the API server; only the autoscaler, which the operator adds, mounts one."""
    for pod in pods(objects):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.where}: is given a token of the API server"
        tokens = {
            volume["name"]
            for volume in pod.spec.get("volumes", ())
            if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ()))
        }
        for one in pod.containers:
            if any(mount["name"] in tokens for mount in one.get("volumeMounts", ())):
                yield f"{pod.where}/{one['name']}: mounts a token of the API server"


def authenticated(objects: Sequence[Object]) -> Iterator[str]:
    for one in objects:
        if one["kind"] == "RayJob" and one["spec"]["rayClusterSpec"].get("authOptions") != {
            "mode": "token",
            "secretName": "raysched-ray-auth",
        }:
            yield f"RayJob {one['metadata']['name']}: Ray asks nobody for a token"


def contained(objects: Sequence[Object]) -> Iterator[str]:
    """Each namespaced object names its namespace, and no other one does: an API server would refuse it."""
    for one in objects:
        inside = "namespace" in one["metadata"]
        if inside == (one["kind"] in CLUSTER_WIDE):
            yield f"{one['kind']} {one['metadata']['name']}: {'has' if inside else 'lacks'} a namespace"
        for subject in one.get("subjects", ()):
            if subject["namespace"] != one["metadata"]["namespace"]:
                yield f"{one['kind']} {one['metadata']['name']}: binds an account of {subject['namespace']}"
        if one["kind"] == "Namespace":
            labels = one["metadata"].get("labels", {})
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"Namespace {one['metadata']['name']}: takes pods that are not restricted"


def selected(objects: Sequence[Object]) -> Iterator[str]:
    """Every selector finds a pod."""
    there = [pod.labels for pod in pods(objects)]
    for one in objects:
        spec = one.get("spec", {})
        selector = spec.get("podSelector") if one["kind"] == "NetworkPolicy" else spec.get("selector")
        if one["kind"] == "Service":
            selector = {"matchLabels": selector}
        if one["kind"] not in ("NetworkPolicy", "Service", "PodDisruptionBudget", "PodMonitor", *SERVERS):
            continue
        if not any(matches(selector, labels) for labels in there):
            yield f"{one['kind']} {one['metadata']['name']}: selects no pod"
        if one["kind"] in SERVERS and not matches(selector, spec["template"]["metadata"]["labels"]):
            yield f"{one['kind']} {one['metadata']['name']}: does not select its own pods"
    for one in objects:
        if one["kind"] == "NetworkPolicy":
            for peer in _peers(one):
                if set(peer) == {"podSelector"} and not any(matches(peer["podSelector"], labels) for labels in there):
                    yield f"NetworkPolicy {one['metadata']['name']}: a peer that no pod is"


def _peers(policy: Object) -> Iterator[Mapping[str, Any]]:
    for key, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(key, ()):
            yield from rule.get(side, ())


def disruptions(objects: Sequence[Object]) -> Iterator[str]:
    """A budget of pods that a custom resource makes must be a number of those that stay: nothing else counts there."""
    ray = [pod.labels for pod in pods(objects) if "ray.io/node-type" in pod.labels]
    for one in objects:
        if one["kind"] == "PodDisruptionBudget":
            of_ray = any(matches(one["spec"]["selector"], labels) for labels in ray)
            if of_ray and not isinstance(one["spec"].get("minAvailable"), int):
                yield f"PodDisruptionBudget {one['metadata']['name']}: protects no pod of a RayJob"


RULES: tuple[Rule, ...] = (
    non_root,
    autoscaler,
    read_only_root,
    images,
    resources,
    probes,
    no_plain_secrets,
    closed,
    no_token,
    authenticated,
    contained,
    selected,
    disruptions,
    resolved,
)


def broken(objects: Sequence[Object], rules: Iterable[Rule] = RULES) -> list[str]:
    return [problem for rule in rules for problem in rule(objects)]
