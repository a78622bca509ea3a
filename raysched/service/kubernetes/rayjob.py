"""A sweep as manifests: the RayJob that runs it, and a ConfigMap with its study where the image does not hold it."""

from __future__ import annotations

import base64
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysched import __version__
from raysched.errors import MissingError, StudyError
from raysched.service.kubernetes import pods
from raysched.service.kubernetes.names import rayjob_name, sweep_label
from raysched.service.kubernetes.options import SHELL_SAFE, ClusterOptions, cluster_options
from raysched.service.kubernetes.pods import Setup
from raysched.service.kubernetes.rules import ELASTIC, PRIORITY, QUEUE, refuse
from raysched.service.kubernetes.sizing import most_workers, runs_with_room
from raysched.service.parcel import Parcel
from raysched.service.ray_jobs import STORAGE, STUDY, SWEEP, VERSION
from raysched.service.submit import ENVIRONMENT, Order, check_order
from raysched.study.lookup import packaged_folder

RAY = "2.60.0"
"""Of the image, and of the driver."""
LABEL = "raysched.io/sweep"
ANNOTATIONS = {
    SWEEP: "raysched.io/name",
    STORAGE: "raysched.io/storage",
    STUDY: "raysched.io/study",
    VERSION: "raysched.io/version",
}
"""Where a manifest keeps the metadata of an order."""
FILES = "/etc/raysched/sweep"
"""Where what travels with a sweep is mounted."""
STUDY_SUFFIX = "-study"
"""Of the ConfigMap's name."""
MOST_BYTES = 1024**2
"""Of a ConfigMap."""


def manifests(order: Order, options: ClusterOptions, number: int = 1) -> list[dict[str, Any]]:
    """What runs the sweep: its RayJob, after the ConfigMap that it mounts where something travels.

    The same order and options make the same manifests. `number` counts the sweep's RayJobs.

    Raises:
        StudyError: what `check_order` refuses; a storage that is not on the claim; more than a ConfigMap holds; a run
            that fits on no worker; or a rule of the operator is broken.
        MissingError: a file that is to travel cannot be read.
    """
    sent = _sent(order)
    if order.mlflow_uri is not None:
        options = cluster_options({**dict(options), "mlflow": order.mlflow_uri})
    _check_storage(order.storage, options)
    name = rayjob_name(order.loaded.name, order.storage, number)
    made = [_config_map(name, sent, order, options)] if sent.files else []
    made.append(_rayjob(name, sent, order, options))
    refuse(made)
    return made


def _sent(order: Order) -> Parcel:
    """What travels. A study with overrides travels whole, under a name that no shell takes for something else."""
    loaded = order.loaded
    if order.overrides or not loaded.source.resolve().is_relative_to(packaged_folder().resolve()):
        loaded = replace(loaded, source=Path("/study.yaml"))
    return check_order(replace(order, loaded=loaded))


def entrypoint(order: Order, sent: Parcel) -> str:
    """The command of the driver, of words alone that no shell changes.

    The operator pastes it into a script of the submitter's shell, whose words Ray's command line joins again for the
    head's shell: quotes would not survive.
    """
    words = shlex.split(replace(order, mlflow_uri=None, overrides=()).entrypoint(sent))
    if not SHELL_SAFE.fullmatch(order.storage):
        raise StudyError(
            f"must hold letters, digits and . _ / : = , @ % + - alone, but got {order.storage!r}",
            key="--storage",
            hint="the address goes through several shells; choose another folder",
        )
    moved = ["env", "-C", FILES] if sent.files else []
    return " ".join([words[0], *moved, *words[1:]])


def _check_storage(storage: str, options: ClusterOptions) -> None:
    if "://" in storage:
        return
    if options.claim is None:
        raise StudyError(
            f"{storage} is a folder, but no claim is mounted", key="--storage", hint="--claim NAME, or s3://bucket/..."
        )
    if ".." in Path(storage).parts or not Path(storage).is_relative_to(options.mount):
        raise StudyError(
            f"{storage} is not on the claim {options.claim}, which is mounted at {options.mount}",
            key="--storage",
            choices=[f"{options.mount}/sweeps"],
        )


