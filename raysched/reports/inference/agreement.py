"""Question by question: what changes with the seed, and what with the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Section, Table
from raysched.reports.inference.claims import Opponents
from raysched.reports.inference.over_questions import difference_table
from raysched.reports.inference.questions import RIGHT, Run, lined_up, read_method
from raysched.reports.methods import Method
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER

Scores = NDArray[np.float64]
TEXT = (
    "A question is right where the answer matches exactly (or the label is the right one). Churn is the share of "
    "questions that some seeds of a method get right and others do not: what another seed changes, though nothing else "
    "does. Where two methods agree on as many questions as two seeds of one method, the seed explains their "
    "differences.",
    "Differences over seeds and questions are about other seeds and other questions of the same kind; those over seeds "
    "alone, in the section on differences between methods, are about these very questions. A question counts once, "
    "with all of its languages: it is the same question in each.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The answers of a sweep's methods on one test set: name of the method -> seed -> run."""

    sweep: Sweep
    test_set: str
    methods: tuple[Method, ...]
    runs: Mapping[str, Mapping[int, Run]]

    @property
    def languages(self) -> tuple[str, ...]:
        return self.sweep.study.test_sets[self.test_set].languages

    @property
    def suffix(self) -> str:
        return f"{self.test_set}-{self.sweep.layout.name}"


def agreement(asked: Asked) -> Section | None:
    """From the stored predictions; None where there are none."""
    tables: list[Table | None] = []
    for sweep in asked.sweeps:
        methods = tuple(one for one in asked.methods if one.sweep is sweep)
        who = Opponents.of(asked, sweep)
        reads = []
        for test_set in sweep.study.test_sets:
            runs = {one.name: read_method(one, test_set, asked.damaged) for one in methods}
            reads.append(_Read(sweep=sweep, test_set=test_set, methods=methods, runs=runs))
        for read in reads:
            tables += [_churn(read), _agreements(read, who)]
        if who is not None:
            tables.append(difference_table(who, {read.test_set: read.runs for read in reads}))
    found = tuple(table for table in tables if table is not None)
    return Section(title="Agreement on questions", text=TEXT, tables=found) if found else None


def churn(right: Scores) -> float:
    """Of `(seeds, questions)`, 1 or 0 each: the share of questions right in some seeds but not in all (0 to 1)."""
    share = right.mean(axis=0)
    return float(((share > 0) & (share < 1)).mean())


def agreeing(a: Scores, b: Scores) -> float:
    """The share of questions (0 to 1) that are right in both runs, or wrong in both; `(questions,)` each."""
    return float((a == b).mean())


def _right(runs: Sequence[Run], language: str) -> Scores | None:
    """(runs, questions): 1.0 where right; None where a run has no answers in the language."""
    scores = lined_up(runs, (language,), "em")
    return None if scores is None else (scores[:, :, 0] >= RIGHT).astype(np.float64)


def _churn(read: _Read) -> Table | None:
    rows, dagger = [], False
    for method in read.methods:
        cells = []
        for language in read.languages:
            runs = [run for run in read.runs[method.name].values() if language in run]
            right = _right(runs, language) if len(runs) > 1 else None
            short = len(runs) < method.planned and right is not None
            dagger |= short
            cells.append(_percent(None if right is None else churn(right), short))
        rows.append(Row(labels=(method.label,), cells=tuple(cells)))
    notes = (
        "Share of questions right in some seeds but not in all, in %. It grows with the number of seeds.",
        *([f"{DAGGER}: fewer seeds than planned."] if dagger else []),
    )
    return _by_language(read, "churn", "Seed churn", rows, notes)


def _agreements(read: _Read, who: Opponents | None) -> Table | None:
    rows = []
    for method in read.methods:
        pairs = list(combinations(read.runs[method.name].values(), 2))
        rows.append(_agreement_row(f"{method.label}: two seeds", pairs, read.languages))
    if who is not None:
        theirs = read.runs[who.reference.name]
        for method in who.others:
            ours = read.runs[method.name]
            pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
            rows.append(_agreement_row(f"{method.label} and {who.reference.label}: same seed", pairs, read.languages))
    notes = ("Share of questions that both runs get right or both get wrong, in %: the mean over pairs of runs.",)
    return _by_language(read, "agreement", "Agreement of two runs", rows, notes)


def _agreement_row(label: str, pairs: Sequence[tuple[Run, Run]], languages: Sequence[str]) -> Row:
    cells = []
    for language in languages:
        found = [right for pair in pairs if (right := _right(pair, language)) is not None]
        cells.append(_percent(float(np.mean([agreeing(a, b) for a, b in found])) if found else None))
    return Row(labels=(label,), cells=tuple(cells))


def _percent(share: float | None, short: bool = False) -> Cell:
    return Cell(text="-" if share is None else f"{100 * share:.1f}{f' {DAGGER}' if short else ''}")


def _by_language(read: _Read, name: str, title: str, rows: list[Row], notes: tuple[str, ...]) -> Table | None:
    if all(cell.text == "-" for row in rows for cell in row.cells):
        return None
    return Table(
        name=f"{name}-{read.suffix}",
        title=f"{title}, {read.test_set}, {read.sweep.layout.name}",
        stub=("method",),
        columns=read.languages,
        blocks=(tuple(rows),),
        notes=notes,
    )
