"""The pods of a sweep: the head, where its driver runs, workers on demand and on spot, and the submitter.

All of them run as nobody in particular: no root, no capabilities, nothing of the image writable, no token of a service
account. What they may write is a bounded /tmp, a bounded /dev/shm (Ray's object store) and the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysched.service.kubernetes.options import ClusterOptions, Toleration, bytes_of
from raysched.service.kubernetes.sizing import group_sizes

Manifest = dict[str, Any]

USER = 1000
GRACE_S = 60
"""Ray drains a node for up to 30 s, and a driver saves; then the pod is killed."""
TMP = "10Gi"
SHM_SHARE = 0.4
"""Of a pod's memory: Ray's object store takes 30 %."""
METRICS = 8080
SPOT_PRIORITY = 10
IDLE_S = 300
"""An idle worker is kept so long, for the next run; a pod starts in about a minute."""
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all pods of a sweep share. `files` are the paths in `config_map` by its keys, mounted at `folder`."""

    options: ClusterOptions
    labels: Mapping[str, str]
    object_store: bool
    config_map: str
    files: Mapping[str, str] = field(default_factory=dict)
    folder: str
    runs: int
    """Most that room is asked for, where workers come on demand."""

    def labelled(self, component: str) -> dict[str, str]:
        return {**self.labels, "app.kubernetes.io/component": component}


def head(setup: Setup) -> Manifest:
    """The head group: no runs, but the driver, which alone talks to MLflow and the search's database."""
    options = setup.options
    container = _ray(setup, "ray-head", {"cpu": str(options.head_cpu), "memory": options.head_memory})
    container["env"] += _driver_env(setup)
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "metrics", "containerPort": METRICS},
    ]
    template = _template(setup, "head", container, options.head_memory)
    if options.autoscale:
        template["spec"]["volumes"].append(_token())
    _away_from_spot(template, options)
    return {
        "serviceType": "ClusterIP",
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
        "template": template,
    }


def workers(setup: Setup, most: int) -> list[Manifest]:
    """The worker groups; beyond `most` pods none would have a run."""
    options = setup.options
    groups: list[Manifest] = []
    for name, number in zip(("workers", "spot"), group_sizes(most, options), strict=True):
        if number:
            first = not groups
            groups.append(_group(setup, name, number, options.min_workers if first else 0))
    return groups


def _group(setup: Setup, name: str, most: int, fewest: int) -> Manifest:
    options, spot = setup.options, name == "spot"
    amounts = {"cpu": str(options.worker_cpu), "memory": options.worker_memory}
    amounts |= {options.gpu_resource: str(options.gpus)} if options.gpus else {}
    container = _ray(setup, "ray-worker", amounts)
    container["ports"] = [{"name": "metrics", "containerPort": METRICS}]
    template = _template(setup, "worker", container, options.worker_memory)
    tolerations = options.tolerations + (options.gpu_tolerations if options.gpus else ())
    _place(template, options.node_selector, tolerations)
    if spot:
        _place(template, options.spot_node_selector, options.spot_tolerations)
    else:
        _away_from_spot(template, options)
    fewest = min(fewest, most) if options.autoscale else most
    group: Manifest = {"groupName": name, "replicas": fewest, "minReplicas": fewest, "maxReplicas": most}
    if options.autoscale:
        group |= {"priority": SPOT_PRIORITY if spot else 0, "idleTimeoutSeconds": IDLE_S}
    labels = {"ray.io/market-type": "spot" if spot else "on-demand"}
    return group | {"labels": labels, "rayStartParams": {}, "template": template}


