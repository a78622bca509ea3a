"""Two small sweeps, really trained, that share a run; and what tests of keeping sweeps ask of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysched.records.layout import SweepLayout
from raysched.runners.worker import Worker
from raysched.study.identity import Resolved
from raysched.study.model import Study
from tests.training.sweep_in_process import driver_of, sweep_in_process, until_left
from tests.training.tiny_training import Tiny

SMALL: dict[str, Any] = {
    "search__sampler": "grid",
    "evaluation__languages": ["vel", "orl"],
    "evaluation__dev_limit": 8,
    "evaluation__test_limit": 4,
    "evaluation__dev_points": 2,
}


@dataclass(frozen=True)
class Kept:
    """`one` has standard and gu with seeds 0 and 1, `two` gu and rand with 1 and 2. Tests copy what they change."""

    tiny: Tiny
    worker: Worker
    resolved: Resolved
    one: SweepLayout
    two: SweepLayout

    def copy(self, layout: SweepLayout, storage: Path) -> SweepLayout:
        shutil.copytree(layout.root, storage / layout.name)
        return SweepLayout(storage, layout.name)

    def study(self, **settings: Any) -> Study:
        return self.tiny.study(**SMALL | settings)

    def sweep(self, storage: Path, name: str, **settings: Any) -> SweepLayout:
        """Every run, or what is left of it."""
        return sweep_in_process(storage, name, self.study(**settings), self.resolved, worker=self.worker)

    def begin(self, storage: Path, name: str, runs: int, **settings: Any) -> SweepLayout:
        """The first `runs` runs; then the driver leaves."""
        layout = SweepLayout(storage, name).create()
        with driver_of(layout, self.study(**settings), self.resolved) as driver:
            while len(driver.records) < runs:
                assignment = driver.next()
                assert assignment is not None
                self.worker.take(assignment)
                report = until_left(self.worker)
                driver.ended(assignment.key, report.outcome or "lost", report.cause, report.message)
            driver.close()
        return layout


ONE: dict[str, Any] = {"search__schedule": ["standard", "gu"], "seeds": [0, 1]}
TWO: dict[str, Any] = {"search__schedule": ["gu", "rand"], "seeds": [1, 2]}
BOTH: dict[str, Any] = {"search__schedule": ["standard", "gu", "rand"], "seeds": [0, 1, 2]}


def make(tiny: Tiny, storage: Path) -> Kept:
    worker = Worker()
    resolved = tiny.resolve(tiny.study(**SMALL | ONE))
    empty = Kept(tiny, worker, resolved, SweepLayout(storage, "one"), SweepLayout(storage, "two"))
    return Kept(tiny, worker, resolved, empty.sweep(storage, "one", **ONE), empty.sweep(storage, "two", **TWO))
