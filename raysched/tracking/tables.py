"""Tables as MLflow's page previews them: JSON with columns and rows, and a tag that names the files. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raysched.records.record import Record
from raysched.study.model import MAIN

LOGGED = "mlflow.loggedArtifacts"
"""Tag with the names of a run's tables."""
SCORES, ORDER = "tables/scores.json", "tables/unfreeze_order.json"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """As `mlflow.log_table` writes it."""
    return json.dumps({"columns": list(columns), "data": [list(row) for row in rows]}, ensure_ascii=False) + "\n"


def logged(names: Iterable[str], before: str | None = None) -> str:
    """The tag `LOGGED` of a run with these tables, and with those of the tag that it had `before`."""
    try:
        there = json.loads(before or "[]")
    except ValueError:
        there = []
    new = [{"path": name, "type": "table"} for name in names]
    return json.dumps([*(one for one in there if one not in new), *new])


def scores(record: Record, evaluation_ids: Mapping[str, str], source: str) -> str | None:
    """One row per test set and language of a run, the source language first; None where nothing was tested.

    `evaluation_ids` are those of this record, by test set.
    """
    found = {name: record.tests.get(evaluation, {}) for name, evaluation in evaluation_ids.items()}
    every = {metric for tests in found.values() for one in tests.values() for metric in one}
    metrics = sorted(every, key=lambda metric: (metric != "f1", metric))  # as everybody writes them: F1 / EM
    rows = [
        [
            "main" if name == MAIN else name,
            language,
            "source" if language == source else "target",
            *(round(values[metric], 4) if metric in values else None for metric in metrics),
        ]
        for name, tests in found.items()
        for language, values in sorted(tests.items(), key=lambda item: (item[0] != source, item[0]))
    ]
    return table(("test set", "language", "role", *metrics), rows) if rows else None


def order(record: Record) -> str | None:
    """One row per event of a run that woke layers, with all that were awake then; None where none woke."""
    awake: set[int] = set()
    rows = []
    for number, (step, layers) in enumerate(record.unfreeze_order):
        awake |= set(layers)
        rows.append([number, step, _listed(layers), _listed(sorted(awake)), len(awake)])
    return table(("event", "step", "woken", "awake", "layers awake"), rows) if awake else None


def _listed(layers: Iterable[int]) -> str:
    return " ".join(map(str, layers))
