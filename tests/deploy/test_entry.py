"""The command of a sweep's container, run as the container runs it: on a token-protected Ray of three nodes, beside a
real PostgreSQL and a real MLflow server with passwords; the node that holds half the runs is killed on the way.

Without a container: each node is a mount namespace of its own (tests/deploy/pod.py). Ray is started by the commands of
deploy/ray/README.md, the sweep by that of its RayJob, through Ray's job server as the operator's submitter does.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, Recorded
from raysched.records.layout import SweepLayout
from raysched.service.kubernetes.options import cluster_options
from raysched.service.kubernetes.rayjob import manifests
from raysched.service.submit import ENVIRONMENT, Order
from raysched.study.load import load
from raysched.tracking.mlflow_store import Store
from tests.deploy.mlflow_service import PASSWORDS, SERVICE, Service
from tests.deploy.nodes import Cluster, kill
from tests.deploy.pod import USER, Pod, why_not
from tests.postgres import Postgres, postgres  # noqa: F401 - a fixture
from tests.processes import processes, wait
from tests.runners.world import records, segments, trials

NAME = "entry"
SETTINGS: dict[str, Any] = {
    "search.schedule": ["standard", "gu"],
    "seeds": 2,
    "training.steps": 100,
    "training.batch_size": 8,
    "training.checkpoint_every_steps": 10,
    "data.train_examples": 200,
    "fisher.log.every_steps": 0,
    "evaluation.languages": ["orl", "tum"],
    "evaluation.dev_limit": 20,
    "evaluation.test_limit": 10,
    "evaluation.dev_points": 4,
    "resources.gpu": 0,
}
POINTS, RUNS = 2, 4


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, and one that another user may enter."""
    made = Path(tempfile.mkdtemp(prefix="rs-entry-", dir="/tmp"))
    made.chmod(0o755)
    try:
        if (reason := why_not(made / "possible")) is not None:
            pytest.skip(reason)
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def mlflow(postgres: Postgres, folder: Path) -> Iterator[Service]:  # noqa: F811
    """The server as deploy/mlflow starts it: its schemas, its users, and both behind a password."""
    (folder / "mlflow").mkdir()
    service = Service.make(postgres, folder / "mlflow")
    code, said = service.run("migrate", "provision")
    assert code == 0, said
    with service.serving():
        yield service


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    for name in ("storage", "files", "pods"):
        (folder / name).mkdir()
    os.chown(folder / "storage", USER, USER)
    one = Cluster(folder / "pods", folder / "storage", folder / "files")
    try:
        yield one
    finally:
        one.close()


def write_files(config_maps: list[dict[str, Any]], rayjob: dict[str, Any], folder: Path) -> None:
    """What the kubelet does: the keys of the ConfigMap as files, at the paths that the head's volume names."""
    data = {key: text for one in config_maps for key, text in one["data"].items()}
    spec = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    for volume in spec["volumes"]:
        for item in volume.get("configMap", {}).get("items", []):
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(data[item["key"]])


def job(cluster: Cluster) -> dict[str, Any]:
    answer = cluster.ask(f"/api/jobs/{NAME}")
    return answer.json() if answer.status_code == 200 else {}


def log(cluster: Cluster) -> str:
    return str(cluster.ask(f"/api/jobs/{NAME}/logs").json().get("logs", ""))


