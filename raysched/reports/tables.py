"""Tables: one row per cell, means over seeds, honest about what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raysched.records.record import Record, Scores
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.study.model import MAIN
from raysched.study.space import Point

DAGGER = "†"
METRICS = {"f1": "F1", "em": "EM"}
PARAMS = ("schedule", "method", "lr", "k", "epochs", "steps")
"""Of a point, in the order of their columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell in one metric (0-100) on one test set. A mean over fewer seeds than planned is never the best.

    `average` is over the target languages only: the mean and standard deviation over seeds of each seed's own mean.
    """

    number: int
    point: Point
    planned: int
    n: int
    n_failed: int
    source_dev: Summary | None
    tests: dict[str, Summary | None]
    average: Summary | None
    lowest: tuple[str, float] | None

    @property
    def complete(self) -> bool:
        return self.n == self.planned


def metric_name(metric: str) -> str:
    """As it is written in a table: `F1`, `EM`, `Accuracy`."""
    return METRICS.get(metric, metric.capitalize())


def contender(point: Point) -> str:
    """What a point stands for where methods are compared: its schedule, and what else an arm sets apart.

    Such as `gu`, `gu full`, `gu k=even`, `standard epochs=500`; learning rate and steps of interval are chosen within.
    """
    parts = [point.schedule]
    for name, value in point.params().items():
        if name == "method":
            parts.append(str(value))
        elif name in ("epochs", "steps") or value in ("early", "even"):
            parts.append(f"{name}={value}")
    return " ".join(parts)


def cell_rows(sweep: Sweep, metric: str, test_set: str = MAIN) -> list[CellRow]:
    """A row for every cell of the ledger, in the order of the study."""
    return [_row(sweep, number, metric, test_set) for number in sweep.points]


def _row(sweep: Sweep, number: int, metric: str, test_set: str) -> CellRow:
    ended = sweep.cell(number)
    finished = [record for record in ended if record.status == "finished"]
    tests = [sweep.tests(record, test_set) for record in finished]
    languages = {
        language: summarise(scores[language][metric] for scores in tests if metric in scores.get(language, {}))
        for language in sweep.study.test_sets[test_set].languages
    }
    targets = sweep.targets(test_set)
    means = {language: languages[language] for language in targets}
    lowest = min(((summary.mean, language) for language, summary in means.items() if summary is not None), default=None)
    return CellRow(
        number=number,
        point=sweep.points[number],
        planned=len(sweep.state.points[number].run_ids),
        n=len(finished),
        n_failed=len(ended) - len(finished),
        source_dev=summarise(record.source_dev[metric] for record in finished if metric in record.source_dev),
        tests=languages,
        average=average(tests, targets, metric),
        lowest=(lowest[1], lowest[0]) if lowest else None,
    )


def average(tests: Iterable[dict[str, Scores]], targets: Sequence[str], metric: str) -> Summary | None:
    """Over runs, each run's own mean over the target languages; runs where one was not tested do not count."""
    whole = [scores for scores in tests if all(metric in scores.get(language, {}) for language in targets)]
    means = [summarise(scores[language][metric] for language in targets) for scores in whole]
    return summarise(summary.mean for summary in means if summary is not None)


def selected(rows: Iterable[CellRow]) -> list[CellRow]:
    """Per `contender` the complete cell with the best source-dev mean; where none is, the one with most seeds.

    Targets are not looked at.
    """
    best: dict[str, CellRow] = {}
    for row in rows:
        name = contender(row.point)
        if name not in best or merit(row) > merit(best[name]):
            best[name] = row
    return list(best.values())


def merit(row: CellRow) -> tuple[bool, int, float]:
    """What a cell is selected by; the largest wins."""
    return row.complete, 0 if row.complete else row.n, row.source_dev.mean if row.source_dev else float("-inf")


def param_names(points: Iterable[Point]) -> list[str]:
    """Names of the parameters that exist in any of the points, in the order in which they are shown."""
    exist = {name for point in points for name in point.params()}
    return [name for name in PARAMS if name in exist]


def param_text(point: Point, name: str) -> str:
    value = point.params().get(name, "adapters" if name == "method" else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def order_text(record: Record) -> str:
    """Such as `start: 11 · 40: 10 · 60: 9`; events that woke nothing are left out."""
    events = [(step, layers) for step, layers in record.unfreeze_order if layers]
    return " · ".join(f"{step or 'start'}: {layer_text(layers)}" for step, layers in events) or "nothing"


def layer_text(layers: Sequence[int]) -> str:
    """Layers as they woke; three or more neighbours in ascending order as a range."""
    ordered = sorted(layers)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, layers))


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], *, left: int = 0) -> str:
    """A Markdown table; the first `left` columns are set left, the others right."""
    cells = [[_cell(text) for text in line] for line in (header, *lines)]
    rules = [":---" if i < left else "---:" for i in range(len(header))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (cells[0], rules, *cells[1:]))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
