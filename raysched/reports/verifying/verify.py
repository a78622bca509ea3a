"""`raysched verify`: every number of a LaTeX table against the sweep that its row's mark names. Reads, never writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from raysched.errors import StudyError
from raysched.reports.document import DECIMALS
from raysched.reports.methods import Method
from raysched.reports.source import AVERAGE, SOURCE_DEV, Source
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import metric_name
from raysched.reports.verifying.tex_numbers import Number, Printed, flat, printed
from raysched.reports.verifying.tex_rows import PrintedRow, rows

NONE = "-"
"""The mark of a column that comes from no sweep."""
_BOLD = re.compile(r"\\(textbf|mathbf|boldmath|bfseries|bf)(?![A-Za-z])")
_SLACK = Decimal("1e-9")
"""Half a unit of the last decimal is agreement whichever way it was rounded; a float is no exact half."""

Lookup = Callable[[str], Sweep | None]
"""The sweep of a name, as it is stored now; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something at a line of a file. `wrong`: what is printed is not what is stored; else the author should look."""

    file: str
    line: int
    what: str
    wrong: bool = True

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {'' if self.wrong else 'look: '}{self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found in one file. `n_numbers` were compared, in `n_rows` marked rows; `unmarked` are the lines of rows
    with numbers and no mark, `n_own` counts numbers in marked rows that come from no sweep."""

    file: str
    n_numbers: int
    n_rows: int
    n_own: int
    unmarked: tuple[int, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A cell with a source: what the store holds for it now."""

    row: PrintedRow
    column: int
    cell: str
    source: Source
    method: Method
    stored: tuple[Summary | None, ...]

    @property
    def name(self) -> str:
        language = {AVERAGE: "target average", SOURCE_DEV: "source dev"}.get(self.source.language, self.source.language)
        return f"column {self.column} ({self.source.sweep}, {self.method.point}, {language})"

    @property
    def n(self) -> int:
        """The fewest seeds of its scores, as tables print it."""
        return min((one.n for one in self.stored if one is not None), default=0)


@dataclass(slots=True)
class _Checked:
    """Grows while a file is read."""

    file: str
    lookup: Lookup
    n_numbers: int = 0
    n_own: int = 0
    findings: list[Finding] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)

    def say(self, row: PrintedRow, what: str, *, wrong: bool = True) -> None:
        finding = Finding(file=self.file, line=row.line, what=what, wrong=wrong)
        if finding not in self.findings:  # a sweep that is gone is gone for all cells of a row
            self.findings.append(finding)

    def row(self, row: PrintedRow) -> None:
        marks = row.marks or ()
        stub = len(row.cells) - len(marks)
        if stub < 0 or row.stub not in (None, stub):
            labels = "" if row.stub is None else f" behind {row.stub} of labels"
            what = f"holds {len(row.cells)} cells, but its mark is of {len(marks)} columns{labels}"
            self.say(row, f"{what}: take out the mark of a column that is gone, put - for a column of your own")
            return
        for place, mark in enumerate(marks):
            cell, column = row.cells[stub + place], stub + place + 1
            if mark == NONE:
                self.n_own += len(re.findall(r"\d+[.,]?\d*", flat(cell)))
            elif (source := _source(mark)) is None:
                self.say(row, f"column {column}: the mark {mark[:60]!r} names no source")
            elif isinstance(found := self._method(source), str):
                self.say(row, found)
            else:
                stored = tuple(_stored(found, source, metric) for metric in source.metrics)
                self._cell(_Place(row=row, column=column, cell=cell, source=source, method=found, stored=stored))

    def _method(self, source: Source) -> Method | str:
        """The cell that a source names, or why there is none."""
        sweep = self.lookup(source.sweep)
        if sweep is None:
            return f"its numbers are from the sweep {source.sweep!r}, which is not there"
        if sweep.state.uid != source.uid:
            return f"its numbers are from another sweep {source.sweep!r} than the one that is there now"
        numbers = {taken.cell_id: number for number, taken in sweep.state.points.items()}
        if source.cell_id not in numbers:
            return f"the sweep {source.sweep!r} has no cell {source.cell_id} any more"
        if source.test_set not in sweep.study.test_sets:
            return f"the sweep {source.sweep!r} has no test set {source.test_set!r} any more"
        return Method(name=source.cell_id, label=source.cell_id, sweep=sweep, number=numbers[source.cell_id])

    def _cell(self, place: _Place) -> None:
        try:
            found = printed(place.cell, len(place.source.metrics))
        except ValueError as error:
            self.say(place.row, f"{place.name}: {error}")
            return
        self.places.append(place)
        for metric, score, stored in zip(place.source.metrics, found.scores, place.stored, strict=True):
            self._number(place, metric, score.mean, stored.mean if stored else None)
            self._number(place, f"{metric} std", score.std, stored.std if stored else None)
            if score.mean is None and stored is not None:
                self.say(place.row, f"{place.name}, {_named(metric)}: {stored} is stored and not printed", wrong=False)
        self.n_own += len(found.differences)
        self._seeds(place, found)

    def _number(self, place: _Place, what: str, number: Number | None, stored: float | None) -> None:
        if number is None:
            return
        self.n_numbers += 1
        if stored is None or not agrees(number, stored):
            now = "nothing" if stored is None else f"{stored:.{max(DECIMALS, number.decimals)}f}"
            seeds = f"n = {place.n} of {place.method.planned} seeds"
            self.say(place.row, f"{place.name}, {_named(what)}: {number.text} printed, {now} stored ({seeds})")

    def _seeds(self, place: _Place, found: Printed) -> None:
        if found.n is not None:
            self.n_numbers += 1
            if found.n.value != place.n:
                self.say(place.row, f"{place.name}: n = {found.n.text} printed, {place.n} stored")
        elif place.n < place.method.planned and any(score.mean for score in found.scores):
            what = f"{place.name}: a mean over {place.n} of {place.method.planned} seeds, and does not say so"
            self.say(place.row, what, wrong=False)


def verify(text: str, file: str, lookup: Lookup) -> Verified:
    """Compare the tables of one file with what is stored now.

    A number agrees that is the stored one, or its print with two decimals, rounded to as many decimals as it has.
    """
    found = rows(text)
    marked = [row for row in found if row.marks is not None]
    unmarked = [row.line for row in found if row.marks is None and _holds_numbers(row)]
    checked = _Checked(file=file, lookup=lookup)
    for row in marked:
        checked.row(row)
    for place, best in _not_best(checked.places):
        checked.say(place.row, f"{place.name}: bold, but the best of its column is {best}", wrong=False)
    return Verified(
        file=file,
        n_numbers=checked.n_numbers,
        n_rows=len(marked),
        n_own=checked.n_own,
        unmarked=tuple(unmarked),
        findings=tuple(sorted(checked.findings, key=lambda one: one.line)),
    )


def refuse_unmarked(found: Sequence[Verified]) -> None:
    """Nothing was compared. Raises StudyError where no row of any file carries a mark."""
    if not any(one.n_rows for one in found):
        n = sum(len(one.unmarked) for one in found)
        raise StudyError(
            f"no row carries a mark of raysched{f', of {n} with numbers' if n else ''}",
            key=", ".join(one.file for one in found),
            hint="take the rows of tables/*.tex of `raysched report`, with the comment at the end of each",
        )


def agrees(number: Number, stored: float) -> bool:
    """Whether a number is the stored one with so many decimals, an exact half rounded either way.

    Who has a table with two decimals rounds from there: 81.249 is printed as 81.25, and then as 81.3.
    """
    half = Decimal(1).scaleb(-number.decimals) / 2 + _SLACK
    of = [Decimal(stored)]
    if number.decimals < DECIMALS:
        of.append(Decimal(f"{stored:.{DECIMALS}f}"))
    return any(abs(number.value - one) <= half for one in of)


def _source(mark: str) -> Source | None:
    try:
        return Source.parse(mark)
    except ValueError:
        return None


def _stored(method: Method, source: Source, metric: str) -> Summary | None:
    match source.language:
        case language if language == AVERAGE:
            values: Mapping[int, float] = method.averages(metric, source.test_set)
        case language if language == SOURCE_DEV:
            values = method.source_dev(metric)
        case language:
            values = method.scores(metric, language, source.test_set)
    return summarise(values.values())


def _named(what: str) -> str:
    metric, _, std = what.partition(" ")
    return f"{metric_name(metric)} {std}".strip()


def _holds_numbers(row: PrintedRow) -> bool:
    return any(re.search(r"\d\.\d", flat(cell)) for cell in row.cells)


def _not_best(places: Iterable[_Place]) -> Iterator[tuple[_Place, str]]:
    """Bold cells that others of their block and column surpass, with the best mean as it is printed."""
    columns: dict[Hashable, list[_Place]] = {}
    for place in places:
        source = place.source
        key = place.row.block, place.column, source.test_set, source.language, source.metrics
        columns.setdefault(key, []).append(place)
    for members in columns.values():
        best = max((mean for place in members if (mean := _ranked(place)) is not None), default=None)
        for place in members:
            if best is not None and _BOLD.search(place.cell) and _ranked(place) != best:
                yield place, f"{best:.{DECIMALS}f}"


def _ranked(place: _Place) -> float | None:
    """The first metric's mean as it is compared for marks; None where seeds are missing."""
    first = place.stored[0] if place.stored else None
    return None if first is None or place.n < place.method.planned else round(first.mean, DECIMALS)


def told(found: Sequence[Verified]) -> str:
    """One line for all files."""
    wrong = sum(one.wrong for each in found for one in each.findings)
    numbers, n_rows = sum(one.n_numbers for one in found), sum(one.n_rows for one in found)
    text = f"{numbers} numbers in {n_rows} marked rows compared with the store: "
    text += f"{wrong} mismatch{'es' if wrong != 1 else ''}" if wrong else "all match"
    if own := sum(one.n_own for one in found):
        text += f"; {own} numbers in them name no source"
    return text
