"""`render` and `prepare`, and the options of a sweep on Kubernetes, which `submit --kubernetes` takes as well."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysched.cli.options import MaxConcurrent, Name, Overrides, StudyName

if TYPE_CHECKING:
    from raysched.service.kubernetes.options import ClusterOptions
    from raysched.study.load import LoadedStudy, Suite

NONE = "none"
"""As `--mlflow`: no server."""
TAINT = "KEY[=VALUE][:EFFECT]"


def _option(name: str, text: str, metavar: str | None = None, least: int | None = None) -> Any:
    return typer.Option(name, help=text, metavar=metavar, min=least)


Texts = list[str] | None
OPTIONS: dict[str, tuple[Any, Any]] = {
    "namespace": (Annotated[str, _option("--namespace", "Of the sweep's objects.", "NAME")], "raysched"),
    "image": (Annotated[str | None, _option("--image", "raysched's image, as the cluster pulls it.", "IMAGE")], None),
    "image_pull_secret": (
        Annotated[str | None, _option("--image-pull-secret", "The registry's Secret.", "NAME")],
        None,
    ),
    "gpus": (
        Annotated[
            int | None,
            _option("--gpus", "Whole GPUs of a worker pod; 0: CPU (default: 1; for the mini world 0).", least=0),
        ],
        None,
    ),
    "gpu_resource": (
        Annotated[str, _option("--gpu-resource", "What the device plugin calls a GPU.", "NAME")],
        "nvidia.com/gpu",
    ),
    "workers": (Annotated[int, _option("--workers", "Most worker pods on demand.", least=0)], 4),
    "min_workers": (Annotated[int, _option("--min-workers", "Worker pods that autoscaling keeps.", least=0)], 0),
    "spot_workers": (
        Annotated[int, _option("--spot-workers", "Most worker pods on nodes that may be taken away.", least=0)],
        0,
    ),
    "node_selector": (
        Annotated[Texts, _option("--node-selector", "A label of the workers' nodes.", "KEY=VALUE")],
        None,
    ),
    "spot_selector": (Annotated[Texts, _option("--spot-selector", "A label of the spot nodes.", "KEY=VALUE")], None),
    "toleration": (Annotated[Texts, _option("--toleration", "A taint of the workers' nodes.", TAINT)], None),
    "gpu_toleration": (
        Annotated[Texts, _option("--gpu-toleration", "A taint of GPU nodes (default: nvidia.com/gpu).", TAINT)],
        None,
    ),
    "spot_toleration": (Annotated[Texts, _option("--spot-toleration", "A taint of the spot nodes.", TAINT)], None),
    "worker_cpu": (Annotated[int, _option("--worker-cpu", "CPU cores of a worker pod.", least=1)], 4),
    "worker_memory": (Annotated[str, _option("--worker-memory", "Of a worker pod.", "SIZE")], "16Gi"),
    "head_cpu": (Annotated[int, _option("--head-cpu", "CPU cores of the head, where the driver runs.", least=1)], 2),
    "head_memory": (Annotated[str, _option("--head-memory", "Of the head.", "SIZE")], "8Gi"),
    "queue": (Annotated[str | None, _option("--queue", "A LocalQueue of Kueue.", "NAME")], None),
    "priority_class": (
        Annotated[str | None, _option("--priority-class", "Kueue's class with --queue, else the pods' class.", "NAME")],
        None,
    ),
    "autoscale": (Annotated[bool, _option("--autoscale", "Worker pods come and go as runs need them.")], False),
    "elastic": (Annotated[bool, _option("--elastic", "Kueue takes jobs that autoscale.")], False),
    "backoff_limit": (Annotated[int, _option("--backoff-limit", "New clusters where one was lost.", least=0)], 3),
    "deadline": (Annotated[int | None, _option("--deadline", "End the job after so long.", "SECONDS", 1)], None),
    "pre_running_deadline": (
        Annotated[
            int | None, _option("--pre-running-deadline", "Give up where nothing runs after so long.", "SECONDS", 1)
        ],
        None,
    ),
    "ttl": (Annotated[int, _option("--ttl", "Keep the cluster of an ended job so long.", "SECONDS", 0)], 600),
    "claim": (
        Annotated[
            str | None,
            _option("--claim", "The volume (default: raysched-storage; none with an object store).", "NAME"),
        ],
        None,
    ),
    "mount": (Annotated[str, _option("--mount", "Where the volume is mounted.", "DIR")], "/storage"),
    "database": (
        Annotated[bool, _option("--database/--no-database", "Keep the search in PostgreSQL (Secret raysched-db).")],
        True,
    ),
    "service_account": (Annotated[str, _option("--service-account", "Of the pods; no token.", "NAME")], "raysched"),
    "offline": (
        Annotated[bool | None, _option("--offline/--online", "Ask nothing of the hub (default with a volume).")],
        None,
    ),
    "label": (Annotated[Texts, _option("--label", "A label of all objects, such as team=x.", "KEY=VALUE")], None),
}
"""Options of every command that makes a RayJob: annotation and default, by the parameter's name."""
REPEATED = {
    "node_selector": "node_selector",
    "spot_selector": "spot_node_selector",
    "label": "labels",
    "toleration": "tolerations",
    "gpu_toleration": "gpu_tolerations",
    "spot_toleration": "spot_tolerations",
}
"""Options that may be given several times, and the fields of `ClusterOptions` that they fill."""
SECONDS = {"deadline": "deadline_s", "pre_running_deadline": "pre_running_deadline_s", "ttl": "ttl_s"}


