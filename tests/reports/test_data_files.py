"""Tables as CSV and Parquet: every score once, and to its last bit."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Table
from raysched.reports.render.data import csv_text, lines, write_parquet
from raysched.reports.scores import scores
from raysched.reports.source import Source
from raysched.reports.stats import Summary
from raysched.reports.sweep import read_sweep

SOURCE = str(Source(sweep="s", uid="u", cell_id="c", test_set="test", language="th", metrics=("f1", "em")))
ODD = Summary(mean=0.1 + 0.2, std=math.pi * 1e-7, n=3)
TABLE = Table(
    name="some",
    title="Some",
    stub=("model", "n"),
    columns=("XQuAD\nlowest", "note"),
    blocks=(
        (
            Row(
                labels=("mini", "gu, or\n\"x\""),
                cells=(
                    Cell(scores=(ODD, None), text="th", planned=4, mark="best", source=SOURCE),
                    Cell(text="€, \"quoted\""),
                ),
            ),
        ),
        (Row(labels=("big", "fun"), cells=(Cell(scores=(Summary(mean=1.0, std=None, n=4),)), Cell())),),
    ),
)  # fmt: skip


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_per_score() -> None:
    assert [
        (one.block, one.row, one.column, one.metric, one.mean, one.n, one.mark, one.text) for one in lines(TABLE)
    ] == [
        (0, 0, "XQuAD lowest", "f1", ODD.mean, 3, "best", "th"),
        (0, 0, "XQuAD lowest", "em", None, None, "", "th"),
        (0, 0, "note", "", None, None, "", '€, "quoted"'),
        (1, 1, "XQuAD lowest", "", 1.0, 4, "", ""),
        (1, 1, "note", "", None, None, "", ""),
    ]


def test_scores_without_a_source_have_the_metrics_of_their_table() -> None:
    found = [(one.column, one.metric, one.mean) for one in lines(replace(TABLE, metrics=("accuracy",)))]
    assert found[1] == ("XQuAD lowest", "em", None)  # its source says so
    assert found[3:] == [("XQuAD lowest", "accuracy", 1.0), ("note", "", None)]


def test_csv_reads_back_exactly() -> None:
    found = read(csv_text(TABLE))
    assert list(found[0]) == [
        "block", "row", "model", "n of row",
        "column", "metric", "mean", "std", "n", "planned", "mark", "text", "source",
    ]  # fmt: skip
    first, _, note, one, _ = found
    assert (float(first["mean"]), float(first["std"]), int(first["n"])) == (ODD.mean, ODD.std, 3)
    assert (first["n of row"], first["planned"], first["source"]) == ('gu, or\n"x"', "4", SOURCE)
    assert note["text"] == '€, "quoted"'
    assert (one["mean"], one["std"], one["planned"]) == ("1.0", "", "")


def test_parquet_holds_all_tables_exactly(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_parquet([TABLE, TABLE], path)
    found = pq.read_table(path).to_pylist()
    assert len(found) == 10
    assert (found[0]["mean"], found[0]["std"]) == (ODD.mean, ODD.std)
    assert found[1]["mean"] is None
    assert json.loads(found[0]["labels"]) == {"model": "mini", "n": 'gu, or\n"x"'}
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_no_table_is_an_empty_file_of_the_same_columns(tmp_path: Path) -> None:
    write_parquet([TABLE], tmp_path / "one.parquet")
    write_parquet([], tmp_path / "none.parquet")
    one, none = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "none"))
    assert none.num_rows == 0
    assert one.schema == none.schema


def test_a_sweep_to_the_last_bit(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    sweep.all()
    (table,) = scores(Asked(sweeps=(read_sweep(sweep.layout),))).tables
    found = read(csv_text(table))
    expected = [score for block in table.blocks for row in block for cell in row.cells for score in cell.scores]
    scored = [line for line in found if line["metric"]]
    assert [float(line["mean"]) for line in scored] == [score.mean for score in expected if score]
    assert [line["std"] for line in scored] == [str(score.std) for score in expected if score]
    assert {line["method"] for line in found} == {"standard", "gu", "lpft"}
    assert [line["text"] for line in found if line["column"] == "n"] == ["2", "2", "2"]
