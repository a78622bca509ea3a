"""deploy/mlflow and deploy/compose/databases.sh as real processes: what the server lets in, keeps and tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError
from raysched.tracking.mlflow_registry import Registry
from raysched.tracking.mlflow_store import Store
from raysched.tracking.uploader import Uploader
from tests.deploy.mlflow_service import (
    ADMIN,
    PASSWORDS,
    SECRETS,
    SERVICE,
    VIEWER,
    Service,
    adapter,
    contained,
    short_folder,
)
from tests.postgres import Postgres, postgres  # noqa: F401 - a fixture
from tests.tracking.disk_sweep import DiskSweep

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]

EXPERIMENTS = "/api/2.0/mlflow/experiments"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def service(postgres: Postgres) -> Iterator[Service]:  # noqa: F811
    """A server whose databases were migrated by two at once; one of them made its users."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install psycopg2-binary")
    with short_folder() as folder:
        service = Service.make(postgres, folder)
        for process, log in [service.start("migrate"), service.start("migrate", "provision")]:
            assert process.wait(100) == 0, log.read_text()
        with service.serving():
            yield service
        assert not service.living()


@pytest.fixture(scope="module")
def experiment(service: Service) -> str:
    """Of the administrator, with one artifact."""
    made = service.post(f"{EXPERIMENTS}/create", ADMIN, {"name": "foreign"})
    assert made.status == 200, made.body
    number = str(made.json["experiment_id"])
    assert service.call("PUT", f"{ARTIFACTS}/{number}/a/artifacts/a.txt", ADMIN, body=b"foreign").status == 200
    return number


@pytest.fixture(scope="module")
def own(service: Service) -> str:
    """An experiment of the user of sweeps."""
    (service.folder / "outside.txt").write_text("outside")
    return str(service.post(f"{EXPERIMENTS}/create", SERVICE, {"name": "own"}).json["experiment_id"])


@pytest.fixture
def as_service(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", SERVICE)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", service.passwords[SERVICE])


@pytest.fixture(scope="module")
def swept(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskSweep]:
    """A sweep that the provisioned user has uploaded."""
    disk = DiskSweep(tmp_path_factory.mktemp("swept") / "storage")
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", SERVICE)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", service.passwords[SERVICE])
        uploader = Uploader(disk.layout, Store(service.url, "demo"), driver_alive=False)
        assert uploader.sync_once(), uploader.state().last_error
    yield disk
    disk.ledger.close()


def test_it_needs_no_root_and_writes_only_where_it_is_told(service: Service) -> None:
    if not contained():
        pytest.skip("namespaces of users and mounts cannot be made here")
    for process in service.living():
        assert Path(f"/proc/{process.pid}/uid_map").read_text().split()[::2] == ["1000", "1"]
        mounts = [line.split() for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()]
        (root,) = (options for _, _, _, _, target, options, *_ in mounts if target == "/")
        assert root.split(",")[0] == "ro"


def test_migrating_twice_or_at_once_changes_nothing(service: Service, postgres: Postgres) -> None:  # noqa: F811
    revisions = "SELECT version_num FROM alembic_version"
    assert len(postgres.execute(revisions, postgres.url_of("mlflow"))) == 1
    assert len(postgres.execute(f"{revisions}_auth", postgres.url_of("mlflow_auth"))) == 1
    users = postgres.execute("SELECT username, is_admin FROM users", postgres.url_of("mlflow_auth"))
    assert sorted(users) == [(ADMIN, True), (SERVICE, False), (VIEWER, False)]


def test_owners_of_one_database_cannot_enter_another(service: Service, postgres: Postgres) -> None:  # noqa: F811
    for user, database in (("optuna", "mlflow"), ("optuna", "mlflow_auth"), ("mlflow", "optuna")):
        asked = "SELECT has_database_privilege('{}', '{}', 'CONNECT')"
        assert postgres.execute(asked.format(user, database)) == [(False,)]
        assert postgres.execute(asked.format(user, user)) == [(True,)]


@pytest.mark.parametrize("host", ["mlflow:5000", "mlflow.raysched.svc:5000"])
def test_listed_names_are_answered(service: Service, host: str) -> None:
    assert service.get(f"{EXPERIMENTS}/search?max_results=1", SERVICE, host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "mlflow", "mlflow:5001", "localhost:5000", "mlflow.other.svc:5000"])
def test_other_names_are_refused_with_a_password_too(service: Service, host: str) -> None:
    answer = service.get(f"{EXPERIMENTS}/search?max_results=1", ADMIN, host=host)
    assert answer.status == 403
    assert b"Invalid Host header" in answer.body


def test_health_needs_neither_a_password_nor_a_name(service: Service) -> None:
    assert service.get("/health", host="10.1.2.3:5000").status == 200
    code, said = service.run("health")
    assert (code, said) == (0, "")


@pytest.mark.parametrize("path", ["/", "/version", f"{EXPERIMENTS}/search?max_results=1", f"{ARTIFACTS}/1/a.txt"])
def test_without_or_with_a_wrong_password_nothing_is_told(service: Service, path: str) -> None:
    assert service.get(path).status == 401
    assert service.get(path, ADMIN, password="wrong-password").status == 401
    assert service.get(path, "nobody", password=PASSWORDS[ADMIN]).status == 401


