"""Who may speak with whom, by the rendered NetworkPolicies; whether a plug-in enforces them only a cluster can show."""

from __future__ import annotations

import functools

import pytest

from tests.deploy import golden
from tests.deploy.reach import End, allowed
from tests.deploy.workloads import Object, pods_of, ray_labels

HERE = "raysched"
INTERNET, METADATA, PRIVATE = "8.8.8.8", "169.254.169.254", "10.0.0.5"
DATABASE, API_SERVER = "192.0.2.10", "198.51.100.10"
FAR = {name: End(address=name) for name in (INTERNET, METADATA, PRIVATE, DATABASE, API_SERVER, "2a00::1", "fd00::1")}
OTHERS = {
    "operator": End(namespace="kuberay-system", labels={"app.kubernetes.io/name": "kuberay-operator"}),
    "beside operator": End(namespace="kuberay-system", labels={"app": "x"}),
    "prometheus": End(namespace="monitoring", labels={"app.kubernetes.io/name": "prometheus"}),
    "beside prometheus": End(namespace="monitoring", labels={"app": "x"}),
    "dns": End(namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    "stranger": End(namespace=HERE, labels={"app": "stranger"}),
    "other head": End(namespace="team-b", labels=ray_labels("head")),
    "other worker": End(namespace="team-b", labels=ray_labels("worker")),
    "other mlflow": End(namespace="team-b", labels={"app.kubernetes.io/component": "mlflow"}),
}


@functools.cache
def policies(name: str) -> list[Object]:
    renders = ("base", "prepare") if name == "prepare" else (name,)
    return [one for each in renders for one in golden.committed(each) if one["kind"] == "NetworkPolicy"]


@functools.cache
def ends() -> dict[str, End]:
    """Pods as they are rendered, by what they do."""
    found = dict(OTHERS | FAR)
    for one in (*golden.committed("dev"), *golden.committed("prepare")):
        for pod in pods_of(one):
            role = pod.labels.get("ray.io/node-type") or pod.labels["app.kubernetes.io/component"]
            found[role] = End(namespace=HERE, labels=pod.labels)
    return found


DNS = [
    (render, who, "dns", 53, True)
    for render in ("base", "dev", "prod")
    for who in ("head", "worker", "mlflow", "stranger")
]
EVERYWHERE = [
    # Ray: all ports among its nodes of this namespace, its job server for two, its metrics for one
    ("worker", "head", 6379, True),
    ("worker", "head", 10002, True),
    ("head", "worker", 43210, True),
    ("worker", "worker", 31337, True),
    ("submitter", "head", 8265, True),
    ("submitter", "head", 10001, False),
    ("submitter", "worker", 8265, False),
    ("operator", "head", 8265, True),
    ("operator", "head", 10001, False),
    ("operator", "worker", 8265, False),
    ("beside operator", "head", 8265, False),
    ("prometheus", "head", 8080, True),
    ("prometheus", "worker", 8080, True),
    ("prometheus", "head", 8265, False),
    ("prometheus", "mlflow", 5000, False),
    ("beside prometheus", "worker", 8080, False),
    ("stranger", "head", 8265, False),
    ("stranger", "head", 6379, False),
    ("other head", "head", 8265, False),
    ("other worker", "head", 6379, False),
    ("head", "other head", 6379, False),
    ("mlflow", "head", 8265, False),
    ("dns", "head", 8265, False),
    (INTERNET, "head", 8265, False),
    # MLflow: the driver alone
    ("head", "mlflow", 5000, True),
    ("head", "mlflow", 22, False),
    ("worker", "mlflow", 5000, False),
    ("submitter", "mlflow", 5000, False),
    ("stranger", "mlflow", 5000, False),
    ("other head", "mlflow", 5000, False),
    ("head", "other mlflow", 5000, False),
    (INTERNET, "mlflow", 5000, False),
    # what serves nothing is asked by nobody
    ("stranger", "mlflow-migrate", 80, False),
    ("worker", "submitter", 80, False),
    ("other head", "stranger", 80, False),
    # out of the cluster
    ("worker", METADATA, 80, False),
    ("worker", METADATA, 443, False),
    ("head", METADATA, 443, False),
    ("worker", INTERNET, 80, False),
    ("worker", PRIVATE, 443, False),
    ("worker", API_SERVER, 6443, False),
    ("submitter", INTERNET, 443, False),
    ("submitter", API_SERVER, 443, False),
    ("stranger", INTERNET, 443, False),
    ("mlflow", INTERNET, 80, False),
    ("mlflow", API_SERVER, 6443, False),
    ("mlflow-migrate", INTERNET, 443, False),
]
SOME = [
    # PostgreSQL within, for the driver and MLflow
    ("dev", "mlflow", "postgres", 5432, True),
    ("dev", "mlflow-migrate", "postgres", 5432, True),
    ("dev", "head", "postgres", 5432, True),
    ("dev", "worker", "postgres", 5432, False),
    ("dev", "submitter", "postgres", 5432, False),
    ("dev", "stranger", "postgres", 5432, False),
    ("dev", "other head", "postgres", 5432, False),
    ("dev", "postgres", INTERNET, 443, False),
    ("dev", "postgres", "mlflow", 5000, False),
    ("dev", "head", INTERNET, 443, False),
    ("dev", "head", API_SERVER, 6443, False),
    # without an overlay nothing leaves the namespace
    ("base", "mlflow", DATABASE, 5432, False),
    ("base", "head", INTERNET, 443, False),
    ("base", "worker", INTERNET, 443, False),
    # PostgreSQL and an object store outside
    ("prod", "mlflow", DATABASE, 5432, True),
    ("prod", "mlflow-migrate", DATABASE, 5432, True),
    ("prod", "head", DATABASE, 5432, True),
    ("prod", "worker", DATABASE, 5432, False),
    ("prod", "head", DATABASE, 22, False),
    ("prod", "head", INTERNET, 443, True),
    ("prod", "worker", INTERNET, 443, True),
    ("prod", "mlflow", INTERNET, 443, True),
    ("prod", "mlflow", METADATA, 443, False),
    ("prod", "mlflow", PRIVATE, 443, False),
    ("prod", "head", API_SERVER, 6443, True),
    ("prod", "head", API_SERVER, 443, True),
    ("prod", "head", PRIVATE, 6443, False),
    # the hub, for one Job
    ("prepare", "prepare", INTERNET, 443, True),
    ("prepare", "prepare", "2a00::1", 443, True),
    ("prepare", "prepare", INTERNET, 80, False),
    ("prepare", "prepare", PRIVATE, 443, False),
    ("prepare", "prepare", "fd00::1", 443, False),
    ("prepare", "prepare", METADATA, 80, False),
    ("prepare", "prepare", "mlflow", 5000, False),
    ("prepare", "prepare", "head", 8265, False),
    ("prepare", "head", INTERNET, 443, False),
    ("prepare", "worker", INTERNET, 443, False),
    ("base", "prepare", INTERNET, 443, False),
]
TABLE = SOME + [(render, *row) for render in ("base", "dev", "prod", "gpu", "kueue") for row in EVERYWHERE]


@pytest.mark.parametrize(("render", "source", "target", "port", "may"), TABLE)
def test_reachability(render: str, source: str, target: str, port: int, may: bool) -> None:
    assert allowed(policies(render), ends()[source], ends()[target], port) is may


@pytest.mark.parametrize(("render", "source", "target", "port", "may"), DNS)
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_names_are_resolved(render: str, source: str, target: str, port: int, may: bool, protocol: str) -> None:
    assert allowed(policies(render), ends()[source], ends()[target], port, protocol) is may


def test_without_policies_all_is_open() -> None:
    """So the table fails where a policy is lost."""
    assert allowed([], ends()["stranger"], ends()["head"], 8265)


@pytest.mark.parametrize(
    "lost", ["default-deny", "ray-nodes", "ray-job-server", "ray-metrics", "mlflow", "driver-to-mlflow"]
)
def test_every_policy_is_needed(lost: str) -> None:
    left = [one for one in policies("base") if one["metadata"]["name"] != lost]
    assert len(left) == len(policies("base")) - 1
    rows = [*EVERYWHERE, ("stranger", "other mlflow", 5000, False)]
    assert any(allowed(left, ends()[source], ends()[target], port) is not may for source, target, port, may in rows)


def _policy(**spec: object) -> Object:
    return {
        "metadata": {"name": "x", "namespace": HERE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], **spec},
    }


