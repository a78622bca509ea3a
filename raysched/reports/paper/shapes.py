"""The tables of the paper, in its shapes: Tables 1 and 12, 2, 7, 8 to 10, 11, 13 to 15; of any numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Section, Table, ranked
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.feeds import Dataset, Feed, Number, from_sweeps, published
from raysched.reports.paper.numbers import AVERAGE
from raysched.reports.tables import DAGGER

LOWEST = "lowest"
"""In the place of a language: the one that is lowest under standard training, of each model."""
NAMES = {"gu_rev": "gu (reverse)", "full_ft": "full fine-tuning"}
APART = ("gu_rev", "full_ft")
"""Methods that have a table of their own."""
HEADERS = {AVERAGE: "average", LOWEST: "lowest"}
PUBLISHED = "Published: means over 4 runs (XCOPA 5, reverse GU 2), with the standard deviation where it was printed."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """`language` may be `AVERAGE` or `LOWEST`; `metrics` are those that a cell holds."""

    name: str
    dataset: Dataset
    language: str
    size: int
    metrics: tuple[str, ...]


def shapes(asked: Asked) -> Section | None:
    """The paper's tables of what the sweeps have: those of its shapes that any number is for."""
    tables = _tables(from_sweeps(asked), prefix="shape", per_model=False)
    if not tables:
        return None
    short = any(cell.short for table in tables for block in table.blocks for row in block for cell in row.cells)
    over = "Mean and standard deviation (ddof 1) over seeds, at the point that source dev selects; zero-shot."
    notes = (over, f"{DAGGER}: fewer seeds than planned, with their n; never bold or underlined.") if short else (over,)
    return Section(
        title="In the shapes of the paper's tables",
        text=("The numbers of the tables above, in the order and the shape in which the paper prints its own.",),
        tables=tuple(replace(table, notes=(*notes, *table.notes)) for table in tables),
    )


def published_tables() -> tuple[Table, ...]:
    """The paper's own tables, rebuilt; target averages from their language columns, where they are printed."""
    tables = _tables(published(), prefix="published", per_model=True)
    return tuple(replace(table, notes=(PUBLISHED, *table.notes)) for table in tables)


def _tables(feed: Feed, *, prefix: str, per_model: bool) -> list[Table]:
    """`per_model`: mDeBERTa has its language tables by itself, and the small sizes stand twice, as in the paper."""
    methods = [method for method in feed.methods if method not in APART]
    apart = [model for model in feed.models if per_model and model == "mDeBERTa"]
    others = [model for model in feed.models if model not in apart]
    found = [
        *([_reduced(feed, prefix, ["standard", "gu"], 1)] if per_model else []),
        _overview(feed, prefix, others, methods),
        _averages(feed, prefix),
        *_languages(feed, prefix, others, methods, 8),
        _reverse(feed, prefix),
        _reduced(feed, prefix, methods, 12 if per_model else 1),
        *_languages(feed, prefix, apart, methods, 13),
    ]
    return [ranked(table) for table in found if table is not None]


def _reduced(feed: Feed, prefix: str, methods: Sequence[str], number: int) -> Table | None:
    """Tables 1 and 12: target averages by the number of training rows."""
    columns = [
        _Column(
            name=f"{dataset.name}, {dataset.printed[0]}\n{size}",
            dataset=dataset,
            language=AVERAGE,
            size=size,
            metrics=dataset.printed[:1],
        )
        for dataset in feed.datasets
        for size in feed.sizes(dataset)
    ]
    title = "Target averages with fewer training rows (the shape of the paper's Tables 1 and 12)"
    return _table(feed, f"{prefix}-table-{number}", title, feed.models, methods, columns)


def _overview(feed: Feed, prefix: str, models: Sequence[str], methods: Sequence[str]) -> Table | None:
    """Table 2: source language, lowest target and target average of every dataset."""
    columns = [
        _column(dataset, language, group=True)
        for dataset in feed.datasets
        for language in (dataset.source, LOWEST, AVERAGE)
    ]
    title = "Source language, lowest target and target average (the shape of the paper's Table 2)"
    return _table(feed, f"{prefix}-table-2", title, models, methods, columns)


def _averages(feed: Feed, prefix: str) -> Table | None:
    """Table 7: target averages of full fine-tuning."""
    columns = [
        _column(dataset, AVERAGE, name=f"{dataset.name}, {dataset.printed[0]}", metrics=1) for dataset in feed.datasets
    ]
    title = "Target averages of full fine-tuning (the shape of the paper's Table 7)"
    return _table(feed, f"{prefix}-table-7", title, feed.models, ["full_ft"], columns)


def _languages(
    feed: Feed, prefix: str, models: Sequence[str], methods: Sequence[str], first: int
) -> Iterator[Table | None]:
    """Tables 8 to 10, or 13 to 15: every language of one dataset."""
    for dataset in feed.datasets:
        # Questions first, then XCOPA, then XNLI; a dataset of another name is where its task is.
        number = first + (len(dataset.metrics) == 1) + (dataset.name == "XNLI" or dataset.name.endswith(" nli"))
        columns = [_column(dataset, language) for language in (dataset.source, *dataset.targets, AVERAGE)]
        title = f"{dataset.name}, {' / '.join(dataset.printed)}, by language (the shape of the paper's Table {number})"
        stem = "".join(letter if letter.isalnum() else "-" for letter in dataset.name.lower()).strip("-")
        yield _table(feed, f"{prefix}-table-{number}-{stem}", title, models, methods, columns)