def metadata(name: str, order: Order, options: ClusterOptions) -> dict[str, Any]:
    """Of each object of a sweep."""
    labels = labels_of(order, options)
    return {
        "name": name,
        "namespace": options.namespace,
        "labels": labels,
        "annotations": {ANNOTATIONS[key]: value for key, value in order.metadata.items()},
    }


def labels_of(order: Order, options: ClusterOptions) -> dict[str, str]:
    return {
        **options.labels,
        "app.kubernetes.io/name": "raysched",
        "app.kubernetes.io/part-of": "raysched",
        "app.kubernetes.io/component": "sweep",
        "app.kubernetes.io/managed-by": "raysched",
        "app.kubernetes.io/version": __version__,
        LABEL: sweep_label(order.loaded.name, order.storage),
    }


def _config_map(name: str, sent: Parcel, order: Order, options: ClusterOptions) -> dict[str, Any]:
    contents = {key: _bytes(sent.files[path]) for key, path in _keys(sent).items()}
    if (total := sum(map(len, contents.values()))) > MOST_BYTES:
        raise StudyError(
            f"{total / 1024**2:.1f} MiB would travel with the sweep, but a ConfigMap holds at most 1 MiB",
            key="--working-dir",
            hint="give a smaller folder, and put the rest into the image or on the storage",
        )
    texts = {key: text for key, content in contents.items() if (text := _text(content)) is not None}
    binary = {key: base64.b64encode(content).decode() for key, content in contents.items() if key not in texts}
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(f"{name}{STUDY_SUFFIX}", order, options)}
    return found | ({"data": texts} if texts else {}) | ({"binaryData": binary} if binary else {})


def _keys(sent: Parcel) -> dict[str, str]:
    """Path of each file by its key: a key takes few characters, a path takes all."""
    return {f"file-{number}": path for number, path in enumerate(sorted(sent.files), start=1)}


def _bytes(content: Path | str) -> bytes:
    if isinstance(content, str):
        return content.encode()
    try:
        return content.read_bytes()
    except OSError as error:
        raise MissingError(f"{content} cannot be read: {error.strerror}", key="--working-dir") from error


def _text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return text if all(one.isprintable() or one in "\n\t" for one in text) else None


def _rayjob(name: str, sent: Parcel, order: Order, options: ClusterOptions) -> dict[str, Any]:
    about = metadata(name, order, options)
    about["labels"] |= _kueue_labels(options)
    if options.elastic:
        about["annotations"][ELASTIC] = "true"
    deadlines = {
        "activeDeadlineSeconds": options.deadline_s,
        "preRunningDeadlineSeconds": options.pre_running_deadline_s,
    }
    setup = Setup(
        options=options,
        labels=labels_of(order, options),
        object_store="://" in order.storage,
        config_map=f"{name}{STUDY_SUFFIX}",
        files=_keys(sent),
        folder=FILES,
        runs=runs_with_room(order.loaded, options, order.max_concurrent),
    )
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": about,
        "spec": {
            "entrypoint": entrypoint(order, sent),
            "metadata": order.metadata,
            "runtimeEnvYAML": "".join(
                ["env_vars:\n", *(f'  {key}: "{value}"\n' for key, value in ENVIRONMENT.items())]
            ),
            "submissionMode": "K8sJobMode",
            "submitterConfig": {"backoffLimit": 2},
            "submitterPodTemplate": pods.submitter(setup),
            "backoffLimit": options.backoff_limit,
            **{key: value for key, value in deadlines.items() if value is not None},
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": options.ttl_s,
            "rayClusterSpec": _cluster(setup, most_workers(order.loaded, options, order.max_concurrent)),
        },
    }


def _kueue_labels(options: ClusterOptions) -> dict[str, str]:
    if options.queue is None:
        return {}
    priority = {} if options.priority_class is None else {PRIORITY: options.priority_class}
    return {QUEUE: options.queue} | priority


def _cluster(setup: Setup, workers_used: int) -> dict[str, Any]:
    scaling = {"autoscalerOptions": pods.autoscaler()} if setup.options.autoscale else {}
    return {
        "rayVersion": RAY,
        "authOptions": {"mode": "token", "secretName": "raysched-ray-auth"},
        "enableInTreeAutoscaling": setup.options.autoscale,
        **scaling,
        "headGroupSpec": pods.head(setup),
        "workerGroupSpecs": pods.workers(setup, workers_used),
    }
