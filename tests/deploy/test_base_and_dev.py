"""What the servers of the manifests are told, against what their programs ask for."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer

from tests.deploy import golden
from tests.deploy.workloads import Object

LEAST_PASSWORD, LEAST_KEY = 12, 32
"""Characters, as deploy/mlflow asks for."""


def find(name: str, kind: str, called: str) -> Object:
    found = [one for one in golden.committed(name) if (one["kind"], one["metadata"]["name"]) == (kind, called)]
    assert len(found) == 1
    return found[0]


def environment(container: Mapping[str, Any], render: str) -> set[str]:
    names = {one["name"] for one in container.get("env", ())}
    for source in container.get("envFrom", ()):
        names |= set(find(render, "ConfigMap", source["configMapRef"]["name"])["data"])
    return names


@pytest.mark.parametrize("render", ["base", "prod"])
def test_mlflow_is_told_all_that_it_asks_for(render: str) -> None:
    deployment = find(render, "Deployment", "mlflow")["spec"]["template"]["spec"]
    job = find(render, "Job", "mlflow-migrate")["spec"]["template"]["spec"]
    (server,), (first,), (migration,) = deployment["containers"], deployment["initContainers"], job["containers"]
    databases = {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_DATABASE_URI"}
    assert server["args"] == ["serve"]
    assert environment(server, render) >= databases | _required("start.py") | {"MLFLOW_SERVER_ALLOWED_HOSTS"}
    assert (first["args"], environment(first, render)) == (["migrate"], databases)
    assert migration["args"] == ["migrate", "provision"]
    assert environment(migration, render) >= databases | _required("users.py")
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" not in environment(server, render), "known to the Job alone"


def _required(file: str) -> set[str]:
    """Settings that a program of deploy/mlflow cannot do without."""
    text = (golden.DEPLOY / "mlflow" / file).read_text(encoding="utf-8")
    found = set(re.findall(r'settings\.(?:required|password|database)\(\s*"(MLFLOW_[A-Z_]+)"', text))
    assert found, f"{file} has changed: how does it name its settings?"
    return found


def test_steps_of_mlflow_exist() -> None:
    text = (golden.DEPLOY / "mlflow" / "start.py").read_text(encoding="utf-8")
    assert {"migrate", "provision", "serve"} <= set(re.findall(r'"([a-z]+)": \w+', text))


def test_dev_has_the_databases_that_its_addresses_name() -> None:
    postgres = find("dev", "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in postgres["env"]}
    made = set(
        re.findall(r"CREATE DATABASE (\w+);", find("dev", "ConfigMap", "postgres-init")["data"]["databases.sql"])
    )
    password = _plain("postgres")["password"]
    for name, address in _plain("raysched-db").items():
        parts = urlsplit(address)
        assert (parts.scheme, parts.hostname, parts.port) == ("postgresql", "postgres", 5432), name
        assert (parts.username, parts.password) == (env["POSTGRES_USER"], password)
        assert parts.path.removeprefix("/") in made | {env["POSTGRES_DB"]}


def test_secrets_of_dev_are_long_enough() -> None:
    mlflow = _plain("raysched-mlflow-auth")
    assert all(len(mlflow[key]) >= LEAST_PASSWORD for key in ("password", "admin-password"))
    assert len(mlflow["flask-secret-key"]) >= LEAST_KEY
    assert len(_plain("raysched-ray-auth")["auth_token"]) >= LEAST_KEY


def _plain(secret: str) -> dict[str, str]:
    data = find("dev", "Secret", secret)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_the_prepare_job_gives_a_command_that_exists() -> None:
    from raysched.cli.app import app

    job = find("prepare", "Job", "prepare")["spec"]["template"]["spec"]["containers"][0]
    program, verb, study, *options = job["args"]
    assert (program, study) == ("raysched", "$(STUDY)")
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    with command.make_context(verb, ["xquad-xlmr", *options]) as context:
        assert str(context.params["to"]) == "/storage/hub"


def test_the_dashboard_of_mlflow_s_limit_says_the_truth() -> None:
    server = find("base", "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    assert server["resources"]["limits"]["memory"] == "1Gi"
