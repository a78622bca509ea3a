"""Every command with its options. What a command needs is imported when it runs, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="raysched",
    help="Sweeps of adapter runs for zero-shot cross-lingual transfer, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

STORAGE = "./raysched-runs"

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name, or the path of a study file.")]
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


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Sweeps of adapter runs for zero-shot cross-lingual transfer, on Ray."""
    if show:
        from raysched import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def sweep(
    study: StudyName,
    name: Name = None,
    storage: Storage = STORAGE,
    mlflow: Mlflow = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="RAY", envvar="RAY_ADDRESS", help="A Ray cluster (default: one of our own)."),
    ] = None,
    overrides: Overrides = None,
    max_concurrent: Annotated[int | None, typer.Option("--max-concurrent", min=1, help="Most runs at a time.")] = None,
    allow_offline_tracking: Annotated[
        bool, typer.Option("--allow-offline-tracking", help="Start although the MLflow server does not answer.")
    ] = False,
) -> int:
    """Run a study to its report. The same command continues it after any interruption."""
    from raysched.cli import sweeping
    from raysched.study.load import load_study

    loaded = load_study(study, overrides or (), name=name)
    return sweeping.sweep(
        loaded,
        storage=storage,
        mlflow_uri=mlflow,
        address=address,
        max_concurrent=max_concurrent,
        allow_offline_tracking=allow_offline_tracking,
    )


@app.command()
def plan(
    study: StudyName,
    name: Name = None,
    storage: Storage = STORAGE,
    overrides: Overrides = None,
    step_seconds: Annotated[
        float | None, typer.Option("--step-seconds", min=0, help="Seconds per optimizer step, to estimate hours.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Steps of a run, where the study counts epochs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every point, its runs and what they cost. Spends nothing, needs no network."""
    from raysched.cli import planning
    from raysched.study.load import load_study

    planning.show(load_study(study, overrides or (), name=name), storage, step_seconds, steps, as_json)


@app.command()
def run(
    study: StudyName,
    point: Annotated[
        list[str], typer.Option("--point", metavar="KEY=VALUE", help="schedule=..., lr=..., k=...; what is searched.")
    ],
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    storage: Storage = STORAGE,
    overrides: Overrides = None,
) -> None:
    """Execute one run in this process, without Ray: the debugger's way in. No sweep is touched."""
    from raysched.cli import sweeping
    from raysched.study.load import load_study

    sweeping.run(load_study(study, overrides or ()), point, seed, storage)


@app.command()
def status(sweep: SweepName = None, storage: Storage = STORAGE, as_json: Json = False) -> None:
    """Show a sweep's cells: seeds done, source-dev mean, current step. Works while it runs, from any process."""
    from raysched.cli import looking

    looking.status(sweep, storage, as_json)


@app.command()
def report(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Folder of the report.")] = None,
) -> None:
    """Write tables, unfreeze orders and tr(F) curves of a finished or half-finished sweep."""
    from raysched.cli import looking

    looking.report(sweep, storage, to)


@app.command()
def ui(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 5000,
) -> int:
    """Open the MLflow UI on a sweep's own store, on this machine only."""
    from raysched.cli import looking

    return looking.ui(sweep, storage, port)


@app.command()
def studies(as_json: Json = False) -> None:
    """List the studies that can be named here."""
    from raysched.cli import looking

    looking.studies(as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    import json

    from raysched.study.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def doctor(
    storage: Storage = STORAGE,
    mlflow: Mlflow = None,
    address: Annotated[str | None, typer.Option("--address", metavar="RAY", envvar="RAY_ADDRESS")] = None,
) -> int:
    """Check what a sweep needs: versions, GPU, hub, tracking store, cluster, disk."""
    from raysched.cli import checkup

    return checkup.doctor(storage, mlflow, address)


pretrain = typer.Typer(no_args_is_help=True, help="Make backbones and language adapters.", rich_markup_mode=None)
app.add_typer(pretrain, name="pretrain")


@pretrain.command()
def mini(to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write.")]) -> None:
    """Make the mini world's backbone and language adapters again, from nothing."""
    from raysched.cli import checkup

    checkup.pretrain_mini(to)


@pretrain.command()
def random(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", metavar="DIR", help="Folder with tokenizer.json[.gz].")],
    languages: Annotated[str, typer.Option("--languages", help="Languages, separated by commas.")],
    layers: Annotated[int, typer.Option("--layers", min=1)] = 12,
    width: Annotated[int, typer.Option("--width", min=4, help="Hidden size; 4 attention heads.")] = 64,
    max_length: Annotated[int, typer.Option("--max-length", min=16)] = 384,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Make a small XLM-R backbone with random weights around a real tokenizer, to try a pipeline on real text."""
    from raysched.cli import checkup

    checkup.pretrain_random(to, tokenizer, languages, layers, width, max_length, seed)
