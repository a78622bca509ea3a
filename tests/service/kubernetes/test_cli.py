"""`submit`, `status`, `logs`, `stop`, `pause`, `resume` with `--kubernetes`, against a double of a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysched.service.kubernetes import watching
from tests.cli.conftest import Raysched, raysched
from tests.service.kubernetes.api import status as answer
from tests.service.kubernetes.simulated import TOKEN, Attempt, Operator, until

__all__ = ["raysched"]
SUBMIT = ("submit", "xquad-mini", "--kubernetes")
HOLD = Attempt("hold", ("0/4 runs done",))
LOST = Attempt("AppFailed", ("1/4 runs done",), "Job supervisor actor died: its node is dead")


def test_from_submission_to_the_end(cluster: Operator, raysched: Raysched) -> None:
    cluster.plays = [HOLD]
    first = raysched(*SUBMIT)
    assert first.code == 0, first.err
    assert "xquad-mini: submitted as RayJob xquad-mini-" in first.out
    assert "xquad-mini: its cluster is being made\n" in first.out
    assert "xquad-mini: runs\n" in first.out
    assert "raysched logs xquad-mini --kubernetes --follow\n" in first.out
    again = raysched(*SUBMIT)
    assert again.code == 0
    assert "is there already as RayJob xquad-mini-" in again.out
    assert "nothing was sent" in again.out
    shown = raysched("status", "xquad-mini", "--kubernetes")
    assert "xquad-mini: runs (for" in shown.out
    assert "  0/4 runs done" in shown.out
    told = json.loads(raysched("status", "--kubernetes", "--json").out)
    assert {key: told[key] for key in ("sweep", "state", "deployment", "meaning", "exit_code", "storage")} == {
        "sweep": "xquad-mini", "state": "RUNNING", "deployment": "Running", "meaning": "runs", "exit_code": None,
        "storage": "/storage/sweeps",
    }  # fmt: skip
    assert raysched("logs", "xquad-mini", "--kubernetes").out == "0/4 runs done\n"
    paused = raysched("pause", "--kubernetes")
    assert (paused.code, "is paused" in paused.out) == (0, True)
    assert "raysched resume xquad-mini" in raysched("status", "--kubernetes").out
    assert raysched("logs", "xquad-mini", "--kubernetes", "--follow").code == 75
    resumed = raysched("resume", "--kubernetes")
    assert (resumed.code, resumed.out.splitlines()[-1]) == (0, "xquad-mini: runs")
    assert "nothing to resume: it runs" in raysched("resume", "--kubernetes").out
    stopped = raysched("stop", "xquad-mini", "--kubernetes")
    assert stopped.code == 0
    assert "was stopped, and its cluster is gone: submit it again to continue" in stopped.out
    assert len(cluster.stopped) == 1
    gone = raysched("status", "--kubernetes")
    assert (gone.code, "no sweep was submitted to the namespace raysched" in gone.err) == (3, True)


@pytest.mark.parametrize(
    ("plays", "code", "words"),
    [
        ([Attempt()], 0, "xquad-mini: done"),
        ([LOST, Attempt()], 0, "xquad-mini: done"),
        ([Attempt(1)], 1, "some runs failed (tried on 2 clusters)"),
        ([Attempt(2)], 2, "malformed"),
        ([Attempt(75)], 75, "can be continued"),
        ([Attempt("STOPPED", ("stopped; everything done so far is saved",))], 75, "everything is saved"),
        ([Attempt("DeadlineExceeded")], 75, "ended by its deadline"),
        ([LOST], 75, "was lost with its driver on 2 clusters: Job supervisor actor died"),
        ([Attempt("SubmissionFailed", message="BackoffLimitExceeded")], 3, "could not be submitted to Ray: Backoff"),
        ([Attempt("PreRunningDeadlineExceeded")], 3, "did not come up in time"),
        ([Attempt("JobStatusCheckTimeoutExceeded")], 75, "answered the operator no more"),
    ],
)  # fmt: skip
def test_how_a_followed_sweep_ends(
    cluster: Operator, raysched: Raysched, plays: list[Attempt], code: int, words: str
) -> None:
    cluster.plays = plays
    ended = raysched(*SUBMIT, "--follow", "--backoff-limit", "1")
    assert (ended.code, ended.err) == (code, "")
    assert words in ended.out
    assert raysched("stop", "--kubernetes").out.startswith("xquad-mini: had ended already: it ")


def test_what_the_operator_refuses(cluster: Operator, raysched: Raysched) -> None:
    cluster.invalid = "the RayJob spec is invalid: a suspended one must shut down"
    refused = raysched(*SUBMIT)
    assert refused.code == 2
    assert "KubeRay's operator refuses it: the RayJob spec is invalid: a suspended one" in refused.out
    assert "  next:  correct what it names" in refused.out


def test_a_queue_of_kueue(cluster: Operator, raysched: Raysched) -> None:
    cluster.kueue, cluster.plays = True, [Attempt("preempt", ()), HOLD]
    first = raysched(*SUBMIT, "--queue", "team")
    assert first.code == 0
    assert "waits in the queue team" in first.out
    labels = cluster.job()["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "team"
    refused = raysched("pause", "--kubernetes")
    assert (refused.code, "Kueue decides when a job of a queue runs" in refused.err) == (2, True)
    assert "raysched stop xquad-mini --kubernetes" in refused.err
    until(lambda: raysched("status", "--kubernetes").out.startswith("xquad-mini: runs"))
    assert cluster.clusters >= 2


def test_resume_submits_an_ended_sweep_again(cluster: Operator, raysched: Raysched) -> None:
    cluster.plays = [Attempt(75), HOLD]
    assert raysched(*SUBMIT, "--follow", "--backoff-limit", "0").code == 75
    resumed = raysched("resume", "xquad-mini", "--kubernetes")
    assert resumed.code == 0
    assert "submitted again as RayJob xquad-mini-" in resumed.out


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("submit", "xquad-mini"), "--address: names the cluster, or --kubernetes does"),
        (("submit", "xquad-mini", "--kubernetes", "--address", "http://h:8265"), "--address: names another cluster"),
        (("submit", "xquad-mini", "--address", "http://h:8265", "--queue", "x"), "--queue: is for --kubernetes"),
        (("submit", "xquad-mini", "--address", "http://h:8265", "--context", "x"), "--context: is for --kubernetes"),
        (("logs", "x"), "--address: names the cluster, or --kubernetes does"),
        (("status", "x", "--namespace", "n"), "--namespace: is for --kubernetes"),
        (("stop", "x", "--kubernetes", "--address", "http://h:8265"), "--address: names another cluster"),
        (("submit", "xquad-mini", "--kubernetes", "--storage", "./x"), "--storage: must be an address"),
        (("submit", "xquad-mini", "--kubernetes", "--image", "raysched:latest"), "image: must name one image for good"),
        (("submit", "no-such-study", "--kubernetes"), "no-such-study"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(cluster: Operator, raysched: Raysched, words: tuple[str, ...], rule: str) -> None:
    ended = raysched(*words)
    assert ended.code == 2
    assert rule in ended.err
    assert cluster.requests == []


def test_the_environment_of_another_cluster(
    cluster: Operator, raysched: Raysched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    monkeypatch.setenv("RAYSCHED_MLFLOW", "http://me:geheim@localhost:5000")
    cluster.plays = [HOLD]
    assert raysched(*SUBMIT).code == 0
    assert raysched("logs", "xquad-mini", "--kubernetes").code == 0
    assert "localhost:5000" not in str(cluster.job())


def test_rights_are_told(cluster: Operator, raysched: Raysched) -> None:
    cluster.refusals["list", "rayjobs"] = (1, answer(403, "Forbidden", 'User "dev" cannot list resource "rayjobs"'))
    refused = raysched("status", "--kubernetes")
    assert refused.code == 3
    assert "you may not list rayjobs in the namespace raysched" in refused.err
    other = raysched("status", "--kubernetes", "--namespace", "other")
    assert (other.code, "in the namespace other" in other.err) == (3, True)
    assert raysched("status", "--kubernetes", "--context", "none").code == 3
    assert TOKEN not in refused.err + other.err


def test_nobody_waits_for_ever(cluster: Operator, raysched: Raysched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "START_S", 0.5)
    cluster.plays = [Attempt("stuck", waits="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")]
    waits = raysched(*SUBMIT)
    assert waits.code == 0
    assert "Unschedulable: 0/3 nodes are available" in waits.out


def test_who_no_longer_watches_leaves_it_running(cluster: Operator, tmp_path: Path) -> None:
    cluster.plays = [HOLD]
    command = [sys.executable, "-m", "raysched", *SUBMIT, "--follow"]
    pipe, environment = subprocess.PIPE, {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("0/4 runs done"):
                    break
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "no longer watching; the RayJob xquad-mini-" in err
    assert "Traceback" not in err
    assert len(cluster.rayjobs) == 1
