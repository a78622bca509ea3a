"""What MLflow is told, value by value."""

from __future__ import annotations

import csv
import io
import math
import re
from statistics import stdev
from typing import Any

import pytest

from raysched.records.history import Row
from raysched.records.record import Record
from raysched.tracking import rows


def record(seed: int, status: str = "finished", tests: dict[str, Any] | None = None) -> Record:
    return Record(
        run_id=f"r{seed}", epoch=1, attempt=1, status=status, cell_id="c", params={}, seed=seed,
        attempt_folder="attempt-1-1", steps=9, source_dev={"f1": 80.0 + seed},
        tests={"e": {"en": {"f1": 90.0}, "de": {"f1": 60.0}, "th": {"f1": 10.0 * seed}}} if tests is None else tests,
    )  # fmt: skip


FISHER = {"traces": [1.0, 3.0, 8.0], "se": [0.1, 0.2, 0.3], "n_batches": 1, "n_examples": 2, "labels": "noise"}


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("metrics", {"values": {"train/loss": 1.5, "train/lr": 0.1}}, {"train/loss": 1.5, "train/lr": 0.1}),
        (
            "evaluated",
            {"language": "en", "scores": {"f1": 1.0, "em": 2.0}, "best": True},
            {"val/f1": 1.0, "val/em": 2.0},
        ),
        ("unfroze", {"event": 0, "layers": [], "awake": []}, {"unfrozen_layers": 0.0}),
        ("unfroze", {"event": 2, "layers": [4], "awake": [4, 11]}, {"unfrozen_layers": 2.0}),
        (
            "fisher",
            {**FISHER, "purpose": "log", "awake": [1, 2]},
            {"fisher/layer_00": 1.0, "fisher/layer_01": 3.0, "fisher/layer_02": 8.0, "fisher/mean": 5.5},
        ),
        (
            "fisher",
            {**FISHER, "purpose": "select", "awake": []},
            {"fisher_select/layer_00": 1.0, "fisher_select/layer_01": 3.0, "fisher_select/layer_02": 8.0},
        ),
        ("tested", {"evaluation_id": "e", "language": "de", "scores": {"f1": 1.0}}, {}),
        ("note", {"text": "a"}, {}),
    ],
)
def test_metrics_of_a_row(kind: str, data: dict[str, Any], expected: dict[str, float]) -> None:
    scalars = rows.scalars(Row(kind=kind, step=7, time_ms=5, data=data))
    assert {item.key: item.value for item in scalars} == expected
    assert {(item.step, item.time_ms) for item in scalars} <= {(7, 5)}


def test_the_average_is_over_targets_only() -> None:
    scores = rows.final_scores(record(2), {"test": "e"}, "en")
    assert scores == {"test/en/f1": 90.0, "test/de/f1": 60.0, "test/th/f1": 20.0, "test/average/f1": 40.0}


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ({}, {}),
        ({"e": {"en": {"f1": 1.0}}}, {"test/en/f1": 1.0}),
        ({"old": {"de": {"f1": 2.0}}}, {}),
    ],
)
def test_evaluations_that_are_not_there(tests: dict[str, Any], expected: dict[str, float]) -> None:
    assert rows.final_scores(record(0, tests=tests), {"test": "e"}, "en") == expected
    assert rows.final_scores(record(0, tests={"a": {}, "b": {}}), {"test": "e"}, "en") == {}


def test_other_test_sets_have_their_name_in_the_metric() -> None:
    tests = {"e": {"en": {"accuracy": 90.0}}, "m": {"en": {"accuracy": 80.0}, "de": {"accuracy": 50.0}}}
    ids = {"test": "e", "mlqa": "m", "late": "not yet"}
    assert rows.final_scores(record(0, tests=tests), ids, "en") == {
        "test/en/accuracy": 90.0,
        "test/mlqa/en/accuracy": 80.0,
        "test/mlqa/de/accuracy": 50.0,
        "test/mlqa/average/accuracy": 50.0,
    }
    scalars = rows.final_scalars(record(0, tests=tests), ids, "en")
    assert {"val/selected/f1", "test/mlqa/average/accuracy"} < {item.key for item in scalars}


