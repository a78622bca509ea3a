"""deploy/compose.yaml: its rules, each with a file that breaks it, and that what it calls exists."""

from __future__ import annotations

import copy
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysched import __version__
from tests.deploy.compose_rules import breaches, interpolate, variables

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
EXAMPLE = DEPLOY / ".env.example"
TEXT = FILE.read_text()
Compose = dict[str, Any]


def load(given: dict[str, str] | None = None) -> Compose:
    compose: Compose = yaml.safe_load(interpolate(TEXT, given or {}))
    return compose


def words(service: str, key: str = "command") -> list[str]:
    return [str(word) for word in load()["services"][service].get(key, [])]


def example() -> dict[str, str]:
    lines = (line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("given", [{}, example(), {"WORKERS": "5", "RAYSCHED_IMAGE": "host:5000/raysched:1@sha256:0"}])
def test_the_file_keeps_to_its_rules(given: dict[str, str]) -> None:
    assert breaches(load(given), DEPLOY) == []


def put(service: str, **values: Any) -> Callable[[Compose], object]:
    return lambda compose: compose["services"][service].update(values)


def drop(service: str, key: str) -> Callable[[Compose], object]:
    return lambda compose: compose["services"][service].pop(key)


def environ(service: str, **values: str) -> Callable[[Compose], object]:
    return lambda compose: compose["services"][service]["environment"].update(values)


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (put("db", image="postgres"), "db: image 'postgres' has no tag that stays"),
        (put("mlflow", image="host:5000/mlflow:latest"), "mlflow: image 'host:5000/mlflow:latest' has no tag"),
        (put("db", privileged=True), "db: privileged is no key of a service"),
        (put("mlflow", user="0:0"), "mlflow: user '0:0' may be root"),
        (drop("ray-head", "user"), "ray-head: user '' may be root"),
        (drop("mlflow", "read_only"), "mlflow: its root can be written"),
        (drop("db", "cap_drop"), "db: keeps capabilities"),
        (put("sweep", security_opt=[]), "sweep: may gain privileges"),
        (drop("ray-worker", "tmpfs"), "ray-worker: has no /tmp"),
        (put("backup", deploy={"resources": {"limits": {"cpus": "1"}}}), "backup: has no limit of memory"),
        (put("mlflow", ports=["5000:5000"]), "mlflow: port 5000:5000 is open beyond loopback"),
        (put("ray-head", ports=["0.0.0.0:8265:8265"]), "ray-head: port 0.0.0.0:8265:8265 is open beyond loopback"),
        (put("sweep", secrets=["auth_token", "other"]), "sweep: secret other is not defined"),
        (put("sweep", secrets=[]), "sweep: secret auth_token is named and not mounted"),
        (put("sweep", secrets=["auth_token", "optuna-uri"]), "sweep: secret optuna-uri is mounted and not named"),
        (environ("db", POSTGRES_PASSWORD="x"), "db: POSTGRES_PASSWORD is a secret in plain sight"),
        (environ("ray-head", DB="postgresql://u:p@db/o"), "ray-head: DB is a secret in plain sight"),
        (put("mlflow", depends_on=["db"]), "mlflow: depends_on names no condition"),
        (put("mlflow", depends_on={"pg": {"condition": "service_healthy"}}), "waits for pg, which is not there"),
        (put("mlflow", depends_on={"db": {"condition": "service_started"}}), "with condition service_started"),
        (
            put("ray-head", depends_on={"mlflow-migrate": {"condition": "service_healthy"}}),
            "waits for the health of mlflow-migrate, which tells none",
        ),
        (
            put("mlflow", depends_on={"db": {"condition": "service_completed_successfully"}}),
            "waits for the end of db, which is always restarted",
        ),
        (
            put("sweep", depends_on={"mlflow": {"condition": "service_healthy"}}),
            "waits for mlflow, which it cannot reach",
        ),
        (put("mlflow", volumes=["files:/artifacts"]), "mlflow: volume files is not defined"),
        (put("db", volumes=["./nowhere.sh:/x.sh:ro"]), "db: ./nowhere.sh is not there"),
        (put("backup", volumes=["./mlflow:/scripts"]), "./mlflow of the repository can be written"),
        (put("sweep", volumes=["/etc:/studies:ro"]), "sweep: /etc is a part of the host"),
        (drop("db", "healthcheck"), "db: tells nothing of its health"),
        (put("mlflow", healthcheck={"disable": True}), "mlflow: tells nothing of its health"),
        (drop("sweep", "healthcheck"), "sweep: ends, and has a healthcheck"),
        (put("ray-worker", networks=["ray", "data"]), "networks: db reaches ray-worker"),
        (put("ray-worker", networks=["other"]), "networks: ray-worker is in other, which is not defined"),
        (drop("ray-worker", "networks"), "networks: ray-worker is in the default network"),
        (lambda compose: compose["networks"].update(data={}), "networks: data has a way out"),
        (lambda compose: compose["secrets"].update(more={}), "secrets: nobody uses more"),
    ],
)
def test_a_breach_is_found(broken: Callable[[Compose], object], line: str) -> None:
    compose = copy.deepcopy(load())
    broken(compose)
    found = breaches(compose, DEPLOY)
    assert any(line in one for one in found), found