@pytest.mark.parametrize(
    ("rules", "may"),
    [
        ([], False),
        ([{}], True),  # an empty rule takes everybody
        ([{"ports": [{"port": 80}]}], True),  # no peer: everybody, on this port
        ([{"ports": [{"port": 81}]}], False),
        ([{"ports": [{"port": 80, "protocol": "UDP"}]}], False),
        ([{"from": [{"podSelector": {}}]}], False),  # of the policy's own namespace
        ([{"from": [{"namespaceSelector": {}}]}], True),
        ([{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "y"}}}]}], False),  # both
        ([{"from": [{"namespaceSelector": {}}, {"podSelector": {"matchLabels": {"app": "y"}}}]}], True),  # either
        ([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}], False),  # for machines, not for pods
        ([{"from": [{"podSelector": {}}]}, {"ports": [{"port": 80}]}], True),  # rules add up
    ],
)
def test_rules_are_read_as_kubernetes_reads_them(rules: list[object], may: bool) -> None:
    """From a pod `app: x` of another namespace to port 80."""
    source, target = End(namespace="there", labels={"app": "x"}), End(namespace=HERE)
    assert allowed([_policy(ingress=rules)], source, target, 80) is may
    assert allowed([_policy(ingress=rules)], source, End(namespace="elsewhere"), 80)


def test_parameters_reach_the_policies() -> None:
    """The addresses of network-parameters.yaml are where they belong, and that file is not applied."""
    names = {one["metadata"]["name"] for one in golden.committed("prod") if one["kind"] == "ConfigMap"}
    assert not any(name.startswith("network-parameters") for name in names)
    blocks = {
        one["metadata"]["name"]: one["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"]
        for one in policies("prod")
        if one["spec"].get("egress") and "ipBlock" in one["spec"]["egress"][0]["to"][0]
    }
    outside = dict.fromkeys(("mlflow-to-object-store", "ray-to-object-store"), "0.0.0.0/0")
    database = dict.fromkeys(("mlflow-to-database", "driver-to-database"), f"{DATABASE}/32")
    assert blocks == outside | database | {"autoscaler-to-api-server": f"{API_SERVER}/32"}