def _reverse(feed: Feed, prefix: str) -> Table | None:
    """Table 11: gradual unfreezing from the top, and from the bottom."""
    if "gu_rev" not in feed.methods:
        return None
    tested = {cell.dataset for cell in feed.numbers if cell.method == "gu_rev"}
    columns = [
        _column(dataset, language, group=True, metrics=1)
        for dataset in feed.datasets
        if dataset.name in tested
        for language in (dataset.source, AVERAGE)
    ]
    models = [model for model in feed.models if any((c.model, c.method) == (model, "gu_rev") for c in feed.numbers)]
    title = "Gradual unfreezing against its reverse (the shape of the paper's Table 11)"
    return _table(feed, f"{prefix}-table-11", title, models, ["gu", "gu_rev"], columns)


def _column(dataset: Dataset, language: str, *, group: bool = False, name: str = "", metrics: int = 2) -> _Column:
    """`group` puts it below a heading of its dataset."""
    printed = dataset.printed[:metrics]
    header = name or HEADERS.get(language, language)
    return _Column(
        name=f"{dataset.name}, {' / '.join(printed)}\n{header}" if group else header,
        dataset=dataset,
        language=language,
        size=dataset.size,
        metrics=printed,
    )


def _table(
    feed: Feed, name: str, title: str, models: Sequence[str], methods: Sequence[str], columns: Sequence[_Column]
) -> Table | None:
    """A block per model, a row per method; rows, columns, metrics without a number are left out. None for none."""
    pairs = [(model, method) for model in models for method in methods]
    shown = [column for column in (_narrowed(feed, column, pairs) for column in columns) if column.metrics]
    grid = {pair: tuple(_cell(feed, *pair, column) for column in shown) for pair in pairs}
    there = [pair for pair in pairs if any(score is not None for cell in grid[pair] for score in cell.scores)]
    blocks = [
        tuple(Row(labels=(model, NAMES.get(pair[1], pair[1])), cells=grid[pair]) for pair in there if pair[0] == model)
        for model in models
    ]
    if not there:
        return None
    return Table(
        name=name,
        title=title,
        stub=("model", "method"),
        columns=tuple(column.name for column in shown),
        blocks=tuple(block for block in blocks if block),
        notes=tuple(_notes(shown, ranks=any(len(block) > 1 for block in blocks))),
    )


def _narrowed(feed: Feed, column: _Column, pairs: Sequence[tuple[str, str]]) -> _Column:
    """With the metrics alone that any row has: the paper prints EM of some columns only."""
    found = {metric for pair in pairs for metric in column.metrics if _number(feed, *pair, column, metric)}
    return replace(column, metrics=tuple(metric for metric in column.metrics if metric in found))


def _language(feed: Feed, model: str, column: _Column) -> str:
    return feed.lowest(model, column.dataset) or "" if column.language == LOWEST else column.language


def _number(feed: Feed, model: str, method: str, column: _Column, metric: str) -> Number | None:
    language = _language(feed, model, column)
    about = paper.Cell(
        model=model,
        method=method,
        dataset=column.dataset.name,
        language=language,
        metric=metric,
        train_size=column.size,
    )
    found = feed.numbers.get(about)
    if found is None and column.language == LOWEST:
        found = feed.numbers.get(replace(about, language=f"{paper.LOWEST}{language}"))
    return found


def _cell(feed: Feed, model: str, method: str, column: _Column) -> Cell:
    found = [_number(feed, model, method, column, metric) for metric in column.metrics]
    there = [number for number in found if number is not None]
    return Cell(
        scores=tuple(number.summary if number else None for number in found),
        text=_language(feed, model, column) if column.language == LOWEST and there else "",
        planned=there[0].planned if there else None,
        source=_source(there, column),
    )


def _source(there: Sequence[Number], column: _Column) -> str:
    """Of all metrics of the cell, in the order of its scores."""
    first = there[0].source if there else None
    raw = dict(column.dataset.metrics)
    return str(replace(first, metrics=tuple(raw[metric] for metric in column.metrics))) if first else ""


def _notes(columns: Sequence[_Column], *, ranks: bool) -> Iterator[str]:
    """Only what this table needs."""
    datasets = {column.dataset.name: column.dataset for column in columns}
    if any(column.language == AVERAGE for column in columns):
        averaged = "; ".join(f"{dataset.name}: {', '.join(dataset.targets)}" for dataset in datasets.values())
        yield f"Averages are over the target languages ({averaged})."
    if any(column.language == LOWEST for column in columns):
        yield "Lowest: the target that is lowest under standard training, whatever the method."
    dev = [
        f"{column.dataset.name} {column.language}"
        for column in columns
        if column.dataset.source_is_dev and column.language == column.dataset.source
    ]
    if dev:
        yield f"{', '.join(dev)}: the validation split, which also selects checkpoints; there is no test set of it."
    if ranks:
        first = ", by the first metric" if any(len(column.metrics) > 1 for column in columns) else ""
        yield f"Bold and underlined: best and second of a model's column{first}."
