"""What is committed in deploy/golden is what kustomize renders, so that every change of it is seen in a review."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import raysched
from tests.deploy import golden
from tests.deploy.workloads import pods

needs_kustomize = pytest.mark.skipif(golden.kustomize() is None, reason="neither kubectl nor kustomize is installed")


@needs_kustomize
@pytest.mark.parametrize("name", golden.TARGETS)
def test_the_golden_render_is_that_of_today(name: str) -> None:
    made = golden.objects(golden.render(golden.TARGETS[name]))
    assert made == golden.committed(name), "after a look at the difference: python -m tests.deploy.golden"


def test_every_kustomization_has_its_golden_render() -> None:
    folders = {path.parent for path in golden.DEPLOY.rglob("kustomization.yaml")}
    assert folders - {golden.DEPLOY / "examples"} == set(golden.TARGETS.values())
    assert {path.stem for path in golden.GOLDEN.glob("*.yaml")} == set(golden.TARGETS)


@needs_kustomize
def test_another_namespace_moves_everything(tmp_path: Path) -> None:
    _kustomization(tmp_path, namespace="team-b", resources=[golden.KUSTOMIZE / "base"])
    objects = _render(tmp_path)
    names = {one["metadata"].get("namespace", one["metadata"]["name"]) for one in objects}
    assert names == {"team-b"}
    assert not any(value == "raysched" for one in objects for value in _namespaces(one)), "a name was left behind"


@needs_kustomize
def test_components_go_with_an_overlay(tmp_path: Path) -> None:
    parts = [golden.DEPLOY / "grafana", golden.KUSTOMIZE / "components" / "prometheus"]
    components = [os.path.relpath(path, tmp_path.resolve()) for path in parts]
    _kustomization(
        tmp_path, namespace="team-b", resources=[golden.KUSTOMIZE / "overlays" / "prod"], components=components
    )
    added = {one["kind"]: one["metadata"]["namespace"] for one in _render(tmp_path)[1:]}
    assert added["PodMonitor"] == added["ConfigMap"] == "team-b"


@needs_kustomize
def test_a_registry_and_a_tag_reach_the_pods_of_a_sweep(tmp_path: Path) -> None:
    images = [{"name": "raysched", "newName": "registry.example.org/ours", "newTag": "1.2-cpu"}]
    _kustomization(tmp_path, resources=[golden.DEPLOY / "examples"], images=images)
    found = {one["image"] for pod in pods(_render(tmp_path)) for one in pod.containers}
    assert found == {"registry.example.org/ours:1.2-cpu"}


@needs_kustomize
def test_a_hashed_name_reaches_a_sweep(tmp_path: Path) -> None:
    """Without `configurations` the name would dangle, and kustomize would not say so."""
    generated = [{"name": "raysched-ray-auth", "literals": ["auth_token=x"]}]
    for configured in (True, False):
        folder = tmp_path / str(configured)
        folder.mkdir()
        shutil.copy(golden.KUSTOMIZE / "base" / "kustomizeconfig.yaml", folder)
        more: dict[str, Any] = {"configurations": ["kustomizeconfig.yaml"]} if configured else {}
        resources = [golden.DEPLOY / "examples"]
        _kustomization(folder, namespace="raysched", resources=resources, secretGenerator=generated, **more)
        objects = _render(folder)
        made = next(one["metadata"]["name"] for one in objects if one["kind"] == "Secret")
        job = next(one for one in objects if one["kind"] == "RayJob")
        assert (job["spec"]["rayClusterSpec"]["authOptions"]["secretName"] == made) is configured


def test_images_are_of_this_version() -> None:
    used = {one["image"] for name in golden.TARGETS for pod in pods(golden.committed(name)) for one in pod.containers}
    tags = {image.rpartition(":")[2] for image in used if image.rpartition(":")[0].endswith("raysched")}
    assert tags == {f"{raysched.__version__}-cpu", f"{raysched.__version__}-cuda"}


def test_the_dashboard_travels_whole() -> None:
    (one,) = golden.committed("grafana")
    text = (golden.DEPLOY / "grafana" / "raysched-sweeps.json").read_text(encoding="utf-8")
    assert json.loads(one["data"]["raysched-sweeps.json"]) == json.loads(text)


def _kustomization(folder: Path, *, resources: list[Path], **fields: Any) -> None:
    fields["resources"] = [os.path.relpath(path, folder.resolve()) for path in resources]
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**head, **fields}), encoding="utf-8")


def _render(folder: Path) -> list[dict[str, Any]]:
    return golden.objects(golden.render(folder))


def _namespaces(value: Any) -> list[str]:
    """Everything that stands below a key `namespace`."""
    if isinstance(value, dict):
        own = [value["namespace"]] if isinstance(value.get("namespace"), str) else []
        return own + [found for below in value.values() for found in _namespaces(below)]
    return [found for below in value for found in _namespaces(below)] if isinstance(value, list) else []
