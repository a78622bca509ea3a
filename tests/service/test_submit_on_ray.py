"""`raysched submit` to a real head that asks for a token; `status`, `logs` and `stop` from other processes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import BAD_INPUT, CTRL_C, DONE, OUTSIDE_MISSING, MissingError
from raysched.records.layout import SweepLayout
from raysched.service import ray_jobs, submit
from raysched.service.ray_jobs import SWEEP, Job, JobServer
from tests.processes import wait
from tests.runners.world import NAME, overrides, segments
from tests.service.head import Head, head
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with head(tmp_path_factory.mktemp("cluster")) as one:
        yield one


@pytest.fixture
def server(cluster: Head, monkeypatch: pytest.MonkeyPatch) -> JobServer:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # Ray's client would rather go there
    return JobServer(cluster.address)


def start(server: JobServer, job_id: str, command: str, **metadata: str) -> Job:
    server.submit(
        job_id, command, metadata={SWEEP: job_id} | metadata, environment=submit.ENVIRONMENT, package=None
    )  # fmt: skip
    return server.job(job_id)


def test_the_server_says_what_it_is(cluster: Head, server: JobServer) -> None:
    import ray

    assert (server.version, server.open) == (ray.__version__, False)


@pytest.mark.parametrize(
    ("environment", "rule"),
    [
        ({}, r"asks for a token, and there is none here \(HTTP 401\)"),
        ({"RAY_AUTH_TOKEN": "wrong"}, r"does not accept the token that is here \(HTTP 403\)"),
    ],
)
def test_no_token_and_a_wrong_one(
    cluster: Head, environment: dict[str, str], rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MissingError, match=rule) as caught:
        JobServer(cluster.address)
    assert "RAY_AUTH_TOKEN_PATH" in str(caught.value)
    assert caught.value.exit_code == OUTSIDE_MISSING
    assert "wrong" not in str(caught.value)


def test_what_the_server_refuses_is_told_in_words(server: JobServer, tmp_path: Path) -> None:
    start(server, "taken", "exec true")
    with pytest.raises(MissingError, match="could not do that"):  # HTTP 500, and nothing else
        start(server, "taken", "exec true")
    for ask in (server.job, server.logs, server.stop, lambda job_id: server.follow(job_id, print)):
        with pytest.raises(MissingError, match="knows no such job"):
            ask("nobody")
    large = tmp_path / "large.zip"
    with large.open("wb") as file:
        file.truncate(ray_jobs.MOST_BYTES + 1)
    with pytest.raises(MissingError, match="takes at most 100 MiB with a job"):
        server.submit("large", "true", metadata={}, environment={}, package=large)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("exec no-such-program", "no `python` is on the PATH there"),
        ("echo 'python: No module named raysched'; exit 1", "there is no raysched on the cluster"),
    ],
)
def test_a_job_that_cannot_start(server: JobServer, command: str, rule: str) -> None:
    job = start(server, f"bad-{len(server.ids())}", command)
    with pytest.raises(MissingError, match=rule):
        submit.started(server, job)


def test_a_driver_that_does_not_leave_is_given_time(server: JobServer) -> None:
    """Ray alone would kill it after three seconds."""
    program = "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(4), print('saved'), sys.exit(143)));"
    job = start(server, "slow", f'exec python -c "{program} print(1, flush=True); time.sleep(60)"')
    wait(lambda: "1" in server.logs("slow").splitlines())
    job = submit.stop(server, job)
    assert job.state == "STOPPED"
    assert "saved" in server.logs("slow").splitlines()
    assert submit.stop(server, job) == job


def run(cluster: Head, *arguments: str | Path, **more: Any) -> tuple[int, str]:
    return cluster.user.run(*arguments, **more)


@pytest.mark.faults
def test_a_sweep_far_away(cluster: Head, server: JobServer, tiny: Tiny) -> None:
    """Submitted, looked at, followed and stopped, each from a process of its own; then stopped and submitted again."""
    at = ["--address", cluster.address]
    (cluster.user.folder / "mine.yaml").write_text(f"extends: {NAME}\n")
    storage = cluster.user.folder / "storage"
    layout = SweepLayout(storage, "mine")
    settings = overrides(tiny, seeds=1, search__schedule=["standard"], training__steps=20_000)
    command = ["submit", "mine.yaml", "--storage", str(storage), *at, "--max-concurrent", "1", *settings]
    code, text = run(cluster, *command)
    assert (code, text.splitlines()[0]) == (DONE, "mine: submitted as job mine, which runs")
    code, text = run(cluster, *command)
    assert (code, text.splitlines()[0]) == (DONE, "mine: runs already as job mine; nothing was sent")
    code, text = run(cluster, *command, "--set", "seeds=2")
    assert (code, "another study runs there under the name 'mine'" in text) == (BAD_INPUT, True)

    following = cluster.user.raysched("logs", "mine", *at, "--follow")
    wait(lambda: segments(layout) > 1)
    wait(lambda: "0 of 1 runs are done" in following.text)
    os.kill(following.pid, signal.SIGINT)
    assert following.end() == CTRL_C
    assert re.search(r"the job mine goes on\n +next: +raysched stop mine", following.text)

    code, text = run(cluster, "status", "mine", *at, "--json")
    found = json.loads(text)
    assert (code, found["state"], found["storage"], found["exit_code"]) == (DONE, "RUNNING", str(storage), None)
    code, text = run(cluster, "status", "mine", *at)
    assert code == DONE
    assert "mine: runs (for" in text
    assert "0 of 1 runs are done" in text

    began = time.monotonic()
    code, text = run(cluster, "stop", "mine", *at)
    assert (code, text.splitlines()[-1]) == (
        DONE, "mine: was stopped; everything is saved: submit it again to continue"
    )  # fmt: skip
    assert time.monotonic() - began < 30
    assert "stopped by SIGTERM; everything done so far is saved" in server.logs("mine")
    assert cluster.token not in server.logs("mine")
    code, text = run(cluster, "stop", "mine", *at)
    assert (code, text.startswith("mine: had ended already: it was stopped")) == (DONE, True)
