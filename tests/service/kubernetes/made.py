"""Orders, options and manifests for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysched.service.kubernetes.options import cluster_options
from raysched.service.kubernetes.rayjob import manifests
from raysched.service.submit import Order
from raysched.study.load import load


def order(asked: str = "xquad-mini", cwd: Path = Path("/"), **options: Any) -> Order:
    """Of the study `asked` as it is seen from `cwd`."""
    loaded = load(asked, options.get("overrides", ()), cwd=cwd, name=options.pop("name", None))
    return Order(asked=asked, loaded=loaded, cwd=cwd, **({"storage": "/storage/sweeps"} | options))


def made(one: Order | None = None, **options: Any) -> list[dict[str, Any]]:
    """The manifests of an order, with the cluster's options."""
    return manifests(one or order(), cluster_options(options))


def rayjob(one: Order | None = None, **options: Any) -> dict[str, Any]:
    return made(one, **options)[-1]


def cluster(one: Order | None = None, **options: Any) -> dict[str, Any]:
    spec: dict[str, Any] = rayjob(one, **options)["spec"]["rayClusterSpec"]
    return spec


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pod templates of a RayJob, by their component or group."""
    spec = job["spec"]["rayClusterSpec"]
    found = {"submitter": job["spec"]["submitterPodTemplate"], "head": spec["headGroupSpec"]["template"]}
    return found | {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}


def env(template: dict[str, Any]) -> dict[str, Any]:
    """Of a pod's container: the value, or the Secret's name and key."""
    found = {}
    for one in template["spec"]["containers"][0]["env"]:
        secret = one.get("valueFrom", {}).get("secretKeyRef")
        found[one["name"]] = one.get("value") if secret is None else (secret["name"], secret["key"])
    return found
