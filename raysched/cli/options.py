"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from raysched.errors import StudyError
from raysched.records.storage_uri import DEFAULT_STORAGE

STORAGE = DEFAULT_STORAGE


def _not_in_ps(context: typer.Context, option: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse a password that every user of this machine can read in the list of processes."""
    given = context.get_parameter_source(option.name or "")
    if value is not None and given is not None and given.name == "COMMANDLINE" and ("@" in value or "?" in value):
        from raysched.service.submit import holds_secret

        if holds_secret(value):
            instead = f"put the address into {option.envvar}" if isinstance(option.envvar, str) else "leave it out"
            raise StudyError(
                "everybody on this machine can read the password of an address on the command line",
                key=option.opts[0],
                hint=f"{instead}, or the password alone into ~/.pgpass or MLFLOW_TRACKING_PASSWORD",
            )
    return value


def _no_job_server(value: str | None) -> str | None:
    from raysched.runners.options import ray_address

    return ray_address(value, "--address")


StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study's name, a suite's, SUITE.PART, or the path of such a file.")
]
SweepName = Annotated[str | None, typer.Argument(metavar="SWEEP", help="A sweep's name; needless where there is one.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study, as in the file.")
]
Name = Annotated[str | None, typer.Option("--name", help="The sweep's name (default: the study's).")]
Storage = Annotated[str, typer.Option("--storage", metavar="DIR_OR_URI", help="Where sweeps are kept.")]
Mlflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        envvar="RAYSCHED_MLFLOW",
        callback=_not_in_ps,
        help="An MLflow store (default: SQLite in the sweep's folder).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Optuna = Annotated[
    str | None,
    typer.Option(
        "--optuna",
        metavar="URI",
        envvar="RAYSCHED_OPTUNA",
        callback=_not_in_ps,
        help="The search's database: postgresql://..., or journal (default: SQLite in the sweep's folder).",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="RAY",
        envvar="RAY_ADDRESS",
        callback=_no_job_server,
        help="A Ray cluster (default: one of our own).",
    ),
]
MaxConcurrent = Annotated[int | None, typer.Option("--max-concurrent", min=1, help="Most runs at a time.")]
Offline = Annotated[
    bool, typer.Option("--allow-offline-tracking", help="Start although the MLflow server does not answer.")
]
JobAddress = Annotated[
    str | None,
    typer.Option("--address", metavar="URL", help="A cluster's job server, such as http://head:8265."),
]
Kubernetes = Annotated[bool, typer.Option("--kubernetes", help="On a Kubernetes cluster, as a RayJob of KubeRay.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="With --kubernetes (default: raysched).")
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="With --kubernetes: a context of kubeconfig.")
]
