"""Rules that every rendered manifest keeps, and for each rule something that breaks it."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.deploy import golden, policy
from tests.deploy.quota import quantity, within_quota
from tests.deploy.references import OF_THE_USER, references, resolved
from tests.deploy.workloads import Object, pods

TOGETHER = {"prepare": ("base",), "prometheus": ("base",), "grafana": ("base",)}
"""Renders that are applied beside others."""
SWEEP_FROM = "dev"
"""Overlays without a sweep get this one's, for the selectors that wait for it."""
IN_THE_OPEN = {"dev": "its passwords are for trials, and its first line says so"}


@functools.cache
def applied(name: str) -> list[Object]:
    """All that is in a namespace where the render `name` was applied and a sweep runs."""
    found = [one for each in (*TOGETHER.get(name, ()), name) for one in golden.committed(each)]
    if not any(one["kind"] == "RayJob" for one in found):
        found += [one for one in golden.committed(SWEEP_FROM) if one["kind"] == "RayJob"]
    return found


@pytest.mark.parametrize("name", golden.TARGETS)
@pytest.mark.parametrize("rule", [*policy.RULES, within_quota], ids=lambda rule: rule.__name__)
def test_a_rule_is_kept(rule: policy.Rule, name: str) -> None:
    if rule is policy.no_plain_secrets and name in IN_THE_OPEN:
        assert list(rule(applied(name))), f"no longer an exception: {IN_THE_OPEN[name]}"
        return
    assert list(rule(applied(name))) == []


def test_no_exception_is_stale() -> None:
    objects = [one for name in golden.TARGETS for one in applied(name)]
    assert set(policy.WRITABLE_ROOT) <= {
        f"{pod.where}/{one['name']}" for pod in pods(objects) for one in pod.containers
    }
    asked = {(name, key) for _, kind, name, key in references(objects) if kind == "Secret" and key is not None}
    assert {(name, key) for name, keys in OF_THE_USER.items() for key in keys} <= asked


def _set(*path: str | int, value: Any) -> Callable[[Object], None]:
    def change(one: Object) -> None:
        below: Any = one
        for key in path[:-1]:
            below = below.setdefault(key, {}) if isinstance(key, str) else below[key]
        below[path[-1]] = value

    return change


def _drop(*path: str | int) -> Callable[[Object], None]:
    def change(one: Object) -> None:
        below: Any = one
        for key in path[:-1]:
            below = below[key]
        del below[path[-1]]

    return change


POD = ("spec", "template", "spec")
SERVER = (*POD, "containers", 0)
HEAD = ("spec", "rayClusterSpec", "headGroupSpec")
RUNS = (*HEAD, "template", "spec", "containers", 0)
A_TOKEN = [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]

