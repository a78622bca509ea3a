"""Sweeps of the tiny MAD-X through the command line, and all that they left, reduced to what must be equal."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, AttemptStarted, Recorded, Told
from raysched.records.files import sha256_file
from raysched.records.history import read_segments
from raysched.records.layout import SweepLayout
from raysched.records.record import Record, read_record
from raysched.tasks.predictions import read as read_predictions
from raysched.tracking.mlflow_store import sqlite_uri
from tests.training.tiny_training import LANGUAGES, Tiny

NAME = "xquad-mini"
STEPS = 300
SETTINGS: dict[str, Any] = {
    "model.task_adapter.reduction": 4,
    "training.steps": STEPS,
    "training.batch_size": 8,
    "training.checkpoint_every_steps": 20,
    "data.train_examples": 200,
    "fisher.log.every_steps": 50,
    "evaluation.languages": list(LANGUAGES),
    "evaluation.dev_limit": 20,
    "evaluation.test_limit": 10,
    "evaluation.dev_points": 4,
    "tracking.log_every_steps": 10,
    "search.schedule": ["standard", "gu"],
    "search.lr": [1e-2],
    "search.k": [20],
    "seeds": 2,
    "resources.gpu": 0,
}


def overrides(tiny: Tiny, **settings: Any) -> list[str]:
    """`--set` for each setting; keys are dotted study keys, with `__` for each dot."""
    values = SETTINGS | {
        "model.backbone": str(tiny.folder / "backbone"),
        "model.language_adapters": f"{tiny.folder}/adapters/{{language}}",
    }
    values |= {key.replace("__", "."): value for key, value in settings.items()}
    return [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def arguments(tiny: Tiny, storage: Path, *more: str, **settings: Any) -> list[str]:
    """Of a concurrent sweep: two runs at a time."""
    options = more if "--max-concurrent" in more else ("--max-concurrent", "2", *more)
    return ["sweep", NAME, "--storage", str(storage), *options, *overrides(tiny, **settings)]


def segments(layout: SweepLayout) -> int:
    """Sealed segments on disk, of whatever attempt: how far the sweep is."""
    return len(list(layout.runs.glob("*/attempt-*/segments/*.jsonl")))


def attempts(layout: SweepLayout, epoch: int | None = None) -> list[AttemptStarted]:
    entries = ledgers.read(layout.ledger)
    return [e for e in entries if isinstance(e, AttemptStarted) and epoch in (None, e.epoch)]


def most_at_once(layout: SweepLayout) -> int:
    """Most attempts that were out at a time."""
    now = most = 0
    for entry in ledgers.read(layout.ledger):
        now += isinstance(entry, AttemptStarted)
        now -= isinstance(entry, AttemptEnded)
        most = max(most, now)
    return most


def records(layout: SweepLayout) -> dict[str, Record]:
    found = [read_record(path) for path in layout.runs.glob("*/record.json")]
    return {record.run_id: record for record in found}


@dataclass(frozen=True, kw_only=True)
class Left:
    """One run: its history without times and notes, its predictions, adapter and scores."""

    point: dict[str, Any]
    seed: int
    steps: int
    selected_step: int | None
    source_dev: dict[str, float]
    tests: Any
    order: Any
    history: list[tuple[str, int, Any]]
    predictions: dict[str, str]
    files: dict[str, str]

    @classmethod
    def of(cls, layout: SweepLayout, record: Record) -> Left:
        folder = layout.run(record.run_id).root / record.attempt_folder
        assert all(sha256_file(folder / name) == digest for name, digest in record.files.items())
        return cls(
            point=record.params,
            seed=record.seed,
            steps=record.steps,
            selected_step=record.selected_step,
            source_dev=record.source_dev,
            tests=record.tests,
            order=record.unfreeze_order,
            history=[
                (row.kind, row.step, row.data)
                for row in read_segments(folder / "segments", record.segments)
                if row.kind != "note"
            ],
            predictions={path.stem: repr(read_predictions(path)) for path in folder.glob("predictions/*.parquet")},
            files=record.files,
        )


def left(layout: SweepLayout) -> dict[str, Left]:
    return {run_id: Left.of(layout, record) for run_id, record in records(layout).items()}


def check_equal(layout: SweepLayout, undisturbed: dict[str, Left]) -> None:
    """Bit by bit, field by field, so that a failure names what differs."""
    now = left(layout)
    assert now.keys() == undisturbed.keys()
    for run_id, run in now.items():
        for name in Left.__dataclass_fields__:
            assert getattr(run, name) == getattr(undisturbed[run_id], name), (run_id, name)


def check_no_step_twice(layout: SweepLayout) -> None:
    for run in left(layout).values():
        rows = Counter((kind, step, json.dumps(data, sort_keys=True)) for kind, step, data in run.history)
        assert max(rows.values()) == 1
        logged = [step for kind, step, _ in run.history if kind == "metrics"]
        assert logged == sorted(set(logged))


def check_exactly_once(layout: SweepLayout, runs: int, points: int, optuna_uri: str | None = None) -> None:
    """Every run once in the ledger, the records, the search and MLflow; nothing left RUNNING."""
    entries = ledgers.read(layout.ledger)
    there = records(layout)
    assert Counter(e.run_id for e in entries if isinstance(e, Recorded)) == dict.fromkeys(there, 1)
    assert len(there) == runs
    assert all(record.status == "finished" for record in there.values())
    assert Counter(e.number for e in entries if isinstance(e, Told)) == dict.fromkeys(range(points), 1)
    assert trials(layout, optuna_uri) == ["COMPLETE"] * points
    found = mlflow_runs(layout)
    assert Counter(run.level for run in found) == {"sweep": 1, "cell": points, "run": runs}
    assert {run.status for run in found} == {"FINISHED"}
    assert Counter(run.tags["raysched.run_id"] for run in found if run.level == "run") == dict.fromkeys(there, 1)


def trials(layout: SweepLayout, optuna_uri: str | None = None) -> list[str]:
    return [trial.state.name for trial in search_trials(layout, optuna_uri)]


def search_trials(layout: SweepLayout, optuna_uri: str | None = None) -> list[Any]:
    """Optuna's own trials of the sweep, from its file or from the database that it shares with nobody."""
    import optuna

    uri = (optuna_uri or sqlite_uri(layout.optuna)).replace("postgresql://", "postgresql+psycopg://")
    storage = optuna.storages.RDBStorage(uri)
    try:
        (name,) = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=name, storage=storage).get_trials()
    finally:
        storage.engine.dispose()


@dataclass(frozen=True)
class Logged:
    """One active MLflow run."""

    id: str
    level: str
    parent: str | None
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: set[str]


def mlflow_runs(layout: SweepLayout) -> list[Logged]:
    from raysched.tracking.mlflow_store import Store

    client, experiment = Store(sqlite_uri(layout.mlflow_db), layout.name)._open()
    return [
        Logged(
            run.info.run_id,
            run.data.tags["raysched.level"],
            run.data.tags.get("mlflow.parentRunId"),
            run.info.status,
            dict(run.data.tags),
            dict(run.data.params),
            dict(run.data.metrics),
            {item.path for item in client.list_artifacts(run.info.run_id)},
        )
        for run in client.search_runs([experiment], max_results=1000)
    ]
