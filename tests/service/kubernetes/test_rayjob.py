"""What a sweep becomes on a cluster: its RayJob, its pods, what they may do and know, and what travels with it."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysched.errors import StudyError
from raysched.service.kubernetes import rayjob as generator
from raysched.service.kubernetes.options import SHELL_SAFE, cluster_options
from raysched.service.kubernetes.rayjob import FILES
from raysched.service.kubernetes.sizing import default_gpus, most_workers
from raysched.service.submit import Order
from raysched.study.load import load
from tests.service.kubernetes.made import cluster, env, made, order, pods, rayjob

SPOT = {"spot_workers": 3, "spot_node_selector": {"cloud/spot": "true"}}


def test_the_driver_is_the_same_command_each_time() -> None:
    job = rayjob(order(max_concurrent=6), backoff_limit=2, deadline_s=86400, pre_running_deadline_s=900)
    spec = job["spec"]
    assert shlex.split(spec["entrypoint"]) == [
        *("exec", "python", "-m", "raysched", "sweep", "xquad-mini", "--name", "xquad-mini"),
        *("--storage", "/storage/sweeps", "--address", "auto", "--max-concurrent", "6"),
    ]
    expected = {
        "submissionMode": "K8sJobMode",
        "backoffLimit": 2,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "activeDeadlineSeconds": 86400,
        "preRunningDeadlineSeconds": 900,
    }
    assert {key: spec[key] for key in expected} == expected
    assert spec["runtimeEnvYAML"] == 'env_vars:\n  RAY_JOB_STOP_WAIT_TIME_S: "60"\n'
    assert spec["rayClusterSpec"]["rayVersion"] == importlib.metadata.version("ray")
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "raysched-ray-auth"}


def test_a_sweep_is_found_by_its_labels() -> None:
    one = order(name="team.a_1")
    job = rayjob(one, namespace="team-a", labels={"team": "a"})
    about = job["metadata"]
    assert about["name"] == about["labels"]["raysched.io/sweep"]
    assert about["namespace"] == "team-a"
    assert about["annotations"] == {
        "raysched.io/name": "team.a_1",
        "raysched.io/storage": "/storage/sweeps",
        "raysched.io/study": one.metadata["raysched.study"],
        "raysched.io/version": one.metadata["raysched.version"],
    }
    assert job["spec"]["metadata"] == one.metadata
    for component, template in pods(job).items():
        labels = template["metadata"]["labels"]
        assert labels["raysched.io/sweep"] == about["name"]
        assert labels["team"] == "a"
        component = {"workers": "worker"}.get(component, component)
        assert labels["app.kubernetes.io/component"] == component


def test_a_sweep_that_runs_again_has_another_rayjob_of_the_same_label() -> None:
    again = generator.manifests(order(overrides=["seeds=2"]), cluster_options({}), number=3)
    name, label = again[1]["metadata"]["name"], again[1]["metadata"]["labels"]["raysched.io/sweep"]
    assert name == f"{label}-3"
    assert again[0]["metadata"]["name"] == f"{name}-study"
    assert {volume["configMap"]["name"] for volume in _volumes(again[1], "configMap")} == {f"{name}-study"}


def _volumes(job: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [volume for template in pods(job).values() for volume in template["spec"]["volumes"] if kind in volume]


@pytest.mark.parametrize("options", [{}, {"gpus": 2}, {"autoscale": True}, SPOT, {"claim": None}], ids=str)
def test_pods_are_hardened(options: dict[str, Any]) -> None:
    one = order(storage="s3://bucket/x" if "claim" in options else "/storage/sweeps", overrides=["resources.gpu=0"])
    for template in pods(rayjob(one, **options)).values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == "raysched"
        assert spec["restartPolicy"] == "Never"
        assert spec["terminationGracePeriodSeconds"] == 60
        assert {key: spec["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "seccompProfile")} == {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert not container["image"].endswith(":latest")
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable <= {"/tmp", "/dev/shm", "/storage"}
        assert all(volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if "emptyDir" in volume)
        assert {mount["name"] for mount in container["volumeMounts"]} <= {one["name"] for one in spec["volumes"]}


def test_secrets_are_references_and_only_the_driver_has_them() -> None:
    found = pods(rayjob(gpus=1))
    head = env(found["head"])
    assert head["RAYSCHED_OPTUNA"] == ("raysched-db", "optuna-uri")
    assert head["MLFLOW_TRACKING_USERNAME"] == ("raysched-mlflow-auth", "username")
    assert head["MLFLOW_TRACKING_PASSWORD"] == ("raysched-mlflow-auth", "password")
    assert head["RAYSCHED_MLFLOW"] == "http://mlflow:5000"
    plain = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "HF_HOME": "/storage/hub", "HF_HUB_OFFLINE": "1"}
    assert env(found["workers"]) == plain
    assert env(found["submitter"]) == {"RAY_AUTH_MODE": "token"}
    bare = env(pods(rayjob(mlflow=None, database=False))["head"])
    assert bare == plain
    assert env(pods(rayjob(order(mlflow_uri="https://ml.example.org")))["head"])["RAYSCHED_MLFLOW"].endswith("org")


def test_an_object_store_needs_no_volume() -> None:
    job = rayjob(order(storage="s3://bucket/sweeps"), claim=None, offline=False)
    for component, template in pods(job).items():
        assert "storage" not in {volume["name"] for volume in template["spec"]["volumes"]}
        given = template["spec"]["containers"][0].get("envFrom")
        expected = [{"secretRef": {"name": "raysched-s3", "optional": True}}]
        assert given == (None if component == "submitter" else expected)
    assert env(pods(job)["workers"])["HF_HOME"] == "/tmp/hub"
    assert "HF_HOME" not in env(pods(rayjob(order(storage="s3://b/s"), claim=None))["workers"])


def test_a_head_takes_no_runs_and_serves_the_cluster_alone() -> None:
    head = cluster(head_cpu=3, head_memory="10Gi")["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0", "dashboard-host": "0.0.0.0"}
    assert head["serviceType"] == "ClusterIP"
    (container,) = head["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "3", "memory": "10Gi"}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "gcs-server": 6379,
        "dashboard": 8265,
        "metrics": 8080,
    }
    assert {volume["name"]: volume for volume in head["template"]["spec"]["volumes"]}["shm"]["emptyDir"] == {
        "medium": "Memory",
        "sizeLimit": "4096Mi",
    }


def test_whole_gpus_of_a_pod_and_shares_of_a_run() -> None:
    one = order("xquad-xlmr", overrides=["resources.gpu=0.5"])
    (group,) = cluster(one, gpus=2, worker_cpu=16, workers=1000)["workerGroupSpecs"]
    spec = group["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert spec["containers"][0]["image"].endswith("-cuda")
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert group["maxReplicas"] == -(-one.loaded.n_runs // 4)
    assert "tolerations" not in cluster(one, gpus=2)["headGroupSpec"]["template"]["spec"]
    other = cluster(one, gpus=2, gpu_resource="amd.com/gpu")["workerGroupSpecs"][0]["template"]["spec"]
    assert "amd.com/gpu" in other["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize(
    ("overrides", "options", "max_concurrent", "expected"),
    [
        ([], {"worker_cpu": 4}, None, 5),  # 5 points of 4 seeds
        ([], {"worker_cpu": 3}, None, 7),
        ([], {"worker_cpu": 4}, 5, 2),
        (["seeds=1"], {"worker_cpu": 64}, None, 1),
        (["resources.cpu=0.5"], {"worker_cpu": 1}, None, 10),
        (["resources.gpu=0.25"], {"gpus": 1, "worker_cpu": 64}, None, 5),
        (["resources.gpu=auto"], {"gpus": 2, "worker_cpu": 64}, None, 10),
        (["resources.memory_gb=4"], {"worker_memory": "8Gi", "worker_cpu": 64}, None, 10),
    ],
)
def test_no_worker_beyond_what_the_plan_can_use(
    overrides: list[str], options: dict[str, Any], max_concurrent: int | None, expected: int
) -> None:
    one = order(overrides=overrides, max_concurrent=max_concurrent)
    assert most_workers(one.loaded, cluster_options(options), max_concurrent) == expected
    (group,) = cluster(one, **options, workers=1000)["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (expected,) * 3


def test_the_workers_of_a_suite_are_those_of_its_largest_part() -> None:
    suite = load("paper-table1")
    runs = max(part.n_runs for part in suite.parts)  # type: ignore[union-attr]
    assert most_workers(suite, cluster_options({"gpus": 1}), None) == runs


@pytest.mark.parametrize(
    ("overrides", "options", "told"),
    [
        (["resources.gpu=0.5"], {}, r"--gpus: a run asks for 0.5 GPU, but a worker pod has 0\n.*--gpus 1"),
        (["resources.cpu=8"], {}, r"--worker-cpu: a run asks for 8 CPU, but a worker pod has 4\n.*--worker-cpu 8"),
        (["resources.memory_gb=64"], {}, "--worker-memory: a run asks for 6.4e\\+10 bytes"),
        (["resources.gpu=auto"], {"autoscale": True, "gpus": 1}, r"resources.gpu: .*\n.*--set resources.gpu=1"),
    ],
)
def test_a_run_that_fits_on_no_worker_is_refused(overrides: list[str], options: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        made(order(overrides=overrides), **options)


def test_workers_that_come_and_go() -> None:
    one = order(overrides=["resources.gpu=0"])
    found = cluster(one, autoscale=True, min_workers=1, workers=20, **SPOT)
    assert found["enableInTreeAutoscaling"] is True
    assert found["autoscalerOptions"]["version"] == "v2"
    workers, spot = found["workerGroupSpecs"]
    keys = ("groupName", "replicas", "minReplicas", "maxReplicas", "priority", "idleTimeoutSeconds")
    assert [workers[key] for key in keys] == ["workers", 1, 1, 5, 0, 300]
    assert [spot[key] for key in keys] == ["spot", 0, 0, 3, 10, 300]
    head = found["headGroupSpec"]["template"]
    assert env(head)["RAYSCHED_AUTOSCALE"] == "20"
    assert "RAYSCHED_AUTOSCALE" not in env(pods(rayjob(one))["head"])


@pytest.mark.parametrize(
    ("options", "max_concurrent", "asked"),
    [
        ({"workers": 2, "worker_cpu": 4}, None, "8"),
        ({"workers": 1, "worker_cpu": 4} | SPOT, None, "16"),
        ({"workers": 9, "worker_cpu": 4}, None, "20"),
        ({"workers": 9, "worker_cpu": 4}, 3, "3"),
    ],
)
def test_no_more_room_is_asked_for_than_the_largest_cluster_has(
    options: dict[str, Any], max_concurrent: int | None, asked: str
) -> None:
    """Ray's autoscaler takes such a wish as a whole: one that can never be met adds no node at all."""
    one = order(overrides=["resources.gpu=0"], max_concurrent=max_concurrent)
    assert env(pods(rayjob(one, autoscale=True, **options))["head"])["RAYSCHED_AUTOSCALE"] == asked


