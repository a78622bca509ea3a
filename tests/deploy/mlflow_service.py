"""The scripts of deploy/mlflow as real processes, as the image runs them: no home, a folder for what is written."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from raysched.tracking.mlflow_registry import Packed
from tests.browser import free_port
from tests.postgres import PASSWORD, USER, Postgres
from tests.processes import MARK, Process, processes

PYTHON = os.environ.get("RAYSCHED_MLFLOW_PYTHON", sys.executable)
"""The Python of another environment, such as one that holds deploy/mlflow/requirements.txt alone."""
SCRIPTS = Path(__file__).parents[2] / "deploy" / "mlflow"
COMPOSE = SCRIPTS.with_name("compose")
ADMIN, SERVICE, VIEWER = "admin", "raysched", "viewer"
PASSWORDS = {ADMIN: "canary-admin-password", SERVICE: "canary-service-password", VIEWER: "canary-viewer-password"}
DATABASE_PASSWORD = "canary-@db/100%-password"
FLASK_KEY = "canary-flask-key-" + "0123456789abcdef" * 2
SECRETS = (*PASSWORDS.values(), DATABASE_PASSWORD, quote(DATABASE_PASSWORD, safe=""), FLASK_KEY)

MODEL = """
import mlflow
import pandas as pd

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        return model_input.rename(columns={"question": "answer"})

