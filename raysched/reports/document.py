"""What a report is made of, before it is Markdown, HTML, LaTeX, CSV or Parquet: sections of text, tables and pictures.

Whoever has something to say returns a `Section`; whoever writes a format reads them (`reports/render/`). Pure Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from raysched.reports.stats import Summary

Mark = Literal["", "best", "second"]
DECIMALS = 2
"""Scores are printed, and compared for marks, with so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One place of a table: scores over seeds, one `Summary` per metric (such as F1 and EM), or a text.

    `planned` is the number of seeds that were asked for: a mean over fewer is daggered and is never marked.
    `source` says where the numbers come from, for `raysched verify`; what has none is not verified.
    """

    scores: tuple[Summary | None, ...] = ()
    text: str = ""
    planned: int | None = None
    mark: Mark = ""
    source: str = ""

    @property
    def short(self) -> bool:
        """Whether seeds are missing."""
        return self.planned is not None and any(one is not None and one.n < self.planned for one in self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`labels` fill the table's stub; one cell per column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`stub` are the headers of the labels. Rows are compared with each other within their block.

    `name` is the stem of its files (`scores-f1-test`), `notes` stand below it. Of a column `XQuAD\\nen` the first line
    is the heading of a group, where a format has groups. `metrics` are those of scores in cells that have no source.
    """

    name: str
    title: str
    stub: tuple[str, ...]
    columns: tuple[str, ...]
    blocks: tuple[tuple[Row, ...], ...]
    notes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for block in self.blocks:
            for row in block:
                assert (len(row.labels), len(row.cells)) == (len(self.stub), len(self.columns)), row


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One figure. `alt` says in words what it shows; `draw` makes the matplotlib figure when a format is written.

    `name` is the stem of its files. Drawing raises nothing for values that are there.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`text` are paragraphs and lists in Markdown (no tables, no HTML, no raw names that could be markup)."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


def counted(n: int, noun: str) -> str:
    """Such as `1 seed` and `4 seeds`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def ranked(table: Table) -> Table:
    """`best` and `second` in every column of scores of every block, by the first metric as it is printed.

    Equal numbers share their mark; cells with seeds missing have none, nor has one that is alone in its column.
    """
    return replace(table, blocks=tuple(_ranked(block) for block in table.blocks))


def _ranked(block: Sequence[Row]) -> tuple[Row, ...]:
    if len(block) < 2:
        return tuple(block)
    columns = [[_printed(row.cells[place]) for row in block] for place in range(len(block[0].cells))]
    marks = [_marks(values) for values in columns]
    return tuple(
        replace(
            row,
            cells=tuple(replace(cell, mark=marks[place][index]) for place, cell in enumerate(row.cells)),
        )
        for index, row in enumerate(block)
    )


def _printed(cell: Cell) -> float | None:
    first = cell.scores[0] if cell.scores else None
    return None if first is None or cell.short else round(first.mean, DECIMALS)


def _marks(values: Sequence[float | None]) -> list[Mark]:
    if sum(value is not None for value in values) < 2:  # nothing to be better than
        return [""] * len(values)
    order = sorted({value for value in values if value is not None}, reverse=True)
    names: dict[float | None, Mark] = dict(zip(order, ("best", "second"), strict=False))
    return [names.get(value, "") for value in values]