def test_only_the_autoscaler_has_the_token_of_the_service_account() -> None:
    found = cluster(order(overrides=["resources.gpu=0"]), autoscale=True)
    mounted = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mounted in {mount["mountPath"] for mount in found["autoscalerOptions"]["volumeMounts"]}
    spec = found["headGroupSpec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert mounted not in {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    (token,) = [volume for volume in spec["volumes"] if "projected" in volume]
    assert [next(iter(source)) for source in token["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert found["autoscalerOptions"]["securityContext"]["readOnlyRootFilesystem"] is True


def test_spot_workers_go_to_spot_nodes_and_nothing_else_does() -> None:
    tolerations = cluster_options({}).gpu_tolerations
    found = cluster(**SPOT, workers=2, node_selector={"pool": "gpu"}, spot_tolerations=tolerations)
    workers, spot = found["workerGroupSpecs"]
    assert [group["labels"]["ray.io/market-type"] for group in (workers, spot)] == ["on-demand", "spot"]
    assert spot["template"]["spec"]["nodeSelector"] == {"pool": "gpu", "cloud/spot": "true"}
    assert spot["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert workers["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}
    expression = {"matchExpressions": [{"key": "cloud/spot", "operator": "NotIn", "values": ["true"]}]}
    for template in (workers["template"], found["headGroupSpec"]["template"]):
        affinity = template["spec"]["affinity"]["nodeAffinity"]
        assert affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [expression]
        assert "tolerations" not in template["spec"]
    assert "priority" not in spot
    alone = cluster(**SPOT, workers=0)["workerGroupSpecs"]
    assert [(group["groupName"], group["replicas"]) for group in alone] == [("spot", 3)]


def test_kueue_queue_and_priority() -> None:
    job = rayjob(queue="team-a", priority_class="urgent")
    labels = job["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "team-a"
    assert labels["kueue.x-k8s.io/priority-class"] == "urgent"
    assert all("priorityClassName" not in template["spec"] for template in pods(job).values())
    assert "suspend" not in job["spec"]
    elastic = rayjob(order(overrides=["resources.gpu=0"]), queue="team-a", autoscale=True, elastic=True)
    assert elastic["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    without = rayjob(priority_class="urgent", image_pull_secret="registry", image="registry.example.org/r:1")
    for template in pods(without).values():
        assert template["spec"]["priorityClassName"] == "urgent"
        assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
        assert template["spec"]["containers"][0]["image"] == "registry.example.org/r:1"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"queue": "q", "autoscale": True}, "--autoscale: cannot go with --queue"),
        ({"elastic": True}, "--elastic: is for --queue with --autoscale"),
        ({"workers": 0}, "--workers: must leave at least one worker"),
        ({"spot_workers": 1}, "--spot-workers: must say which nodes may be taken away"),
        ({"autoscale": True, "min_workers": 5}, "--min-workers: .*<= 4 must hold, but got 5"),
        ({"min_workers": 1}, "--min-workers: is for --autoscale"),
        ({"namespace": "a b"}, "--namespace: must be a name of at most 63 .*but got 'a b'"),
        ({"namespace": "a" * 64}, "--namespace"),
        ({"image": "raysched"}, "--image: must name one image for good"),
        ({"image": "r/raysched:latest"}, "--image: must name one image for good"),
        ({"image": "a b:1"}, "--image: must be REGISTRY/NAME:TAG"),
        ({"gpus": -1}, "--gpus"),
        ({"gpus": "1"}, "--gpus: .*valid integer"),
        ({"gpu_resource": "gpu"}, "--gpu-resource: must be a device plugin's resource"),
        ({"worker_memory": "16"}, "--worker-memory: must be a whole number of Mi, Gi or Ti"),
        ({"head_memory": "1.5Gi"}, "--head-memory"),
        ({"worker_cpu": 0}, "--worker-cpu"),
        ({"mount": "storage"}, "--mount: must be an absolute path"),
        ({"mount": "/a/../b"}, "--mount"),
        ({"mlflow": "http://me:geheim@mlflow"}, "--mlflow: holds a password"),
        ({"mlflow": "http://mlflow/$(HOME)"}, "--mlflow: must be the address of an MLflow server"),
        ({"mlflow": "mlflow:5000"}, "--mlflow: must be the address"),
        ({"labels": {"a b": "c"}}, "--label: must be KEY=VALUE as Kubernetes takes labels"),
        ({"labels": {"raysched.io/sweep": "c"}}, "--label: must not set raysched.io/sweep"),
        ({"node_selector": {"a": "b c"}}, "--node-selector: must be KEY=VALUE"),
        ({"ttl_s": -1}, "--ttl: "),
        ({"deadline_s": 0}, "--deadline: "),
        ({"claim": "Claim"}, "--claim: must be a name of lower-case letters"),
        ({"queue": "a\nb"}, "--queue"),
        ({"typo": 1}, "--typo"),
    ],
)
def test_a_malformed_option_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told) as caught:
        cluster_options(options)
    assert "geheim" not in str(caught.value)


