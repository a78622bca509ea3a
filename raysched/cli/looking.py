"""`status`, `ui`, `studies`: looking at what is there. None of them changes a sweep."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from raysched.cli.terminal import terminal
from raysched.errors import MissingError, StudyError
from raysched.records.layout import SweepLayout, sweeps

if TYPE_CHECKING:
    from raysched.reports.status import CellStatus
    from raysched.service.presence import Presence
    from raysched.service.tracked import Tracked


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


def find_all(names: list[str], storage: str) -> list[SweepLayout]:
    """The sweeps of these names, or the only one there; a suite's name stands for its parts, `<suite>.<part>`.

    Raises:
        StudyError: a name is malformed, or needed and not given.
        MissingError: there is no such sweep, and no part of such a suite.
    """
    from raysched.study.load import suite_parts

    there = sweeps(storage)
    found: dict[str, SweepLayout] = {}
    for name in names:
        order = suite_parts(name)
        parts = [layout for layout in there if layout.name.startswith(f"{name}.")]
        parts.sort(key=lambda layout: order.index(layout.name) if layout.name in order else len(order))
        alone = not parts or any(layout.name == name for layout in there)
        found |= {layout.name: layout for layout in ([find(name, storage)] if alone else parts)}
    return list(found.values()) or [find(None, storage)]


def status(name: str | None, storage: str, as_json: bool) -> None:
    """Print where a sweep is, cell by cell; of a suite every part that was started, and which were not."""
    from raysched.study.load import suite_parts

    layouts = find_all([name] if name else [], storage)
    names = [layout.name for layout in layouts]
    waiting = [part for part in suite_parts(name or "") if part not in names and names != [name]]
    if as_json:
        shown = [_status_json(layout) for layout in layouts]
        suite = {"suite": name, "parts": shown, "not_started": waiting}
        print(json.dumps(shown[0] if names == [name] or name is None else suite))  # noqa: T201
        return
    for layout in layouts:
        _show_status(layout)
    if waiting:
        terminal().print(f"not started: {', '.join(waiting)}", highlight=False)


@dataclass(frozen=True)
class _Standing:
    """A sweep at one moment. `tracked` is None where nobody here knows what MLflow holds."""

    now: Presence
    state: str
    cells: list[CellStatus]
    tracked: Tracked | None

    @classmethod
    def of(cls, layout: SweepLayout) -> _Standing:
        from raysched.reports.status import cells_status, checkpoint_steps
        from raysched.reports.sweep import read_sweep
        from raysched.service.presence import presence, word
        from raysched.service.tracked import tracked

        sweep, now = read_sweep(layout), presence(layout)
        cells = cells_status(sweep, checkpoint_steps(layout, sweep.state), driver_alive=now.alive)
        return cls(now, word(now, sweep.state), cells, tracked(layout, sweep.state))


def _status_json(layout: SweepLayout) -> dict[str, Any]:
    found = _Standing.of(layout)
    request = found.now.request
    return {
        "sweep": layout.name,
        "state": found.state,
        "driver": found.now.driver,
        "request": request.model_dump() if request else None,
        "tracked": asdict(found.tracked) if found.tracked else None,
        "cells": [cell.to_json() for cell in found.cells],
    }


def _show_status(layout: SweepLayout) -> None:
    found = _Standing.of(layout)
    now, cells, console = found.now, found.cells, terminal()
    driver = f"driver: {now}" if now.alive else str(now)
    console.print(f"{layout.name}: {driver} ({found.state})", highlight=False)
    if now.request is not None and found.state in ("pausing", "paused", "stopping"):
        hint = "" if found.state == "stopping" else f"; raysched resume {layout.named} goes on"
        console.print(f"asked to {now.request.verb} by {now.request}{hint}", highlight=False)
    if found.tracked is not None and found.tracked.held < found.tracked.done:
        waiting = found.tracked.done - found.tracked.held
        hint = "its driver uploads them" if now.alive else f"raysched sync {layout.named} uploads them"
        console.print(f"MLflow at {found.tracked.uri} lacks {waiting} runs that are done; {hint}", highlight=False)
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
                told = f"failed: {cell.point} seed={run.seed}: {run.cause} ({layout.run(run.run_id).root})"
                why = "".join(f"\n  {line}" for line in run.message.splitlines()[:1])
                console.print(told + why, highlight=False, markup=False)


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
    """List what `load` finds by name."""
    from raysched.study.load import study_names

    found = study_names()
    if as_json:
        keys = ("name", "description", "points", "runs", "parts")
        print(json.dumps([{key: getattr(info, key) for key in keys} for info in found]))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False)
    for column in ("study", "parts", "points", "runs", ""):
        table.add_column(column)
    for info in found:
        counts = (str(len(info.parts) or "-"), str(info.points), str(info.runs))
        table.add_row(info.name, *counts, info.problem or info.description)
    terminal().print(table)
