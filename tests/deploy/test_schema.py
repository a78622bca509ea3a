"""Every rendered object against the schemas of several versions of Kubernetes, or of the resource's own definition."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy import crd, golden
from tests.deploy.workloads import Object

VERSIONS = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
UNKNOWN = {"monitoring.coreos.com/v1": "the Prometheus operator's definition of it is not at hand"}
"""Custom resources that nothing here can check, and why."""


def _objects(custom: bool) -> list[Any]:
    """Each object once, though most stand in several renders."""
    found: dict[str, Any] = {}
    for name in golden.TARGETS:
        for one in golden.committed(name):
            if one["apiVersion"] not in UNKNOWN and crd.is_custom(one) is custom:
                where = f"{name}: {one['kind']} {one['metadata']['name']}"
                found.setdefault(json.dumps(one, sort_keys=True), pytest.param(one, id=where))
    return list(found.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_kinds(version: str) -> None:
    for parameter in _objects(custom=False):
        _validate(parameter.values[0], version)


@crd.needs_crds
@pytest.mark.parametrize("one", _objects(custom=True))
def test_custom_resources(one: Object) -> None:
    assert crd.problems(one) == []


def test_the_rest_is_what_we_know_of() -> None:
    found = {one["kind"] for name in golden.TARGETS for one in golden.committed(name) if one["apiVersion"] in UNKNOWN}
    assert found == {"PodMonitor"}


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replica"), 1),
        ("Deployment", ("spec", "replicas"), "two"),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("PodDisruptionBudget", ("spec", "maxUnavailable"), []),
        ("ResourceQuota", ("spec", "hard"), {"pods": []}),
    ],
)
def test_a_mistake_is_seen(kind: str, path: tuple[str, ...], value: Any, version: str) -> None:
    one = next(each for each in golden.committed("base") if each["kind"] == kind)
    below = functools.reduce(lambda inside, key: inside[key], path[:-1], one)
    below[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(one, version)


def _validate(one: Object, version: str) -> None:
    """Raises ValidationError; a kind without a schema is an error too, for the tool alone would only warn."""
    kubernetes_validate.validate(one, version, strict=True)


def test_no_kind_is_passed_over() -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        _validate({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "a"}}, VERSIONS[-1])


def test_all_bundled_versions_are_used() -> None:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    bundled = {path.name.removeprefix("v").rpartition(".")[0] for path in folder.glob("v*-local-strict")}
    assert bundled >= set(VERSIONS)
