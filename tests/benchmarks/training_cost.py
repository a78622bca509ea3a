"""What unfreezing and measuring cost, as ratios to a standard step, measured side by side in one run.

`make bench`. On the mini world's backbone, batch 32, one thread; medians over rounds that take turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from raysched.runners import preflight
from raysched.study.identity import RunSpec
from raysched.study.load import load_study
from raysched.study.space import Point
from raysched.training.bench import Bench
from raysched.training.loop import TrainingRun

ROUNDS = 30


def main() -> None:
    """Print each cost beside a standard step's."""
    torch.set_num_threads(1)
    study = load_study("xquad-mini", ["fisher.select.batches=1", "fisher.log.batches=1"]).study
    resolved = preflight.resolve(study, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(study, resolved, Path(folder))
        run = TrainingRun(bench, RunSpec.make(study, resolved, Point(schedule="standard", lr=1e-3), 0))
        n_layers = bench.model.n_layers
        bench.model.train()

        def step(awake: set[int]) -> Callable[[], object]:
            def take() -> object:
                run.layers.apply(awake)
                return run._step(1)

            return take

        measured: dict[str, Callable[[], object]] = {
            "standard step": step(set(range(n_layers))),
            "step, top layer awake": step({n_layers - 1}),
            "step, upper half awake": step(set(range(n_layers // 2, n_layers))),
            "tr(F), one batch, noise labels": lambda: run._measure(0, "log"),
            "tr(F), one batch, as fun selects": lambda: run._measure(0, "select"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(ROUNDS):
            for name, take in measured.items():
                begun = time.perf_counter()
                take()
                seconds[name].append(time.perf_counter() - begun)
    standard = statistics.median(seconds["standard step"])
    for name, values in seconds.items():
        median = statistics.median(values)
        sys.stdout.write(f"{name:34} {median * 1000:7.1f} ms  {median / standard:5.2f} of a standard step\n")


if __name__ == "__main__":
    main()