def test_what_may_be_set_is_in_the_example_with_its_default() -> None:
    assert example() == variables(TEXT)
    assert not re.search(r"\$[A-Za-z{](?!\S*:-)", TEXT.replace("$$", "")), "a variable has no default"


def test_images_are_those_of_this_version() -> None:
    images = example()
    assert images["RAYSCHED_IMAGE"] == f"raysched:{__version__}-cpu"
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert images["MLFLOW_IMAGE"] == f"raysched-mlflow:{pins['mlflow']}"


def test_builds_name_files_and_stages_that_exist() -> None:
    for name, service in load()["services"].items():
        if build := service.get("build"):
            text = (DEPLOY / build["context"] / build["dockerfile"]).read_text()
            assert "target" not in build or re.search(rf"(?mi)^FROM .+ AS {build['target']}$", text), name


def test_mlflow_takes_steps_that_its_script_knows() -> None:
    done = subprocess.run([sys.executable, DEPLOY / "mlflow" / "start.py", "?"], capture_output=True, text=True)
    assert done.returncode == 2
    known = done.stderr.strip().partition("the steps are ")[2].split(", ")
    assert {*words("mlflow"), *words("mlflow-migrate")} <= {*known}
    dockerfile = (DEPLOY / "docker" / "mlflow.Dockerfile").read_text()
    script = load()["services"]["mlflow"]["healthcheck"]["test"][2]
    assert Path(script).name == "start.py"
    assert f"COPY --chmod=0555 deploy/mlflow/*.py {Path(script).parent}/" in dockerfile
    assert f'ENTRYPOINT ["python", "{script}"]' in dockerfile


def test_variables_of_mlflow_are_read_by_its_scripts() -> None:
    scripts = "".join(path.read_text() for path in (DEPLOY / "mlflow").glob("*.py"))
    for name in ("mlflow", "mlflow-migrate"):
        for variable in load()["services"][name]["environment"]:
            assert f'"{variable.removesuffix("_FILE")}"' in scripts, variable


def test_secrets_of_the_head_reach_its_drivers(tmp_path: Path) -> None:
    compose = load()["services"]["ray-head"]
    (program,) = compose["entrypoint"]
    assert f"./compose/with-secrets:{program}:ro" in compose["volumes"]
    files = {name: tmp_path / name for name in compose["environment"] if name.endswith("_FILE")}
    for name, path in files.items():
        path.write_text(f"value of {name} $(echo x)\n")
    environment = {"PATH": os.defpath} | {name: str(path) for name, path in files.items()}
    script = DEPLOY / "compose" / "with-secrets"
    done = subprocess.run([script, "env"], capture_output=True, text=True, env=environment)
    got = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert len(files) == 3
    assert {name: got.get(name.removesuffix("_FILE")) for name in files} == {
        name: f"value of {name} $(echo x)" for name in files
    }
    assert not [name for name in got if name.endswith("_FILE")]
    path.write_text("")
    done = subprocess.run([script, "env"], capture_output=True, text=True, env=environment)
    assert (done.returncode, "is empty" in done.stderr) == (2, True)


