"""Sweeps as a notebook sees them: frames, figures, tables and the report, made when they are asked for."""

from __future__ import annotations

import copy
import html
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raysched.errors import StudyError
from raysched.reports import frames
from raysched.reports.asked import MARGIN, REFERENCE, Asked
from raysched.reports.document import Picture, Section, Table
from raysched.reports.methods import methods, objective
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, metric_name
from raysched.study.model import MAIN, Study

if TYPE_CHECKING:  # they take half a second and more
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from raysched.reports.render.data import Line

R = TypeVar("R", bound="Results")


class Results:
    """One sweep or several, read at one moment: load again to see what was recorded since.

    Columns of the frames are told in `raysched.reports.frames`; every frame begins with the sweep's name. Frames are
    made once: change a copy.
    """

    def __init__(self, sweeps: Sequence[Sweep]) -> None:
        self.sweeps = tuple(sweeps)
        self._asked = Asked(sweeps=self.sweeps)
        self._damaged: list[str] = []

    def grouped(self: R, *, by: Sequence[str] = (), reference: str = REFERENCE, margin: float = MARGIN) -> R:
        """The same sweeps, compared otherwise in figures, tables and report: see `raysched report --help`.

        Raises:
            StudyError: `by` names no parameter, no sweep has the method `reference`, or the margin is not above 0.
        """
        if not 0 < margin < math.inf:
            raise StudyError(f"must be above 0, but got {margin:g}", key="margin")
        by = (by,) if isinstance(by, str) else tuple(by)
        other = copy.copy(self)
        other.__dict__.pop("sections", None)
        other._asked = Asked(sweeps=self.sweeps, by=by, reference=reference, margin=margin)
        other._asked.check_reference()
        return other

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sweep.layout.name for sweep in self.sweeps)

    def __len__(self) -> int:
        return len(self.sweeps)

    def __iter__(self) -> Iterator[SweepResults]:
        return (SweepResults([sweep]) for sweep in self.sweeps)

    def __getitem__(self, name: str) -> SweepResults:
        """One of the sweeps, by name. Raises StudyError."""
        return SweepResults([_named(dict(zip(self.names, self.sweeps, strict=True)), name, "sweep")])

    # -- frames -----------------------------------------------------------------------------------------------------

    @cached_property
    def runs(self) -> DataFrame:
        """One row per planned run: parameters, seed, status, scores, selected step, seconds, order."""
        return self._stacked(frames.run_frame)

    @cached_property
    def cells(self) -> DataFrame:
        """One row per point: seeds planned, finished and failed; mean, std (ddof 1) and n of every score."""
        return self._stacked(frames.cell_frame)

    @cached_property
    def scores(self) -> DataFrame:
        """One row per score of a finished run: test set, language, metric, score. The long form of `runs`."""
        return self._stacked(frames.score_frame)

    @cached_property
    def orders(self) -> DataFrame:
        """One row per layer that woke in a run: event, step, layer."""
        return self._stacked(frames.order_frame)

    @property
    def traces(self) -> DataFrame:
        """One row per measurement of tr(F) and layer: step, purpose, layer, trace, se, awake."""
        return self._histories[0]

    @property
    def evaluations(self) -> DataFrame:
        """One row per look at source dev while a run trained: step, best, and a column per metric."""
        return self._histories[1]

    def predictions(
        self, language: str, *, run_id: str | None = None, test_set: str = MAIN, **of: float | str
    ) -> DataFrame:
        """One row per run and test example of a language: prediction, gold answers, f1, em.

        Of all finished runs, or of those that `run_id` or columns of `runs` choose: `schedule="gu", seed=0`.

        Raises:
            StudyError: no such language, test set or column; no finished run is chosen.
            MissingError, DamageError: a file of predictions is gone, or not what was written.
        """
        known = [name for sweep in self.sweeps for name in sweep.study.test_sets]
        _one_of(test_set, known, "test_set")
        with_it = [sweep for sweep in self.sweeps if test_set in sweep.study.test_sets]
        _one_of(language, [one for sweep in with_it for one in sweep.study.test_sets[test_set].languages], "language")
        chosen = self.runs[self.runs["finished"]]
        for column, value in {**of, **({"run_id": run_id} if run_id is not None else {})}.items():
            _one_of(column, list(chosen.columns), "column")
            chosen = chosen[chosen[column] == value]
        if chosen.empty:
            raise StudyError("no finished run is of this kind", key="predictions", hint="look at .runs")
        made = partial(frames.prediction_frame, run_ids=list(chosen["run_id"]), language=language, test_set=test_set)
        return _concat([made(sweep) for sweep in with_it])

    @property
    def damaged(self) -> tuple[str, ...]:
        """What could not be read so far, and is left out."""
        return tuple(
            dict.fromkeys(
                [*(text for sweep in self.sweeps for text in sweep.damaged), *self._damaged, *self._asked.damaged]
            )
        )

    # -- what the report is made of ---------------------------------------------------------------------------------

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The report's; its statistics take a moment."""
        from raysched.reports.report import sections_of

        return tuple(sections_of(self._asked))

    @property
    def figures(self) -> Mapping[str, Callable[[], Figure]]:
        """Name -> function that draws it as a matplotlib figure, in the order of the report."""
        return {picture.name: partial(_drawn, picture) for section in self.sections for picture in section.pictures}

    def figure(self, name: str) -> Figure:
        """The figure of this name, or the first one whose name begins with it. Raises StudyError."""
        found = self.figures
        return _named(found, next((one for one in found if one == name or one.startswith(name)), name), "figure")()

    @property
    def tables(self) -> Mapping[str, DataFrame]:
        """Name -> one row per score of the table: its labels, column, metric, mean, std, n, planned, mark, text."""
        return {table.name: _long(table) for section in self.sections for table in section.tables}

    def report(self, to: Path | str | None = None) -> Path:
        """Write the report into a folder, by default a single sweep's own; the path of its page.

        `raysched report` writes the same, and logs it to MLflow as well.
        """
        from raysched.reports.report import write_report

        if to is None and len(self.sweeps) > 1:
            raise StudyError("of several sweeps needs a folder", key="report", hint='results.report("FOLDER")')
        return write_report(self._asked, Path(to) if to is not None else self.sweeps[0].layout.reports).page

    # -- shown ------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{'; '.join(map(_progress, self.sweeps))}>"

    def _repr_html_(self) -> str:
        told = "".join(f"<p><b>{html.escape(_progress(sweep))}</b></p>" for sweep in self.sweeps)
        table = self.summary().to_html(index=False, border=0, na_rep="-")
        return f"{told}{table}<p>Mean ± std (ddof 1) over n seeds. {DAGGER}: fewer than planned.</p>"

    def summary(self) -> DataFrame:
        """Each method's point, selected on source dev: n, source dev and target averages, as text."""
        from pandas import DataFrame

        rows = []
        for one in methods(self.sweeps, self._asked.by):
            metric = objective(one.sweep)
            row = {"method": one.name, "point": str(one.point), "n": f"{len(one.records)} of {one.planned}"}
            row[f"source dev {metric_name(metric)}"] = _text(summarise(one.source_dev(metric).values()), one.planned)
            for test_set in one.sweep.study.test_sets:
                average = summarise(one.averages(metric, test_set).values())
                row[f"{test_set} target average {metric_name(metric)}"] = _text(average, one.planned)
            rows.append(row)
        return DataFrame(rows)

    # -- how it is made -----------------------------------------------------------------------------------------------

    @cached_property
    def _histories(self) -> tuple[DataFrame, DataFrame]:
        damaged: list[str] = []
        found = [frames.history_frames(sweep, damaged) for sweep in self.sweeps]
        self._damaged += damaged
        for text in damaged:
            warnings.warn(f"left out: {text}", stacklevel=3)
        traces, evaluations = zip(*found, strict=True)
        return _concat(traces), _concat(evaluations)

    def _stacked(self, make: Callable[[Sweep], DataFrame]) -> DataFrame:
        return _concat([make(sweep) for sweep in self.sweeps])


