"""Tables as data: one line per score, in CSV for each table and in one Parquet file for all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysched.records.files import write_atomic
from raysched.reports.document import Cell, Row, Table
from raysched.reports.source import Source

FIELDS = ("column", "metric", "mean", "std", "n", "planned", "mark", "text", "source")
"""Of a line, behind those that name its row. What is not known is empty, in Parquet null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One score, or one text, of a table. `mean` and `std` (ddof 1) as the table holds them, not as it prints them."""

    table: str
    block: int
    row: int
    labels: dict[str, str]
    column: str
    metric: str
    mean: float | None
    std: float | None
    n: int | None
    planned: int | None
    mark: str
    text: str
    source: str


def lines(table: Table) -> Iterator[Line]:
    """Cell by cell; rows are counted through the blocks. A missing score is a line too, a mark is of the first one."""
    numbered = [(at, row) for at, block in enumerate(table.blocks) for row in block]
    for number, (block, row) in enumerate(numbered):
        for column, cell in zip(table.columns, row.cells, strict=True):
            yield from _lines(table, block, number, row, column, cell)


def _lines(table: Table, block: int, number: int, row: Row, column: str, cell: Cell) -> Iterator[Line]:
    metrics = Source.parse(cell.source).metrics if cell.source else table.metrics if cell.scores else ()
    for place, score in enumerate(cell.scores or (None,)):
        yield Line(
            table=table.name,
            block=block,
            row=number,
            labels=dict(zip(table.stub, row.labels, strict=True)),
            column=" ".join(column.split()),
            metric=metrics[place] if place < len(metrics) else "",
            mean=score.mean if score else None,
            std=score.std if score else None,
            n=score.n if score else None,
            planned=cell.planned,
            mark=cell.mark if place == 0 else "",
            text=cell.text,
            source=cell.source,
        )


def csv_text(table: Table) -> str:
    """A header and the lines of one table, its stub in columns of their own. Floats read back exactly."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    stub = [f"{name} of row" if name in FIELDS else name for name in table.stub]
    writer.writerow(["block", "row", *stub, *FIELDS])
    for line in lines(table):
        writer.writerow([line.block, line.row, *line.labels.values(), *(getattr(line, name) for name in FIELDS)])
    return out.getvalue()


def write_parquet(tables: Sequence[Table], path: Path) -> None:
    """All lines of all tables; `labels` is a JSON object, for stubs differ. Written beside, then renamed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, score = pa.string(), pa.int64(), pa.float64()
    kinds = {"mean": score, "std": score, "block": number, "row": number, "n": number, "planned": number}
    names = ("table", "block", "row", "labels", *FIELDS)
    found = [
        {name: getattr(line, name) for name in names} | {"labels": json.dumps(line.labels, ensure_ascii=False)}
        for line in _all(tables)
    ]
    schema = pa.schema([(name, kinds.get(name, text)) for name in names])
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(found, schema=schema), out)
    write_atomic(path, out.getvalue().to_pybytes())


def _all(tables: Iterable[Table]) -> Iterator[Line]:
    for table in tables:
        yield from lines(table)
