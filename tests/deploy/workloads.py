"""The pods of rendered manifests, those of a RayJob with the labels that its operator gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
OWNED = ("Deployment", "StatefulSet", "Job")
SERVERS = ("Deployment", "StatefulSet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod's template: `where` names it in messages, `owner` is the object that makes it."""

    where: str
    owner: Mapping[str, Any]
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def pods(objects: Sequence[Object]) -> list[Pod]:
    return [pod for one in objects for pod in pods_of(one)]


def pods_of(one: Object) -> Iterator[Pod]:
    name = f"{one['kind']} {one['metadata']['name']}"
    if one["kind"] in OWNED:
        yield _pod(name, one, one["spec"]["template"], {})
    if one["kind"] == "RayJob":
        yield _pod(f"{name} submitter", one, one["spec"]["submitterPodTemplate"], {"job-name": one["metadata"]["name"]})
        cluster = one["spec"]["rayClusterSpec"]
        yield _pod(f"{name} head", one, cluster["headGroupSpec"]["template"], ray_labels("head"))
        for group in cluster["workerGroupSpecs"]:
            yield _pod(f"{name} {group['groupName']}", one, group["template"], ray_labels("worker"))


def ray_labels(role: str) -> dict[str, str]:
    """Labels that the operator sets, whatever a template says."""
    return {"ray.io/is-ray-node": "yes", "ray.io/node-type": role, "ray.io/cluster": "of-this-sweep"}


def _pod(where: str, owner: Object, template: Mapping[str, Any], added: Mapping[str, str]) -> Pod:
    labels = {**template.get("metadata", {}).get("labels", {}), **added}
    return Pod(where=where, owner=owner, labels=labels, spec=template["spec"])
