"""Tables: one row per cell, means over seeds, honest about what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from raysched.records.record import Record, Scores
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.study.space import Point

DAGGER = "†"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell in one metric (0-100). A mean over fewer seeds than planned exists, but is never the best.

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


def cell_rows(sweep: Sweep, metric: str) -> list[CellRow]:
    """A row for every cell of the ledger, in the order of the study."""
    return [_row(sweep, number, metric) for number in sweep.points]


def _row(sweep: Sweep, number: int, metric: str) -> CellRow:
    ended = sweep.cell(number)
    finished = [record for record in ended if record.status == "finished"]
    tests = [sweep.tests(record) for record in finished]
    languages = {
        language: summarise(scores[language][metric] for scores in tests if metric in scores.get(language, {}))
        for language in sweep.study.evaluation.languages
    }
    averages = [_average(scores, sweep.targets(), metric) for scores in tests]
    means = {language: languages[language] for language in sweep.targets()}
    lowest = min(((summary.mean, language) for language, summary in means.items() if summary is not None), default=None)
    return CellRow(
        number=number,
        point=sweep.points[number],
        planned=len(sweep.state.points[number].run_ids),
        n=len(finished),
        n_failed=len(ended) - len(finished),
        source_dev=summarise(record.source_dev[metric] for record in finished if metric in record.source_dev),
        tests=languages,
        average=summarise(average for average in averages if average is not None),
        lowest=(lowest[1], lowest[0]) if lowest else None,
    )


def _average(scores: dict[str, Scores], targets: Sequence[str], metric: str) -> float | None:
    """One run's mean over the target languages; None where one of them was not tested."""
    if not targets or any(metric not in scores.get(language, {}) for language in targets):
        return None
    summary = summarise(scores[language][metric] for language in targets)
    return summary.mean if summary else None


def selected(rows: Iterable[CellRow]) -> list[CellRow]:
    """Per schedule the complete cell with the best source-dev mean; where none is complete, the one with most seeds.

    Targets are not looked at.
    """
    best: dict[str, CellRow] = {}
    for row in rows:
        there = best.get(row.point.schedule)
        if there is None or _merit(row) > _merit(there):
            best[row.point.schedule] = row
    return list(best.values())


def _merit(row: CellRow) -> tuple[bool, int, float]:
    return row.complete, 0 if row.complete else row.n, row.source_dev.mean if row.source_dev else float("-inf")


def score_table(rows: Sequence[CellRow], languages: Sequence[str]) -> str:
    """Markdown: mean ± std over seeds; the best mean of each column, among complete cells, in bold."""
    columns: list[tuple[str, Callable[[CellRow], Summary | None]]] = [("source dev", lambda row: row.source_dev)]
    columns += [(language, lambda row, language=language: row.tests[language]) for language in languages]  # type: ignore[misc]
    columns += [("target average", lambda row: row.average)]
    best = {name: _best(rows, value) for name, value in columns}
    lines = []
    for row in rows:
        k = "" if row.point.k is None else str(row.point.k)
        n = str(row.n) if row.complete else f"{row.n} of {row.planned}"
        scores = [_score(value(row), row.planned, best[name]) for name, value in columns]
        lowest = f"{row.lowest[0]} {row.lowest[1]:.2f}" if row.lowest else "-"
        lines.append([row.point.schedule, f"{row.point.lr:g}", k, n, *scores, lowest])
    return markdown(["schedule", "lr", "k", "n", *[name for name, _ in columns], "lowest target"], lines, left=1)


def _best(rows: Iterable[CellRow], value: Callable[[CellRow], Summary | None]) -> str | None:
    means = [summary.mean for row in rows if (summary := value(row)) is not None and summary.n == row.planned]
    return f"{max(means):.2f}" if means else None


def _score(summary: Summary | None, planned: int, best: str | None) -> str:
    if summary is None:
        return "-"
    if summary.n < planned:
        return f"{summary} {DAGGER}"
    return f"**{summary}**" if f"{summary.mean:.2f}" == best else str(summary)


def order_table(sweep: Sweep) -> str:
    """Markdown: each run's unfreeze order, seeds with the same order on one line; empty without runs."""
    lines = []
    for number, point in sweep.points.items():
        seeds: dict[str, list[int]] = {}
        for record in sweep.cell(number):
            if record.unfreeze_order:
                seeds.setdefault(order_text(record), []).append(record.seed)
        lines += [[str(point), ", ".join(map(str, seeds[order])), order] for order in seeds]
    return markdown(["point", "seeds", "step: layers woken"], lines, left=3) if lines else ""


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
