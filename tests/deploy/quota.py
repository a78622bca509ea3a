"""Whether what a render starts fits into its own quota: what does not is never admitted, and says so in events only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from tests.deploy.workloads import Object, Pod, pods_of

UNITS = {"m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(1000)} | {
    f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGT", start=1)
}


def quantity(text: str | int) -> Fraction:
    """Of Kubernetes: 500m, 2, 1Gi."""
    number = str(text).rstrip("mkKMGTi")
    return Fraction(number) * UNITS[str(text)[len(number) :]]


def within_quota(objects: Sequence[Object]) -> Iterator[str]:
    needed: defaultdict[str, Fraction] = defaultdict(Fraction)
    for one in objects:
        for pod in pods_of(one):
            for key, value in _asked(pod).items():
                needed[key] += value * _copies(one, pod)
    for one in objects:
        if one["kind"] == "ResourceQuota":
            for key, most in one["spec"]["hard"].items():
                if needed[key] > quantity(most):
                    yield f"ResourceQuota {one['metadata']['name']}: {float(needed[key]):g} {key} asked, {most} allowed"


def _asked(pod: Pod) -> dict[str, Fraction]:
    """Of a pod: its containers run together, init containers one by one before them."""
    found: dict[str, Fraction] = {"pods": Fraction(1)}
    for side in ("requests", "limits"):
        together: defaultdict[str, Fraction] = defaultdict(Fraction)
        for one in pod.spec["containers"]:
            for key, value in _amounts(one, side).items():
                together[key] += value
        for one in pod.spec.get("initContainers", ()):
            for key, value in _amounts(one, side).items():
                together[key] = max(together[key], value)
        found |= {f"{side}.{key}": value for key, value in together.items()}
    return found


def _amounts(container: Mapping[str, Any], side: str) -> dict[str, Fraction]:
    given = container.get("resources", {})
    devices = {key: value for key, value in given.get("limits", {}).items() if "/" in key}  # asked by being bounded
    return {key: quantity(value) for key, value in {**devices, **given.get(side, {})}.items()}


def _copies(one: Object, pod: Pod) -> int:
    if one["kind"] == "RayJob":
        groups = {each["groupName"]: each for each in one["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
        group = groups.get(pod.where.rpartition(" ")[2], {})
        return int(group.get("maxReplicas", 1))
    return int(one["spec"].get("replicas", 1))
