"""A sweep beside the paper: which published cells are its own, and what each comparison says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raysched.errors import StudyError
from raysched.reports.methods import MODELS
from raysched.reports.paper import gate
from raysched.reports.paper import numbers as paper
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import CellRow, average, cell_rows, contender, selected
from raysched.study.model import MAIN
from raysched.study.space import Point

DATASETS: Mapping[str, str] = {
    "facebook/mlqa": "MLQA",
    "google/xquad": "XQuAD",
    "cambridgeltl/xcopa": "XCOPA",
    "facebook/xnli": "XNLI",
}
"""The paper's test sets by their names on the hub."""
FILES: Mapping[str, str] = {
    r"test-context-{language}-question-{language}\.json": "MLQA",
    r"xquad\.{language}\.json": "XQuAD",
    r"xcopa/(data/)?{language}/test\.{language}\.jsonl": "XCOPA",
    r"xnli(-1\.0)?/test-{language}\.tsv": "XNLI",
}
"""How their files are named where they are published; a name that others use too, with the folders it lies in."""
SCHEDULES: Mapping[str, str] = {**dict(zip(paper.COMPARED, paper.COMPARED, strict=True)), "reverse": "gu_rev"}
METRICS: Mapping[str, str] = {"F1": "f1", "EM": "em", "Accuracy": "accuracy"}
ENGLISH = "en"
"""The source language of every run in the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the user says about names that are not recognised: the model, and the dataset of each test set."""

    model: str | None = None
    datasets: Mapping[str, str]

    @classmethod
    def read(cls, model: str | None, datasets: list[str]) -> Names:
        """`datasets` are `XQuAD`, of the main test set, or `mlqa=MLQA`. Raises StudyError for any but the paper's."""
        pairs = [text.rpartition("=") for text in datasets]
        named = {test_set or MAIN: dataset for test_set, _, dataset in pairs}
        for dataset in named.values():
            _check(dataset, paper.TARGETS, "--paper-dataset")
        if model is not None:
            _check(model, paper.MODELS, "--paper-model")
        return cls(model=model, datasets=named)


def _check(name: str, choices: Collection[str], option: str) -> None:
    if name not in choices:
        raise StudyError(f"must be one of the paper's, but got {name!r}", key=option, choices=choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One published number beside ours. `ours` is None where a run has not been tested yet, or never will be.

    `asked` says whether the study tests what it takes; `partial` is the number of rows that were scored in the
    language with fewest, where it is less than published: then nothing is said about the number.
    """

    sweep: str
    test_set: str
    point: Point
    planned: int
    published: paper.Published
    ours: Summary | None
    asked: bool
    partial: int | None

    @property
    def difference(self) -> float | None:
        return self.ours.mean - self.published.mean if self.ours else None

    @property
    def band(self) -> float | None:
        return gate.band(self.published.summary, self.ours) if self.ours else None

    @property
    def gap(self) -> float | None:
        return paper.gap(self.published.cell)

    @property
    def verdict(self) -> gate.Verdict | None:
        if self.ours is None or self.partial is not None:
            return None
        return gate.verdict(self.published.summary, self.ours, self.gap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All that several sweeps have beside the paper; `left_out` says what they have that the paper has not."""

    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]


def compare(sweeps: Sequence[Sweep], names: Names) -> Compared:
    """Every published cell of the sweeps' models, datasets, methods and numbers of training rows.

    Per method it is the point that source dev selects. Raises StudyError where nothing is the paper's.
    """
    comparisons: list[Comparison] = []
    problems: list[StudyError] = []
    left_out: list[str] = []
    for sweep in sweeps:
        for test_set in sweep.study.test_sets:
            try:
                comparisons += _compare(sweep, test_set, names, left_out)
            except StudyError as error:
                problems.append(error)
    if not comparisons:
        if problems:
            raise problems[0]
        raise StudyError(
            f"no point has a row in the paper: {'; '.join(left_out) or 'no point was taken yet'}",
            key="--against",
            choices=(*SCHEDULES, "method full with schedule standard"),
            hint="search one of these schedules",
        )
    return Compared(comparisons=tuple(comparisons), left_out=(*left_out, *(error.what for error in problems)))


def _compare(sweep: Sweep, test_set: str, names: Names, left_out: list[str]) -> Iterator[Comparison]:
    model, dataset = _model(sweep, names), _dataset(sweep, test_set, names)
    if test_set not in names.datasets:
        _check_training_data(sweep, dataset, test_set)
    size = sweep.study.data.train_examples or paper.FULL_SIZE[dataset]
    sizes = {cell.train_size for cell in paper.by_cell() if (cell.model, cell.dataset) == (model, dataset)}
    if size not in sizes:
        raise StudyError(
            f"{sweep.layout.name}: the paper has no {dataset} with {model} and {size} training rows",
            key="data.train_examples",
            choices=sorted(sizes),
        )
    metric, rows = sweep.study.search.objective.partition("/")[2], _rows(sweep, dataset, test_set)
    for row in selected(cell_rows(sweep, metric, test_set)):
        method = _method(row.point)
        found = [
            number
            for cell, number in paper.by_cell().items()
            if (cell.model, cell.dataset, cell.method, cell.train_size) == (model, dataset, method, size)
        ]
        if not found:
            left_out.append(f"{sweep.layout.name}: {contender(row.point)} on {dataset}")
        for number in found:
            languages = _languages(number.cell)
            yield Comparison(
                sweep=sweep.layout.name,
                test_set=test_set,
                point=row.point,
                planned=row.planned,
                published=number,
                ours=_ours(sweep, row, test_set, number.cell),
                asked=all(language in rows for language in languages),
                partial=_fewest(rows, dataset, languages),
            )


