"""Files of deploy/ by themselves: YAML in one style, values for charts, the dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import golden
from tests.deploy.references import OF_THE_USER

DASHBOARD = golden.DEPLOY / "grafana" / "raysched-sweeps.json"
OF_KUBERNETES = {
    "kube_deployment_status_replicas_available": "kube-state-metrics",
    "kube_pod_container_status_restarts_total": "kube-state-metrics",
    "container_memory_working_set_bytes": "cAdvisor",
}
"""Metrics of the dashboard that are not Ray's, and whose they are."""


def test_yaml_is_of_one_style() -> None:
    command = [sys.executable, "-m", "yamllint", "--strict", "-c", str(golden.DEPLOY / ".yamllint"), str(golden.DEPLOY)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout


def test_the_style_can_be_broken(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: yes\na: 1\n", encoding="utf-8")
    command = [sys.executable, "-m", "yamllint", "--strict", "-c", str(golden.DEPLOY / ".yamllint"), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "truthy" in ran.stdout
    assert "key-duplicates" in ran.stdout


def test_secrets_are_generated_in_dev_only() -> None:
    files = [path for path in golden.DEPLOY.rglob("kustomization.yaml") if "secretGenerator" in path.read_text("utf-8")]
    assert [path.parent.name for path in files] == ["dev"]


def test_patches_of_a_sweep_are_json_6902() -> None:
    """A strategic merge would replace worker groups whole, and wipe their pods."""
    for path in golden.KUSTOMIZE.rglob("kustomization.yaml"):
        for patch in yaml.safe_load(path.read_text("utf-8")).get("patches", ()):
            text = patch["patch"] if "patch" in patch else (path.parent / patch["path"]).read_text("utf-8")
            assert all({"op", "path"} <= set(one) for one in yaml.safe_load(text)), path


def test_the_example_of_a_vault_makes_a_secret_that_is_asked_for() -> None:
    folder = golden.KUSTOMIZE / "overlays" / "prod"
    example = yaml.safe_load((folder / "externalsecrets.example.yaml").read_text("utf-8"))
    assert {one["secretKey"] for one in example["spec"]["data"]} == OF_THE_USER[example["spec"]["target"]["name"]]
    assert "externalsecrets" not in str(yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8")))


# ---- the dashboard


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def test_panels_have_their_own_ids_and_places(dashboard: Any) -> None:
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not taken & cells, panel["title"]
        taken |= cells
    assert not {panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]}


def test_only_variables_that_are_defined(dashboard: Any) -> None:
    defined = {one["name"] for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", json.dumps(dashboard["panels"])))
    assert used == defined


def test_only_metrics_that_are_exported(dashboard: Any) -> None:
    asked = {name for panel in dashboard["panels"] for one in panel.get("targets", ()) for name in metrics(one["expr"])}
    assert asked >= {"ray_node_gpus_utilization", "ray_node_cpu_utilization", "ray_tasks", "ray_node_cpu_count"}
    assert asked - set(OF_KUBERNETES) <= exported(), asked - set(OF_KUBERNETES) - exported()
    assert set(OF_KUBERNETES) <= asked


def test_expressions_are_closed(dashboard: Any) -> None:
    for expression in (one["expr"] for panel in dashboard["panels"] for one in panel.get("targets", ())):
        for opened, ended in ("()", "{}", "[]"):
            assert expression.count(opened) == expression.count(ended), expression
        assert expression.count('"') % 2 == 0, expression


def test_an_invented_metric_is_seen() -> None:
    assert metrics('sum(rate(ray_sweeps_done{a=~"b"}[5m])) by (State)') == {"ray_sweeps_done"}
    assert "ray_sweeps_done" not in exported()
    assert "ray_cluster_active_nodes" in exported()


def metrics(expression: str) -> set[str]:
    """Names of time series in a PromQL expression."""
    return set(re.findall(r"\b(?:ray|kube|container)_[a-z_]+(?=\{)", expression))


def exported() -> set[str]:
    """What this Ray exports: the gauges of its node agent, and the core's metrics that its own dashboards show."""
    import ray

    folder = Path(ray.__file__).parent / "dashboard" / "modules"
    agent = (folder / "reporter" / "reporter_agent.py").read_text(encoding="utf-8")
    shown = (folder / "metrics" / "dashboards" / "default_dashboard_panels.py").read_text(encoding="utf-8")
    gauges = {f"ray_{name}" for name in re.findall(r'Gauge\(\s*"([a-z_0-9]+)"', agent)}
    return gauges | set(re.findall(r"\bray_[a-z_0-9]+(?=\{\{)", shown))


# ---- values of charts


@pytest.mark.parametrize("name", ["kuberay-operator", "mlflow"])
def test_values_are_plain_yaml_without_secrets(name: str) -> None:
    text = (golden.DEPLOY / "helm-values" / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert values["securityContext"]["runAsNonRoot"] if name == "kuberay-operator" else values["podLabels"]
    assert values["resources"].keys() == {"requests", "limits"}
    assert values["image"]["tag"] not in ("", "latest", "nightly")
    for env in values.get("env", ()):
        assert not re.search("PASSWORD|SECRET|KEY", env["name"]) or "valueFrom" in env, env["name"]


def test_gates_of_the_operator_are_those_that_the_manifests_count_on() -> None:
    values = yaml.safe_load((golden.DEPLOY / "helm-values" / "kuberay-operator.yaml").read_text(encoding="utf-8"))
    gates = {one["name"]: one["enabled"] for one in values["featureGates"]}
    assert not gates["RayClusterNetworkPolicy"], "ours are plain NetworkPolicies"
    assert not gates["RayClusterMTLS"]
    assert values["watchNamespace"] == ["raysched"]