@pytest.mark.parametrize("service", ["ray-head", "ray-worker"])
def test_ray_knows_its_options(service: str) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    text = " ".join(words(service))
    assert "ray start " in text
    used = set(re.findall(r"--[a-z-]+", text))
    assert used
    assert used <= known


@pytest.mark.parametrize("service", ["sweep", "prepare"])
def test_raysched_knows_its_options_and_the_study(service: str) -> None:
    import typer

    from raysched.cli.app import app
    from raysched.study.load import load as load_study

    program, verb, *options = words(service, "entrypoint")
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert program == "raysched"
    assert {option.partition("=")[0] for option in options} <= known
    (study,) = words(service)
    load_study(study, [])


def test_the_address_of_the_head_is_one() -> None:
    compose = load()
    head = compose["services"]["ray-head"]
    address = head["networks"]["ray"]["ipv4_address"]
    assert f"--node-ip-address={address}" in head["command"]
    assert f"--address={address}:6379" in " ".join(words("ray-worker"))
    (subnet,) = compose["networks"]["ray"]["ipam"]["config"]
    assert address.rpartition(".")[0] == subnet["subnet"].rpartition(".")[0]


@pytest.mark.parametrize("program", ["pg_isready", "wget"])
def test_health_is_asked_with_options_that_exist(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    tests = [service["healthcheck"].get("test", []) for service in load()["services"].values()]
    options = {word.split("=")[0] for test in tests if program in test for word in test if word.startswith("--")}
    manual = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    assert options
    assert all(option in manual for option in options)


def test_scripts_that_are_mounted_can_be_run() -> None:
    assert "backup.sh" in words("backup")
    for script in (
        "mlflow/backup.sh",
        "mlflow/restore.sh",
        "compose/databases.sh",
        "compose/setup",
        "compose/with-secrets",
    ):
        path = DEPLOY / script
        assert path.stat().st_mode & stat.S_IXUSR, script
        assert subprocess.run(["sh", "-n", path]).returncode == 0


def test_arguments_of_a_backup_reach_its_script(tmp_path: Path) -> None:
    (tmp_path / "backup.sh").write_text('echo "$@"')
    entrypoint = [word.replace("/scripts", str(tmp_path)) for word in words("backup", "entrypoint")]
    done = subprocess.run([*entrypoint, "backup.sh", "--replace", "/backups/x"], capture_output=True, text=True)
    assert done.stdout == "--replace /backups/x mlflow_auth mlflow optuna\n"


def test_setup_makes_every_secret_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "compose", tmp_path / "deploy" / "compose")
    setup = tmp_path / "deploy" / "compose" / "setup"
    environment = {"PATH": os.defpath}
    said = subprocess.run(["sh", setup], check=True, capture_output=True, text=True, env=environment).stdout
    folder = setup.parents[1] / "secrets"
    made = {path.name: path.read_text() for path in folder.iterdir() if path.name != ".gitignore"}
    assert set(made) == set(load()["secrets"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    random = [value for name, value in made.items() if name.endswith(("password", "key", "token"))]
    assert len({*random}) == len(random) == 7
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in random)
    assert made["mlflow-uri"] == f"postgresql://mlflow:{made['mlflow-db-password']}@db:5432/mlflow"
    assert not [value for value in random if value in said]
    subprocess.run(["sh", setup], check=True, capture_output=True, env=environment)
    assert made == {path.name: path.read_text() for path in folder.iterdir() if path.name != ".gitignore"}


def test_setup_takes_the_folder_of_secrets_from_where_compose_does(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "compose", tmp_path / "compose")
    (tmp_path / ".env").write_text("# a comment\nSECRETS=./elsewhere\nWORKERS=2\n")
    for environment, folder in (({}, "elsewhere"), ({"SECRETS": "./named"}, "named")):
        command = ["sh", tmp_path / "compose" / "setup"]
        subprocess.run(command, check=True, capture_output=True, env={"PATH": os.defpath} | environment)
        assert {path.name for path in (tmp_path / folder).iterdir()} >= {*load()["secrets"]}
    assert not (tmp_path / "secrets").exists()


def test_compose_itself_reads_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run([docker, "compose", "-f", FILE, "config", "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