def test_a_run_needs_no_root_and_no_home(folder: Path) -> None:
    for name in ("storage", "files", "pod"):
        (folder / name).mkdir()
    os.chown(folder / "storage", USER, USER)
    changes = SETTINGS | {"training.steps": 2, "training.checkpoint_every_steps": 1, "evaluation.dev_points": 1}
    sets = " ".join(f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in changes.items())
    pod = Pod(folder / "pod", folder / "storage", folder / "files")
    done = pod.run(
        f"! touch here 2>&1 && id -u && raysched run xquad-mini --point schedule=gu --point lr=1e-3 --point k=20 "
        f"--storage /storage/sweeps {sets}",
        {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Read-only file system" in done.stdout
    assert f"\n{USER}\n" in done.stdout
    assert "2 steps" in done.stdout


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_the_entry_command_survives_the_loss_of_a_node(
    cluster: Cluster,
    mlflow: Service,
    postgres: Postgres,  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Any,
) -> None:
    database = postgres.new_database()
    changes = [f"{key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    order = Order(
        asked="xquad-mini",
        loaded=load("xquad-mini", changes, name=NAME),
        storage="/storage/sweeps",
        overrides=changes,
        cwd=folder,
    )
    *config_maps, rayjob = manifests(order, cluster_options({}))
    write_files(config_maps, rayjob, cluster.files)
    began = time.monotonic()
    cluster.head(
        RAYSCHED_OPTUNA=database,
        RAYSCHED_MLFLOW=mlflow.url,
        MLFLOW_TRACKING_USERNAME=SERVICE,
        MLFLOW_TRACKING_PASSWORD=PASSWORDS[SERVICE],
        HF_HUB_OFFLINE="1",
    )
    nodes = [cluster.worker("worker-1"), cluster.worker("worker-2")]
    assert requests.get(f"{cluster.server}/api/jobs/", timeout=10).status_code == 401
    up = time.monotonic()
    runtime = json.dumps({"env_vars": ENVIRONMENT})
    _, submitted = cluster.pod(
        "submitter",
        f"ray job submit --address {cluster.server} --no-wait --submission-id {NAME} "
        f"--runtime-env-json '{runtime}' -- {rayjob['spec']['entrypoint']}",
    )
    assert submitted.end(120) == 0, submitted.text

    layout = SweepLayout(cluster.storage / "sweeps", NAME)
    over = ("SUCCEEDED", "FAILED", "STOPPED")

    def ended() -> bool:
        return job(cluster).get("status") in over

    wait(lambda: ended() or all(len(node.workers()) == 2 for node in nodes), 240, every_s=0.3)
    wait(lambda: ended() or segments(layout) >= 6, 240, every_s=0.1)
    assert not ended(), log(cluster)
    victim = nodes[1]
    lost = len(victim.workers())
    kill(victim)
    killed = time.monotonic()
    wait(lambda: ended() or Counter(causes(layout))["node_lost"] >= 1, 180, every_s=0.2)
    noticed = time.monotonic() - killed
    wait(ended, 600, every_s=0.5)
    done = time.monotonic()
    assert job(cluster)["status"] == "SUCCEEDED", log(cluster)[-3000:] + ends(layout)
    assert Counter(causes(layout))["node_lost"] == lost == RUNS // 2, log(cluster)
    check_once(layout, database, mlflow, monkeypatch)
    check_private(cluster, database)
    figures = (
        f"3 nodes up in {up - began:.0f} s; killed 1 of 2 with {lost} of {RUNS} runs, noticed after {noticed:.1f} s; "
        f"sweep done {done - up:.0f} s after its submission"
    )
    print(figures)
    record_property("figures", figures)


def ends(layout: SweepLayout) -> str:
    """How attempts ended, for a failure's report."""
    entries = [entry for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptEnded)]
    return "\n".join(f"{entry.outcome} {entry.cause}: {entry.message}" for entry in entries)


def causes(layout: SweepLayout) -> list[str | None]:
    return [entry.cause for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptEnded)]


def check_once(layout: SweepLayout, database: str, mlflow: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run once: in the records, in Optuna's PostgreSQL, and in MLflow with its scores and files."""
    there = records(layout)
    assert len(there) == RUNS
    assert {record.status for record in there.values()} == {"finished"}
    recorded = [entry.run_id for entry in ledgers.read(layout.ledger) if isinstance(entry, Recorded)]
    assert Counter(recorded) == dict.fromkeys(there, 1)
    assert trials(layout, database) == ["COMPLETE"] * POINTS
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", SERVICE)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[SERVICE])
    client, experiment = Store(mlflow.url, layout.name)._open()
    found = client.search_runs([experiment], max_results=100)
    assert Counter(run.data.tags["raysched.level"] for run in found) == {"sweep": 1, "cell": POINTS, "run": RUNS}
    assert {run.info.status for run in found} == {"FINISHED"}
    runs = [run for run in found if run.data.tags["raysched.level"] == "run"]
    assert Counter(run.data.tags["raysched.run_id"] for run in runs) == dict.fromkeys(there, 1)
    for run in runs:
        scores = there[run.data.tags["raysched.run_id"]].source_dev
        assert {f"val/{name}" for name in scores} <= run.data.metrics.keys()
        assert client.list_artifacts(run.info.run_id)
    assert mlflow.get("/api/2.0/mlflow/experiments/search?max_results=1").status == 401


def check_private(cluster: Cluster, database: str) -> None:
    """No secret in any command line, in the job's public record, or in the sweep's files."""
    hidden = [PASSWORDS[SERVICE], cluster.token, database]
    shown = [process.command for process in processes(cluster.folder)] + [json.dumps(job(cluster))]
    texts = [path.read_bytes().decode(errors="replace") for path in cluster.storage.rglob("*") if path.is_file()]
    for secret in hidden:
        assert not [text for text in (*shown, *texts) if secret in text]
