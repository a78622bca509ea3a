"""Every command with its options. What a command needs is imported when it runs, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysched.cli import cluster_verbs, result_verbs, verbs
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
from raysched.cli.pretrain_options import pretrain

app = typer.Typer(
    name="raysched",
    help="Sweeps of adapter runs for zero-shot cross-lingual transfer, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    optuna: Optuna = None,
    address: Address = None,
    overrides: Overrides = None,
    max_concurrent: MaxConcurrent = None,
    allow_offline_tracking: Offline = False,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="First a tiny run of every schedule, with a checkpoint and a resume."),
    ] = False,
) -> int:
    """Run a study, or all studies of a suite, to the report. The same command continues after any interruption."""
    from raysched.cli import sweeping
    from raysched.runners.options import Options
    from raysched.study.load import Suite, load

    loaded = load(study, overrides or (), name=name)
    parts = loaded.parts if isinstance(loaded, Suite) else (loaded,)
    options = Options(
        storage=storage,
        mlflow_uri=mlflow,
        optuna_uri=optuna,
        address=address,
        max_concurrent=max_concurrent,
        allow_offline_tracking=allow_offline_tracking,
        smoke=smoke,
    )
    return sweeping.sweep_all(parts, options)


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
    """Show every point, its runs and what they cost; of a suite its parts. Spends nothing, needs no network."""
    from raysched.cli import planning
    from raysched.study.load import load

    planning.show(load(study, overrides or (), name=name), storage, step_seconds, steps, as_json)


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
def status(
    sweep: SweepName = None,
    storage: Storage = STORAGE,
    address: JobAddress = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show a sweep's cells: seeds done, source-dev mean, current step. Works while it runs, from any process."""
    from raysched.cli import kubernetes as on_kubernetes
    from raysched.cli import looking, submitting

    if (place := on_kubernetes.where(kubernetes, namespace, context, address)) is not None:
        on_kubernetes.status(sweep, place, as_json)
    elif address is not None:
        submitting.status(sweep, address, as_json)
    else:
        looking.status(sweep, storage, as_json)


@app.command()
def export(
    sweep: SweepName = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new folder for the adapter.")] = ...,  # type: ignore[assignment]
    best: Annotated[bool, typer.Option("--best", help="The best seed of the best cell on source dev.")] = False,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="One run, by its id or its beginning.")] = None,
    push: Annotated[str | None, typer.Option("--push", metavar="OWNER/NAME", help="To the hub as well.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the hub's repository a private one.")] = False,
    storage: Storage = STORAGE,
) -> None:
    """Write a run's task adapter and head in AdapterHub layout, with a card."""
    from raysched.cli import exporting

    exporting.export(sweep, storage, best=best, run=run, to=to, push=push, private=private)


@app.command()
def evaluate(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A folder with a task adapter and its head.")],
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="TEST", help="xquad, mlqa, xcopa, xnli, mini, a hub name or a file."),
    ] = None,
    languages: Annotated[
        str | None, typer.Option("--languages", metavar="XX,YY", help="Tested languages (default: the study's).")
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Settings of an adapter that raysched did not export.")
    ] = None,
    overrides: Overrides = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Keep predictions and scores there.")] = None,
) -> None:
    """Score a saved task adapter on test sets, with nothing trained."""
    from raysched.cli import exporting

    exporting.evaluate(adapter, task=task, languages=languages, study=study, overrides=overrides or (), to=to)


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
    """List the studies and suites that can be named here."""
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


result_verbs.register(app)
verbs.register(app)
cluster_verbs.register(app)
app.add_typer(pretrain, name="pretrain")
