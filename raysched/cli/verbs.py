"""The verbs that act on a sweep which is there, and on clusters far away: their options, and where their work is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from raysched.cli.cluster_verbs import OPTIONS, takes_cluster_options
from raysched.cli.options import (
    STORAGE,
    Address,
    Context,
    JobAddress,
    Json,
    Kubernetes,
    MaxConcurrent,
    Mlflow,
    Name,
    Namespace,
    Offline,
    Optuna,
    Overrides,
    Storage,
    StudyName,
    SweepName,
)

Other = Annotated[str, typer.Argument(metavar="OTHER", help="Another sweep's name.")]
OtherStorage = Annotated[
    str | None, typer.Option("--other-storage", metavar="DIR_OR_URI", help="Where OTHER is kept (default: --storage).")
]
ServerAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        help="The cluster's job server, such as http://head:8265.",
    ),
]
This = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's name.")]


def stop(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    address: JobAddress = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
) -> int:
    """Let a sweep's workers save and stop, and its driver leave; from any machine that sees the storage or cluster."""
    from raysched.cli import controlling, submitting
    from raysched.cli import kubernetes as on_kubernetes

    if (place := on_kubernetes.where(kubernetes, namespace, context, address)) is not None:
        return on_kubernetes.stop(sweep, place)
    return submitting.stop(sweep, address) if address is not None else controlling.stop(sweep, storage)


def pause(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
) -> int:
    """Let a sweep's workers save and stop until `raysched resume`; its driver waits. On Kubernetes its cluster goes."""
    from raysched.cli import controlling
    from raysched.cli import kubernetes as on_kubernetes

    if (place := on_kubernetes.where(kubernetes, namespace, context)) is not None:
        return on_kubernetes.pause(sweep, place)
    return controlling.pause(sweep, storage)


def resume(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    mlflow: Mlflow = None,
    optuna: Optuna = None,
    address: Address = None,
    max_concurrent: MaxConcurrent = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
) -> int:
    """End a pause; a sweep that no driver runs is continued here, from the study it was started with."""
    from raysched.cli import controlling
    from raysched.cli import kubernetes as on_kubernetes

    if (place := on_kubernetes.where(kubernetes, namespace, context)) is not None:
        return on_kubernetes.resume(sweep, place)
    from raysched.runners.options import Options

    options = Options(
        storage=storage, mlflow_uri=mlflow, optuna_uri=optuna, address=address, max_concurrent=max_concurrent
    )
    return controlling.resume(sweep, options)


def retry(
    sweep: SweepName = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every run that failed or diverged.")] = False,
    run: Annotated[list[str] | None, typer.Option("--run", metavar="ID", help="One failed run, by its id.")] = None,
    storage: Storage = STORAGE,
    mlflow: Mlflow = None,
    optuna: Optuna = None,
    address: Address = None,
    max_concurrent: MaxConcurrent = None,
) -> int:
    """Try failed runs again, with the same seeds."""
    from raysched.cli import growing
    from raysched.runners.options import Options

    options = Options(
        storage=storage, mlflow_uri=mlflow, optuna_uri=optuna, address=address, max_concurrent=max_concurrent
    )
    return growing.retry(sweep, options, failed=failed, runs=run or [])


def extend(
    sweep: SweepName = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="N|A,B,C", help="Seeds of every point.")] = None,
    points: Annotated[int | None, typer.Option("--points", min=1, help="Points that the search may ask.")] = None,
    overrides: Overrides = None,
    storage: Storage = STORAGE,
    mlflow: Mlflow = None,
    optuna: Optuna = None,
    address: Address = None,
    max_concurrent: MaxConcurrent = None,
    allow_offline_tracking: Offline = False,
) -> int:
    """Add seeds or points to a sweep: only the new runs are done."""
    from raysched.cli import growing
    from raysched.runners.options import Options

    options = Options(
        storage=storage,
        mlflow_uri=mlflow,
        optuna_uri=optuna,
        address=address,
        max_concurrent=max_concurrent,
        allow_offline_tracking=allow_offline_tracking,
        extend=True,
    )
    return growing.extend(sweep, options, seeds=seeds, points=points, overrides=overrides or [])


