"""The rules about a Ray cluster's spec, one function each: the place below the spec, and what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from raysched.service.kubernetes.names import DNS_LABEL
from raysched.service.kubernetes.options import LABEL_NAME, LABEL_VALUE, moves
from raysched.service.submit import holds_secret
from raysched.study.messages import is_secret

Spec = Mapping[str, Any]
Found = Iterator[tuple[str, str]]

TOKENS, K8S_TOKENS, PRIORITY = (2, 52), (2, 55), (2, 56)
"""Versions of Ray that know them first."""
V2_ENV = "RAY_enable_autoscaler_v2"
RESERVED = (
    "KUBERAY_GEN_AUTOSCALER_START_CMD",
    "RAY_CLUSTER_NAME",
    "RAY_CLUSTER_NAMESPACE",
    "RAY_HEAD_POD_NAME",
    "KUBERAY_CRD_VER",
)
"""Environment of the autoscaler that the operator sets."""
START_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
DRAIN_S = 30
"""So long Ray 2.60 drains a node that is told to end."""


def scales(cluster: Spec) -> bool:
    return bool(cluster.get("enableInTreeAutoscaling"))


def scales_v2(cluster: Spec) -> bool:
    return scales(cluster) and (cluster.get("autoscalerOptions") or {}).get("version") == "v2"


def head_pod(cluster: Spec) -> Spec:
    return _pod(cluster.get("headGroupSpec") or {})


def _pod(group: Spec) -> Spec:
    found: Spec = (group.get("template") or {}).get("spec") or {}
    return found


def _groups(cluster: Spec) -> Iterator[tuple[str, Spec]]:
    """The head's group and the workers', by where they stand."""
    yield "headGroupSpec", cluster.get("headGroupSpec") or {}
    yield from _worker_groups(cluster)


def _worker_groups(cluster: Spec) -> Iterator[tuple[str, Spec]]:
    for position, group in enumerate(cluster.get("workerGroupSpecs") or []):
        yield f"workerGroupSpecs[{position}]", group


def _all_containers(cluster: Spec) -> Iterator[tuple[str, Spec, Spec]]:
    """Where, the container, and its pod."""
    for at, group in _groups(cluster):
        for kind in ("initContainers", "containers"):
            for position, container in enumerate(_pod(group).get(kind) or []):
                yield f"{at}.template.spec.{kind}[{position}]", container, _pod(group)


def _env(container: Spec) -> dict[str, Spec]:
    return {one["name"]: one for one in container.get("env") or []}


def _head_env(cluster: Spec) -> dict[str, Spec]:
    return _env(next(iter(head_pod(cluster).get("containers") or []), {}))


def _version(cluster: Spec) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", str(cluster.get("rayVersion", "")))
    return tuple(map(int, found.groups())) if found else (0,)


def authenticated(cluster: Spec) -> Found:
    if (cluster.get("authOptions") or {}).get("mode") != "token":
        yield "authOptions.mode", "must be token: an open head runs anybody's code"


def auth_version(cluster: Spec) -> Found:
    auth = cluster.get("authOptions") or {}
    if auth.get("mode") == "token" and _version(cluster) < TOKENS:
        yield "rayVersion", f"must be given, and at least 2.52.0 for tokens, but got {cluster.get('rayVersion')!r}"
    if auth.get("enableK8sTokenAuth"):
        if _version(cluster) < K8S_TOKENS:
            yield "rayVersion", "must be at least 2.55.0 for enableK8sTokenAuth"
        if auth.get("secretName"):
            yield "authOptions.secretName", "cannot go with enableK8sTokenAuth"


def containers(cluster: Spec) -> Found:
    for at, group in _groups(cluster):
        if not _pod(group).get("containers"):
            yield f"{at}.template.spec.containers", "must hold at least one container"


def restarts(cluster: Spec) -> Found:
    for at, group in _groups(cluster):
        if scales_v2(cluster) and (given := _pod(group).get("restartPolicy", "Never")) != "Never":
            yield f"{at}.template.spec.restartPolicy", f"must be Never with autoscaler v2, but got {given}"


def autoscaler_env(cluster: Spec) -> Found:
    options = cluster.get("autoscalerOptions") or {}
    given = _head_env(cluster).get(V2_ENV)
    at = "headGroupSpec.template.spec.containers[0].env"
    if given is not None and scales(cluster) and options.get("version"):
        yield at, f"{V2_ENV} cannot go with autoscalerOptions.version"
    if given is not None and not scales(cluster) and given.get("value") in ("1", "true"):
        yield at, f"{V2_ENV} cannot be set without enableInTreeAutoscaling"
    for name in _env(options):
        if name in RESERVED:
            yield "autoscalerOptions.env", f"{name} is the operator's own"


def needs_v2(cluster: Spec) -> Found:
    for at, group in _worker_groups(cluster):
        for key in ("idleTimeoutSeconds", "priority"):
            if group.get(key) is not None and not scales_v2(cluster):
                yield f"{at}.{key}", "needs autoscaler v2"
        if group.get("priority") is not None and _version(cluster) < PRIORITY:
            yield f"{at}.priority", f"needs rayVersion 2.56.0, but got {cluster.get('rayVersion')!r}"


def replicas(cluster: Spec) -> Found:
    if ((cluster.get("autoscalerOptions") or {}).get("idleTimeoutSeconds") or 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds", "must be at least 0"
    for at, group in _worker_groups(cluster):
        least, number, most = (group.get(key) for key in ("minReplicas", "replicas", "maxReplicas"))
        if not scales(cluster) and (least is None or most is None):
            yield at, "minReplicas and maxReplicas must be set without autoscaling"
        low, high = least or 0, most if most is not None else 2**31 - 1
        if low < 0 or low > high or not low <= (low if number is None else number) <= high:
            yield at, f"0 <= minReplicas <= replicas <= maxReplicas must hold, but got {least}, {number}, {most}"


def resources(cluster: Spec) -> Found:
    for at, group in _groups(cluster):
        start = group.get("rayStartParams") or {}
        if group.get("resources") and (given := [key for key in START_RESOURCES if start.get(key)]):
            yield f"{at}.resources", f"cannot go with rayStartParams.{given[0]}"


def labels(cluster: Spec) -> Found:
    for at, group in _groups(cluster):
        if "labels" in (group.get("rayStartParams") or {}):
            yield f"{at}.rayStartParams.labels", "is not taken"
        for key, value in (group.get("labels") or {}).items():
            if not LABEL_NAME.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                yield f"{at}.labels", f"must be what Kubernetes takes as labels, but got {key!r}: {value!r}"


def groups(cluster: Spec) -> Found:
    names = [group.get("groupName", "") for _, group in _worker_groups(cluster)]
    for position, name in enumerate(names):
        if name in names[:position] or not DNS_LABEL.fullmatch(name) or len(name) > 63:
            yield f"workerGroupSpecs[{position}].groupName", f"must be a DNS label that no other has, but got {name!r}"


def gates(cluster: Spec) -> Found:
    for key in ("networkPolicy", "tlsOptions"):
        if cluster.get(key):
            yield key, "is refused while its feature gate is off"
    if (cluster.get("gcsFaultToleranceOptions") or {}).get("backend") == "rocksdb":
        yield "gcsFaultToleranceOptions.backend", "rocksdb is refused while its feature gate is off"


def redis(cluster: Spec) -> Found:
    start, env = (cluster.get("headGroupSpec") or {}).get("rayStartParams") or {}, _head_env(cluster)
    at = "headGroupSpec.template.spec.containers[0].env"
    if "RAY_REDIS_ADDRESS" in env:
        yield at, "RAY_REDIS_ADDRESS turns GCS fault tolerance on beside gcsFaultToleranceOptions"
    if "REDIS_USERNAME" in env or start.get("redis-username"):
        yield at, "a name for Redis belongs into gcsFaultToleranceOptions"
    options = cluster.get("gcsFaultToleranceOptions") or {}
    if options.get("storage") and options.get("backend", "redis") == "redis":
        yield "gcsFaultToleranceOptions.storage", "is for the backend rocksdb alone"
    if options and ("REDIS_PASSWORD" in env or start.get("redis-password")):
        yield at, "a password for Redis belongs into gcsFaultToleranceOptions"


def suspended(cluster: Spec) -> Found:
    for at, group in _worker_groups(cluster):
        if group.get("suspend") and scales(cluster):
            yield f"{at}.suspend", "cannot go with autoscaling"


def exposed(cluster: Spec) -> Found:
    head = cluster.get("headGroupSpec") or {}
    service = ((head.get("headService") or {}).get("spec") or {}).get("type")
    for key, kind in {"serviceType": head.get("serviceType"), "headService.spec.type": service}.items():
        if kind not in (None, "ClusterIP"):
            yield f"headGroupSpec.{key}", f"must be ClusterIP, but got {kind}"
    if head.get("enableIngress"):
        yield "headGroupSpec.enableIngress", "must not be set"
    for at, group in _groups(cluster):
        if _pod(group).get("hostNetwork"):
            yield f"{at}.template.spec.hostNetwork", "must not be set"


def idle_head(cluster: Spec) -> Found:
    given = ((cluster.get("headGroupSpec") or {}).get("rayStartParams") or {}).get("num-cpus")
    if given != "0":
        yield "headGroupSpec.rayStartParams.num-cpus", f'must be "0", so that no run takes the head, but got {given!r}'


def spot_head(cluster: Spec) -> Found:
    if ((cluster.get("headGroupSpec") or {}).get("labels") or {}).get("ray.io/market-type") == "spot":
        yield "headGroupSpec.labels", "the head must not be on spot: the sweep ends with it"


def limits(cluster: Spec) -> Found:
    for at, container, _ in _all_containers(cluster):
        given = container.get("resources") or {}
        if not {"cpu", "memory"} <= set(given.get("limits") or {}) or given.get("requests") != given.get("limits"):
            yield f"{at}.resources", "must give cpu and memory, as much in requests as in limits"


def grace(cluster: Spec) -> Found:
    for at, group in _groups(cluster):
        if (given := _pod(group).get("terminationGracePeriodSeconds", 30)) <= DRAIN_S:
            yield f"{at}.template.spec.terminationGracePeriodSeconds", f"must be more than {DRAIN_S}, but got {given}"


def images(cluster: Spec) -> Found:
    for at, container, _ in _all_containers(cluster):
        given = str(container.get("image", ""))
        if moves(given):
            yield f"{at}.image", f"must be one image for good, but got {given!r}"


def secrets(cluster: Spec) -> Found:
    for at, container, _ in _all_containers(cluster):
        for name, one in _env(container).items():
            value = one.get("value") or ""
            if holds_secret(value) or (value and is_secret(name) and not name.endswith(("_PATH", "_FILE"))):
                yield f"{at}.env", f"{name} must not stand in a manifest"


def hardened(cluster: Spec) -> Found:
    for at, container, pod in _all_containers(cluster):
        own, shared = container.get("securityContext") or {}, pod.get("securityContext") or {}
        if not own.get("runAsNonRoot", shared.get("runAsNonRoot")):
            yield f"{at}.securityContext.runAsNonRoot", "must be true"
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{at}.securityContext.allowPrivilegeEscalation", "must be false"
        if "ALL" not in ((own.get("capabilities") or {}).get("drop") or []):
            yield f"{at}.securityContext.capabilities.drop", "must hold ALL"