def test_a_cells_mean_waits_until_every_seed_is_tested() -> None:
    """A test set that came later is in the records one by one; the ids differ from run to run."""
    tests = {"e": {"de": {"f1": 60.0}}, "m0": {"de": {"f1": 50.0}}, "m1": {"de": {"f1": 52.0}}}
    records = [record(seed, tests={key: tests[key] for key in ("e", f"m{seed}")}) for seed in (0, 1)]
    ids = [{"test": "e", "mlqa": f"m{seed}"} for seed in (0, 1)]
    values = {item.key: item.value for item in rows.cell_scalars(records, ids, 2, "en", 5)}
    assert (values["mean/test/mlqa/average/f1"], values["std/test/mlqa/de/f1"]) == (51.0, stdev([50, 52]))
    records[1] = record(1, tests={"e": tests["e"]})
    values = {item.key: item.value for item in rows.cell_scalars(records, ids, 2, "en", 5)}
    assert values["mean/test/de/f1"] == 60.0
    assert not [key for key in values if "mlqa" in key]


def test_a_whole_cell_has_mean_std_and_n() -> None:
    records = [record(seed) for seed in range(4)]
    values = {item.key: item.value for item in rows.cell_scalars(records, [{"test": "e"}] * 4, 4, "en", 5)}
    assert values["mean/val/f1"] == 81.5
    assert values["std/val/f1"] == stdev([80, 81, 82, 83])
    assert values["mean/test/average/f1"] == 37.5
    assert (values["n_seeds"], values["n_failed"]) == (4, 0)


def test_one_seed_has_no_std() -> None:
    values = {item.key for item in rows.cell_scalars([record(0)], [{"test": "e"}], 1, "en", 5)}
    assert "mean/val/f1" in values
    assert not [key for key in values if key.startswith("std")]


@pytest.mark.parametrize("records", [[record(0)], [record(0), record(1, "diverged")]])
def test_a_short_cell_has_no_mean(records: list[Record]) -> None:
    values = {item.key: item.value for item in rows.cell_scalars(records, [{"test": "e"}] * len(records), 2, "en", 5)}
    assert values == {"n_seeds": 1.0, "n_failed": float(len(records) - 1)}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:canary@host:5000/x", "http://***@host:5000/x"),
        ("no postgresql://canary@h and sqlite:///a", "no postgresql://***@h and sqlite:///a"),
        ("https://h/?x=1&access_token=canary&y=2", "https://h/?x=1&access_token=***&y=2"),
        ('{"a": "http://h?API_KEY=canary"}', '{"a": "http://h?API_KEY=***"}'),
        ("mail me@host", "mail me@host"),
    ],
)
def test_masking(text: str, shown: str) -> None:
    assert rows.mask(text) == shown


def test_flatten() -> None:
    value = {"a": {"b": 1, "c": [1, 2], "d": None, "e": {}}, "f": "x" * 600, "g": 1e-4, "h": True}
    flat = rows.flatten(value)
    assert flat == {"a.b": "1", "a.c": "[1,2]", "f": "x" * 499 + "…", "g": "0.0001", "h": "true"}


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"lr": 1e-3, "k": 20, "schedule": "gu"}, "gu lr=0.001 k=20"),
        ({"schedule": "standard", "lr": 5e-5}, "standard lr=5e-05"),
    ],
)
def test_point_names(params: dict[str, Any], name: str) -> None:
    assert rows.point_name(params) == name


def test_the_unfreeze_order_as_text() -> None:
    assert rows.unfreeze_text(((0, (11,)), (20, ()), (40, (10, 9)))) == "0:11 40:10,9"
    assert len(rows.unfreeze_text((step, (1,)) for step in range(1000))) == rows.MAX_TEXT


def test_the_fisher_table_reads_back_exactly() -> None:
    data = {**FISHER, "traces": [0.1 + 0.2, math.inf, 1.0], "purpose": "log", "awake": [2]}
    measured = [
        Row(kind="fisher", step=3, time_ms=1, data=data),
        Row(kind="note", step=3, time_ms=1, data={"text": "a"}),
    ]
    table = list(csv.DictReader(io.StringIO(rows.fisher_csv(measured))))
    assert [float(line["trace"]) for line in table] == data["traces"]
    assert [(line["step"], line["layer"], line["awake"]) for line in table] == [
        ("3", "0", "0"),
        ("3", "1", "0"),
        ("3", "2", "1"),
    ]
    without = Row(kind="fisher", step=3, time_ms=1, data={**data, "se": None})
    assert re.search(r"^3,log,0,[^,]+,,0,noise,1,2,,$", rows.fisher_csv([without]), re.MULTILINE)
