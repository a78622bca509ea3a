"""A sweep beside the paper: which published cells are its own, and what each comparison says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raysched.errors import StudyError
from raysched.reports import gate, paper
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import CellRow, average, cell_rows, contender, selected
from raysched.study.model import MAIN
from raysched.study.space import Point

BACKBONES: Mapping[str, str] = {
    "bert-base-multilingual-cased": "mBERT",
    "xlm-roberta-base": "XLM-R",
    "mdeberta-v3-base": "mDeBERTa",
}
"""The paper's models by the name of their repository on the hub, or of a local folder."""
DATASETS: Mapping[str, str] = {name.lower(): name for name in paper.TARGETS}
SCHEDULES: Mapping[str, str] = {**dict(zip(paper.COMPARED, paper.COMPARED, strict=True)), "reverse": "gu_rev"}
METRICS: Mapping[str, str] = {"F1": "f1", "EM": "em", "Accuracy": "accuracy"}
HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")
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
    """One published number beside ours. `ours` is None where a run has not been tested yet."""

    sweep: str
    test_set: str
    point: Point
    planned: int
    published: paper.Published
    ours: Summary | None

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
        return gate.verdict(self.published.summary, self.ours, self.gap) if self.ours else None


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
    size = sweep.study.data.train_examples or paper.FULL_SIZE[dataset]
    sizes = {cell.train_size for cell in paper.by_cell() if (cell.model, cell.dataset) == (model, dataset)}
    if size not in sizes:
        raise StudyError(
            f"{sweep.layout.name}: the paper has no {dataset} with {model} and {size} training rows",
            key="data.train_examples",
            choices=sorted(sizes),
        )
    metric = sweep.study.search.objective.partition("/")[2]
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
            yield Comparison(
                sweep=sweep.layout.name,
                test_set=test_set,
                point=row.point,
                planned=row.planned,
                published=number,
                ours=_ours(sweep, row, test_set, number.cell),
            )


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
    if cell.language == paper.AVERAGE:  # over the paper's languages, whatever else was tested
        return average(tests, paper.TARGETS[cell.dataset], metric)
    return average(tests, [cell.language.removeprefix(paper.LOWEST)], metric)


def recognise(where: str) -> str | None:
    """The paper's dataset of a hub name (owner/xquad), or of a local path (xquad.{language}.json, MLQA_V1/...)."""
    *_, name = parts = PurePath(where.lower()).parts
    if HUB.fullmatch(where):
        return DATASETS.get(name)
    first = [re.split("[._-]", part)[0] for part in reversed(parts)]
    return next((DATASETS[part] for part in first if part in DATASETS), None)


def _model(sweep: Sweep, names: Names) -> str:
    backbone = sweep.study.model.backbone
    model = names.model or BACKBONES.get(PurePath(backbone).name.lower())
    if model is None:
        raise StudyError(
            f"{sweep.layout.name}: the backbone {backbone} is none of the paper's",
            key="model.backbone",
            choices=(f"{model} ({name})" for name, model in BACKBONES.items()),
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
            choices=(f"{dataset} (owner/{name})" for name, dataset in DATASETS.items()),
            hint=f"say which one it is: --paper-dataset {test_set}=XQuAD",
        )
    return dataset
