"""What a failing tracking server costs a sweep: its step rate beside that with a healthy server, measured side by side.

`make bench`. One thread trains the mini world's backbone and seals its history as a worker does, another one wakes the
uploader and asks it as a driver does, the uploader itself faces a real MLflow server through a proxy that fails. All of
them share one process, so that the uploader has no core to itself. Rounds take turns over the faults; medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from raysched.records.files import make_folder
from raysched.records.history import Row, Sealed, SegmentWriter
from raysched.records.layout import AttemptLayout
from raysched.runners import preflight
from raysched.study.identity import RunSpec
from raysched.study.load import load_study
from raysched.study.space import Point
from raysched.tracking.mlflow_store import Store
from raysched.tracking.uploader import Uploader
from raysched.training.bench import Bench
from raysched.training.loop import TrainingRun
from tests.faults.proxy import Mode, Proxy
from tests.tracking.disk_sweep import DiskSweep
from tests.tracking.mlflow_server import mlflow_server

MODES: tuple[Mode, ...] = ("pass", "error", "lose", "slow")
NAMES = {"pass": "healthy", "error": "500 every time", "lose": "answers dropped", "slow": "2 s latency"}
SEAL_EVERY = 20
"""Steps of a round, which ends with a sealed segment; each step is a row of history."""
RECORDS = 20_000
"""Rows that wait for the server at its return."""


@dataclass
class Figures:
    """`ratio`: step rate beside that of a healthy server; `blocked_ms`: longest call of the driver."""

    ratio: dict[str, float] = field(default_factory=dict)
    ms: dict[str, float] = field(default_factory=dict)
    blocked_ms: float = 0.0
    drain_per_s: float = 0.0


def measure(folder: Path, rounds: int) -> Figures:
    """Every fault in turn, `rounds` times, then the drain of `RECORDS` rows."""
    torch.set_num_threads(1)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    database = make_folder(folder / "empty") / "mlflow.db"
    Store(f"sqlite:///{database}", "first")._search_experiments()
    step = training_step(folder)
    figures = Figures()
    with mlflow_server(folder / "server", database) as server, Proxy(server) as proxy:
        seconds: dict[Mode, list[float]] = {mode: [] for mode in MODES}
        sweep = DiskSweep(folder / "sweep")
        sweep.point()
        worker = Worker(sweep, sweep.attempt(0), step)
        for _ in range(SEAL_EVERY):
            step()
        for _ in range(rounds):
            for mode in MODES:
                proxy.mode = mode
                # A new one each time has not learned yet to leave a failing server alone.
                with (
                    Uploader(sweep.layout, Store(proxy.url, "bench"), poll_s=1.0) as uploader,
                    Caller(uploader) as caller,
                ):
                    seconds[mode].append(worker.round())
                figures.blocked_ms = max(figures.blocked_ms, caller.longest_ms)
        proxy.mode = "pass"
        figures.ms = {mode: 1000 * statistics.median(values) / SEAL_EVERY for mode, values in seconds.items()}
        # Neighbours in time share what else the machine does.
        figures.ratio = {
            mode: statistics.median(h / s for h, s in zip(seconds["pass"], seconds[mode], strict=True))
            for mode in MODES
        }
        figures.drain_per_s = drain(folder / "drain", Store(proxy.url, "drain"))
        sweep.ledger.close()
    return figures


def training_step(folder: Path) -> Callable[[], object]:
    """One step of the mini world's `standard` schedule."""
    study = load_study("xquad-mini").study
    resolved = preflight.resolve(study, device="cpu")
    bench = Bench(study, resolved, make_folder(folder / "features"))
    run = TrainingRun(bench, RunSpec.make(study, resolved, Point(schedule="standard", lr=1e-3), 0))
    bench.model.train()
    run.layers.apply(set(range(bench.model.n_layers)))
    return lambda: run._step(1)


@dataclass
class Worker:
    """Trains and seals; `round` gives the seconds of `SEAL_EVERY` steps with their checkpoint."""

    sweep: DiskSweep
    attempt: AttemptLayout
    step: Callable[[], object]
    at: int = 0
    sealed: list[Sealed] = field(default_factory=list)

    def round(self) -> float:
        begun = time.perf_counter()
        writer = SegmentWriter(self.attempt.segments)
        for number in range(self.at + 1, self.at + SEAL_EVERY + 1):
            self.step()
            writer.append(row(number))
        sealed = writer.seal(self.at, self.at + SEAL_EVERY)
        self.at += SEAL_EVERY
        self.sealed.append(sealed)
        self.sweep.manifest(self.attempt, self.at, self.sealed)
        return time.perf_counter() - begun


class Caller(threading.Thread):
    """What a driver does with an uploader, a hundred times a second; the longest of these calls is kept."""

    def __init__(self, uploader: Uploader) -> None:
        super().__init__(daemon=True)
        self.uploader, self.longest_ms = uploader, 0.0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            begun = time.perf_counter()
            self.uploader.wake()
            self.uploader.state()
            self.longest_ms = max(self.longest_ms, 1000 * (time.perf_counter() - begun))

    def __enter__(self) -> Caller:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def drain(folder: Path, store: Store) -> float:
    """Rows per second of a backlog that a server takes at its return."""
    sweep = DiskSweep(folder)
    sweep.point()
    attempt = sweep.attempt(0)
    sealed = []
    for start in range(0, RECORDS, RECORDS // 10):
        writer = SegmentWriter(attempt.segments)
        for number in range(start + 1, start + RECORDS // 10 + 1):
            writer.append(row(number))
        sealed.append(writer.seal(start, start + RECORDS // 10))
    sweep.manifest(attempt, RECORDS, sealed)
    begun = time.perf_counter()
    assert Uploader(sweep.layout, store).drain(600)
    sweep.ledger.close()
    return RECORDS / (time.perf_counter() - begun)


def row(step: int) -> Row:
    values = {"train/loss": 1 / step, "train/lr": 1e-3}
    return Row(kind="metrics", step=step, time_ms=time.time_ns() // 1_000_000, data={"values": values})


def main() -> None:
    """Print each fault's cost beside a healthy server's, what the driver waited, and how fast a backlog goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), parser.parse_args().rounds)
    for mode, ratio in figures.ratio.items():
        sys.stdout.write(
            f"{NAMES[mode]:24} {figures.ms[mode]:7.1f} ms a step  {ratio:5.3f} of a healthy server's rate\n"
        )
    sys.stdout.write(f"the driver waited        {figures.blocked_ms:7.1f} ms at most for the uploader\n")
    sys.stdout.write(f"a backlog goes at        {figures.drain_per_s:7.0f} rows a second\n")


if __name__ == "__main__":
    main()
