"""`status`, `report`, `ui`, `studies`: looking at what is there. None of them changes a sweep."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from rich.table import Table

from raysched.cli.terminal import terminal
from raysched.errors import MissingError, StudyError
from raysched.records import lock
from raysched.records.layout import SweepLayout, sweeps


def find(name: str | None, storage: str) -> SweepLayout:
    """The sweep of that name, or the only one there.

    Raises:
        StudyError: the name is malformed, or needed and not given.
        MissingError: there is no such sweep.
    """
    there = [layout.name for layout in sweeps(storage)]
    if name is None:
        if len(there) == 1:
            return SweepLayout(storage, there[0])
        if not there:
            raise MissingError(
                f"there is no sweep in {storage}", key="--storage", hint="start one: raysched sweep xquad-mini"
            )
        raise StudyError(f"{storage} holds {len(there)} sweeps: say which", key="SWEEP", choices=there)
    layout = SweepLayout(storage, name)
    if not layout.exists():
        raise MissingError(
            f"there is no sweep {name!r} in {storage}",
            key="SWEEP",
            choices=there,
            hint="look for it with --storage, or start it with `raysched sweep`",
        )
    return layout


def status(name: str | None, storage: str, as_json: bool) -> None:
    """Print where a sweep is, cell by cell."""
    from raysched.reports.status import cells_status, checkpoint_steps
    from raysched.reports.sweep import read_sweep

    layout = find(name, storage)
    sweep = read_sweep(layout)
    alive = lock.held(layout.lock)
    cells = cells_status(sweep, checkpoint_steps(layout, sweep.state), driver_alive=alive)
    holder = lock.holder(layout.lock) if alive else None
    if as_json:
        value = {"sweep": layout.name, "driver": holder, "cells": [cell.to_json() for cell in cells]}
        print(json.dumps(value))  # noqa: T201
        return
    console = terminal()
    driver = f"driver: {lock.describe(holder)}" if alive else "no driver runs it now"
    console.print(f"{layout.name}: {driver}", highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("point", "seeds done", "failed", "running", "source dev", "step", "left"):
        table.add_column(column)
    for cell in cells:
        mean = "-"
        if cell.source_dev is not None:
            spread = "" if cell.source_dev.std is None else f" ± {cell.source_dev.std:.2f}"
            mean = f"{cell.source_dev.mean:.2f}{spread}"
        table.add_row(
            str(cell.point),
            f"{cell.done}/{cell.seeds}",
            str(cell.failed) if cell.failed else "-",
            str(cell.running) if cell.running else "-",
            mean,
            "-" if cell.step is None else f"{cell.step}/{cell.total or '?'}",
            "-" if cell.eta_s is None else f"{cell.eta_s / 60:.1f} min",
        )
    console.print(table)
    for cell in cells:
        for run in cell.runs:
            if run.cause:
                console.print(
                    f"failed: {cell.point} seed={run.seed}: {run.cause} ({layout.run(run.run_id).root})",
                    highlight=False,
                )


def report(name: str | None, storage: str, to: Path | None) -> None:
    from raysched.reports.report import write_report

    layout = find(name, storage)
    print(write_report(layout, to or layout.reports))  # noqa: T201


def ui(name: str | None, storage: str, port: int) -> int:
    """Serve the sweep's own store until Ctrl-C; returns the server's exit code."""
    from raysched.tracking.mlflow_store import SERVER_ENVIRONMENT, Store, sqlite_uri
    from raysched.tracking.view import runs_page

    layout = find(name, storage)
    if not layout.mlflow_db.is_file():
        raise MissingError(
            f"the sweep {layout.name!r} has no tracking store of its own",
            key="SWEEP",
            hint="it was started with --mlflow: open that server's page",
        )
    uri = sqlite_uri(layout.mlflow_db)
    page = runs_page(Store(uri, layout.name).experiment_id)
    print(f"http://127.0.0.1:{port}{page}  (Ctrl-C ends it)", flush=True)  # noqa: T201
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
        *("--default-artifact-root", str(layout.mlflow_artifacts), "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1"),
    ]
    return _serve(command, {**os.environ, **SERVER_ENVIRONMENT})


def _serve(command: list[str], environment: dict[str, str]) -> int:
    """Run a server until it ends by itself (its exit code) or Ctrl-C or SIGTERM asks for it (0).

    It is a group of its own, so that Ctrl-C reaches this process alone, and the server ends as on SIGTERM: quietly.
    """
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(server.pid, number)
                server.wait(5)


def studies(as_json: bool) -> None:
    """List what `load_study` finds by name."""
    from raysched.study.load import study_names

    found = study_names()
    if as_json:
        rows = [{"name": i.name, "description": i.description, "points": i.points, "runs": i.runs} for i in found]
        print(json.dumps(rows))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False)
    for column in ("study", "points", "runs", ""):
        table.add_column(column)
    for info in found:
        table.add_row(info.name, str(info.points), str(info.runs), info.problem or info.description)
    terminal().print(table)