class SweepResults(Results):
    """One sweep. `outcome` is how it ended, where `raysched.sweep` ran it."""

    def __init__(self, sweeps: Sequence[Sweep], *, outcome: Any = None) -> None:
        super().__init__(sweeps)
        self.outcome = outcome

    @property
    def name(self) -> str:
        return self.sweeps[0].layout.name

    @property
    def study(self) -> Study:
        return self.sweeps[0].study


def _concat(parts: Sequence[DataFrame]) -> DataFrame:
    """One below the other; a column that some do not have is missing there."""
    from pandas import concat

    filled = [part for part in parts if not part.empty]
    return concat(filled, ignore_index=True) if len(filled) > 1 else (filled or list(parts))[0]


def _drawn(picture: Picture) -> Figure:
    """The figure, which a notebook shows by itself."""
    from raysched.reports.figures import canvas

    figure = picture.draw()
    figure._repr_png_ = partial(canvas.png, figure)
    return figure  # type: ignore[no-any-return]


def _long(table: Table) -> DataFrame:
    from pandas import DataFrame

    from raysched.reports.render.data import FIELDS, lines

    def row(line: Line) -> dict[str, Any]:
        labels = {f"{name} of row" if name in FIELDS else name: label for name, label in line.labels.items()}
        return {"block": line.block, "row": line.row, **labels, **{name: getattr(line, name) for name in FIELDS}}

    return DataFrame([row(line) for line in lines(table)])


T = TypeVar("T")


def _named(found: Mapping[str, T], name: str, kind: str) -> T:
    _one_of(name, list(found), kind)
    return found[name]


def _one_of(value: str, choices: Sequence[str], kind: str) -> None:
    if value not in choices:
        raise StudyError(f"there is none named {value!r}", key=kind, choices=dict.fromkeys(choices))


def _progress(sweep: Sweep) -> str:
    planned = sum(len(taken.run_ids) for taken in sweep.state.points.values())
    finished = sum(record.status == "finished" for record in sweep.records.values())
    failed = len(sweep.records) - finished
    return f"{sweep.layout.name}: {finished} of {planned} runs finished" + (f", {failed} failed" if failed else "")


def _text(summary: Summary | None, planned: int) -> str:
    return "-" if summary is None else f"{summary}{f' {DAGGER}' if summary.n < planned else ''}"
