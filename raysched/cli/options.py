"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

STORAGE = "./raysched-runs"

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
    str | None, typer.Option("--mlflow", metavar="URI", help="An MLflow store (default: SQLite in the sweep's folder).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Optuna = Annotated[
    str | None,
    typer.Option(
        "--optuna",
        metavar="URI",
        envvar="RAYSCHED_OPTUNA",
        help="The search's database: postgresql://..., or journal (default: SQLite in the sweep's folder).",
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="RAY", envvar="RAY_ADDRESS", help="A Ray cluster (default: one of our own)."),
]
MaxConcurrent = Annotated[int | None, typer.Option("--max-concurrent", min=1, help="Most runs at a time.")]
Offline = Annotated[
    bool, typer.Option("--allow-offline-tracking", help="Start although the MLflow server does not answer.")
]
JobAddress = Annotated[
    str | None,
    typer.Option("--address", metavar="URL", help="A cluster's job server, such as http://head:8265."),
]
