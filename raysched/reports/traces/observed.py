"""What runs show of themselves without target labels, beside how they transfer: read from the records of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raysched.records.record import Record
from raysched.reports.asked import Asked
from raysched.reports.methods import objective
from raysched.reports.sweep import Sweep
from raysched.reports.tables import average
from raysched.reports.traces.curves import Log, smooth, window_of
from raysched.reports.traces.features import FEATURES, NAMES, Hill, hill
from raysched.reports.traces.signals import Run

SOURCE_DEV = "source_dev"
SIGNALS = (SOURCE_DEV, *FEATURES)
"""What is asked whether it tells how a run transfers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The hills of a sweep's finished runs by run id, and the window of the moving average in measurements."""

    hills: Mapping[str, Hill]
    window: int

    def of(self, record: Record, feature: str) -> float | None:
        found = self.hills.get(record.run_id)
        return None if found is None else found.value(feature)


def features(asked: Asked, sweep: Sweep) -> Features:
    """Of all finished runs, whichever point they are of; what cannot be read is named in `asked.damaged`."""
    curves = {}
    for number in sweep.points:
        for record in sweep.cell(number):
            rows = asked.history(sweep, record) if record.status == "finished" else None
            if rows is not None:
                curves[record.run_id] = Log.of(rows, sweep.study.model.source_language).mean_awake()
    window = window_of(curves.values())
    hills = {run_id: found for run_id, curve in curves.items() if (found := hill(curve, smooth(curve, window)))}
    return Features(hills=hills, window=window)


def run_signals(sweep: Sweep, found: Features, test_set: str) -> list[Run]:
    """Every finished run that was tested on all targets of a test set."""
    metric, targets, runs = objective(sweep), sweep.targets(test_set), []
    for number, point in sweep.points.items():
        for record in sweep.cell(number):
            target = average([sweep.tests(record, test_set)], targets, metric) if record.status == "finished" else None
            if target is not None:
                values = {name: found.of(record, name) for name in FEATURES}
                signals = {SOURCE_DEV: record.source_dev.get(metric), **values}
                runs.append(Run(cell=str(point), seed=record.seed, signals=signals, target=target.mean))
    return runs


def complete(sweep: Sweep, runs: Iterable[Run]) -> list[Run]:
    """Those of configurations with all of their seeds."""
    counts: dict[str, int] = {}
    runs = list(runs)
    for run in runs:
        counts[run.cell] = counts.get(run.cell, 0) + 1
    planned = {str(point): len(sweep.state.points[number].run_ids) for number, point in sweep.points.items()}
    return [run for run in runs if counts[run.cell] == planned[run.cell]]


def signal_name(signal: str) -> str:
    """As a table calls it, without its unit."""
    return "source dev" if signal == SOURCE_DEV else NAMES[signal].split(" (")[0]
