"""Models in MLflow: one entry per adapter that was registered, and its versions in the model registry.

A run's adapter is an artifact of the run already. A model entry is a second copy with a loader, so only what is
registered gets one. Every call looks first, and does what is missing: to repeat one changes nothing.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import Scalar
from raysched.tracking.store_errors import gone_is_fine, safe

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

BEST = "best"
"""Alias of the version that `raysched register` takes without being told a run."""
MARK = "raysched.mark"
"""Tag of a model and its version: which run of which sweep it is."""

Columns = Sequence[tuple[str, str, bool]]
"""(name, MLflow's type, whether it must be there)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One adapter on its way into the registry.

    `name` is the model entry's own (no dots), `run_id` MLflow's of the run that trained it, `code` the models-from-code
    file, `adapter` the folder it loads. `scores` are shown beside the entry.
    """

    name: str
    mark: str
    run_id: str
    code: Path
    adapter: Path
    inputs: Columns
    outputs: Columns
    example: Mapping[str, str]
    requirements: Sequence[str]
    tags: Mapping[str, str]
    scores: Sequence[Scalar]


class Registry:
    """The registry that belongs to a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @safe
    def version(self, name: str, mark: str) -> str | None:
        """The version of the registered model `name` that has this mark."""
        found = self._versions(self.store._connected(), name, mark)
        return str(found[0].version) if found else None

    @safe
    def register(self, name: str, packed: Packed) -> str:
        """The version of the registered model `name` that holds `packed`, made where there is none."""
        client, experiment_id = self.store._open()
        found = self._versions(client, name, packed.mark)
        if not found:
            model = self._logged(client, experiment_id, packed)
            _ensure_name(client, name)
            with _tracked_at(self.store.uri):
                client.create_model_version(
                    name,
                    source=f"models:/{model.model_id}",
                    run_id=packed.run_id,
                    tags={**packed.tags, MARK: packed.mark},
                    await_creation_for=0,
                    model_id=model.model_id,
                )
            found = self._versions(client, name, packed.mark)
        first, *twins = found
        for twin in twins:  # a lost answer can leave two
            client.delete_model_version(name, twin.version)
        for key, value in packed.tags.items():
            if first.tags.get(key) != value:
                client.set_model_version_tag(name, first.version, key, value)
        return str(first.version)

    @safe
    def point(self, name: str, alias: str, version: str) -> None:
        """Let the alias stand for this version, and for no other."""
        client = self.store._connected()
        aliases = client.get_registered_model(name).aliases
        if str(aliases.get(alias)) != version:
            client.set_registered_model_alias(name, alias, version)

    def _versions(self, client: MlflowClient, name: str, mark: str) -> list[ModelVersion]:
        """Those with this mark, the oldest first."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = client.search_model_versions(f"name = '{name}'", max_results=100, page_token=token)
            found += [one for one in page if one.tags.get(MARK) == mark]
            if not (token := page.token):
                return sorted(found, key=lambda one: int(one.version))

    def _logged(self, client: MlflowClient, experiment_id: str, packed: Packed) -> LoggedModel:
        """The model entry with its files, whole; one that was left half-made is deleted."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

        for one in client.search_logged_models([experiment_id], f"name = '{packed.name}'"):
            if one.tags.get(MARK) == packed.mark and one.status == LoggedModelStatus.READY:
                return one
            with gone_is_fine():
                client.delete_logged_model(one.model_id)
        tags = {**packed.tags, MARK: packed.mark}
        model = client.create_logged_model(experiment_id, packed.name, packed.run_id, tags, model_type="adapter")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            _save(folder, packed, model)
            client.log_model_artifacts(model.model_id, str(folder))
        self.store._own(f"models/{model.model_id}")
        step = packed.scores[0].step if packed.scores else 0
        client.log_outputs(packed.run_id, [LoggedModelOutput(model.model_id, step)])
        metrics = [
            Metric(one.key, one.value, one.time_ms, one.step, model_id=model.model_id, run_id=packed.run_id)
            for one in packed.scores
        ]
        client.log_batch(packed.run_id, metrics=metrics)
        return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _ensure_name(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except Exception as error:  # it is there: what counts, whoever made it
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise


def _save(folder: Path, packed: Packed, model: LoggedModel) -> None:
    """Write the model as MLflow lays it out; `packed.code` is run once, and nothing is pickled."""
    with _undisturbed():
        import mlflow.pyfunc
        import pandas as pd
        from mlflow.models import Model

        mlflow.pyfunc.save_model(
            path=folder,
            python_model=str(packed.code),
            artifacts={"adapter": str(packed.adapter)},
            signature=_signature(packed.inputs, packed.outputs),
            input_example=pd.DataFrame([packed.example]),
            pip_requirements=list(packed.requirements),
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=packed.run_id,
                metadata=dict(packed.tags),
                model_id=model.model_id,
            ),
        )


def _signature(inputs: Columns, outputs: Columns) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    def schema(columns: Columns) -> Any:
        return Schema([ColSpec(kind, name, required=needed) for name, kind, needed in columns])

    return ModelSignature(inputs=schema(inputs), outputs=schema(outputs))


@contextmanager
def _tracked_at(uri: str) -> Iterator[None]:
    """A registry in a file looks a model up where MLflow's own setting says, whatever client it is asked by."""
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    with _kept("MLFLOW_TRACKING_URI"), _use_tracking_uri(uri):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """MLflow warns of its own type hints, and would add the files of whatever uv project the command is started in."""
    with _kept("MLFLOW_UV_AUTO_DETECT"), warnings.catch_warnings():
        os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _kept(name: str) -> Iterator[None]:
    """Give an environment variable back the value that it had."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