def submitter(setup: Setup) -> Manifest:
    """Hands the driver's command to Ray and follows its log; the operator fills in its command."""
    container = {
        "name": "ray-job-submitter",
        "image": setup.options.image_name,
        "imagePullPolicy": "IfNotPresent",
        "env": [_env("RAY_AUTH_MODE", "token")],
        "resources": _resources({"cpu": "500m", "memory": "1Gi"}),
        "securityContext": _hardened(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "metadata": {"labels": setup.labelled("submitter")},
        "spec": _pod(setup.options)
        | {
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }


def autoscaler() -> Manifest:
    """Ray's autoscaler beside the head: it alone gets the service account's token."""
    return {
        "version": "v2",
        "upscalingMode": "Default",
        "idleTimeoutSeconds": IDLE_S,
        "imagePullPolicy": "IfNotPresent",
        "resources": _resources({"cpu": "500m", "memory": "1Gi"}),
        "securityContext": _hardened(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "service-account-token", "mountPath": TOKEN, "readOnly": True},
        ],
    }


def _ray(setup: Setup, name: str, amounts: Mapping[str, str]) -> Manifest:
    options = setup.options
    container: Manifest = {
        "name": name,
        "image": options.image_name,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            _env("RAY_AUTH_MODE", "token"),
            _env("RAY_USAGE_STATS_ENABLED", "0"),
            *([_env("HF_HOME", options.hub_home)] if options.hub_home else []),
            _env("HF_HUB_OFFLINE", "1" if options.offline else "0"),
        ],
        "resources": _resources(amounts),
        "securityContext": _hardened(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    if setup.object_store:  # optional: a node's role may do as well
        container["envFrom"] = [{"secretRef": {"name": "raysched-s3", "optional": True}}]
    if options.claim is not None:
        container["volumeMounts"].append({"name": "storage", "mountPath": options.mount})
    if setup.files:
        container["volumeMounts"].append({"name": "study", "mountPath": setup.folder, "readOnly": True})
    return container


def _driver_env(setup: Setup) -> list[Manifest]:
    options = setup.options
    found = []
    if options.mlflow is not None:
        found += [
            _env("RAYSCHED_MLFLOW", options.mlflow),
            _secret("MLFLOW_TRACKING_USERNAME", "raysched-mlflow-auth", "username"),
            _secret("MLFLOW_TRACKING_PASSWORD", "raysched-mlflow-auth", "password"),
        ]
    if options.database:
        found.append(_secret("RAYSCHED_OPTUNA", "raysched-db", "optuna-uri"))
    if options.autoscale:
        found.append(_env("RAYSCHED_AUTOSCALE", str(setup.runs)))
    return found


def _template(setup: Setup, component: str, container: Manifest, memory: str) -> Manifest:
    options = setup.options
    shm = f"{int(bytes_of(memory) * SHM_SHARE) >> 20}Mi"
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": TMP}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm}},
    ]
    if options.claim is not None:
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": options.claim}})
    if setup.files:
        items = [{"key": key, "path": path} for key, path in setup.files.items()]
        config_map = {"name": setup.config_map, "defaultMode": 0o444, "items": items}
        volumes.append({"name": "study", "configMap": config_map})
    scraped = {"scrape": "true", "port": str(METRICS), "path": "/metrics"}
    return {
        "metadata": {
            "labels": setup.labelled(component),
            "annotations": {f"prometheus.io/{key}": value for key, value in scraped.items()},
        },
        "spec": _pod(options) | {"containers": [container], "volumes": volumes},
    }


def _pod(options: ClusterOptions) -> Manifest:
    spec: Manifest = {
        "serviceAccountName": options.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if options.image_pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    if options.priority_class is not None and options.queue is None:
        spec["priorityClassName"] = options.priority_class
    return spec


def _place(template: Manifest, selector: Mapping[str, str], tolerations: tuple[Toleration, ...]) -> None:
    spec = template["spec"]
    if selector:
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), **selector}
    if tolerations:
        spec["tolerations"] = [*spec.get("tolerations", []), *(one.manifest() for one in tolerations)]


def _away_from_spot(template: Manifest, options: ClusterOptions) -> None:
    """A node is no spot node where one of the labels that spot nodes have is another one."""
    terms = [
        {"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}
        for key, value in sorted(options.spot_node_selector.items())
    ]
    if options.spot_workers and terms:
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        template["spec"]["affinity"] = {"nodeAffinity": required}


def _token() -> Manifest:
    """What Kubernetes mounts into every container, unless told not to: here for the autoscaler's alone."""
    namespace = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", **namespace}]}},
    ]
    return {"name": "service-account-token", "projected": {"defaultMode": 0o444, "sources": sources}}


def _hardened() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def _resources(amounts: Mapping[str, str]) -> Manifest:
    """Requests are limits: Ray counts on what it was told, and a pod with all of its memory is evicted last."""
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _env(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}


def _secret(name: str, secret: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
