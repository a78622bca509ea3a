"""Golden runs: losses and unfreezing of every schedule, 20 steps in float64, without dropout.

`python -m tests.training.golden` writes `golden_runs.json` anew: only when results are meant to change, with a line
under "Results" in the changelog.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysched.training.bench import Bench
from raysched.training.events import Evaluated, FisherMeasured, StepDone, Unfroze
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import SCHEDULES, Tiny

FILE = Path(__file__).with_name("golden_runs.json")
SETTINGS: dict[str, Any] = {
    "training.steps": 20,
    "training.dropout": 0.0,
    "search.k": [4],
    "tracking.log_every_steps": 1,
    "fisher.log.every_steps": 10,
    # Labels without random numbers: how a generator fills a tensor is the library's affair.
    "fisher.select.labels": "true",
    "fisher.log.labels": "true",
}


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def golden_bench(tiny: Tiny) -> Bench:
    bench = tiny.bench(tiny.spec(**SETTINGS))
    bench.model.double()
    # NumPy's generator gives every processor the same bits; torch's depends on its vector instructions.
    random = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in sorted(bench.model.named_parameters()):
            parameter.copy_(torch.from_numpy(random.normal(0, 0.1, tuple(parameter.shape))))
            if "LayerNorm.weight" in name:
                parameter.add_(1)
    return bench


def golden_run(tiny: Tiny, bench: Bench, schedule: str) -> dict[str, Any]:
    """Losses of all steps, [step, layers] of each event, [step, tr(F) by layer], [step, source-dev F1]."""
    found: dict[str, Any] = {"losses": [], "unfroze": [], "traces": [], "f1": []}
    with float64():
        run = TrainingRun(bench, tiny.spec(schedule, **SETTINGS))
        assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float64}
        for event in run.events():
            match event:
                case StepDone():
                    found["losses"].append(event.metrics["train/loss"])
                case Unfroze():
                    found["unfroze"].append([event.step, list(event.layers)])
                case FisherMeasured():
                    found["traces"].append([event.step, list(event.traces)])
                case Evaluated():
                    found["f1"].append([event.step, event.scores["f1"]])
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Tiny.make(Path(folder))
        warm = golden_bench(made)
        runs = {schedule: golden_run(made, warm, schedule) for schedule in SCHEDULES}
    lines = ",\n".join(f'"{schedule}": {json.dumps(run)}' for schedule, run in runs.items())
    FILE.write_text("{\n" + lines + "\n}\n")
