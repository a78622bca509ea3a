from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysched.errors import DamageError, MissingError
from raysched.tasks.predictions import SCHEMA, Origin, Prediction, read, write

ORIGIN = Origin(run_id="r1", evaluation_id="e1", language="th", split="test")
SPAN = Prediction(
    example_id="b", prediction="กรุงเทพ", score=-1.5, start=3, end=10, gold=("กรุงเทพ", "x"), f1=100.0, em=100.0
)
LABEL = Prediction(
    example_id="a", prediction="choice2", score=0.1, start=None, end=None, gold=("choice1",), f1=None, em=0.0
)


@pytest.mark.parametrize("origin", [ORIGIN, dataclasses.replace(ORIGIN, evaluation_id=None, split="dev")])
def test_comes_back_sorted(tmp_path: Path, origin: Origin) -> None:
    path = tmp_path / "predictions" / "th.parquet"
    write(path, [SPAN, LABEL], origin)
    assert read(path) == (origin, [LABEL, SPAN])
    assert [file.name for file in path.parent.iterdir()] == ["th.parquet"]


def test_same_predictions_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "1", [SPAN, LABEL], ORIGIN)
    write(tmp_path / "2", iter([LABEL, SPAN]), ORIGIN)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_any_parquet_reader_sees_the_documented_columns(tmp_path: Path) -> None:
    import raysched.tasks.predictions as module

    write(tmp_path / "1", [SPAN], ORIGIN)
    table = pq.read_table(tmp_path / "1")
    assert table.schema.names == SCHEMA.names
    assert table.to_pylist()[0]["gold"] == ["กรุงเทพ", "x"]
    for name in SCHEMA.names:
        assert name in (module.__doc__ or "")


@pytest.mark.parametrize("damage", [lambda b: b[:-8], lambda b: b"", lambda b: b[: len(b) // 2]])
def test_damage_is_named(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "1"
    write(path, [SPAN], ORIGIN)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DamageError, match="not a whole Parquet file"):
        read(path)


def test_other_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"run_id": ["r"]}), tmp_path / "1")
    with pytest.raises(DamageError, match="not predictions of this version"):
        read(tmp_path / "1")
    with pytest.raises(MissingError, match="no such file"):
        read(tmp_path / "2")


def test_no_predictions_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one prediction"):
        write(tmp_path / "1", [], ORIGIN)
    assert not list(tmp_path.iterdir())
