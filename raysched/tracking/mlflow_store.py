"""The only door to MLflow. Every call is safe to repeat, and every failure is a MissingError without credentials.

MLflow is imported on first use: importing this module is cheap.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from raysched.errors import MissingError, RayschedError
from raysched.records.files import create, make_folder, sync_file
from raysched.tracking.moved import follow
from raysched.tracking.rows import Scalar, mask
from raysched.tracking.view import experiment_tags

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

KEY = "raysched.key"
UID = "raysched.sweep_uid"
PARENT = "mlflow.parentRunId"
SCHEMES = ("http://", "https://", "sqlite:///", "file://")
CREDENTIALS_HINT = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) in the environment, "
    "of a user who may write experiments there"
)
HINT = "check --mlflow and that the server runs; --allow-offline-tracking starts anyway and uploads later"
TIMEOUT_S = 3
METRICS_PER_CALL = 1000
ITEMS_PER_CALL = 100

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT_S),
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Set unless the user has set them: fail soon (the uploader tries again itself), and say nothing to anybody."""

SERVER_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""For every MLflow server or UI that raysched starts."""

P = ParamSpec("P")
T = TypeVar("T")


class RunGone(MissingError):
    """The run is not there any more: somebody deleted it."""


def sqlite_uri(path: Path) -> str:
    return f"sqlite:///{path}"


def _safe(call: Callable[P, T]) -> Callable[P, T]:
    """Turn whatever MLflow raises into MissingError or RunGone, with masked credentials."""

    @functools.wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except RayschedError:
            raise
        except Exception as error:  # MLflow lets errors of requests, urllib3, sqlalchemy and the disk through
            code = getattr(error, "error_code", "")
            text = mask(str(error)).strip().splitlines() or [type(error).__name__]
            gone = code == "RESOURCE_DOES_NOT_EXIST" or (
                code == "INVALID_PARAMETER_VALUE" and "active' state" in str(error)
            )
            if (refused := _refused(error)) is not None:
                raise MissingError(refused, key="--mlflow", hint=CREDENTIALS_HINT) from None
            kind = RunGone if gone else MissingError
            raise kind(f"MLflow: {text[0][:300]}", key="--mlflow", hint=HINT) from None  # the cause may hold a password

    return inner


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _refused(error: Exception) -> str | None:
    """What a server says that does not know us, or does not let us; its own words may repeat what was sent."""
    status = getattr(error, "get_http_status_code", lambda: None)()
    code = next((one for one in (401, 403) if status == one or f"error code {one} " in str(error)), None)
    if code is None:
        return None
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if code == 403:
        return "MLflow: the server does not let this user do it (403)"
    return f"MLflow: the server refuses {'the password of ' + repr(user) if user else 'whoever has no password'} (401)"


def _make_database(path: Path) -> None:
    """MLflow's tables, made beside their place, private to their owner, and put there whole.

    MLflow takes seconds to make them, and can neither use nor mend a file in which a kill left only some.
    """
    make_folder(path.parent)
    if path.exists() and path.stat().st_size:
        return
    for stale in path.parent.glob(f".{path.name}.*"):  # of a process that was killed; a sweep has one uploader
        stale.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    os.close(create(beside, os.O_RDWR))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=sqlite_uri(beside))
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()
    sync_file(beside)
    os.replace(beside, path)


class Store:
    """One experiment of one MLflow store. `artifacts` is where a SQLite store keeps files (beside it by default)."""

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None) -> None:
        self.uri, self.experiment = uri, experiment
        self.database = Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None
        self.artifacts = artifacts or (self.database.parent / "mlflow-artifacts" if self.database else None)
        self._client: MlflowClient | None = None
        self._experiment_id = ""

    def __repr__(self) -> str:
        return f"Store({mask(self.uri)!r}, {self.experiment!r})"

    def check(self) -> None:
        """Raise MissingError, within seconds and with nothing created, where this store cannot work."""
        if not self.uri.startswith(SCHEMES):
            raise MissingError(
                f"cannot track to {mask(self.uri)!r}",
                key="--mlflow",
                choices=[f"{scheme}..." for scheme in SCHEMES],
                hint=HINT,
            )
        if self.uri.startswith("http"):
            self._check_server()
        elif self.database is not None:
            self._check_database(self.database)
        else:
            self._check_folder(Path(unquote(urlsplit(self.uri).path)))

    def _check_server(self) -> None:
        parts = urlsplit(self.uri)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=TIMEOUT_S).close()
        except (OSError, ValueError, UnicodeError) as error:
            raise MissingError(
                f"no MLflow server answers at {mask(self.uri)}: {error}",
                key="--mlflow",
                hint=HINT,
            ) from None
        self._search_experiments()

    def _check_database(self, path: Path) -> None:
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if file.read(16) != b"SQLite format 3\0":
                    raise MissingError(f"{path} is no SQLite database", key="--mlflow", hint=HINT)
            if not os.access(path, os.W_OK):
                raise MissingError(f"{path} cannot be written", key="--mlflow", hint=HINT)
        else:
            self._check_folder(path)

    def _check_folder(self, path: Path) -> None:
        there = next(folder for folder in (path.parent, *path.parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise MissingError(
                f"{path} cannot be made: {there} is no folder that can be written",
                key="--mlflow",
                hint=HINT,
            )

    @_safe
    def _search_experiments(self) -> None:
        self._connected().search_experiments(max_results=1)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            if self.uri.startswith("file:"):
                os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            from mlflow.tracking import MlflowClient

            for logger in ("mlflow", "alembic"):
                logging.getLogger(logger).setLevel(logging.WARNING)
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its tracebacks are raised as well
            if self.database is not None:
                _make_database(self.database)
                assert self.artifacts is not None
                follow(self.database, self.artifacts)
            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _open(self) -> tuple[MlflowClient, str]:
        client = self._connected()
        if not self._experiment_id:
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                location = make_folder(self.artifacts).as_uri() if self.artifacts else None
                try:
                    client.create_experiment(self.experiment, artifact_location=location)
                except Exception:  # made by another process, or the answer was lost: what counts is whether it is there
                    if client.get_experiment_by_name(self.experiment) is None:
                        raise
                found = client.get_experiment_by_name(self.experiment)
            assert found is not None
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            for name, value in experiment_tags().items():
                if name not in found.tags:  # what a user has changed stays
                    client.set_experiment_tag(found.experiment_id, name, value)
            self._experiment_id = found.experiment_id
        return self._client or client, self._experiment_id

    @property
    @_safe
    def experiment_id(self) -> str:
        """MLflow's number of the experiment, made if it is not there."""
        return self._open()[1]

    @property
    def identity(self) -> str:
        """What tells this store from others, without credentials."""
        return f"{mask(self.uri)} {self.experiment}"

    def _search(self, key: str, uid: str) -> list[Run]:
        client, experiment_id = self._open()
        query = f"tags.`{KEY}` = '{key}' and tags.`{UID}` = '{uid}'"
        runs = list(client.search_runs([experiment_id], query, max_results=100))
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    @_safe
    def find(self, key: str, uid: str) -> tuple[str, bool] | None:
        """(id, whether it holds metrics) of the oldest run with this key, or None."""
        runs = self._search(key, uid)
        return (runs[0].info.run_id, bool(runs[0].data.metrics)) if runs else None

    @_safe
    def ensure_run(
        self,
        key: str,
        uid: str,
        *,
        name: str,
        tags: Mapping[str, str],
        parent: str | None,
        start_ms: int,
    ) -> str:
        """Id of the one run with this key in sweep `uid`, made if there is none (MLflow takes no id of ours)."""
        client, experiment_id = self._open()
        if not self._search(key, uid):
            everything = {
                **tags,
                KEY: key,
                UID: uid,
                **({PARENT: parent} if parent else {}),
            }
            client.create_run(experiment_id, start_time=start_ms, tags=everything, run_name=name)
        return self.keep_one(key, uid)

    @_safe
    def keep_one(self, key: str, uid: str, keep: str | None = None) -> str:
        """Delete every run with this key but `keep`, or but the oldest: a lost answer can leave two."""
        client, _ = self._open()
        ids = [run.info.run_id for run in self._search(key, uid)]
        if keep is not None and keep not in ids:
            raise RunGone(f"the run of {key} was deleted", key="--mlflow")
        kept = keep or ids[0]
        for other in ids:
            if other != kept:
                client.delete_run(other)
        return kept

    @_safe
    def log(self, run_id: str, scalars: Iterable[Scalar]) -> None:
        """Store metrics with their own times: the same one stored twice is one row."""
        from mlflow.entities import Metric

        client, _ = self._open()
        for chunk in _chunks(scalars, METRICS_PER_CALL):
            client.log_batch(
                run_id,
                metrics=[Metric(item.key, item.value, item.time_ms, item.step) for item in chunk],
            )

    @_safe
    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        client, _ = self._open()
        for chunk in _chunks(tags.items(), ITEMS_PER_CALL):
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in chunk])

    @_safe
    def add_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Store the parameters that the run has not yet; MLflow refuses to change one."""
        from mlflow.entities import Param

        client, _ = self._open()
        there = client.get_run(run_id).data.params
        missing = ((key, value) for key, value in params.items() if key not in there)
        for chunk in _chunks(missing, ITEMS_PER_CALL):
            client.log_batch(run_id, params=[Param(key, value) for key, value in chunk])

    @_safe
    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        client, _ = self._open()
        client.log_artifact(run_id, str(path), folder or None)
        self._own(run_id)

    @_safe
    def log_text(self, run_id: str, text: str, name: str) -> None:
        client, _ = self._open()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_text(text)
            client.log_artifact(run_id, str(path), str(Path(name).parent) if "/" in name else None)
        self._own(run_id)

    def _own(self, run_id: str) -> None:
        """Files of a store in a folder belong to its owner alone."""
        if self.artifacts is None:
            return
        folder = self.artifacts / run_id
        for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
            path.chmod(0o700 if path.is_dir() else 0o600)

    @_safe
    def set_status(self, run_id: str, status: Status, end_ms: int | None = None) -> None:
        client, _ = self._open()
        if status == "RUNNING":
            client.update_run(run_id, status=status)
        else:
            client.set_terminated(run_id, status=status, end_time=end_ms)

    @_safe
    def delete(self, run_id: str) -> None:
        """Delete a run; one that is gone already is fine."""
        client, _ = self._open()
        with _gone_is_fine():
            client.delete_run(run_id)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        code: Any = getattr(error, "error_code", "")
        if code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