def sync(sweep: SweepName = None, storage: Storage = STORAGE, mlflow: Mlflow = None) -> int:
    """Bring MLflow to what a sweep holds on disk: every run complete, each once."""
    from raysched.cli import syncing

    return syncing.sync(sweep, storage, mlflow)


def list_sweeps(storage: Storage = STORAGE, as_json: Json = False) -> None:
    """List the sweeps of a storage."""
    from raysched.cli import keeping

    keeping.list_sweeps(storage, as_json)


def archive(
    sweep: SweepName = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Default: ./SWEEP.tar.gz.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the sweep once the archive was checked.")] = False,
    storage: Storage = STORAGE,
) -> int:
    """Pack a sweep into one checked file: ledger, records, histories, adapters, predictions; no checkpoints."""
    from raysched.cli import keeping

    return keeping.archive(sweep, storage, to=to, delete=delete)


def diff(
    sweep: This, other: Other, storage: Storage = STORAGE, other_storage: OtherStorage = None, as_json: Json = False
) -> int:
    """Compare two sweeps: their studies, the runs they share, and whether those gave the same."""
    from raysched.cli import keeping

    return keeping.diff(sweep, other, storage, other_storage or storage, as_json)


def merge(
    sweep: This,
    other: Other,
    name: Annotated[str, typer.Option("--name", help="The merged sweep's name.")],
    storage: Storage = STORAGE,
    other_storage: OtherStorage = None,
    optuna: Optuna = None,
) -> int:
    """Make one sweep of two, with the runs of both; runs that disagree are reported and refused."""
    from raysched.cli import keeping

    return keeping.merge(sweep, other, storage, other_storage or storage, name=name, optuna_uri=optuna)


@takes_cluster_options
def submit(
    given: typer.Context,
    study: StudyName,
    address: ServerAddress = None,
    kubernetes: Kubernetes = False,
    context: Context = None,
    name: Name = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="DIR_OR_URI",
            help="Where sweeps are kept, as the cluster sees it (with --kubernetes: /storage/sweeps).",
        ),
    ] = None,
    mlflow: Mlflow = None,
    overrides: Overrides = None,
    max_concurrent: MaxConcurrent = None,
    working_dir: Annotated[
        Path | None,
        typer.Option("--working-dir", metavar="DIR", help="A small folder that goes with the job (at most 100 MiB)."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show its output until it ends.")] = False,
    *,
    cluster: dict[str, Any],
) -> int:
    """Start a sweep on a Ray cluster through its job server, or on Kubernetes, and leave; it goes on there."""
    from raysched.cli import submitting

    typed = _typed(given)
    address = address if "address" in typed or not kubernetes else None  # the environment may name another cluster
    options: dict[str, Any] = {"name": name, "overrides": overrides or [], "max_concurrent": max_concurrent}
    options |= {"working_dir": working_dir, "follow": follow}
    if kubernetes:
        from raysched.cli import kubernetes as on_kubernetes

        on_kubernetes.where(kubernetes, None, context, address)
        uri = mlflow if "mlflow" in typed else None  # RAYSCHED_MLFLOW is how this machine sees it
        return on_kubernetes.submit(study, context, cluster, storage=storage, mlflow_uri=uri, **options)
    submitting.only(address, context=context, **{key: cluster[key] for key in OPTIONS if key in typed})
    return submitting.submit(study, address or "", storage=storage or STORAGE, mlflow_uri=mlflow, **options)


def _typed(given: typer.Context) -> set[str]:
    """The options that stand on the command line, and not in the environment."""
    return {one for one in given.params if str(given.get_parameter_source(one)).endswith("COMMANDLINE")}


def logs(
    given: typer.Context,
    sweep: This,
    address: ServerAddress = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
) -> int:
    """Show the output of a submitted sweep."""
    from raysched.cli import kubernetes as on_kubernetes
    from raysched.cli import submitting

    address = address if "address" in _typed(given) or not kubernetes else None
    if (place := on_kubernetes.where(kubernetes, namespace, context, address)) is not None:
        return on_kubernetes.logs(sweep, place, follow=follow)
    submitting.only(address)
    return submitting.logs(sweep, address or "", follow=follow)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for command in (stop, pause, resume, retry, extend, sync, archive, diff, merge, submit, logs):
        app.command()(command)
    app.command(name="list")(list_sweeps)
