"""`raysched render`: valid manifests for every study and option, the same each time, in YAML that nobody misreads."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from raysched.cli.app import app
from raysched.cli.rendering import to_yaml
from raysched.errors import StudyError
from raysched.service.kubernetes import rules
from raysched.service.kubernetes.options import cluster_options
from raysched.service.kubernetes.rayjob import manifests
from raysched.service.kubernetes.sizing import default_gpus
from raysched.service.submit import Order
from raysched.study.load import load, study_names
from tests.cli.conftest import Raysched, raysched
from tests.deploy import crd
from tests.service.kubernetes.made import order, pods

__all__ = ["raysched"]

KUBERNETES = "1.37"
GOLDEN = Path(__file__).parents[3] / "deploy" / "examples" / "rayjob-sweep.yaml"
SMALL = shlex.split("--workers 2 --worker-cpu 2 --worker-memory 4Gi --head-cpu 1 --head-memory 4Gi")
STUDIES = [info.name for info in study_names(Path("/"))]
SCALED = ["--autoscale", "--min-workers", "1", "--set", "resources.gpu=1", "--gpus", "1"]
SPOT = ["--spot-workers", "8", "--spot-selector", "cloud/spot=true", "--spot-toleration", "cloud/spot=true:NoSchedule"]
OPTIONS = {
    "cpu": ["--gpus", "0", "--worker-cpu", "16", "--worker-memory", "32Gi"],
    "gpus": ["--gpus", "4", "--workers", "10", "--node-selector", "pool=a100", "--toleration", "team=a:NoExecute"],
    "a share of a GPU": ["--gpus", "1", "--set", "resources.gpu=0.25", "--gpu-toleration", "gpu"],
    "another GPU": ["--gpus", "1", "--gpu-resource", "amd.com/gpu"],
    "autoscaling": SCALED,
    "spot": SPOT,
    "spot and autoscaling": [*SCALED, *SPOT],
    "spot alone": [*SPOT, "--workers", "0"],
    "Kueue": ["--queue", "team-a", "--priority-class", "high", "--namespace", "team-a", "--label", "team=a"],
    "elastic Kueue": [*SCALED, "--queue", "team-a", "--elastic"],
    "priority": ["--priority-class", "high"],
    "object store": ["--storage", "s3://bucket/sweeps", "--online"],
    "object store and a volume": ["--storage", "s3://bucket/sweeps", "--claim", "hub"],
    "another volume": ["--storage", "/data/sweeps", "--claim", "data", "--mount", "/data"],
    "no servers": ["--mlflow", "none", "--no-database"],
    "another MLflow": ["--mlflow", "https://mlflow.example.org/a?b=c&d=e"],
    "a registry": ["--image", "registry.example.org:5000/team/raysched:1.2.3", "--image-pull-secret", "registry"],
    "a digest": ["--image", f"r.example.org/raysched@sha256:{'0' * 64}", "--service-account", "other"],
    "deadlines": ["--deadline", "86400", "--pre-running-deadline", "900", "--ttl", "0", "--backoff-limit", "0"],
    "overrides": ["--set", "seeds=2", "--set", "description='$(id); \"x\"'", "--name", "2.other_name"],
    "few at a time": ["--max-concurrent", "2", "--head-cpu", "8", "--head-memory", "32Gi"],
}


def documents(text: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all(text))


def check(made: list[dict[str, Any]]) -> None:
    """All that can be known of manifests without a cluster."""
    for one in made:
        assert rules.check(one) == []
        if crd.is_custom(one):
            assert not crd.definitions() or crd.problems(one) == []
            for template in pods(one).values():
                kubernetes_validate.validate(
                    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]},
                    KUBERNETES,
                    strict=True,
                )
        else:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


@crd.needs_crds
def test_definitions_are_there() -> None:
    """So that it is seen where manifests were not compared with them."""
    assert ("ray.io/v1", "RayJob") in crd.definitions()


@crd.needs_crds
@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("spec.entrypont", "x", "spec: Additional properties are not allowed"),
        ("spec.backoffLimit", "3", "spec.backoffLimit: '3' is not of type 'integer'"),
        ("spec.rayClusterSpec.headGroupSpec", None, "headGroupSpec: None is not of type 'object'"),
        ("spec.rayClusterSpec.authOptions.mode", "open", "authOptions.mode: 'open' is not one of"),
        ("spec.rayClusterSpec.autoscalerOptions", {"resources": {"limits": {"cpu": "1x"}}}, "limits.cpu: '1x' is not"),
        ("spec.managedBy", "somebody", "spec.managedBy: the managedBy field value must be either"),
        ("spec.deletionStrategy", {}, "deletionStrategy requires either BOTH"),
        ("kind", "RayJobs", "no definition of ray.io/v1 RayJobs"),
    ],
)
def test_what_an_api_server_would_refuse_is_seen(path: str, value: Any, told: str) -> None:
    (made,) = manifests(order(), cluster_options({}))
    *parents, last = path.split(".")
    at = made
    for name in parents:
        at = at[name]
    at[last] = value
    found = crd.problems(made)
    assert any(told in one for one in found), found


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_and_suite(study: str) -> None:
    loaded = load(study, cwd=Path("/"))
    one = Order(asked=study, loaded=loaded, storage="/storage/sweeps", cwd=Path("/"))
    made = manifests(one, cluster_options({"gpus": default_gpus(loaded)}))
    assert [each["kind"] for each in made] == ["RayJob"]
    check(made)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_every_option(raysched: Raysched, options: list[str]) -> None:
    answer = raysched("render", "xquad-xlmr", *options)
    assert (answer.code, answer.err) == (0, "")
    made = documents(answer.out)
    assert made[-1]["kind"] == "RayJob"
    assert ("--set" in options) == (made[0]["kind"] == "ConfigMap")
    check(made)


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    """In another process, with another hash seed."""
    command = [sys.executable, "-m", "raysched", "render", "xquad-mini", *OPTIONS["overrides"], *SPOT, "--label", "b=1"]
    outputs = {
        subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_every_option_is_tried() -> None:
    from raysched.cli.cluster_verbs import OPTIONS as KNOWN

    tried = {word for options in OPTIONS.values() for word in options if word.startswith("--")}
    for name in KNOWN:
        spelled = {"database": "--no-database", "offline": "--online"}.get(name, "--" + name.replace("_", "-"))
        assert spelled in tried


def test_defaults_are_those_of_the_options() -> None:
    """What the command line says when nothing is given is what `ClusterOptions` says."""
    from raysched.cli.cluster_verbs import OPTIONS as KNOWN
    from raysched.cli.cluster_verbs import build

    built = build({name: default for name, (_, default) in KNOWN.items()}, load("xquad-mini"), "/storage/sweeps")
    assert built == cluster_options({})


def test_the_example_is_what_is_rendered(raysched: Raysched) -> None:
    """After a change: raysched render xquad-mini --workers 2 --worker-cpu 2 --worker-memory 4Gi --head-cpu 1
    --head-memory 4Gi --output deploy/examples/rayjob-sweep.yaml"""
    assert raysched("render", "xquad-mini", *SMALL).out == GOLDEN.read_text()


def test_it_is_written_to_a_file(raysched: Raysched, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    answer = raysched("render", "xquad-mini", *SMALL, "--output", str(path))
    assert (answer.code, answer.out) == (0, "")
    assert path.read_text() == GOLDEN.read_text()
    answer = raysched("render", "xquad-mini", "--output", str(tmp_path / "none" / "x"))
    assert answer.code == 3
    assert "--output" in answer.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no-such-study"], "no-such-study"),
        (["xquad-mini", "--storage", "./runs"], "--storage: must be an address"),
        (["xquad-mini", "--storage", "/storage/$(id)"], "--storage: must hold letters"),
        (["xquad-mini", "--label", "a"], "--label: must be KEY=VALUE, but got 'a'"),
        (["xquad-mini", "--label", "a=1", "--label", "a=2"], "--label: given twice"),
        (["xquad-mini", "--label", "a=$(id)"], "--label: must be KEY=VALUE as Kubernetes"),
        (["xquad-mini", "--toleration", "a=b:Never"], "--toleration: must be KEY"),
        (["xquad-mini", "--queue", "q", "--autoscale"], "--autoscale: cannot go with --queue"),
        (["xquad-mini", "--namespace", "a\nkind: Secret"], "--namespace"),
        (["xquad-mini", "--image", "a:1\n"], "--image"),
        (["xquad-mini", "--mlflow", "http://me:geheim@mlflow:5000"], "--mlflow: holds a password"),
        (["xquad-mini", "--gpus", "1", "--autoscale"], "resources.gpu: must be a number"),
        (["xquad-mini", "--service-account", "a b"], "--service-account"),
        (["xquad-mini", "--worker-memory", "1e3"], "--worker-memory: must be a whole number"),
    ],
)
def test_what_is_refused(raysched: Raysched, arguments: list[str], told: str) -> None:
    answer = raysched("render", *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert told in answer.err
    assert "geheim" not in answer.err
    assert "Traceback" not in answer.err


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    [
        "on",
        "No",
        "y",
        "null",
        "~",
        "010",
        "1_000",
        "1e3",
        "12:30:45",
        "=",
        "<<",
        "a: b",
        "a #b",
        "- a",
        "---",
        "0x1f",
        "a\n b",
    ]
)


@settings(max_examples=100)
@given(st.dictionaries(TEXT, TEXT | st.booleans() | st.integers() | st.lists(TEXT, max_size=3), max_size=5))
def test_both_versions_of_yaml_read_what_was_written(values: dict[str, Any]) -> None:
    """Kubernetes' tools read YAML 1.1, most others 1.2."""
    one = {"kind": "Made", "data": values, "items": [values, {"again": values}]}
    text = to_yaml([one, one])
    assert list(YAML(typ="safe", pure=True).load_all(io.StringIO(text))) == [one, one]
    assert list(yaml.safe_load_all(text)) == [one, one]


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_no_value_breaks_out_of_the_yaml(text: str) -> None:
    try:
        one = order(overrides=["description=" + json.dumps(text, ensure_ascii=False), "seeds=2"])
    except StudyError:  # a text that no study may hold
        return
    made = manifests(one, cluster_options({"labels": {"a": "on"}}))
    again = list(yaml.safe_load_all(to_yaml(made)))
    assert again == made
    assert shlex.split(again[-1]["spec"]["entrypoint"])[:3] == ["exec", "env", "-C"]


def test_the_help_names_every_option() -> None:
    from raysched.cli.cluster_verbs import OPTIONS as KNOWN

    shown = CliRunner().invoke(app, ["render", "--help"]).output
    missing = [name for name in KNOWN if "--" + name.replace("_", "-") not in shown]
    assert missing == []
