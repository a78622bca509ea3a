"""The tracking server fails in every way there is while a history arrives; in the end it holds each run once."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import DONE, OUTSIDE_MISSING, RESUMABLE, StoppedError
from raysched.records.history import read_segments
from raysched.records.layout import SweepLayout
from raysched.runners import session
from raysched.runners import sweep as sweeps
from raysched.runners.options import Options
from raysched.runners.outage import Outage
from raysched.service.sync import sync
from raysched.study.load import LoadedStudy, load
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.uploader import Uploader
from tests.benchmarks import uploads
from tests.browser import free_port
from tests.faults.conftest import Figures
from tests.faults.proxy import MODES, Mode, Proxy
from tests.processes import shell
from tests.runners.world import NAME, arguments, overrides, records
from tests.tracking.conftest import disk, empty_database, server, store  # noqa: F401 - fixtures
from tests.tracking.disk_sweep import DiskSweep, snapshot
from tests.tracking.mlflow_server import mlflow_server
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SEEDS = 6
CRASHES = 9
BLOCKED_MS = 100.0
"""So long a call of the driver may wait for the uploader."""


class Chaos:
    """Switches the proxy between all its modes, for some tenths of a second each."""

    def __init__(self, proxy: Proxy, chance: random.Random) -> None:
        self.proxy, self.chance = proxy, chance
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        modes: list[Mode] = [mode for mode in MODES for _ in range(4 if mode == "pass" else 1)]
        while not self._over.is_set():
            self.proxy.mode = self.chance.choice(modes)
            self._over.wait(self.chance.uniform(0.05, 0.35))

    def __enter__(self) -> Chaos:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self.proxy.mode = "pass"


class Crashing:
    """The uploader of a driver that is killed now and then; its cursors may be older than what MLflow holds."""

    def __init__(self, sweep: DiskSweep, uri: str, chance: random.Random, kept: Path) -> None:
        self.sweep, self.uri, self.chance, self.kept = sweep, uri, chance, kept
        self.crashes = self.rewound = 0
        self._start()

    def _start(self) -> None:
        self.uploader = Uploader(self.sweep.layout, Store(self.uri, "chaos"), poll_s=0.2).start()

    def crash(self) -> None:
        self.uploader.stop(30)
        self.crashes += 1
        uploads = self.sweep.layout.uploads
        if self.kept.is_dir() and self.chance.random() < 0.5:
            shutil.rmtree(uploads)
            self.kept.rename(uploads)
            self.rewound += 1
        elif uploads.is_dir():
            shutil.rmtree(self.kept, ignore_errors=True)
            shutil.copytree(uploads, self.kept)
        self._start()


def history(sweep: DiskSweep, chance: random.Random) -> Iterator[None]:
    """A sweep of one cell, as it comes into being: attempts that are lost, resumed, or begun anew."""
    sweep.runs = {seed: f"{seed:x}" * 16 for seed in range(SEEDS)}
    sweep.point()
    for seed in sweep.runs:
        attempt, sealed, at, number = sweep.attempt(seed), [], 0, 1
        while at < 4:
            sealed = sweep.checkpoint(attempt, at, at + 1, before=sealed, salt=float(number))
            at += 1
            yield
            if at < 4 and number < 4 and chance.random() < 0.3:
                number += 1
                if chance.random() < 0.5:
                    attempt = sweep.resume(seed, number, attempt, sealed)
                else:
                    attempt, sealed, at = sweep.attempt(seed, number), [], 0
                yield
        sweep.finish(seed, attempt, sealed)
        yield
    sweep.told(81.0)
    sweep.end("finished")


def test_training_goes_on_at_its_rate(tmp_path: Path, figures: Figures) -> None:
    found = uploads.measure(tmp_path, rounds=15)
    for mode in ("error", "lose", "slow"):
        figures(f"step rate, MLflow with {uploads.NAMES[mode]}", f"{found.ratio[mode]:.3f} of undisturbed", ">= 0.95")
    figures("driver loop blocked by the uploader", f"{found.blocked_ms:.1f} ms at most", f"<= {BLOCKED_MS:.0f} ms")
    figures("a backlog's drain", f"{found.drain_per_s:.0f} records/s", ">= 100 records/s")
    assert min(found.ratio.values()) >= 0.95, found
    assert found.blocked_ms <= BLOCKED_MS
    assert found.drain_per_s >= 100


def test_every_fault_in_turn_while_history_arrives(
    server: str,  # noqa: F811
    disk: DiskSweep,  # noqa: F811
    store: Store,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Figures,
    fault_seed: int,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    chance = random.Random(fault_seed)
    begun = time.monotonic()
    with Proxy(server, latency_s=2.0) as proxy:
        with Chaos(proxy, chance):
            driver = Crashing(disk, proxy.url, chance, tmp_path / "kept")
            stages = list(range(SEEDS * 6))
            crash_at = set(chance.sample(stages, CRASHES))
            for stage, _ in enumerate(history(disk, chance)):
                driver.uploader.wake()
                time.sleep(chance.uniform(0.1, 1.0))
                if stage in crash_at:
                    driver.crash()
            while driver.crashes < CRASHES:
                time.sleep(0.5)
                driver.crash()
        assert driver.uploader.drain(120), driver.uploader.state()
        driver.uploader.stop()
        assert set(proxy.seen) == set(MODES)
        errors = sum(count for mode, count in proxy.seen.items() if mode not in ("pass", "slow"))
    took = time.monotonic() - begun
    assert Uploader(disk.layout, store).sync_once()
    shown = snapshot(Store(server, "chaos"))  # that each key has one run is checked there
    assert shown == snapshot(store)
    assert {run["status"] for run in shown.values()} == {"FINISHED"}
    figures(
        f"MLflow: 500, dropped requests and answers, black hole, 2 s latency in turn ({took:.0f} s), {CRASHES} crashes",
        f"{errors} faults, {driver.rewound} rewound cursors: {SEEDS} of {SEEDS} runs complete, 0 duplicates",
        "each run once, histories equal",
    )


def test_a_locked_database_holds_nobody_up(
    disk: DiskSweep,  # noqa: F811
    store: Store,  # noqa: F811
    empty_database: Path,  # noqa: F811
    tmp_path: Path,
    figures: Figures,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk.point()
    disk.whole_run(0)
    uploader = Uploader(disk.layout, store, poll_s=0.2).start()
    assert uploader.drain(60)
    waits: list[float] = []
    with contextlib.closing(sqlite3.connect(disk.layout.mlflow_db, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        disk.whole_run(1)
        disk.told(81.0)
        disk.end("finished")
        until = time.monotonic() + 30
        while time.monotonic() < until:
            begun = time.perf_counter()
            uploader.wake()
            uploader.state()
            waits.append(1000 * (time.perf_counter() - begun))
            time.sleep(0.01)
        other.execute("ROLLBACK")
    assert "database is locked" in caplog.text
    assert uploader.drain(120), uploader.state()
    uploader.stop()
    shutil.copy(empty_database, tmp_path / "again.db")
    again = Store(sqlite_uri(tmp_path / "again.db"), "demo")
    assert Uploader(disk.layout, again).sync_once()
    assert snapshot(store) == snapshot(again)
    assert max(waits) < BLOCKED_MS
    figures(
        "MLflow's SQLite locked 30 s", f"driver blocked {max(waits):.1f} ms at most; complete", f"< {BLOCKED_MS:.0f} ms"
    )


def test_a_server_that_is_down_for_the_whole_sweep(
    tiny: Tiny,
    tmp_path: Path,
    empty_database: Path,  # noqa: F811
    figures: Figures,
) -> None:
    """With the full command line: `sync`, which was told no address, brings each run there once."""
    port = free_port()
    storage = tmp_path / "storage"
    command = arguments(
        tiny, storage, "--mlflow", f"http://127.0.0.1:{port}", "--allow-offline-tracking", training__steps=60
    )
    with shell(tmp_path / "shell") as one:
        code, output = one.run(*command, timeout_s=400)
        assert code == DONE, output
        assert "MLflow does not hold everything yet" in output
        code, output = one.run("sync", NAME, "--storage", storage)
        assert code == OUTSIDE_MISSING
        assert f"no MLflow server answers at http://127.0.0.1:{port}" in output
        with mlflow_server(tmp_path / "server", empty_database, port) as address:
            begun = time.monotonic()
            for _ in range(2):
                code, output = one.run("sync", NAME, "--storage", storage)
                assert (code, "holds 4 of 4 runs wholly." in output) == (DONE, True), output
            took = (time.monotonic() - begun) / 2
            check_complete(SweepLayout(storage, NAME), Store(address, NAME))
            begun = time.monotonic()
            code, output = one.run(*command)
            assert (code, "nothing was left to do" in output) == (DONE, True), output
    figures(
        "MLflow down for a whole sweep, then `raysched sync`",
        f"4 of 4 runs complete, each once ({took:.0f} s)",
        "each run once",
    )


def check_complete(layout: SweepLayout, tracked: Store) -> None:
    """Every record is one FINISHED run, whose training loss is the recorded one, step by step."""
    shown = snapshot(tracked)
    assert {run["status"] for run in shown.values()} == {"FINISHED"}
    there = records(layout)
    assert {key for key in shown if key.startswith("run:")} == {f"run:{run_id}" for run_id in there}
    for run_id, record in there.items():
        folder = layout.run(run_id).root / record.attempt_folder
        rows = [row for row in read_segments(folder / "segments", record.segments) if row.kind == "metrics"]
        losses = [(row.step, row.time_ms, repr(row.data["values"]["train/loss"])) for row in rows]
        metrics = shown[f"run:{run_id}"]["metrics"]
        assert metrics["train/loss"] == losses
        for name, values in metrics.items():
            assert max(Counter(step for step, _, _ in values).values()) == 1, name


def test_sync_outlives_a_server_that_comes_and_goes(
    server: str,  # noqa: F811
    disk: DiskSweep,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")
    with Proxy(server) as proxy:
        proxy.mode = "error"
        away: Callable[[], Any] = threading.Timer(8, lambda: setattr(proxy, "mode", "pass")).start
        proxy.mode = "pass"
        Store(proxy.url, "demo").check()
        monkeypatch.setattr(Store, "check", lambda self: (setattr(proxy, "mode", "error"), away()))
        done = sync(disk.layout, proxy.url)
        assert proxy.seen["error"] > 0
    assert done.runs_held == 2


class Switch:
    """The sweep's watcher: the server does `mode` once the first runs are launched."""

    def __init__(self, proxy: Proxy, mode: Mode) -> None:
        self.proxy, self.mode = proxy, mode

    def stage(self, text: str) -> None:
        """Nobody looks."""

    def started(self, driver: Any, slots: int, control: Any) -> None:
        self.proxy.mode = self.mode

    def smoked(self, found: Any) -> None:
        """Nobody looks."""

    def warn(self, text: str) -> None:
        """Nobody looks."""