def takes_cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of `OPTIONS`; it gets what was given as one argument, `cluster`, for `build`."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def called(**given: Any) -> Any:
        cluster = {name: given.pop(name) for name in OPTIONS}
        return command(**given, cluster=cluster)

    own = [one for one in signature.parameters.values() if one.name != "cluster"]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in OPTIONS.items()
    ]
    parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *more]
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": signature.return_annotation}
    return called


def build(
    cluster: Mapping[str, Any], loaded: LoadedStudy | Suite, storage: str, mlflow: str | None = None
) -> ClusterOptions:
    """The cluster's options as they were given. `mlflow`: None for the usual server, `none` for none.

    Raises:
        StudyError: some are malformed, or do not go together; each is named.
    """
    from raysched.service.kubernetes.options import (
        CLAIM,
        cluster_options,
        parse_labels,
        parse_tolerations,
    )
    from raysched.service.kubernetes.sizing import default_gpus

    given = {SECONDS.get(name, name): value for name, value in cluster.items() if name not in REPEATED}
    for name, field in REPEATED.items():
        if cluster[name]:
            parse = parse_tolerations if field.endswith("tolerations") else parse_labels
            given[field] = parse("--" + name.replace("_", "-"), cluster[name])
    if given["gpus"] is None:
        given["gpus"] = default_gpus(loaded)
    if given["claim"] is None and "://" not in storage:
        given["claim"] = CLAIM
    if given["offline"] is None:
        given["offline"] = given["claim"] is not None
    if mlflow is not None:
        given["mlflow"] = None if mlflow == NONE else mlflow
    return cluster_options(given)


@takes_cluster_options
def render(
    study: StudyName,
    name: Name = None,
    storage: Annotated[
        str, typer.Option("--storage", metavar="DIR_OR_URI", help="Where sweeps are kept, as the cluster sees it.")
    ] = "/storage/sweeps",
    mlflow: Annotated[
        str, typer.Option("--mlflow", metavar="URL", help="MLflow as the cluster sees it; none: in the sweep's folder.")
    ] = "http://mlflow:5000",
    overrides: Overrides = None,
    max_concurrent: MaxConcurrent = None,
    working_dir: Annotated[
        Path | None,
        typer.Option("--working-dir", metavar="DIR", help="A small folder that goes with the sweep (at most 1 MiB)."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write it there.")] = None,
    *,
    cluster: dict[str, Any],
) -> int:
    """Print the manifests of a sweep on Kubernetes, for GitOps; `submit --kubernetes` sends the same."""
    from raysched.cli import rendering
    from raysched.service.submit import Order
    from raysched.study.load import load

    loaded = load(study, overrides or (), name=name)
    order = Order(
        asked=study,
        loaded=loaded,
        storage=storage,
        overrides=overrides or (),
        max_concurrent=max_concurrent,
        working_dir=working_dir,
    )
    return rendering.render(order, build(cluster, loaded, storage, mlflow), output)


def prepare(
    study: StudyName,
    name: Name = None,
    overrides: Overrides = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="HF_HOME of the sweep's workers (default: the hub's own)."),
    ] = None,
) -> int:
    """Download a study's weights, adapters and data, so that its sweep asks nothing of the hub."""
    from raysched.cli import preparing

    return preparing.prepare(study, to, overrides or [], name)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for command in (render, prepare):
        app.command()(command)
