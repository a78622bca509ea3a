"""What the sections on traces and orders draw, gathered from the sweeps of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysched.reports.asked import Asked
from raysched.reports.document import counted
from raysched.reports.methods import Method, model_name, objective
from raysched.reports.stats import summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER
from raysched.reports.traces.curves import Log, smooth, window_of

PAIR = ("standard", "gu")
"""The schedules of Figure 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A method, and what its finished runs logged, by seed. `window` is of the moving average, in measurements."""

    method: Method
    logs: dict[int, Log]
    window: int

    @property
    def label(self) -> str:
        return self.method.label

    @property
    def traces(self) -> list[dict[int, float]]:
        """Per seed the moving average of the mean tr(F) over awake adapters; runs that never measured are left out."""
        curves = [log.mean_awake() for log in self.logs.values()]
        return [smooth(curve, self.window) for curve in curves if curve]

    @property
    def validation(self) -> list[dict[int, float]]:
        """Per seed the objective's score on source dev by step, as measured."""
        metric = objective(self.method.sweep)
        curves = [log.scores(metric) for log in self.logs.values()]
        return [curve for curve in curves if curve]


def traced(asked: Asked, sweep: Sweep) -> list[Traced]:
    """Every method of a sweep that has logs; what cannot be read is named in `asked.damaged`.

    All methods of a sweep are smoothed over the same window.
    """
    found = [(method, _logs(asked, method)) for method in asked.methods if method.sweep is sweep]
    window = window_of([log.mean_awake() for _, logs in found for log in logs.values()])
    return [Traced(method=method, logs=logs, window=window) for method, logs in found if logs]


def _logs(asked: Asked, method: Method) -> dict[int, Log]:
    sweep, logs = method.sweep, {}
    for record in method.records:
        rows = asked.history(sweep, record)
        if rows is not None:
            logs[record.seed] = Log.of(rows, sweep.study.model.source_language)
    return logs


def titled(asked: Asked, sweep: Sweep) -> str:
    """What tells a sweep from the others of the report; empty for a single one."""
    return f"{sweep.layout.name} ({model_name(sweep)})" if len(asked.sweeps) > 1 else ""


def under(title: str, text: str) -> str:
    """`text` with the sweep that it is about; as it is for a report on a single one."""
    return f"{title}: {text}" if title else text


def stem(asked: Asked, name: str, sweep: Sweep) -> str:
    """The name of the files of something that each sweep of a report has."""
    return f"{name}-{sweep.layout.name}" if len(asked.sweeps) > 1 else name


def labels(asked: Asked) -> list[str]:
    """All methods of the report, for colours that stay the same from figure to figure."""
    return list(dict.fromkeys(method.label for method in asked.methods))


def pair(methods: Sequence[Traced]) -> list[Traced]:
    """Standard training and gradual unfreezing."""
    return [one for one in methods if one.method.point.schedule in PAIR]


def transfer(method: Method) -> float | None:
    """Mean of the target averages over the test sets (0-100), as the legend of Figure 4 has it; None before tests."""
    metric, means = objective(method.sweep), []
    for test_set in method.sweep.study.test_sets:
        summary = summarise(method.averages(metric, test_set).values())
        if summary is None:
            return None
        means.append(summary.mean)
    return sum(means) / len(means)


def window_text(methods: Sequence[Traced]) -> str:
    """How the curves of one sweep were smoothed, such as `moving average over 3 measurements, one every 40 steps`."""
    curve = max((curve for one in methods for curve in one.traces), key=len)
    if methods[0].window == 1:
        return "not smoothed"
    every = (max(curve) - min(curve)) / (len(curve) - 1)
    return (
        f"centred moving average over {methods[0].window} measurements, one every {every:g} steps (fewer at the ends)"
    )


def seeds_text(methods: Sequence[Method]) -> str:
    """Such as `n = 4 seeds` or `n: standard 4, gu 3 of 4 †`."""
    counts = {method.label: (len(method.records), method.planned) for method in methods}
    if len(set(counts.values())) == 1 and all(method.complete for method in methods):
        return f"n = {counted(methods[0].planned, 'seed')}"
    each = [
        f"{name} {n}" if n == planned else f"{name} {n} of {planned} {DAGGER}" for name, (n, planned) in counts.items()
    ]
    return f"n: {', '.join(each)}"