BREAKS: list[tuple[policy.Rule, str, Callable[[Object], None], str]] = [
    (policy.non_root, "Deployment mlflow", _set(*POD, "securityContext", "runAsUser", value=0), "may run as root"),
    (policy.non_root, "Deployment mlflow", _drop(*POD, "securityContext", "runAsNonRoot"), "may run as root"),
    (policy.non_root, "Deployment mlflow", _drop(*SERVER, "securityContext", "allowPrivilegeEscalation"), "may gain"),
    (policy.non_root, "RayJob *", _drop(*RUNS, "securityContext", "capabilities"), "keeps capabilities"),
    (policy.non_root, "Deployment mlflow", _drop(*POD, "securityContext", "seccompProfile"), "no seccomp profile"),
    (policy.non_root, "Deployment mlflow", _set(*SERVER, "securityContext", "privileged", value=True), "is privileged"),
    (policy.autoscaler, "RayJob *", _set("spec", "rayClusterSpec", "autoscalerOptions", value={}), "is not version 2"),
    (
        policy.autoscaler,
        "RayJob *",
        _drop("spec", "rayClusterSpec", "autoscalerOptions", "securityContext"),
        "may run as root",
    ),
    (policy.autoscaler, "RayJob *", _drop("spec", "rayClusterSpec", "autoscalerOptions", "resources"), "no requests"),
    (policy.read_only_root, "RayJob *", _drop(*RUNS, "securityContext", "readOnlyRootFilesystem"), "may write"),
    (policy.images, "Deployment mlflow", _set(*SERVER, "image", value="raysched-mlflow:latest"), "no fixed image"),
    (policy.images, "RayJob *", _set(*RUNS, "image", value="registry:5000/raysched"), "no fixed image"),
    (policy.resources, "Deployment mlflow", _drop(*SERVER, "resources", "limits", "cpu"), "no request or limit of cpu"),
    (policy.resources, "Deployment mlflow", _drop(*SERVER, "resources"), "no request or limit of cpu, memory"),
    (policy.resources, "RayJob *", _set(*RUNS, "resources", "limits", "memory", value="9Gi"), "and may take 9Gi"),
    (policy.probes, "Deployment mlflow", _drop(*SERVER, "readinessProbe"), "no readinessProbe"),
    (policy.no_plain_secrets, "Service mlflow", _set("kind", value="Secret"), "stands in the repository"),
    (
        policy.no_plain_secrets,
        "RayJob *",
        _set("spec", "entrypoint", value="exec x --optuna postgresql://user:hush@host/db"),
        "a password in spec.entrypoint",
    ),
    (
        policy.no_plain_secrets,
        "Deployment mlflow",
        _set(*SERVER, "env", value=[{"name": "MLFLOW_AUTH_ADMIN_PASSWORD", "value": "hush"}]),
        "is written out",
    ),
    (policy.closed, "Service mlflow", _set("spec", "type", value="NodePort"), "is a NodePort"),
    (policy.closed, "Service mlflow", _set("spec", "type", value="LoadBalancer"), "is a LoadBalancer"),
    (policy.closed, "Service mlflow", _set("kind", value="Ingress"), "to the outside"),
    (policy.closed, "RayJob *", _set(*HEAD, "serviceType", value="NodePort"), "shows its head"),
    (policy.closed, "RayJob *", _set(*HEAD, "enableIngress", value=True), "shows its head"),
    (policy.closed, "Deployment mlflow", _set(*POD, "hostNetwork", value=True), "hostNetwork"),
    (policy.closed, "RayJob *", _set(*RUNS, "ports", 0, "hostPort", value=8265), "takes a port of its node"),
    (
        policy.closed,
        "Deployment mlflow",
        _set(*POD, "volumes", value=[{"name": "x", "hostPath": {"path": "/"}}]),
        "volume x is a hostPath",
    ),
    (policy.no_token, "Deployment mlflow", _drop(*POD, "automountServiceAccountToken"), "is given a token"),
    (
        policy.no_token,
        "RayJob *",
        lambda one: (
            _set(*HEAD, "template", "spec", "volumes", value=A_TOKEN)(one),
            _set(*RUNS, "volumeMounts", value=[{"name": "t", "mountPath": "/t"}])(one),
        )[0],
        "mounts a token",
    ),
    (policy.authenticated, "RayJob *", _drop("spec", "rayClusterSpec", "authOptions"), "asks nobody for a token"),
    (
        policy.authenticated,
        "RayJob *",
        _set("spec", "rayClusterSpec", "authOptions", "mode", value="disabled"),
        "asks nobody for a token",
    ),
    (policy.contained, "Service mlflow", _drop("metadata", "namespace"), "lacks a namespace"),
    (policy.contained, "Namespace raysched", _set("metadata", "namespace", value="raysched"), "has a namespace"),
    (
        policy.contained,
        "RoleBinding raysched-submitter",
        _set("subjects", 0, "namespace", value="team-b"),
        "binds an account of team-b",
    ),
    (
        policy.contained,
        "Namespace raysched",
        _set("metadata", "labels", "pod-security.kubernetes.io/enforce", value="baseline"),
        "takes pods that are not restricted",
    ),
    (
        policy.selected,
        "Service mlflow",
        _set("spec", "selector", "app.kubernetes.io/name", value="x"),
        "selects no pod",
    ),
    (
        policy.selected,
        "Deployment mlflow",
        _set("spec", "selector", "matchLabels", value={"ray.io/node-type": "head"}),
        "does not select its own pods",
    ),
    (
        policy.selected,
        "PodDisruptionBudget mlflow",
        _set("spec", "selector", "matchLabels", value={"app": "mlflow"}),
        "selects no pod",
    ),
    (
        policy.selected,
        "NetworkPolicy mlflow",
        _set("spec", "ingress", 0, "from", 0, "podSelector", "matchLabels", value={"ray.io/node-type": "boss"}),
        "a peer that no pod is",
    ),
    (policy.disruptions, "PodDisruptionBudget sweep-heads", _set("spec", "minAvailable", value="100%"), "protects no"),
    (policy.disruptions, "PodDisruptionBudget sweep-heads", _drop("spec", "minAvailable"), "protects no"),
    (resolved, "Deployment mlflow", _set(*POD, "serviceAccountName", value="x"), "no ServiceAccount x"),
    (
        resolved,
        "Deployment mlflow",
        _set(*SERVER, "envFrom", 0, "configMapRef", "name", value="mlflow-settings"),
        "no ConfigMap mlflow-settings",
    ),
    (
        resolved,
        "Deployment mlflow",
        _set(*POD, "initContainers", 0, "env", 0, "valueFrom", "secretKeyRef", "key", value="uri"),
        "no Secret raysched-db with uri",
    ),
    (
        resolved,
        "RayJob *",
        _set("spec", "rayClusterSpec", "authOptions", "secretName", value="token-x7f"),
        "no Secret token-x7f",
    ),
    (
        resolved,
        "RayJob *",
        _set("metadata", "labels", "kueue.x-k8s.io/queue-name", value="nowhere"),
        "no LocalQueue nowhere",
    ),
    (
        resolved,
        "PersistentVolumeClaim raysched-storage",
        _set("kind", value="Volume"),
        "no PersistentVolumeClaim",
    ),
    (resolved, "RoleBinding raysched-submitter", _set("roleRef", "name", value="admin"), "no Role admin"),
    (within_quota, "ResourceQuota team", _set("spec", "hard", "limits.memory", value="20Gi"), "20Gi allowed"),
    (within_quota, "ResourceQuota team", _set("spec", "hard", "requests.nvidia.com/gpu", value="7"), "8 requests"),
]