@pytest.mark.ray
def test_an_outage_over_its_budget_ends_the_sweep_until_the_server_is_back(
    server: str,  # noqa: F811
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Figures,
) -> None:
    """Row 18: nothing is launched at the limit, what runs ends, and the same command continues."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(sweeps, "Outage", functools.partial(Outage, limit_bytes=1))
    monkeypatch.setattr(session, "DRAIN_S", 3.0)
    loaded = load(NAME, overrides(tiny, training__steps=60)[1::2])
    assert isinstance(loaded, LoadedStudy)
    layout = SweepLayout(tmp_path, NAME)
    with Proxy(server) as proxy:
        options = Options(storage=str(tmp_path), mlflow_uri=proxy.url, max_concurrent=1)
        with pytest.raises(StoppedError, match="raysched sync xquad-mini") as caught:
            sweeps.sweep(loaded, options, Switch(proxy, "drop"))
        assert caught.value.exit_code == RESUMABLE
        done = len(records(layout))
        assert 0 < done < 4, "what ran has ended, and nothing followed"
        proxy.mode = "pass"
        monkeypatch.setattr(session, "DRAIN_S", 60.0)
        outcome = sweeps.sweep(loaded, options, Switch(proxy, "pass"))
    assert (outcome.n_runs, outcome.n_failed, outcome.uploaded) == (4, 0, True)
    check_complete(layout, Store(server, NAME))
    figures("MLflow outage over its budget", f"left with 75 after {done} of 4 runs; continued to 4 of 4", "exit 75")
