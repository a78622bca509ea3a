"""What is sent to a job server, and what is refused before anything is sent."""

from __future__ import annotations

import http.server
import os
import shlex
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError, RayschedError, StudyError
from raysched.service import parcel as parcels
from raysched.service.ray_jobs import Job, JobServer, check_address, token
from raysched.service.submit import Order, check_order, free_id, holds_secret, meaning, pick
from raysched.study.load import load
from tests.cli.conftest import closed_port


def order(asked: str, cwd: Path, **options: Any) -> Order:
    """Of the study `asked` as it is seen from `cwd`."""
    overrides = options.get("overrides", ())
    loaded = load(asked, overrides, cwd=cwd, name=options.pop("name", None))
    return Order(asked=asked, loaded=loaded, cwd=cwd, **({"storage": "s3://bucket/sweeps"} | options))


def job(**fields: Any) -> Job:
    plain: dict[str, Any] = {
        "id": "a", "state": "RUNNING", "sweep": "a", "storage": "/s", "study": "", "version": "", "started": 1.0,
        "ended": None, "exit_code": None, "message": "",
    }  # fmt: skip
    return Job(**(plain | fields))


def test_a_study_of_the_package_goes_by_its_name(tmp_path: Path) -> None:
    overrides = ["seeds=2", "search.lr=[1e-4, 2e-4]", "description='; rm -rf $HOME `id` \"x\"'"]
    one = order("xquad-mini", tmp_path, overrides=overrides, max_concurrent=3, mlflow_uri="http://mlflow:5000")
    sent = check_order(one)
    assert sent.files == {}
    assert sent.write(tmp_path / "parcel.zip") is None
    program, *words = shlex.split(one.entrypoint(sent))
    assert program == "exec"
    assert words == [
        *("python", "-m", "raysched", "sweep", "xquad-mini", "--name", "xquad-mini"),
        *("--storage", "s3://bucket/sweeps", "--address", "auto", "--mlflow", "http://mlflow:5000"),
        *("--max-concurrent", "3"),
        *(word for override in overrides for word in ("--set", override)),
    ]
    assert one.metadata["raysched.sweep"] == "xquad-mini"


def test_a_study_of_a_file_travels_whole(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: xquad-mini\nseeds: 2\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nsearch: {lr: [1.0e-3]}\n")
    one = order("mine.yaml", tmp_path, overrides=["seeds=3"], name="other")
    sent = check_order(one)
    assert list(sent.files) == ["submitted/mine.yaml"]
    words = shlex.split(one.entrypoint(sent))
    assert words[5:8] == ["submitted/mine.yaml", "--name", "other"]
    assert "--set" not in words
    there = unpacked(sent, tmp_path / "there")
    assert load("submitted/mine.yaml", cwd=there, name="other").study == one.loaded.study  # type: ignore[union-attr]


def test_a_suite_of_a_file_travels_whole(tmp_path: Path) -> None:
    suite = "description: two\nparts:\n  a: {extends: xquad-mini}\n  b: {extends: xcopa-mini, seeds: 2}\n"
    (tmp_path / "both.yaml").write_text(suite)
    for asked, sweep in {"both.yaml": "both", "both.b": "both.b"}.items():
        one = order(asked, tmp_path)
        there = unpacked(check_order(one), tmp_path / f"there-{sweep}")
        again = load("submitted/both.yaml", cwd=there, name=sweep)
        assert again.name == one.loaded.name == sweep
        assert again.n_runs == one.loaded.n_runs


def unpacked(sent: parcels.Parcel, folder: Path) -> Path:
    path = sent.write(folder.with_suffix(".zip"))
    assert path is not None
    again = sent.write(folder.with_suffix(".again"))
    assert again is not None
    assert path.read_bytes() == again.read_bytes()  # the same files are uploaded once
    with zipfile.ZipFile(path) as packed:
        packed.extractall(folder)
    return folder


def test_a_folder_travels_without_what_is_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    for name in ("data/train.json", ".git/x", ".env", "venv/x", "raysched-runs/x", "src/__pycache__/x", "src/a.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    sent = check_order(order("xquad-mini", tmp_path, working_dir=folder))
    assert sorted(sent.files) == ["data/train.json", "src/a.py"]
    (folder / "out").symlink_to("/etc/hostname")
    with pytest.raises(StudyError, match=r"--working-dir: out is a link that leads out of"):
        check_order(order("xquad-mini", tmp_path, working_dir=folder))
    with pytest.raises(StudyError, match="is no folder"):
        check_order(order("xquad-mini", tmp_path, working_dir=tmp_path / "none"))


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for name, size in {"a.bin": 70 << 20, "b.bin": 40 << 20, "c.txt": 5}.items():
        with (folder / name).open("wb") as file:
            file.truncate(size)
    sent = check_order(order("xquad-mini", tmp_path, working_dir=folder))
    with pytest.raises(StudyError, match=r"110 MiB .* at most 100 MiB; the largest: a.bin \(70.0 MiB\), b.bin \(40"):
        sent.write(tmp_path / "parcel.zip")
    assert not (tmp_path / "parcel.zip").exists()


def test_paths_of_this_machine_are_refused_unless_they_travel(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.json").write_text("{}")
    (tmp_path / "order.json").write_text("{}")
    overrides = ["data.train=rows/train.json", "model.backbone=/mnt/backbone", "data.dev=owner/name"]
    with pytest.raises(StudyError, match=r"data.train: rows/train.json is a path on this machine.*\n.*--working-dir"):
        check_order(order("xquad-mini", tmp_path, overrides=overrides))
    sent = check_order(order("xquad-mini", tmp_path, overrides=overrides, working_dir=tmp_path))
    assert "rows/train.json" in sent.files
    replay = ["search.schedule=[replay]", "search.k=[]", "training.replay=order.json"]
    assert list(check_order(order("xquad-mini", tmp_path, overrides=replay)).files) == ["order.json"]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"storage": "./raysched-runs"}, r"--storage: must be an address that every node .*'./raysched-runs' is a"),
        ({"storage": "~/runs"}, "--storage: must be an address"),
        ({"storage": "s3://key:geheim@bucket/x"}, "--storage: holds a password"),
        ({"mlflow_uri": "https://me:geheim@mlflow:5000"}, "--mlflow: holds a password"),
        ({"mlflow_uri": "postgresql://db/mlflow?password=geheim"}, "--mlflow: holds a password"),
        ({"mlflow_uri": "sqlite:///mlflow.db"}, "--mlflow: must be an address"),
    ],
)  # fmt: skip
def test_what_the_cluster_cannot_see_and_what_all_could_see_is_refused(
    options: dict[str, str], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=rule) as caught:
        check_order(order("xquad-mini", tmp_path, **options))
    assert "geheim" not in str(caught.value)
    assert caught.value.hint or caught.value.choices


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("http://mlflow:5000", False),
        ("http://me@mlflow:5000", False),
        ("postgresql://me@db/mlflow?sslmode=require", False),
        ("sqlite:////mnt/mlflow.db", False),
        ("/mnt/a:b@c", False),
        ("http://me:x@mlflow:5000", True),
        ("s3://AKIA@bucket", True),
        ("http://mlflow?access_token=x", True),
    ],
)
def test_secrets_in_addresses(uri: str, secret: bool) -> None:
    assert holds_secret(uri) is secret


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("head:8265", "must begin with http:// or https://.*\n.*http://head:8265"),
        ("head", "must begin with http://.*\n.*http://head:8265"),
        ("ray://head:10001", "where Ray's own client connects\n.*http://head:8265"),
        ("10.0.0.1:6379", "must begin with http://"),
        ("auto", "must begin with http://"),
        ("ftp://head", "must begin with http://"),
        ("http://", "must begin with http://"),
        ("http://me:geheim@head:8265", "must hold no password"),
    ],
)
def test_what_is_no_address_of_a_job_server(address: str, rule: str) -> None:
    with pytest.raises(StudyError, match=rule) as caught:
        check_address(address)
    assert "geheim" not in str(caught.value)


