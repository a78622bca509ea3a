"""What the paper's tables are made of, by the paper's own words: from its published numbers, or from sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

from raysched.reports.asked import Asked
from raysched.reports.methods import Method
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.comparison import ENGLISH, METRICS, SCHEDULES, recognise
from raysched.reports.paper.numbers import AVERAGE, Cell
from raysched.reports.source import AVERAGE as OUR_AVERAGE
from raysched.reports.source import SOURCE_DEV, Source
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import metric_name
from raysched.study.model import MAIN
from raysched.study.values import metrics

ALL = 0
"""In the place of a number of training rows: the whole of a training set whose size is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One mean. `planned` seeds and a `source` are known of a sweep's numbers alone."""

    summary: Summary
    planned: int | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A test set. `metrics` are by the names that are printed; `source_is_dev` says that its source column is no test.

    `size` is the number of rows of the whole training set.
    """

    name: str
    source: str
    targets: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    size: int
    source_is_dev: bool = False

    @property
    def printed(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.metrics)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Numbers of tables, and the datasets in the order in which they stand there.

    What is printed of a language only where it is the lowest one is under `lowest_<language>`, as in the paper's own.
    """

    numbers: Mapping[Cell, Number]
    datasets: tuple[Dataset, ...]

    @cached_property
    def models(self) -> tuple[str, ...]:
        return _ordered((cell.model for cell in self.numbers), paper.MODELS)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        return _ordered((cell.method for cell in self.numbers), paper.METHODS)

    def sizes(self, dataset: Dataset) -> list[int]:
        """Numbers of training rows that are fewer than all."""
        return sorted({cell.train_size for cell in self.numbers if cell.dataset == dataset.name} - {dataset.size})

    def lowest(self, model: str, dataset: Dataset) -> str | None:
        """The target that is lowest under standard training, or else under the first method that there is."""
        for method in self.methods:
            found = [
                (number.summary.mean, language)
                for language in dataset.targets
                if (number := self.numbers.get(_whole(model, method, dataset, language)))
            ]
            if found:
                return min(found)[1]
        return None


def _whole(model: str, method: str, dataset: Dataset, language: str) -> Cell:
    return Cell(
        model=model,
        method=method,
        dataset=dataset.name,
        language=language,
        metric=dataset.printed[0],
        train_size=dataset.size,
    )