def test_other_sites_change_nothing(service: Service) -> None:
    answer = service.post(f"{EXPERIMENTS}/create", SERVICE, {"name": "x"}, origin="https://evil.example")
    assert answer.status == 403
    assert service.get("/", ADMIN).headers["x-frame-options"] == "SAMEORIGIN"


def test_artifacts_of_another_are_refused(service: Service, experiment: str) -> None:
    path = f"{ARTIFACTS}/{experiment}/a/artifacts/a.txt"
    assert service.get(path, ADMIN).body == b"foreign"
    assert service.get(path, SERVICE).status == 403
    assert service.call("PUT", path, SERVICE, body=b"changed").status == 403
    assert service.call("DELETE", path, SERVICE).status == 403
    assert service.get(f"{ARTIFACTS}?path={experiment}", SERVICE).status == 403
    assert service.get(f"{EXPERIMENTS}/get?experiment_id={experiment}", SERVICE).status == 403
    assert service.get(path, ADMIN).body == b"foreign"


@pytest.mark.parametrize(
    "path",
    [
        "../outside.txt",
        "..%2foutside.txt",
        "%252e%252e%252foutside.txt",
        "{own}/../../outside.txt",
        "{own}/..%2f..%2foutside.txt",
        "{own}/../{foreign}/a/artifacts/a.txt",
        "{own}/..%2f{foreign}/a/artifacts/a.txt",
        "%2fetc%2fpasswd",
        "file:/etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_artifacts(service: Service, experiment: str, own: str, path: str) -> None:
    asked = f"{ARTIFACTS}/{path.format(own=own, foreign=experiment)}"
    for user in (ADMIN, SERVICE):
        for method, body in (("GET", None), ("PUT", b"changed")):
            answer = service.call(method, asked, user, body=body)
            assert answer.status in (400, 403, 404), (user, method, answer.status)
            assert not [word for word in (b"outside", b"foreign", b"root:") if word in answer.body]
    assert (service.folder / "outside.txt").read_text() == "outside"


def shown(service: Service, user: str = SERVICE) -> list[dict[str, Any]]:
    """The runs of the uploaded sweep, with their parameters, metrics and tags."""
    found = service.get(f"{EXPERIMENTS}/get-by-name?experiment_name=demo", user)
    asked = {"experiment_ids": [found.json["experiment"]["experiment_id"]], "order_by": ["attributes.run_name"]}
    runs: list[dict[str, Any]] = service.post("/api/2.0/mlflow/runs/search", user, asked).json["runs"]
    return runs


def test_a_sweep_is_uploaded_whole_by_a_user_without_grants(service: Service, swept: DiskSweep) -> None:
    runs = shown(service)
    assert len(runs) == 4  # the sweep, its cell and two runs
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    assert all(run["info"]["artifact_uri"].startswith("mlflow-artifacts:/") for run in runs)
    kept = list((service.folder / "artifacts").rglob("weights.safetensors"))
    assert len(kept) == 2  # through the server, into its own folder
    path = kept[0].relative_to(service.folder / "artifacts")
    assert service.get(f"{ARTIFACTS}/{path}", SERVICE).body == kept[0].read_bytes()


def test_the_user_of_sweeps_registers_models_of_its_own_only(service: Service) -> None:
    models = "/api/2.0/mlflow/registered-models"
    assert service.post(f"{models}/create", SERVICE, {"name": "mine"}).status == 200
    assert service.get(f"{models}/get?name=mine", SERVICE).status == 200
    assert service.post(f"{models}/create", ADMIN, {"name": "theirs"}).status == 200
    assert service.get(f"{models}/get?name=theirs", SERVICE).status == 403
    assert service.call("PATCH", f"{models}/update", SERVICE, body=b'{"name": "theirs"}').status == 403


def test_an_adapter_is_registered_without_grants(
    service: Service, swept: DiskSweep, as_service: None, tmp_path: Path
) -> None:
    packed = adapter(tmp_path, shown(service)[0]["info"]["run_id"])
    registry = Registry(Store(service.url, "demo"))
    version = registry.register("demo", packed)
    registry.point("demo", "best", version)
    found = service.get("/api/2.0/mlflow/registered-models/alias?name=demo&alias=best", VIEWER)
    assert found.json["model_version"]["version"] == version == "1"


def test_the_user_of_sweeps_manages_nobody(service: Service) -> None:
    made = service.post("/api/2.0/mlflow/users/create", SERVICE, {"username": "more", "password": "x" * 12})
    assert made.status == 403
    asked = {"username": SERVICE, "is_admin": True}
    body = str(asked).replace("'", '"').replace("True", "true").encode()
    assert service.call("PATCH", "/api/2.0/mlflow/users/update-admin", SERVICE, body=body).status == 403


def test_viewers_see_sweeps_and_change_none(service: Service, swept: DiskSweep, experiment: str) -> None:
    runs = shown(service, VIEWER)
    assert len(runs) == 4
    number = runs[0]["info"]["experiment_id"]
    assert service.get(f"{ARTIFACTS}/{experiment}/a/artifacts/a.txt", VIEWER).body == b"foreign"
    assert service.post("/api/2.0/mlflow/runs/create", VIEWER, {"experiment_id": number}).status == 403
    assert service.call("PUT", f"{ARTIFACTS}/{experiment}/a/artifacts/a.txt", VIEWER, body=b"x").status == 403
    assert service.post(f"{EXPERIMENTS}/delete", VIEWER, {"experiment_id": number}).status == 403


def test_a_location_of_ones_own_choice_shows_no_file_that_is_there(service: Service, own: str) -> None:
    """MLflow lets who makes an experiment choose its folder, on the server as well: only new folders are in reach."""
    body = {"name": "elsewhere", "artifact_location": f"file://{service.folder}"}
    number = service.post(f"{EXPERIMENTS}/create", SERVICE, body).json["experiment_id"]
    run = service.post("/api/2.0/mlflow/runs/create", SERVICE, {"experiment_id": number}).json["run"]["info"]["run_id"]
    listed = service.get(f"/api/2.0/mlflow/artifacts/list?run_id={run}", SERVICE)
    assert not listed.json.get("files")
    for path in ("outside.txt", "../outside.txt", "../../outside.txt", "%2e%2e/%2e%2e/outside.txt"):
        answer = service.get(f"/get-artifact?run_id={run}&path={path}", SERVICE)
        assert answer.status >= 400, path
        assert answer.body != b"outside"


def test_secrets_stand_in_no_list_of_processes_and_no_log(service: Service, swept: DiskSweep) -> None:
    living = service.living()
    assert any("uvicorn" in process.command for process in living)
    for process in living:
        assert not [secret for secret in SECRETS if secret in process.command]
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        assert not [word for word in PASSWORDS.values() if word in environment], "the server needs nobody's password"
    said = service.output()
    assert "GET /health" in said
    assert not [secret for secret in SECRETS if secret in said]
    (config,) = (service.folder / "tmp").glob("mlflow-auth-*/basic_auth.ini")
    assert (config.stat().st_mode & 0o777, config.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_was_backed_up_is_shown_again(
    service: Service,
    swept: DiskSweep,
    postgres: Postgres,  # noqa: F811
    as_service: None,
) -> None:
    before, backups = shown(service), service.folder / "backups"
    databases = ("mlflow_auth", "mlflow", "optuna")
    postgres.execute("CREATE TABLE trials AS SELECT 7 AS number", service.uris["optuna"])
    code, said = service.archive("backup.sh", backups, *databases)
    assert code == 0, said
    assert {path.name for path in backups.glob("*.dump")} == {f"{name}.dump" for name in databases}
    assert all(path.stat().st_mode & 0o077 == 0 for path in backups.iterdir())
    code, said = service.archive("backup.sh", backups, "mlflow")
    assert (code, "take a new folder" in said) == (2, True)
    code, said = service.archive("restore.sh", backups, "mlflow")
    assert (code, "--replace drops them" in said) == (2, True)

    for name in databases:  # everything is gone
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
        postgres.execute(f"CREATE DATABASE {name} OWNER {'optuna' if name == 'optuna' else 'mlflow'}")
    assert service.get(f"{EXPERIMENTS}/search?max_results=1", SERVICE).status >= 400
    code, said = service.archive("restore.sh", backups, *databases)
    assert code == 0, said
    assert _patiently(lambda: service.get(f"{EXPERIMENTS}/search?max_results=1", SERVICE).status == 200)
    assert shown(service) == before
    assert postgres.execute("SELECT number FROM trials", service.uris["optuna"]) == [(7,)]

    Store(service.url, "demo").ensure_run("later", "uid", name="later", tags={}, parent=None, start_ms=1)
    assert len(shown(service)) == len(before) + 1
    code, said = service.archive("restore.sh", "--replace", backups, "mlflow")
    assert code == 0, said
    assert _patiently(lambda: service.get(f"{EXPERIMENTS}/search?max_results=1", SERVICE).status == 200)
    assert shown(service) == before
    asked = "SELECT has_database_privilege('optuna', 'mlflow', 'CONNECT')"
    assert postgres.execute(asked) == [(False,)]


def test_provisioning_again_rotates_passwords(service: Service, as_service: None) -> None:
    old, new = service.passwords[SERVICE], "canary-rotated-password"
    code, said = service.run("provision", MLFLOW_SERVICE_PASSWORD=new)
    assert code == 0, said
    assert f"user {SERVICE}: new password" in said
    assert f"user {ADMIN}: as it was" in said
    assert new not in said
    service.passwords[SERVICE] = new
    path = f"{EXPERIMENTS}/search?max_results=1"
    assert service.get(path, SERVICE).status == 200
    assert _patiently(lambda: service.get(path, SERVICE, password=old).status == 401)
    with pytest.raises(MissingError, match="refuses the password of 'raysched'"):
        Store(service.url, "demo").check()


def _patiently(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    until = time.monotonic() + timeout_s
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.2)
    return met