def _check_training_data(sweep: Sweep, dataset: str, test_set: str) -> None:
    """Nobody knows how many rows of the paper's somebody's own data hold: only its own name stands for it."""
    train, wanted = sweep.study.data.train, paper.TRAINED_ON[dataset]
    if train != wanted:
        raise StudyError(
            f"{sweep.layout.name}: the paper trains on {wanted} for {dataset}, this sweep on {train}",
            key="data.train",
            choices=(wanted, f"{wanted} with data.folder, for published files that lie here"),
            hint=f"where it is the same data, say so: --paper-dataset {test_set}={dataset}",
        )


def _rows(sweep: Sweep, dataset: str, test_set: str) -> dict[str, int | None]:
    """Language -> rows that it is scored on, None where that is not known yet; languages of the study alone."""
    limits, counted = sweep.study.evaluation, sweep.n_tested(test_set)
    rows = {
        language: min((n for n in (counted.get(language), limits.test_limit) if n is not None), default=None)
        for language in sweep.study.test_sets[test_set].languages
    }
    return {**rows, ENGLISH: limits.dev_limit} if dataset == "XCOPA" else rows


def _languages(cell: paper.Cell) -> tuple[str, ...]:
    """Those that a published number is of."""
    if cell.language == paper.AVERAGE:
        return paper.TARGETS[cell.dataset]
    return (cell.language.removeprefix(paper.LOWEST),)


def _fewest(rows: Mapping[str, int | None], dataset: str, languages: Sequence[str]) -> int | None:
    """The smallest number of rows that is less than published; None where all are scored, as far as is known."""
    known = ((language, rows.get(language)) for language in languages)
    few = (n for language, n in known if n is not None and n < paper.TEST_ROWS[dataset][language])
    return min(few, default=None)


def _method(point: Point) -> str | None:
    """The paper's name of what a point trains; None where the paper has no such rows."""
    if point.method == "full":
        return "full_ft" if point.schedule == "standard" else None
    return SCHEDULES.get(point.schedule)


def _ours(sweep: Sweep, row: CellRow, test_set: str, cell: paper.Cell) -> Summary | None:
    finished = [record for record in sweep.cell(row.number) if record.status == "finished"]
    metric = METRICS[cell.metric]
    if (cell.dataset, cell.language) == ("XCOPA", ENGLISH):  # printed is the validation set; XCOPA has no English
        return summarise(record.source_dev[metric] for record in finished if metric in record.source_dev)
    tests = [sweep.tests(record, test_set) for record in finished]
    return average(tests, _languages(cell), metric)  # over the paper's languages, whatever else was tested


def recognise(where: str) -> str | None:
    """The paper's dataset that a hub name stands for, or a local file that is named, or lies, as it was published."""
    if where in DATASETS:
        return DATASETS[where]
    patterns = {rf"(.*/)?{name.replace('{language}', re.escape('{language}'))}(\.gz)?": name for name in FILES}
    path = PurePath(where).as_posix().lower()
    return next((FILES[name] for pattern, name in patterns.items() if re.fullmatch(pattern, path)), None)


def _model(sweep: Sweep, names: Names) -> str:
    backbone = sweep.study.model.backbone
    model = names.model or MODELS.get(PurePath(backbone).name.lower())
    if model is None:
        raise StudyError(
            f"{sweep.layout.name}: the backbone {backbone} is none of the paper's",
            key="model.backbone",
            choices=(f"{model} ({name})" for name, model in MODELS.items()),
            hint="say which one it is: --paper-model XLM-R",
        )
    if sweep.study.model.source_language != ENGLISH:
        raise StudyError(
            f"{sweep.layout.name}: the paper trains on {ENGLISH}, this sweep on {sweep.study.model.source_language}",
            key="model.source_language",
            choices=(ENGLISH,),
        )
    return model


def _dataset(sweep: Sweep, test_set: str, names: Names) -> str:
    where = sweep.study.test_sets[test_set].test
    dataset = names.datasets.get(test_set) or recognise(where)
    if dataset is None:
        raise StudyError(
            f"{sweep.layout.name}: the test set {test_set} ({where}) is none of the paper's",
            key="data.test" if test_set == MAIN else f"evaluation.also.{test_set}.test",
            choices=(f"{dataset} ({name})" for name, dataset in DATASETS.items()),
            hint=f"say which one it is: --paper-dataset {test_set}=XQuAD",
        )
    return dataset