def _ordered(found: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the paper in its order, then the others as they come."""
    names = tuple(dict.fromkeys(found))
    return (*(name for name in known if name in names), *(name for name in names if name not in known))


def published() -> Feed:
    """The published numbers. A target average is the mean of its language columns, where the paper prints them all."""
    printed = paper.by_cell()
    numbers = {}
    for cell, one in printed.items():
        summary = one.summary
        if cell.language == AVERAGE:
            columns = [printed.get(replace(cell, language=language)) for language in paper.TARGETS[cell.dataset]]
            mean = summarise(column.mean for column in columns if column)
            summary = replace(summary, mean=mean.mean) if mean and all(columns) else summary
        numbers[cell] = Number(summary=summary)
    datasets = tuple(
        Dataset(
            name=name,
            source=ENGLISH,
            targets=targets,
            metrics=tuple((metric, METRICS[metric]) for metric in _metrics(printed, name)),
            size=paper.FULL_SIZE[name],
            source_is_dev=name == "XCOPA",
        )
        for name, targets in paper.TARGETS.items()
    )
    return Feed(numbers=numbers, datasets=datasets)


def _metrics(cells: Iterable[Cell], dataset: str) -> list[str]:
    found = {cell.metric for cell in cells if cell.dataset == dataset}
    return [metric for metric in METRICS if metric in found]


def from_sweeps(asked: Asked) -> Feed:
    """The methods of sweeps, under the paper's names where they are the paper's; others keep their own."""
    datasets: dict[str, Dataset] = {}
    numbers: dict[Cell, Number] = {}
    owners: dict[tuple[str, str, int], str] = {}
    for one in asked.methods:
        for test_set in one.sweep.study.test_sets:
            dataset = _dataset(one.sweep, test_set, datasets)
            size = one.sweep.study.data.train_examples or paper.FULL_SIZE.get(dataset.name, ALL)
            model, name = one.model, one.sweep.layout.name
            if owners.setdefault((model, dataset.name, size), name) != name:
                model = f"{model} ({name})"
            method = one.label if asked.by else _method(one)
            about = Cell(model=model, method=method, dataset=dataset.name, language="", metric="", train_size=size)
            numbers |= {cell: number for cell, number in _numbers(one, test_set, dataset, about) if cell not in numbers}
    return Feed(numbers=numbers, datasets=tuple(_sized(numbers, datasets.values())))


def _method(one: Method) -> str:
    """The paper's name of exactly this; an arm with a length or a k of its own is another method."""
    return "full_ft" if one.label == "standard full" else SCHEDULES.get(one.label, one.label)


def _dataset(sweep: Sweep, test_set: str, known: dict[str, Dataset]) -> Dataset:
    """The one of this name that is there already, if it has the same languages."""
    asked, source = sweep.study.test_sets[test_set], sweep.study.model.source_language
    name = recognise(asked.test)
    order = (*paper.TARGETS[name], *asked.languages) if name else asked.languages
    tested = tuple(dict.fromkeys(language for language in order if language in asked.languages and language != source))
    each = metrics(sweep.study.task)
    found = Dataset(
        name=name or _own_name(sweep, test_set),
        source=source,
        targets=tested,
        metrics=tuple((metric_name(metric), metric) for metric in each),
        size=paper.FULL_SIZE.get(name or "", ALL),
        source_is_dev=source not in asked.languages,
    )
    if known.get(found.name, found) != found:
        suffix = sweep.layout.name if test_set == MAIN else f"{sweep.layout.name} {test_set}"
        found = replace(found, name=f"{found.name} ({suffix})")
    return known.setdefault(found.name, found)


def _own_name(sweep: Sweep, test_set: str) -> str:
    """Of a test set that is none of the paper's: its name on the hub with the task, or what files it is from."""
    where = sweep.study.test_sets[test_set].test
    if where.count("/") > 1 or where.startswith(("/", ".", "~")) or PurePosixPath(where).suffix:
        return f"{sweep.layout.name} {test_set}"
    return f"{where} {sweep.study.task}"


def _sized(numbers: Iterable[Cell], datasets: Iterable[Dataset]) -> Iterator[Dataset]:
    """Of the others' datasets the largest training set that there is counts as the whole one."""
    for dataset in datasets:
        sizes = {cell.train_size for cell in numbers if cell.dataset == dataset.name}
        own = dataset.size == ALL and ALL not in sizes
        yield replace(dataset, size=max(sizes)) if own and sizes else dataset


def _numbers(one: Method, test_set: str, dataset: Dataset, about: Cell) -> Iterator[tuple[Cell, Number]]:
    """Every language, the target average, and source dev where the source language is not tested."""
    source = Source(
        sweep=one.sweep.layout.name,
        uid=one.sweep.state.uid,
        cell_id=one.sweep.state.points[one.number].cell_id,
        test_set=test_set,
        language="",
        metrics=(),
    )
    for printed, metric in dataset.metrics:
        found = {language: (language, one.scores(metric, language, test_set)) for language in dataset.targets}
        found[AVERAGE] = OUR_AVERAGE, one.averages(metric, test_set)
        if dataset.source_is_dev:
            found[dataset.source] = SOURCE_DEV, one.source_dev(metric)
        else:
            found[dataset.source] = dataset.source, one.scores(metric, dataset.source, test_set)
        for language, (place, by_seed) in found.items():
            summary = summarise(by_seed.values())
            if summary is not None:
                where = replace(source, language=place, metrics=(metric,))
                number = Number(summary=summary, planned=one.planned, source=where)
                yield replace(about, language=language, metric=printed), number