def test_malformed_options_are_told_at_once() -> None:
    with pytest.raises(StudyError, match="2 problems") as caught:
        cluster_options({"namespace": "A", "backoff_limit": -1})
    assert "--namespace: " in str(caught.value)
    assert "--backoff-limit: " in str(caught.value)


def test_gpus_unless_it_is_the_mini_world() -> None:
    assert default_gpus(load("xquad-mini")) == 0
    assert default_gpus(load("xquad-mini", ["resources.gpu=0.5"])) == 1
    assert default_gpus(load("xquad-xlmr")) == 1
    assert default_gpus(load("xquad-xlmr", ["resources.gpu=0"])) == 0
    assert default_gpus(load("paper-table1")) == 1


@pytest.mark.parametrize(
    ("storage", "options", "told"),
    [
        ("/data/sweeps", {}, "--storage: /data/sweeps is not on the claim raysched-storage, .* at /storage"),
        ("/storage/../etc", {}, "is not on the claim"),
        ("/storage/sweeps", {"claim": None}, "is a folder, but no claim is mounted"),
        ("sweeps", {}, "--storage: must be an address"),
        ("s3://bucket/$(id)", {}, "--storage: must hold letters, digits"),
        ("/storage/a b", {}, "--storage: must hold letters, digits"),
        ("/storage/a;id", {}, "--storage: must hold letters, digits"),
        ("/storage/a\nb", {}, "--storage: must hold letters, digits"),
        ("s3://key:geheim@bucket", {}, "--storage: holds a password"),
    ],
)
def test_a_storage_that_the_pods_cannot_reach_is_refused(storage: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        made(order(storage=storage), **options)


def files_of(config_map: dict[str, Any], job: dict[str, Any], folder: Path) -> None:
    """What the kubelet would mount."""
    (items,) = {json.dumps(volume["configMap"]["items"]) for volume in _volumes(job, "configMap")}
    for item in json.loads(items):
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = config_map.get("data", {}).get(item["key"])
        binary = config_map.get("binaryData", {}).get(item["key"])
        path.write_bytes(text.encode() if text is not None else base64.b64decode(binary))


def test_a_study_of_a_file_travels_whole(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "order.json").write_text("{}")
    (here / "data.bin").write_bytes(bytes(range(256)))
    (here / "mine $(id).yaml").write_text(
        "extends: xquad-mini\nsearch: {schedule: [replay], k: []}\ntraining: {replay: order.json}\n"
    )
    one = order("mine $(id).yaml", here, name="mine", overrides=["seeds=3"], working_dir=here)
    config_map, job = made(one)
    files_of(config_map, job, tmp_path / "there")
    assert (tmp_path / "there" / "order.json").read_text() == "{}"
    assert (tmp_path / "there" / "data.bin").read_bytes() == bytes(range(256))
    words = job["spec"]["entrypoint"].split()
    assert words[:9] == ["exec", "env", "-C", FILES, "python", "-m", "raysched", "sweep", "submitted/study.yaml"]
    there = load("submitted/study.yaml", cwd=tmp_path / "there", name="mine")
    assert there.study == one.loaded.study  # type: ignore[union-attr]
    for template in pods(job).values():
        mounts = [one for one in template["spec"]["containers"][0]["volumeMounts"] if one["name"] == "study"]
        assert mounts in ([], [{"name": "study", "mountPath": FILES, "readOnly": True}])


def test_a_suite_with_overrides_travels_whole(tmp_path: Path) -> None:
    one = order("paper-table1", overrides=["seeds=2"])
    config_map, job = made(one, gpus=1)
    files_of(config_map, job, tmp_path)
    again = load("submitted/study.yaml", cwd=tmp_path, name="paper-table1")
    assert again.n_runs == one.loaded.n_runs
    assert [part.study for part in again.parts] == [part.study for part in one.loaded.parts]  # type: ignore[union-attr]


def test_more_than_a_config_map_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(2**20 + 1))
    with pytest.raises(StudyError, match=r"--working-dir: 1\.0 MiB would travel .* at most 1 MiB"):
        made(order(working_dir=tmp_path))


