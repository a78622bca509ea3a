"""The verbs that make results of a sweep: their options, and where their work is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysched.cli.options import STORAGE, Json, Mlflow, Storage, SweepName

Sweeps = Annotated[
    list[str] | None,
    typer.Argument(metavar="SWEEP...", help="Sweeps' names, or a suite's; needless where there is one sweep."),
]
Reference = Annotated[str, typer.Option("--reference", metavar="METHOD", help="What the others are compared with.")]


def report(
    sweeps: Sweeps = None,
    storage: Storage = STORAGE,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Folder of the report.")] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="KEY,KEY", help="Group points by these parameters (default: by method)."),
    ] = None,
    reference: Reference = "standard",
    margin: Annotated[
        float, typer.Option("--margin", min=0.01, help="Points within which two methods count as equivalent.")
    ] = 1.0,
    no_mlflow: Annotated[bool, typer.Option("--no-mlflow", help="Do not log the report to MLflow.")] = False,
    against: Annotated[
        str | None, typer.Option("--against", metavar="paper", help="Set the sweeps beside the paper's numbers.")
    ] = None,
    paper_model: Annotated[
        str | None,
        typer.Option(
            "--paper-model", metavar="MODEL", help="mBERT, XLM-R or mDeBERTa, if the backbone's name is other."
        ),
    ] = None,
    paper_dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--paper-dataset", metavar="[SET=]DATASET", help="XQuAD, MLQA, XCOPA or XNLI, if the name is other."
        ),
    ] = None,
) -> None:
    """Write tables, statistics and figures of finished or half-finished sweeps: HTML, Markdown, LaTeX, CSV, PDF."""
    from raysched.cli import reporting

    if against is None:
        keys = tuple(key.strip() for key in (by or "").split(",") if key.strip())
        reporting.report(
            sweeps or [], storage, to, by=keys, reference=reference, margin=margin, log_to_mlflow=not no_mlflow
        )
    else:
        reporting.report_against(against, sweeps or [], storage, to, paper_model, paper_dataset or [])


def derive(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    what: Annotated[
        str | None,
        typer.Option("--what", metavar="KIND,KIND", help="checkpoints, seeds, oracle (default: all three)."),
    ] = None,
) -> None:
    """Score what comes free of a finished sweep: averaged checkpoints, averaged seeds, and the oracle's checkpoints."""
    from raysched.cli import deriving

    deriving.derive(sweep, storage, what)


def power(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    effect: Annotated[
        float | None, typer.Option("--effect", min=0, metavar="POINTS", help="Smallest difference worth finding.")
    ] = None,
    level: Annotated[float, typer.Option("--level", min=0.0001, max=0.5, help="False-positive rate.")] = 0.05,
    target: Annotated[float, typer.Option("--power", min=0.01, max=0.999, help="Chance of finding it.")] = 0.8,
    reference: Reference = "standard",
    as_json: Json = False,
) -> None:
    """Say how many seeds a difference of so many points takes, from the spread seen so far, and in GPU-hours."""
    from raysched.cli import powering

    powering.power(sweep, storage, effect=effect, level=level, target=target, reference=reference, as_json=as_json)


def verify(
    tables: Annotated[list[Path], typer.Argument(metavar="FILE.tex...", help="LaTeX that holds raysched's tables.")],
    sweeps: Annotated[
        list[str] | None, typer.Option("--sweep", metavar="SWEEP", help="Where the numbers are from (default: all).")
    ] = None,
    storage: Storage = STORAGE,
) -> int:
    """Compare every number of LaTeX tables with the sweeps they came from; fails where one no longer matches."""
    from raysched.cli import verifying

    return verifying.verify(tables, sweeps or [], storage)


def register_model(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="Another run than the best on source dev.")
    ] = None,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="The model's name (default: SWEEP).")] = None,
    mlflow: Mlflow = None,
) -> None:
    """Put the best adapter of a sweep into MLflow's model registry, loadable with mlflow.pyfunc."""
    from raysched.cli import registering

    registering.register(sweep, storage, run=run, name=name, mlflow_uri=mlflow)


def register(app: typer.Typer) -> None:
    """Put the verbs into the application."""
    for verb in (report, derive, power, verify):
        app.command()(verb)
    app.command("register")(register_model)