class Page(http.server.BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def page() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_where_no_job_server_is(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "geheim")
    began = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for address, rule in {
            f"http://127.0.0.1:{closed_port()}": "nothing answers at",
            f"http://127.0.0.1:{silent.getsockname()[1]}": "no answer from .* within 5 s",
            page: r"is not the job server of a Ray cluster \(HTTP 200\)",
            "http://no-such-host.invalid:8265": "nothing answers at",
        }.items():
            with pytest.raises(MissingError, match=rule) as caught:
                JobServer(address)
            assert "geheim" not in str(caught.value)
    assert time.monotonic() - began < 20


def test_the_token_is_looked_for_where_ray_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert token() == "home"
    (tmp_path / "named").write_text("named\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert token() == "given"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    os.remove(tmp_path / "named")
    with pytest.raises(MissingError, match=r"RAY_AUTH_TOKEN_PATH: .* cannot be read"):
        token()


def test_ids_are_never_given_twice() -> None:
    assert free_id("paper-table1.mbert_x", set()) == "paper-table1-mbert-x"
    assert free_id("a", {"a", "a-2", "b"}) == "a-3"


def test_the_job_that_is_meant() -> None:
    old, new, other = job(id="a", state="FAILED"), job(id="a-2", started=2.0), job(id="b", sweep="b", state="STOPPED")
    assert pick([new, old], None) is new
    assert pick([new, old, other], "a") is new  # as the sweep's name, although an older job has this id
    assert pick([other, new, old], "a-2") is new
    ended = job(id="a-3", state="SUCCEEDED", started=3.0)
    assert pick([ended, new, old], "a") is new  # what runs, before what has ended
    assert pick([ended, old], "a") is ended
    for jobs, name, rule in (
        ([], None, "no sweep was submitted"),
        ([new, other], None, "2 sweeps are on this cluster: say which\n  valid: a, b"),
        ([new], "c", "no job of the sweep 'c' is on this cluster\n  valid: a"),
    ):
        with pytest.raises(RayschedError, match=rule):
            pick(jobs, name)


@pytest.mark.parametrize(
    ("fields", "log", "words"),
    [
        ({"state": "PENDING"}, [], "waits to be started"),
        ({"state": "RUNNING"}, [], "runs"),
        ({"state": "SUCCEEDED", "exit_code": 0}, [], "done"),
        ({"state": "FAILED", "exit_code": 1}, [], "some runs failed"),
        ({"state": "FAILED", "exit_code": 2}, [], "malformed"),
        ({"state": "FAILED", "exit_code": 3}, [], "is not there"),
        ({"state": "FAILED", "exit_code": 75}, [], "submit it again"),
        ({"state": "FAILED", "exit_code": 143}, [], "everything is saved"),
        ({"state": "FAILED", "exit_code": 127}, [], "image"),
        ({"state": "FAILED", "exit_code": 9}, [], "exit code 9"),
        ({"state": "FAILED", "exit_code": -9}, [], "killed by signal 9"),
        ({"state": "FAILED"}, [], "never started"),
        ({"state": "FAILED"}, ["0/4 runs done"], "lost with its driver"),
        ({"state": "STOPPED"}, ["stopped by SIGTERM; everything done so far is saved"], "everything is saved"),
        ({"state": "STOPPED"}, ["0/4 runs done"], "from its last checkpoints"),
    ],
)
def test_states_in_words(fields: dict[str, Any], log: list[str], words: str) -> None:
    assert words in meaning(job(**fields), log)