RAY = """#!{python}
import subprocess, sys
if sys.argv[1:3] == ["job", "submit"]:
    command = subprocess.list2cmdline(sys.argv[sys.argv.index("--") + 1:])
    sys.exit(subprocess.run(command, shell=True).returncode)
sys.exit(sys.argv[1:3] == ["job", "status"])
"""
"""Joins the words as Ray's command line does, and runs them as its job supervisor does."""
PYTHON = """#!{python}
import json, os, sys
print(json.dumps([os.getcwd(), *sys.argv[1:]]))
"""


def through_the_shells(job: dict[str, Any], bin_folder: Path, files: Path) -> list[list[str]]:
    """Working folder and arguments of every `python` that the operator's script for a job would start."""
    for name, text in {"ray": RAY, "python": PYTHON}.items():
        path = bin_folder / name
        path.write_text(text.format(python=sys.executable))
        path.chmod(0o755)
    spec = job["spec"]
    script = (
        "if ! ray job status --address http://head:8265 id >/dev/null 2>&1 ; then ray job submit "
        f"--address http://head:8265 --no-wait --metadata-json {json.dumps(json.dumps(spec['metadata']))} "
        f"--submission-id id -- {spec['entrypoint'].strip()} ; fi ; "
        "ray job logs --address http://head:8265 --follow id"
    )
    script = script.replace(FILES, str(files))
    done = subprocess.run(
        ["/bin/bash", "-ce", script],
        env={"PATH": f"{bin_folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_ray_joins_words_as_it_is_assumed() -> None:
    cli = pytest.importorskip("ray.dashboard.modules.job.cli", reason="needs ray[default]")
    assert cli.list2cmdline is subprocess.list2cmdline


HOSTILE = [
    "'; touch /tmp/pwned; '",
    '"; touch /tmp/pwned; "',
    "$(touch /tmp/pwned) `touch /tmp/pwned`",
    "a\nb: [c\n--- \n- d",
    "%s {} {{x}} $HOME ${HOME} $$(HOME) \\",
    "on",
    "a  \n  b\n",
    "\u2028 \u00a0 é 🙂",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_breaks_out_of_the_shells(tmp_path: Path, text: str) -> None:
    one = order(overrides=[f"description={json.dumps(text, ensure_ascii=False)}", "seeds=2"], max_concurrent=3)
    config_map, job = made(one)
    (tmp_path / "bin").mkdir()
    files_of(config_map, job, tmp_path / "files")
    started = through_the_shells(job, tmp_path / "bin", tmp_path / "files")
    assert started == [
        [
            str(tmp_path / "files"),
            *("-m", "raysched", "sweep", "submitted/study.yaml", "--name", "xquad-mini"),
            *("--storage", "/storage/sweeps", "--address", "auto", "--max-concurrent", "3"),
        ]
    ]
    there = load("submitted/study.yaml", cwd=tmp_path / "files", name="xquad-mini")
    assert there.study == one.loaded.study  # type: ignore[union-attr]


@given(st.text(), st.text())
def test_an_entrypoint_holds_safe_words_or_the_order_is_refused(storage: str, asked: str) -> None:
    one = order()
    hostile = Order(asked=asked, loaded=one.loaded, storage=f"s3://b/{storage}", overrides=[asked])
    try:
        job = made(hostile, claim=None)[-1]
    except StudyError:
        return
    assert all(SHELL_SAFE.fullmatch(word) for word in job["spec"]["entrypoint"].split(" "))
    assert re.fullmatch(r"[ -~]+", job["spec"]["entrypoint"])
