"""The door to MLflow: quick refusals, no credentials, and calls that are safe to repeat."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import OUTSIDE_MISSING, MissingError
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.rows import Scalar
from raysched.tracking.store_errors import RunGone
from raysched.tracking.uploader import Uploader
from tests.faults.proxy import Mode, Proxy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Store:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(empty_database, path)
    return Store(sqlite_uri(path), "shared")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mlruns",
        "s3://me:canary@bucket",
        "http://me:canary@127.0.0.1:1",
        "http://",
        "http://127.0.0.1:99999",
        "https://no-such-host.invalid",
    ],
)
def test_a_wrong_uri_is_refused_in_seconds_without_credentials(uri: str) -> None:
    started = time.monotonic()
    with pytest.raises(MissingError, match="--allow-offline-tracking") as caught:
        Store(uri, "x").check()
    assert time.monotonic() - started < 5
    assert caught.value.exit_code == 3
    assert "canary" not in str(caught.value) + repr(Store(uri, "x"))


def test_a_server_that_never_answers_is_refused_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(MissingError, match="MLflow"):
            Store(f"http://me:canary@127.0.0.1:{silent.getsockname()[1]}", "x").check()
        assert time.monotonic() - started < 15


def test_a_check_makes_nothing(tmp_path: Path) -> None:
    Store(sqlite_uri(tmp_path / "a" / "mlflow.db"), "x").check()
    Store(f"file://{tmp_path}/b", "x").check()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["no database", "below a file"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("hello, this is text")
    with pytest.raises(MissingError, match="no SQLite database" if kind == "no database" else "no folder"):
        Store(sqlite_uri(path if kind == "no database" else path / "x.db"), "x").check()


def test_importing_the_door_does_not_import_mlflow() -> None:
    code = "import sys, raysched.tracking.uploader; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_is_made_once_and_a_younger_twin_goes(shared: Store) -> None:
    make: Callable[..., str] = shared.ensure_run
    first = make("run:a", "u", name="n", tags={"t": "1"}, parent=None, start_ms=100)
    assert make("run:a", "u", name="n", tags={}, parent=None, start_ms=200) == first
    assert make("run:a", "other sweep", name="n", tags={}, parent=None, start_ms=100) != first
    client, experiment = shared._open()
    twin = client.create_run(experiment, start_time=300, tags={"raysched.key": "run:a", "raysched.sweep_uid": "u"})
    assert shared.keep_one("run:a", "u") == first
    assert client.get_run(twin.info.run_id).info.lifecycle_stage == "deleted"
    shared.delete(twin.info.run_id)
    with pytest.raises(RunGone, match="MLflow"):
        shared.log(twin.info.run_id, [Scalar(key="a", value=1.0, step=0, time_ms=0)])
    with pytest.raises(RunGone, match="MLflow"):
        shared.set_status("0" * 32, "FINISHED", 5)


def test_the_same_metrics_twice_are_stored_once(shared: Store) -> None:
    run_id = shared.ensure_run("run:m", "u", name="n", tags={}, parent=None, start_ms=1)
    values = [Scalar(key=f"m{index % 3}", value=float(index), step=index, time_ms=7) for index in range(2500)]
    values.append(Scalar(key="m0", value=float("nan"), step=9999, time_ms=8))
    for _ in range(2):
        shared.log(run_id, values)
    client, _ = shared._open()
    assert sum(len(client.get_metric_history(run_id, f"m{index}")) for index in range(3)) == 2501
    assert shared.find("run:m", "u") == (run_id, True)


def test_parameters_are_added_never_changed(shared: Store) -> None:
    run_id = shared.ensure_run("run:p", "u", name="n", tags={}, parent=None, start_ms=1)
    shared.add_params(run_id, {f"p{index}": "1" for index in range(150)})
    shared.add_params(run_id, {"p0": "2", "new": "3"})
    params = shared._open()[0].get_run(run_id).data.params
    assert (params["p0"], params["new"], len(params)) == ("1", "3", 151)


def test_a_folder_can_be_the_store(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/mlruns", "x")
    store.check()
    run_id = store.ensure_run("run:f", "u", name="n", tags={}, parent=None, start_ms=1)
    store.log(run_id, [Scalar(key="a/b", value=1.0, step=0, time_ms=1)])
    store.log_text(run_id, "text", "folder/name.txt")
    store.set_status(run_id, "FINISHED", 5)
    assert store.find("run:f", "u") == (run_id, True)


def test_a_deleted_experiment_is_restored(shared: Store) -> None:
    client, experiment = shared._open()
    client.delete_experiment(experiment)
    again = Store(shared.uri, shared.experiment)
    again.ensure_run("run:again", "u", name="n", tags={}, parent=None, start_ms=1)
    assert client.get_experiment(experiment).lifecycle_stage == "active"


def test_the_database_belongs_to_its_owner_alone(tmp_path: Path, empty_database: Path) -> None:
    assert stat.S_IMODE(empty_database.stat().st_mode) == 0o600


@pytest.mark.timeout(180)
def test_a_real_server_holds_the_same_tree(
    server: str, disk: Any, store: Store, snapshot: Callable[[Store], dict[str, Any]]
) -> None:
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")
    remote = Store(server, "the same tree")  # other tests have experiments of their own there
    remote.check()
    for target in (store, remote):
        uploader = Uploader(disk.layout, target)
        assert uploader.drain(60), uploader.state().last_error
    assert snapshot(remote) == snapshot(store)
    assert remote.artifacts is None


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with Proxy(server, latency_s=0.2, password=("me", "canary")) as one:
        yield one


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_every_fault_once_and_the_credentials(
    proxy: Proxy, disk: Any, store: Store, snapshot: Callable[[Store], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Store(proxy.url, "faults")
    for user, password, said in (
        (None, None, "refuses whoever has no password"),
        ("me", "wrong-canary", "refuses the password of 'me'"),
    ):
        for name, value in (("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", password)):
            if value is not None:
                monkeypatch.setenv(name, value)
        with pytest.raises(MissingError, match=rf"{said}.*\(401\)") as caught:
            remote.check()
        assert caught.value.exit_code == OUTSIDE_MISSING
        assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value)
        assert "canary" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary")
    remote.check()

    disk.point()
    disk.whole_run(0)
    attempt = disk.attempt(1)
    sealed: list[Any] = []
    uploader = Uploader(disk.layout, remote)
    waits: list[float] = []
    steps: list[tuple[Mode, int, int]] = [("error", 0, 1), ("drop", 1, 2), ("lose", 2, 3)]
    for mode, begin, end in steps:  # the long version, with black holes and crashes, is in tests/faults
        proxy.mode = mode
        sealed = disk.checkpoint(attempt, begin, end, before=sealed)
        begun = time.monotonic()
        assert not uploader.sync_once()
        waits.append(time.monotonic() - begun)
        assert uploader.state().behind_since is not None
    assert max(waits) < 15, "a pass gives up soon"
    proxy.mode = "slow"
    disk.finish(1, attempt, disk.checkpoint(attempt, 3, 4, before=sealed))
    disk.told(81.0)
    disk.end("finished")
    for target in (uploader, Uploader(disk.layout, store)):
        assert target.drain(60), target.state().last_error
    proxy.mode = "pass"
    assert snapshot(remote) == snapshot(store)
    assert min(proxy.seen[mode] for mode, _, _ in steps) > 0
