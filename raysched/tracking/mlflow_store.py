"""The only door to MLflow. Every call is safe to repeat, and every failure is a MissingError without credentials.

MLflow is imported on first use: importing this module is cheap.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from raysched.records.files import make_folder
from raysched.tracking.data_inputs import DataInput
from raysched.tracking.mlflow_database import make_database
from raysched.tracking.moved import follow
from raysched.tracking.rows import Scalar, mask
from raysched.tracking.store_check import TIMEOUT_S, check_address
from raysched.tracking.store_errors import RunGone, gone_is_fine, safe
from raysched.tracking.view import experiment_tags

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

KEY = "raysched.key"
UID = "raysched.sweep_uid"
PARENT = "mlflow.parentRunId"
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

T = TypeVar("T")


def sqlite_uri(path: Path) -> str:
    return f"sqlite:///{path}"


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


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
        check_address(self.uri, self.database)
        if self.uri.startswith("http"):
            self._search_experiments()

    @safe
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
                make_database(self.database)
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
    @safe
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

    @safe
    def held(self, key: str, uid: str) -> str | None:
        """Id of the run with this key, or None; makes nothing, not even the experiment."""
        if self.database is not None and not self.database.is_file():
            return None
        if self._connected().get_experiment_by_name(self.experiment) is None:
            return None
        found = self.find(key, uid)
        return found[0] if found else None

    @safe
    def find(self, key: str, uid: str) -> tuple[str, bool] | None:
        """(id, whether it holds metrics) of the oldest run with this key, or None."""
        runs = self._search(key, uid)
        return (runs[0].info.run_id, bool(runs[0].data.metrics)) if runs else None

    @safe
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

    @safe
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

    @safe
    def log(self, run_id: str, scalars: Iterable[Scalar]) -> None:
        """Store metrics with their own times: the same one stored twice is one row."""
        from mlflow.entities import Metric

        client, _ = self._open()
        for chunk in _chunks(scalars, METRICS_PER_CALL):
            client.log_batch(
                run_id,
                metrics=[Metric(item.key, item.value, item.time_ms, item.step) for item in chunk],
            )

    @safe
    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        client, _ = self._open()
        for chunk in _chunks(tags.items(), ITEMS_PER_CALL):
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in chunk])

    @safe
    def add_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Store the parameters that the run has not yet; MLflow refuses to change one."""
        from mlflow.entities import Param

        client, _ = self._open()
        there = client.get_run(run_id).data.params
        missing = ((key, value) for key, value in params.items() if key not in there)
        for chunk in _chunks(missing, ITEMS_PER_CALL):
            client.log_batch(run_id, params=[Param(key, value) for key, value in chunk])

    @safe
    def tag(self, run_id: str, name: str) -> str | None:
        """What a tag of a run says, None where it has none of that name."""
        client, _ = self._open()
        found: str | None = client.get_run(run_id).data.tags.get(name)
        return found

    @safe
    def log_inputs(self, run_id: str, inputs: Sequence[DataInput]) -> None:
        """Name the data sets of a run; what is named twice is held once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        client, _ = self._open()
        datasets = [
            DatasetInput(
                Dataset(name=one.name, digest=one.digest, source_type=one.source_type, source=one.source),
                [InputTag(MLFLOW_DATASET_CONTEXT, one.context)],
            )
            for one in inputs
        ]
        for chunk in _chunks(datasets, ITEMS_PER_CALL):
            client.log_inputs(run_id, chunk)

    @safe
    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        client, _ = self._open()
        client.log_artifact(run_id, str(path), folder or None)
        self._own(run_id)

    @safe
    def log_text(self, run_id: str, text: str, name: str) -> None:
        client, _ = self._open()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_text(text)
            client.log_artifact(run_id, str(path), str(Path(name).parent) if "/" in name else None)
        self._own(run_id)

    def _own(self, folder: str) -> None:
        """Files of a store in a folder belong to its owner alone: those of a run, or of `models/<id>`."""
        if self.artifacts is None:
            return
        root = self.artifacts / folder
        for path in (root, *root.rglob("*")) if root.is_dir() else ():
            path.chmod(0o700 if path.is_dir() else 0o600)

    @safe
    def set_status(self, run_id: str, status: Status, end_ms: int | None = None) -> None:
        client, _ = self._open()
        if status == "RUNNING":
            client.update_run(run_id, status=status)
        else:
            client.set_terminated(run_id, status=status, end_time=end_ms)

    @safe
    def delete(self, run_id: str) -> None:
        """Delete a run; one that is gone already is fine."""
        client, _ = self._open()
        with gone_is_fine():
            client.delete_run(run_id)