@pytest.mark.parametrize(("rule", "name", "change", "says"), BREAKS)
def test_a_rule_can_be_broken(rule: policy.Rule, name: str, change: Callable[[Object], None], says: str) -> None:
    objects = copy.deepcopy(applied("gpu"))
    change(_find(objects, name))
    found = list(rule(objects))
    assert any(says in problem for problem in found), found


def test_every_rule_has_something_that_breaks_it() -> None:
    assert {rule for rule, *_ in BREAKS} == {*policy.RULES, within_quota}


def _find(objects: Sequence[Object], name: str) -> Object:
    kind, _, wanted = name.partition(" ")
    return next(one for one in objects if one["kind"] == kind and wanted in ("*", one["metadata"]["name"]))


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), (2, 2), ("64", 64), ("1Gi", 2**30), ("512Mi", 2**29), ("1.5Ti", 1.5 * 2**40)]
)
def test_quantities(text: str | int, value: float) -> None:
    assert quantity(text) == value


def test_mlflow_answers_to_every_name_of_its_service_and_to_no_other() -> None:
    deployment = _find(golden.committed("base"), "Deployment mlflow")
    env = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert list(env).index("NAMESPACE") < list(env).index("MLFLOW_SERVER_ALLOWED_HOSTS"), "expanded in this order"
    hosts = env["MLFLOW_SERVER_ALLOWED_HOSTS"]["value"].replace("$(NAMESPACE)", "raysched").split(",")
    names = ["mlflow", "mlflow.raysched", "mlflow.raysched.svc", "mlflow.raysched.svc.cluster.local"]
    assert hosts == [f"{name}:5000" for name in (*names, "localhost", "127.0.0.1")]


def test_the_submitter_may_do_no_more_than_it_needs() -> None:
    role = _find(golden.committed("base"), "Role raysched-submitter")
    given = {(key, verb) for rule in role["rules"] for key in rule["resources"] for verb in rule["verbs"]}
    jobs = {("rayjobs", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")}
    pods_read = {(key, verb) for key in ("pods", "pods/log") for verb in ("get", "list")}
    assert given == jobs | pods_read | {("rayjobs/status", "get"), ("configmaps", "get"), ("configmaps", "create")}


def test_replicas_share_what_they_must() -> None:
    """Several MLflow servers: none keeps artifacts on a volume of its own, and all sign with one key."""
    deployment = _find(golden.committed("prod"), "Deployment mlflow")
    spec = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 2
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"]
    settings = next(one for one in golden.committed("prod") if one["metadata"]["name"].startswith("mlflow-settings"))
    assert re.fullmatch(r"s3://[a-z-]+/mlflow", settings["data"]["MLFLOW_ARTIFACTS_DESTINATION"])
