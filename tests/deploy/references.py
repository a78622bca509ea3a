"""Every name in rendered manifests leads somewhere: to another object, or to a Secret that the user makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.deploy.workloads import Object, pods

OF_THE_USER: Mapping[str, frozenset[str]] = {
    "raysched-db": frozenset({"optuna-uri", "mlflow-uri", "mlflow-auth-uri"}),
    "raysched-mlflow-auth": frozenset(
        {"username", "password", "admin-password", "flask-secret-key", "viewer-username", "viewer-password"}
    ),
    "raysched-ray-auth": frozenset({"auth_token"}),
    "raysched-s3": frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}),
    "raysched-hub": frozenset({"token"}),
}
"""Secrets that are made by hand or by a vault, with their keys; deploy/README.md says how."""
IN_EVERY_NAMESPACE = "kube-root-ca.crt"

Found = Iterator[tuple[str, str, str, str | None]]
"""Where, kind, name, and the key that is asked for."""


def resolved(objects: Sequence[Object]) -> Iterator[str]:
    """Every name leads somewhere: to an object of the same render, or to a Secret that the user makes."""
    there = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    for one in objects:
        for claim in one.get("spec", {}).get("volumeClaimTemplates", ()) if one["kind"] == "StatefulSet" else ():
            there["PersistentVolumeClaim", claim["metadata"]["name"]] = claim
    for where, kind, name, key in references(objects):
        if kind == "Secret" and ("Secret", name) not in there:
            if key not in OF_THE_USER.get(name, ()) and not (key is None and name in OF_THE_USER):
                yield f"{where}: no Secret {name} with {key}"
        elif (kind, name) not in there:
            yield f"{where}: no {kind} {name}"
        elif key is not None and key not in _keys(there[kind, name]):
            yield f"{where}: {kind} {name} has no {key}"


def _keys(one: Object) -> set[str]:
    return {*one.get("data", {}), *one.get("stringData", {}), *one.get("binaryData", {})}


def references(objects: Sequence[Object]) -> Found:
    """Where, kind, name, and the key that is asked for."""
    for pod in pods(objects):
        if name := pod.spec.get("serviceAccountName"):
            yield pod.where, "ServiceAccount", name, None
        for volume in pod.spec.get("volumes", ()):
            yield from _of_volume(f"{pod.where} volume {volume['name']}", volume)
        for one in pod.containers:
            yield from _of_container(f"{pod.where}/{one['name']}", one)
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] == "RayJob" and (
            secret := one["spec"]["rayClusterSpec"].get("authOptions", {}).get("secretName")
        ):
            yield name, "Secret", secret, "auth_token"
        labels = one["metadata"].get("labels", {})
        if queue := labels.get("kueue.x-k8s.io/queue-name"):
            yield name, "LocalQueue", queue, None
        if priority := labels.get("kueue.x-k8s.io/priority-class"):
            yield name, "WorkloadPriorityClass", priority, None
        if one["kind"] == "LocalQueue":
            yield name, "ClusterQueue", one["spec"]["clusterQueue"], None
        if one["kind"] == "ClusterQueue":
            for flavor in (each for group in one["spec"]["resourceGroups"] for each in group["flavors"]):
                yield name, "ResourceFlavor", flavor["name"], None
        if one["kind"] == "RoleBinding":
            yield name, one["roleRef"]["kind"], one["roleRef"]["name"], None
            for subject in one["subjects"]:
                yield name, subject["kind"], subject["name"], None


def _of_volume(where: str, volume: Mapping[str, Any]) -> Found:
    for source in volume.get("projected", {}).get("sources", ()):
        if source.get("configMap", {}).get("name") != IN_EVERY_NAMESPACE:
            yield from _of_volume(where, source)
    if (claim := volume.get("persistentVolumeClaim")) is not None:
        yield where, "PersistentVolumeClaim", claim["claimName"], None
    for source in ("configMap", "secret"):
        if (found := volume.get(source)) is not None and not found.get("optional"):
            kind = "ConfigMap" if source == "configMap" else "Secret"
            name = found.get("name") or found["secretName"]
            yield where, kind, name, None
            for item in found.get("items", ()):
                yield where, kind, name, item["key"]


def _of_container(where: str, one: Mapping[str, Any]) -> Found:
    for env in one.get("env", ()):
        for source, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if (found := env.get("valueFrom", {}).get(source)) is not None and _asked(found):
                yield f"{where} {env['name']}", kind, found["name"], found["key"]
    for env in one.get("envFrom", ()):
        for source, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if (found := env.get(source)) is not None and _asked(found):
                yield where, kind, found["name"], None


def _asked(reference: Mapping[str, Any]) -> bool:
    return not reference.get("optional") or reference["name"] in OF_THE_USER
