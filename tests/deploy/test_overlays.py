"""The sweep of each overlay: what the generator makes of the same wishes, and nothing that an operator refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from raysched.service.kubernetes import rules
from raysched.service.kubernetes.options import cluster_options, parse_tolerations
from raysched.service.kubernetes.rayjob import manifests
from raysched.service.submit import Order
from raysched.study.load import load
from tests.deploy import golden
from tests.deploy.workloads import Object

WITH_SWEEP = ("dev", "gpu", "kueue")
SMALL: dict[str, Any] = {"workers": 2, "worker_cpu": 2, "worker_memory": "4Gi", "head_cpu": 1, "head_memory": "4Gi"}
REGISTRY = "registry.example.org/"
HALF_A_GPU = "resources.gpu=0.5"
SPOT = ("example.org/capacity", "spot")
GPU: dict[str, Any] = {
    **SMALL,
    "gpus": 1,
    "worker_cpu": 8,
    "worker_memory": "32Gi",
    "autoscale": True,
    "spot_workers": 6,
    "spot_node_selector": dict([SPOT]),
    "spot_tolerations": parse_tolerations("--spot-toleration", ["{}={}:NoSchedule".format(*SPOT)]),
}


def sweep_of(name: str) -> Object:
    return next(one for one in golden.committed(name) if one["kind"] == "RayJob")


def generated(options: dict[str, Any], *overrides: str) -> Object:
    order = Order(
        asked="xquad-mini",
        loaded=load("xquad-mini", list(overrides)),
        storage="/storage/sweeps",
        overrides=overrides,
        cwd=Path("/"),
    )
    return manifests(order, cluster_options(options))[-1]


@pytest.mark.parametrize("name", WITH_SWEEP)
def test_the_operator_takes_it(name: str) -> None:
    assert rules.check(sweep_of(name)) == []


def test_dev_is_a_small_sweep_on_cpus() -> None:
    assert sweep_of("dev") == generated(SMALL)


def test_kueue_is_a_queue_and_a_priority() -> None:
    made = generated(SMALL | {"queue": "raysched", "priority_class": "raysched-sweep"})
    assert _at_home(sweep_of("kueue")) == made


def test_gpu_is_the_same_patched() -> None:
    """All but the file of overrides, which the overlay writes into the command instead."""
    patched, made = _at_home(sweep_of("gpu")), generated(GPU, HALF_A_GPU)
    command = generated(SMALL)["spec"]["entrypoint"]
    assert patched["spec"].pop("entrypoint") == f"{command} --set {HALF_A_GPU}"
    assert made["spec"].pop("entrypoint") != command
    cluster = made["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] != "study"]
        for one in pod["containers"]:
            one["volumeMounts"] = [mount for mount in one["volumeMounts"] if mount["name"] != "study"]
    assert patched == made


def test_no_patch_wiped_a_template() -> None:
    groups = sweep_of("gpu")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [group["groupName"] for group in groups] == ["workers", "spot"]
    assert all(group["template"]["spec"]["containers"][0]["env"] for group in groups)


def _at_home(one: Object) -> Object:
    """Without the registry that an overlay puts before its images."""
    found = copy.deepcopy(one)

    def walk(value: Any) -> None:
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            if key == "image":
                value[key] = below.removeprefix(REGISTRY)
            elif isinstance(below, dict | list):
                walk(below)

    walk(found)
    return found
