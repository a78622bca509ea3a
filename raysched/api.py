"""raysched from Python, for notebooks: `raysched.sweep`, `raysched.load_sweep`, `raysched.load_sweeps`.

What goes wrong is an error of `raysched.errors` with the text that the command line would show.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysched.errors import MissingError, StudyError
from raysched.records.layout import SweepLayout, storage_folder, sweeps
from raysched.records.storage_uri import DEFAULT_STORAGE, is_remote
from raysched.reports.results import Results, SweepResults
from raysched.reports.sweep import read_sweep
from raysched.study.load import LoadedStudy, load_study, study_of, suite_parts
from raysched.study.lookup import SWEEP_NAME
from raysched.study.model import Study
from raysched.study.space import n_points

if TYPE_CHECKING:  # a sweep that is only read needs none of them
    from raysched.runners.control import Control
    from raysched.runners.driver import Driver
    from raysched.runners.smoke import Smoked

LOOK_S = 1.0
"""Between two looks at a running sweep."""
LINE_S = 30.0
"""So long nothing is printed while no run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A running sweep at one moment. `running` is (point, seed, step, steps) of every run at work, with 0 for steps
    that are not known yet; `waiting` says why nothing is launched now."""

    done: int
    failed: int
    total: int
    running: tuple[tuple[str, int, int, int], ...]
    waiting: str | None

    def __str__(self) -> str:
        at_work = "; ".join(f"{point} seed={seed} {step}/{of or '?'}" for point, seed, step, of in self.running)
        failed = f", {self.failed} failed" if self.failed else ""
        waiting = f"; nothing is launched now: {self.waiting}" if self.waiting else ""
        return f"{self.done}/{self.total} runs done{failed}; running: {at_work or '-'}{waiting}"


def load_sweep(where: str | os.PathLike[str], storage: str | os.PathLike[str] | None = None) -> SweepResults:
    """A finished, half-finished or running sweep, as it is stored now; nothing is locked or written.

    `where` is a sweep's folder, a URI such as `s3://bucket/sweeps/xquad-mini`, or a name in `storage` (a folder or a
    URI; by default `./raysched-runs`).

    Raises:
        StudyError: the name is malformed.
        MissingError: there is no such sweep.
        DamageError: its ledger is not what was written; damaged runs are left out, and told in `.damaged`.
    """
    return SweepResults([read_sweep(_layout(os.fspath(where), None if storage is None else os.fspath(storage)))])


def load_sweeps(
    names: Sequence[str | os.PathLike[str]] | None = None, storage: str | os.PathLike[str] | None = None
) -> Results:
    """Several sweeps as one, for frames and figures that compare them; by default all of the storage.

    A name is as in `load_sweep`; a suite's stands for its parts. Raises as `load_sweep` does, StudyError for no name.
    """
    if names is None:
        if not (there := sweeps(os.fspath(storage or DEFAULT_STORAGE))):
            raise MissingError(f"there is no sweep in {storage or DEFAULT_STORAGE}", key="storage")
        return Results([read_sweep(layout) for layout in there])
    if isinstance(names, (str, os.PathLike)):
        names = [names]
    if not names:
        raise StudyError("names no sweep", key="names", hint="without names= all of the storage are loaded")
    asked = [part for name in names for part in _parts(os.fspath(name), storage)]
    return Results([one for name in dict.fromkeys(asked) for one in load_sweep(name, storage).sweeps])


def sweep(
    study: str | os.PathLike[str] | Mapping[str, Any] | Study,
    *,
    name: str | None = None,
    storage: str | os.PathLike[str] = DEFAULT_STORAGE,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    mlflow: str | None = None,
    optuna: str | None = None,
    address: str | None = None,
    max_concurrent: int | None = None,
    allow_offline_tracking: bool = False,
    smoke: bool = False,
    quiet: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> SweepResults:
    """Run a study, or continue it after any interruption, as `raysched sweep` does; a finished one is only read.

    Args:
        study: a study's name or path, or its keys and values (`{"extends": "xquad-mini", "seeds": 2}`), which need a
            `name`.
        overrides: `{"search.lr": [1e-4]}`, or `["search.lr=[1e-4]"]`.
        mlflow, optuna, address: as the options of the command line; by default what `RAYSCHED_MLFLOW`,
            `RAYSCHED_OPTUNA` and `RAY_ADDRESS` say.
        quiet: print nothing but warnings.
        progress: called about every second while runs are at work, from another thread.

    Returns:
        What is stored at the end. Runs that failed stop nothing: `.outcome.n_failed` counts them. No report is
        written: `.report()` does it.

    Raises:
        StudyError: the study is malformed, or another one was started under its name.
        MissingError: an input, the cluster or the tracking server is not there.
        StoppedError: another driver runs it, the budget is used up, or it was asked to stop.
        Interrupted: Ctrl-C, or a notebook's stop button; everything is saved, and the same call continues.
    """
    from raysched.runners import sweep as service
    from raysched.runners.options import Options, ray_address

    loaded = _loaded(study, _options(overrides), name)
    if max_concurrent is not None and max_concurrent < 1:
        raise StudyError(f"must be at least 1, but got {max_concurrent}", key="max_concurrent")
    _no_other_ray()
    options = Options(
        storage=os.fspath(storage),
        mlflow_uri=mlflow or os.environ.get("RAYSCHED_MLFLOW") or None,
        optuna_uri=optuna or os.environ.get("RAYSCHED_OPTUNA") or None,
        address=ray_address(address or os.environ.get("RAY_ADDRESS") or None, "address"),
        max_concurrent=max_concurrent,
        allow_offline_tracking=allow_offline_tracking,
        smoke=smoke,
    )
    watcher = _Watcher(n_points(loaded.study.search) * len(loaded.study.seeds), quiet=quiet, progress=progress)
    umask = os.umask(0o077)  # which a sweep sets, and a notebook lives on
    try:
        outcome = service.sweep(loaded, options, watcher)
    finally:
        watcher.close()
        os.umask(umask)
    for run_id, why in outcome.untested.items():
        watcher.warn(f"run {run_id} could not be tested: {why}")
    if not outcome.uploaded:
        watcher.warn("MLflow does not hold everything yet; the same call uploads the rest")
    return SweepResults([read_sweep(outcome.layout)], outcome=outcome)


class _Watcher:
    """Prints a line per stage and per run that ends; calls `progress`. See `runners.watcher`."""

    def __init__(self, total: int, *, quiet: bool, progress: Callable[[Progress], object] | None) -> None:
        self._total, self._quiet, self._progress = total, quiet, progress
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def stage(self, text: str) -> None:
        self.close()
        self._say(f"{text} ...")

    def smoked(self, found: Sequence[Smoked]) -> None:
        for one in found:
            self._say(f"tiny run, {one.schedule}: {'ok' if one.cause is None else f'failed: {one.cause}'}")

    def started(self, driver: Driver, slots: int, control: Control) -> None:
        self._say(f"{len(driver.records)} of {self._total} runs are done; {slots} at a time from here")
        self._end.clear()
        self._thread = threading.Thread(target=self._watch, args=(driver, control), daemon=True)
        self._thread.start()

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)  # noqa: T201

    def _watch(self, driver: Driver, control: Control) -> None:
        done, silent = len(driver.records), 0.0
        while not self._end.wait(LOOK_S):
            now, silent = self._now(driver, control), silent + LOOK_S
            if now.done != done or silent >= LINE_S:
                done, silent = now.done, 0.0
                self._say(str(now))
            self._tell(now)

    def _now(self, driver: Driver, control: Control) -> Progress:
        records = list(driver.records.values())
        return Progress(
            done=len(records),
            failed=sum(record.status != "finished" for record in records),
            total=self._total,
            running=tuple(
                (str(one.assignment.spec.point), one.assignment.spec.seed, one.step, one.total or 0)
                for one in list(driver.running.values())
            ),
            waiting=control.shown,
        )

    def _tell(self, now: Progress) -> None:
        if self._progress is None:
            return
        try:
            self._progress(now)
        except Exception as error:  # the sweep is worth more than who watches it
            self._progress = None
            self.warn(f"progress is not called again: {type(error).__name__}: {error}")


def _layout(where: str, storage: str | None) -> SweepLayout:
    """Raises StudyError, MissingError."""
    layout = SweepLayout(storage, where) if storage is not None else _found(where)
    if layout.exists():
        return layout
    there = [other.name for other in sweeps(layout.uri)]
    below = [] if storage is not None or is_remote(where) else [one.name for one in sweeps(where)]
    hint = "give its folder, its URI, or its name and storage="
    if below:
        first = f"{where.rstrip('/')}/{below[0]}"
        hint = f"this is a storage: load_sweep({first!r}), or load_sweeps(storage={where!r})"
    raise MissingError(f"there is no sweep {layout.name!r} in {layout.uri}", choices=there or below, hint=hint)


def _found(where: str) -> SweepLayout:
    if is_remote(where):
        storage, _, name = where.rstrip("/").rpartition("/")
        return SweepLayout(storage, name)
    folder = storage_folder(where).resolve()
    if (folder / "ledger.jsonl").is_file() or not SWEEP_NAME.fullmatch(where):
        return SweepLayout(folder.parent, folder.name)
    return SweepLayout(DEFAULT_STORAGE, where)


def _parts(name: str, storage: str | os.PathLike[str] | None) -> list[str]:
    """The name, or those of a suite's parts that are there, in the suite's order."""
    if not SWEEP_NAME.fullmatch(name):
        return [name]
    there = [layout.name for layout in sweeps(os.fspath(storage or DEFAULT_STORAGE))]
    order = suite_parts(name)
    parts = sorted(
        (one for one in there if one.startswith(f"{name}.")),
        key=lambda one: order.index(one) if one in order else len(order),
    )
    return [name] if name in there or not parts else parts


def _loaded(study: Any, overrides: Sequence[str], name: str | None) -> LoadedStudy:
    """Raises StudyError."""
    if isinstance(study, (str, os.PathLike)):
        return load_study(Path(study) if isinstance(study, os.PathLike) else study, overrides, name=name)
    values = study.model_dump(mode="json") if isinstance(study, Study) else study
    if not isinstance(values, Mapping):
        raise StudyError(
            f"must be a study's name, path, or keys and values, but got {type(study).__name__}", key="study"
        )
    if name is None:
        raise StudyError("a study that is no file needs a name", key="name", hint='raysched.sweep({...}, name="...")')
    return study_of(values, overrides, name=name)


def _options(overrides: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """As `--set` takes them."""
    if isinstance(overrides, str):
        return (overrides,)
    if isinstance(overrides, Mapping):
        return tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    return tuple(overrides)


def _no_other_ray() -> None:
    """A sweep starts Ray, and ends it: not one that somebody else uses. Raises StudyError."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise StudyError(
            "this process is connected to a Ray cluster already, and a sweep connects by itself",
            key="ray",
            hint="call ray.shutdown() first; address= names a cluster to run on",
        )
