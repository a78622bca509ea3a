"""deploy/mlflow/start.py and the scripts of backups refuse what is missing or odd, in one line and at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.mlflow_service import SCRIPTS, Service, short_folder

SAME = "postgresql://mlflow:canary-password@127.0.0.1:1/mlflow"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Settings that are whole, of databases that nobody serves."""
    with short_folder() as folder:
        uri = "postgresql://mlflow:canary-password@127.0.0.1:1/"
        service = Service(folder, {name: uri + name for name in ("mlflow", "mlflow_auth")}, 1)
        for name in ("tmp", "secrets"):
            (folder / name).mkdir()
        service.secret("flask-secret-key", "x" * 32)
        yield service


@pytest.mark.parametrize(
    ("step", "name", "value", "rule"),
    [
        ("serve", "MLFLOW_BACKEND_STORE_URI", None, "is not set"),
        ("serve", "MLFLOW_AUTH_DATABASE_URI", None, "is not set"),
        ("serve", "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE", None, "is not set"),
        ("serve", "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE", "/nowhere", "cannot be read"),
        ("serve", "MLFLOW_FLASK_SERVER_SECRET_KEY", "x" * 32, "both"),
        ("serve", "MLFLOW_ARTIFACTS_DESTINATION", None, "is not set"),
        ("serve", "MLFLOW_SERVER_ALLOWED_HOSTS", None, "is not set"),
        ("serve", "MLFLOW_SERVER_ALLOWED_HOSTS", "mlflow:5000,*", "must be written out"),
        ("serve", "MLFLOW_BACKEND_STORE_URI", "sqlite:///canary.db", "is no PostgreSQL database"),
        ("serve", "MLFLOW_PORT", "tcp://10.0.0.1:5000", "is no whole number"),  # Kubernetes' own, of a service mlflow
        ("serve", "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE", os.devnull, "is not set"),
        ("migrate", "MLFLOW_BACKEND_STORE_URI", None, "is not set"),
        (
            "migrate",
            "MLFLOW_AUTH_DATABASE_URI",
            "postgresql://mlflow:canary-password@127.0.0.1:1/mlflow",
            "of the runs",
        ),
        ("provision", "MLFLOW_AUTH_ADMIN_PASSWORD", None, "is not set"),
        ("provision", "MLFLOW_SERVICE_PASSWORD", "canary-shor", "is too short"),
        ("provision", "MLFLOW_SERVICE_USERNAME", "admin", "two users have one name"),
        ("dance", "HOME", "/", "the steps are migrate, provision, serve, health"),
    ],
)
def test_a_wrong_start_is_refused_in_one_line(
    service: Service, step: str, name: str, value: str | None, rule: str
) -> None:
    changes = {} if value is None else {name: value}
    code, said = service.run(step, without=(name,) if value is None else (), **changes)
    assert code == 2
    assert said.startswith("mlflow: ")
    assert rule in said
    assert len(said.splitlines()) <= 2
    assert "canary" not in said


def test_a_database_that_is_away_is_waited_for_and_named(service: Service) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install psycopg2-binary")
    code, said = service.run("migrate", MLFLOW_DATABASE_WAIT_S="0")
    assert code == 2
    assert "127.0.0.1:1/mlflow" in said
    assert "canary" not in said


def test_a_server_that_is_away_is_not_well(service: Service) -> None:
    code, said = service.run("health", MLFLOW_PORT="1")
    assert code == 2
    assert "the server does not answer" in said


@pytest.mark.parametrize("script", ["backup.sh", "restore.sh"])
@pytest.mark.parametrize("arguments", [(), ("/tmp",), ("/tmp", "a;b"), ("/tmp", "../x"), ("/tmp", "")])
def test_scripts_of_backups_refuse_odd_arguments(script: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["sh", SCRIPTS / script, *arguments], capture_output=True, text=True, env={"PATH": os.defpath}, timeout=20
    )
    assert done.returncode == 2
    assert "usage" in done.stderr or "is no name of a database" in done.stderr
