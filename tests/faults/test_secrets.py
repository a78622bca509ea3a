"""Secrets of every kind around a real sweep that is killed, continued, reported and archived: found nowhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from pathlib import Path

import pytest
import requests

from raysched.errors import DONE
from raysched.records.layout import SweepLayout
from raysched.service.ray_jobs import JobServer
from tests.canaries import Search, canary
from tests.faults.conftest import Figures
from tests.postgres import USER, Postgres
from tests.processes import Shell, processes, shell, wait, workers
from tests.runners.world import NAME, arguments, overrides, segments
from tests.service.head import head
from tests.test_canaries import open_to_others
from tests.tracking.conftest import empty_database  # noqa: F401 - a fixture
from tests.tracking.mlflow_server import mlflow_server
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(1200)]
NAMED = ("HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY")
LISTENING = "0A"


def listening(of: Path) -> list[tuple[str, str]]:
    """(program, address) of what processes below `of` listen on beyond loopback."""
    found = []
    for process in processes(of):
        inodes = set()
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{process.pid}/fd"):
                with contextlib.suppress(OSError):
                    inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(entry.path)))
        for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                address, _, port = words[1].partition(":")
                words32 = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                ip = socket.inet_ntop(family, b"".join(words32))
                if words[3] == LISTENING and words[9] in inodes and not ip.startswith(("127.", "::1", "::ffff:127.")):
                    program = re.split(r"[ \0]", process.command)[0].rpartition("/")[2]
                    if program.startswith("python"):
                        program = " ".join(process.command.split()[1:3]).rpartition("/")[2]
                    found.append((program, f"{ip}:{int(port, 16)}"))
    return sorted(set(found))


def answers(address: str) -> bool:
    """Whether anybody without a token gets anything but a refusal there over HTTP."""
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(host, host)
    codes = []
    for page in ("", "metrics", "api/version", "nodes"):
        with contextlib.suppress(requests.RequestException):  # gRPC, or nothing at all
            codes.append(requests.get(f"http://{host}:{port}/{page}", timeout=3).status_code)
    return any(code < 400 for code in codes)


def ray_folders(one: Shell) -> list[Path]:
    """Session folders of Ray that belong to this test, as far as they are there."""
    one.alive()
    return [Path(folder) for folder in one.ray_folders if Path(folder).exists()]


def test_no_secret_anywhere(
    tiny: Tiny, tmp_path: Path, postgres: Postgres, figures: Figures, request: pytest.FixtureRequest
) -> None:
    planted = {name: canary() for name in NAMED} | {"RAY_AUTH_TOKEN": canary(), "database": canary()}
    tracking = planted["mlflow address"] = canary()
    at = tmp_path / "sweeps"
    layout = SweepLayout(at / "storage", NAME)
    database = postgres.new_database()
    secret = planted["database"].replace("+", "%2B")
    postgres.execute(f"CREATE ROLE sweeper LOGIN PASSWORD '{planted['database']}'")
    postgres.execute("GRANT ALL ON SCHEMA public TO sweeper", database)
    optuna = database.replace(USER, "sweeper", 1).replace(re.findall(":([^:@/]+)@", database)[0], secret, 1)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(mlflow_server(tmp_path / "server", request.getfixturevalue("empty_database")))
        home = at / "home"
        home.mkdir(parents=True)
        environment = {name: planted[name] for name in (*NAMED, "RAY_AUTH_TOKEN")} | {
            "RAYSCHED_OPTUNA": optuna,
            "RAYSCHED_MLFLOW": server.replace("://", f"://me:{tracking.replace('+', '%2B')}@"),
            "HOME": str(home),
        }
        one = stack.enter_context(shell(at, **environment))
        search = Search(planted)
        command = arguments(tiny, at / "storage", training__steps=300, seeds=1)
        driver = one.raysched(*command)
        wait(lambda: segments(layout) > 2 and workers(at), 300)
        folders = ray_folders(one)
        assert len(folders) == 1
        found = search.in_command_lines()
        beyond = listening(at)
        open_doors = [(program, address) for program, address in beyond if answers(address)]
        driver.kill()
        found += search.below(*folders)  # as the kill left it
        found += search.below(at)
        assert found == []
        one.settle()

        driver = one.raysched(*command)
        wait(lambda: workers(at) and "runs are done;" in driver.text, 300)
        found = search.in_command_lines() + search.below(*ray_folders(one))
        assert driver.end(600) == DONE, driver.text
        for verb in (["report", NAME], ["status", NAME], ["archive", NAME], ["export", NAME, "--best", "--to", "best"]):
            code, text = one.run(*verb, "--storage", at / "storage")
            assert code == DONE, text
        found += search.in_command_lines() + search.below(at, tmp_path / "server", postgres.folder / "log")
        assert found == []
        assert open_to_others(at / "storage") == []
        names = sorted({program for program, _ in beyond})
        assert open_doors == []
        assert not [name for name in names if "mlflow" in name]
        figures("planted secrets in files, artifacts, pickles, archives, ps", f"0 in {search.looked} places", "0")
        figures(
            "listening beyond loopback, embedded (Ray, token)",
            ", ".join(names),
            "only Ray's own; none answers without the token",
        )


def test_no_secret_in_a_submitted_job(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = {name: canary() for name in NAMED}
    with head(tmp_path, **planted) as cluster:
        search = Search(planted | {"RAY_AUTH_TOKEN": cluster.token})
        cluster.user.environment.update({name: secret for name, secret in planted.items() if name != "HF_TOKEN"})
        storage = cluster.user.folder / "storage"
        command = ["submit", NAME, "--address", cluster.address, "--storage", str(storage), "--follow"]
        code, text = cluster.user.run(
            *command, *overrides(tiny, seeds=1, search__schedule=["standard"], training__steps=60)
        )
        assert code == DONE, text
        found = search.in_command_lines() + search.below(tmp_path, cluster.folder)
        monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
        details = [one.model_dump() for one in JobServer(cluster.address)._client.list_jobs()]
        found += search.in_bytes("the job server", json.dumps(details, default=str).encode())
        assert found == []
