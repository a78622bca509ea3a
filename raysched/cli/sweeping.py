"""`sweep` and `run`: what the user sees while work is done, and at its end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from raysched.cli.terminal import PLAIN_EVERY_S, terminal
from raysched.errors import (
    BAD_INPUT,
    DONE,
    OUTSIDE_MISSING,
    RESUMABLE,
    SOME_RUNS_FAILED,
    Interrupted,
    RayschedError,
    StudyError,
)
from raysched.runners import sweep as service
from raysched.runners.control import AskedToStop, Control
from raysched.runners.driver import Driver
from raysched.runners.options import Options
from raysched.study.load import LoadedStudy
from raysched.study.space import Point, n_points, points
from raysched.tracking.mlflow_store import sqlite_uri

if TYPE_CHECKING:  # it imports torch
    from raysched.runners.smoke import Smoked

WORSE = (DONE, SOME_RUNS_FAILED, RESUMABLE, OUTSIDE_MISSING, BAD_INPUT)
"""Exit codes of a sweep, each worse than those before it."""


class Screen:
    """Shows a sweep: a live table on a terminal, plain lines elsewhere. Never asks anything."""

    def __init__(self, console: Console, study_runs: int) -> None:
        self.console, self.study_runs = console, study_runs
        self._driver: Driver | None = None
        self._control: Control | None = None
        self._began = time.monotonic()
        self._done_before = 0
        self._end = threading.Event()
        self._live: Live | None = None
        self._thread: threading.Thread | None = None

    def stage(self, text: str) -> None:
        self.close()
        self.console.print(f"{text} ...", highlight=False)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", highlight=False, markup=False)

    def smoked(self, found: Sequence[Smoked]) -> None:
        """A line for every tiny run: how it went, what a step takes, and how many such runs share a GPU."""
        table = Table(box=None, pad_edge=False)
        for column in ("tiny run", "", "per step", "peak memory", ""):
            table.add_column(column)
        for one in found:
            name = one.schedule if one.method == "adapters" else f"{one.schedule} {one.method}"
            how = "ok" if one.cause is None else f"failed: {one.cause}"
            seconds = f"{one.step_seconds:.3g} s" if one.step_seconds is not None else "-"
            memory = f"{one.peak_bytes / 1e9:.2f} GB" if one.peak_bytes else "-"
            share = f"fits resources.gpu={one.share:.4g}" if one.share is not None and one.cause is None else ""
            table.add_row(name, how, seconds, memory, share)
        self.console.print(table)

    def started(self, driver: Driver, slots: int, control: Control) -> None:
        self._driver, self._control, self._began = driver, control, time.monotonic()
        self._done_before = len(driver.records)
        self.console.print(
            f"{len(driver.records)} of {self.study_runs} runs are done; {slots} at a time from here", highlight=False
        )
        self._end.clear()
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._lines, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _lines(self) -> None:
        while not self._end.wait(PLAIN_EVERY_S):
            self.console.print(self._line(), highlight=False)

    def _line(self) -> str:
        driver = self._driver
        assert driver is not None
        running = [
            f"{p.assignment.spec.point} seed={p.assignment.spec.seed} {p.step}/{p.total or '?'}"
            for p in list(driver.running.values())
        ]
        return f"{len(driver.records)}/{self.study_runs} runs done, {self._eta()}; running: {'; '.join(running) or '-'}"

    def _eta(self) -> str:
        """How long it will take, or why nothing is launched."""
        driver = self._driver
        assert driver is not None
        if self._control is not None and (why := self._control.shown) is not None:
            return f"nothing is launched now: {why}"
        partial = sum(p.step / p.total for p in list(driver.running.values()) if p.total)
        done = len(driver.records) - self._done_before + partial
        if done < 0.05:
            return "time left: not known yet"
        left = (self.study_runs - len(driver.records) - partial) * (time.monotonic() - self._began) / done
        return f"about {max(left, 0) / 60:.0f} min left"

    def _table(self) -> RenderableType:
        driver = self._driver
        assert driver is not None
        table = Table(box=None, pad_edge=False)
        for column in ("point", "seeds done", "source dev", "now"):
            table.add_column(column)
        running = list(driver.running.values())
        cells = driver.book.cells
        if len(cells) > self.console.height:  # a terminal shows no more; to draw thousands would hold up the driver
            at_work = {p.assignment.spec.point for p in running}
            cells = tuple(cell for cell in cells if cell.point in at_work)[: self.console.height]
        for cell in cells:
            scores = [run.score.value for run in cell.runs if run.score is not None]
            mean = f"{sum(scores) / len(scores):.1f}" if scores else "-"
            now = [
                f"seed {p.assignment.spec.seed}: {p.step}/{p.total or '?'}"
                for p in running
                if p.assignment.spec.point == cell.point
            ]
            table.add_row(str(cell.point), f"{len(cell.runs) - cell.left}/{len(cell.runs)}", mean, ", ".join(now))
        done = len(driver.records)
        bar = ProgressBar(total=self.study_runs, completed=done, width=40)
        return Group(table, bar, f"{done}/{self.study_runs} runs, {self._eta()}")


def sweep_all(parts: Sequence[LoadedStudy], options: Options) -> int:
    """Run or continue one sweep after the other, those of a suite; return the worst of their exit codes.

    What can be refused is refused before the first one starts. Ctrl-C, SIGTERM and `raysched stop` end it all; any
    other failure ends its own sweep alone, and is said once more at the end.

    Raises:
        RayschedError: of a single sweep, or of what is refused before anything starts.
    """
    if len(parts) == 1:
        return sweep(parts[0], options)
    console = terminal()
    _check_all(parts, options.storage)
    failures: dict[str, RayschedError] = {}
    codes = [DONE]
    for number, part in enumerate(parts, start=1):
        console.print(f"[{number}/{len(parts)}] {part.name}", highlight=False, markup=False)
        try:
            codes.append(sweep(part, options))
        except (Interrupted, AskedToStop):
            raise
        except RayschedError as error:
            console.print(f"stopped: {error}", highlight=False, markup=False)
            failures[part.name] = error
            codes.append(error.exit_code)
    for name, failure in failures.items():
        console.print(f"{name}: {failure.what}", highlight=False, markup=False)
    console.print(f"{len(parts) - len(failures)} of {len(parts)} sweeps came to their end.", highlight=False)
    return max(codes, key=WORSE.index)


def _check_all(parts: Sequence[LoadedStudy], storage: str) -> None:
    """Refuse now what the last sweep would refuse after days: a changed study, an input that is not there.

    Raises:
        StudyError, MissingError: under the name of the sweep; of several, the first, with the names of the others.
    """
    terminal().print(f"checking data and models of {len(parts)} sweeps ...", highlight=False)
    failures = {}
    for part in parts:
        try:
            service.check(part, storage)
        except RayschedError as error:
            failures[part.name] = error
    if failures:
        name, first = next(iter(failures.items()))
        others = f"; the same or other problems: {', '.join([*failures][1:])}" if len(failures) > 1 else ""
        key = f"{name}: {first.key}" if first.key else name
        raise type(first)(first.what + others, key=key, choices=first.choices, hint=first.hint) from first


def sweep(loaded: LoadedStudy, options: Options) -> int:
    """Run or continue a sweep, write its report, and say where everything is; return the exit code."""
    console = terminal()
    screen = Screen(console, n_points(loaded.study.search) * len(loaded.study.seeds))
    try:
        outcome = service.sweep(loaded, options, screen)
    finally:
        screen.close()
    from raysched.cli.reporting import report_at_end

    page = report_at_end(outcome.layout, screen.warn)
    done = f"{outcome.n_runs} runs are done" + (f", {outcome.n_failed} of them failed" if outcome.n_failed else "")
    now = [f"{outcome.n_new} of them now"] if outcome.n_new else []
    now += [f"{outcome.n_tested} tested on what came later"] if outcome.n_tested else []
    console.print(f"{done}; {', '.join(now) or 'nothing was left to do'}.")
    console.print(f"report:  {page}", highlight=False)
    if outcome.tracking_uri == sqlite_uri(outcome.layout.mlflow_db):
        console.print(f"browse:  raysched ui {outcome.layout.named}", highlight=False)
    for run_id, why in outcome.untested.items():
        screen.warn(f"run {run_id} could not be tested: {why}")
    if not outcome.uploaded:
        screen.warn("MLflow does not hold everything yet; the same command uploads the rest")
    if outcome.n_failed:
        console.print(f"failed:  raysched status {outcome.layout.named}", highlight=False)
    return outcome.exit_code


def parse_point(values: Sequence[str], loaded: LoadedStudy) -> Point:
    """`schedule=gu lr=1e-3 k=20` as a point of the study; a value with one choice may be left out.

    `method`, `epochs` and `steps` tell arms apart.

    Raises:
        StudyError: no such point is in the study's search space.
    """
    valid = points(loaded.study.search)
    given: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        keys = ("schedule", "method", "lr", "k", "epochs", "steps")
        if not equals or key not in keys:
            choices = [f"{one}=" for one in keys]
            raise StudyError(f"must be KEY=VALUE, but got {text!r}", key="--point", choices=choices)
        given[key] = value
    found = [point for point in valid if all(_same(point, key, value) for key, value in given.items())]
    if len(found) != 1:
        shown = found or valid
        raise StudyError(
            f"{' '.join(values)} names {len(found) or 'no'} point{'s' if len(found) > 1 else ''} of {loaded.name}",
            key="--point",
            choices=[*map(str, shown[:8]), *(["..."] if len(shown) > 8 else [])],
            hint=f"raysched plan {loaded.name} lists them all",
        )
    return found[0]


def _same(point: Point, key: str, text: str) -> bool:
    value = getattr(point, key)
    try:
        return value == (text if isinstance(value, str) else type(value)(text)) if value is not None else False
    except ValueError:
        return False


def run(loaded: LoadedStudy, values: Sequence[str], seed: int, storage: str) -> None:
    """Execute one run here and show where its files are."""
    os.umask(0o077)
    point = parse_point(values, loaded)
    console = terminal()
    import torch

    from raysched.runners import local, preflight
    from raysched.runners.worker import Report
    from raysched.study.identity import RunSpec

    gpu = loaded.study.resources.gpu != 0 and torch.cuda.is_available()
    resolved = preflight.resolve(loaded.study, device="cuda" if gpu else "cpu")
    preflight.fetch(resolved, loaded.study)
    spec = RunSpec.make(loaded.study, resolved, point, seed)

    def show(report: Report) -> None:
        if console.is_terminal:
            sys.stdout.write(f"\r{point} seed={seed}: step {report.step}/{report.total or '?'} ")
            sys.stdout.flush()

    assignment, result = local.run(spec, storage, f"{loaded.name}.run", show)
    if console.is_terminal:
        console.print()
    console.print(f"{point} seed={seed}: {result.steps} steps, best at {result.selected_step}", highlight=False)
    table = Table(box=None, pad_edge=False)
    metrics = list(result.source_dev)
    for column in ("", *metrics):
        table.add_column(column)
    table.add_row("source dev", *(f"{result.source_dev[metric]:.2f}" for metric in metrics))
    for name, evaluation_id in spec.evaluation_ids.items():
        for language, scores in result.tests[evaluation_id].items():
            table.add_row(f"{name} {language}", *(f"{scores[metric]:.2f}" for metric in metrics))
    console.print(table)
    console.print(f"files:   {assignment.layout.root}", highlight=False)