mlflow.models.set_model(Echo())
"""
CONTAIN = """
mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,ro,bind / &&
exec unshare --user --map-user=1000 --map-group=1000 "$@"
"""


@functools.cache
def contained() -> bool:
    """Whether processes can be shut in here as containers do it: user 1000, and a root that cannot be written."""
    with short_folder() as folder:
        try:
            return subprocess.run([*_shut_in(folder), PYTHON, "-c", ""], capture_output=True).returncode == 0
        except OSError:
            return False


def _shut_in(folder: Path) -> list[str]:
    return ["unshare", "--mount", "sh", "-c", CONTAIN, str(folder)]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """One server with two databases, and a folder for its artifacts and logs."""

    folder: Path
    uris: dict[str, str]
    database_port: int
    port: int = field(default_factory=free_port)
    passwords: dict[str, str] = field(default_factory=PASSWORDS.copy)
    logs: int = 0

    @classmethod
    def make(cls, postgres: Postgres, folder: Path) -> Service:
        uris = {}
        for database in ("mlflow", "mlflow_auth", "optuna"):
            user = "optuna" if database == "optuna" else "mlflow"
            at = f"127.0.0.1:{postgres.port}/{database}"
            uris[database] = f"postgresql://{user}:{quote(DATABASE_PASSWORD, safe='')}@{at}"
        service = cls(folder, uris, postgres.port)
        for name in ("tmp", "artifacts", "secrets"):
            (folder / name).mkdir(mode=0o700)
        for name in ("mlflow-db-password", "optuna-password"):
            service.secret(name, DATABASE_PASSWORD)
        code, said = service.shell(COMPOSE / "databases.sh", POSTGRES_USER=USER, SECRETS=str(folder / "secrets"))
        assert code == 0, said
        service.secret("flask-secret-key", FLASK_KEY + "\n")
        return service

    def secret(self, name: str, value: str) -> None:
        (self.folder / "secrets" / name).write_text(value)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{os.defpath}:/usr/sbin:/sbin",
            "HOME": "/nonexistent",
            "TMPDIR": str(self.folder / "tmp"),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "ignore",
            MARK: str(self.folder),
            "MLFLOW_BACKEND_STORE_URI": self.uris["mlflow"],
            "MLFLOW_AUTH_DATABASE_URI": self.uris["mlflow_auth"],
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords[ADMIN],
            "MLFLOW_SERVICE_USERNAME": SERVICE,
            "MLFLOW_SERVICE_PASSWORD": self.passwords[SERVICE],
            "MLFLOW_VIEWER_USERNAME": VIEWER,
            "MLFLOW_VIEWER_PASSWORD": self.passwords[VIEWER],
            "MLFLOW_FLASK_SERVER_SECRET_KEY_FILE": str(self.folder / "secrets" / "flask-secret-key"),
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.folder / "artifacts"),
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"mlflow:5000,mlflow.raysched.svc:5000,{self.host}",
            "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",  # start.py does not let it pass
            "MLFLOW_AUTH_CACHE_S": "5",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(self.port),
        }

    def start(self, *steps: str, without: tuple[str, ...] = (), **changes: str) -> tuple[subprocess.Popen[bytes], Path]:
        environment = {name: value for name, value in (self.environment | changes).items() if name not in without}
        log = self.folder / f"log-{self.logs}.txt"
        self.logs += 1
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*(_shut_in(self.folder) if contained() else []), PYTHON, SCRIPTS / "start.py", *steps],
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, log

    def run(self, *steps: str, without: tuple[str, ...] = (), **changes: str) -> tuple[int, str]:
        process, log = self.start(*steps, without=without, **changes)
        return process.wait(90), log.read_text()

    def shell(self, script: Path, *arguments: str | Path, **more: str) -> tuple[int, str]:
        """Run a shell script as the database's superuser; its exit code and what it said."""
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "PGHOST": "127.0.0.1", "PGUSER": USER}
        environment |= {"PGPORT": str(self.database_port), "PGPASSWORD": PASSWORD, "LC_ALL": "C"}
        done = subprocess.run(["sh", script, *arguments], env=environment | more, capture_output=True, timeout=60)
        return done.returncode, (done.stdout + done.stderr).decode()

    def archive(self, script: str, *arguments: str | Path) -> tuple[int, str]:
        return self.shell(SCRIPTS / script, *arguments)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        # The administrator exists, so the server needs no password of anybody.
        process, log = self.start("serve", without=("MLFLOW_AUTH_ADMIN_PASSWORD",))
        try:
            until = time.monotonic() + 80
            while not self.answers():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def answers(self) -> bool:
        try:
            return self.get("/health", host="whoever").status == 200
        except OSError:
            return False

    def get(self, path: str, user: str | None = None, **options: Any) -> Answer:
        return self.call("GET", path, user, **options)

    def post(self, path: str, user: str | None, body: Any, **options: Any) -> Answer:
        return self.call("POST", path, user, body=json.dumps(body).encode(), **options)

    def call(
        self,
        method: str,
        path: str,
        user: str | None = None,
        *,
        password: str | None = None,
        host: str = "",
        body: bytes | None = None,
        origin: str = "",
    ) -> Answer:
        """One request; `path` is sent as it is, dots and all."""
        headers = {"Host": host or self.host, "Content-Type": "application/json"}
        if user is not None:
            word = password if password is not None else self.passwords.get(user, "")
            headers["Authorization"] = f"Basic {b64encode(f'{user}:{word}'.encode()).decode()}"
        if origin:
            headers["Origin"] = origin
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()})
        finally:
            connection.close()

    def living(self) -> list[Process]:
        return processes(self.folder)

    def output(self) -> str:
        """All that any of the processes has said."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("log-*.txt")))


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """All that the processes of a service may write."""
    folder = Path(tempfile.mkdtemp(prefix="rs-mlflow-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def adapter(folder: Path, run_id: str) -> Packed:
    """Something to register, of a run of MLflow's."""
    (folder / "code.py").write_text(MODEL)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights.safetensors").write_text("weights")
    return Packed(
        name="demo-adapter",
        mark="demo/a",
        run_id=run_id,
        code=folder / "code.py",
        adapter=folder / "adapter",
        inputs=(("question", "string", True),),
        outputs=(("answer", "string", True),),
        example={"question": "who?"},
        requirements=["mlflow"],
        tags={"schedule": "gu"},
        scores=[],
    )
