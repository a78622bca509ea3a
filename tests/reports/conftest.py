"""A sweep on disk, as a driver and its workers leave it, with scores that a test can compute by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysched.records.entries import AttemptStarted, Opened, PointTaken, Recorded
from raysched.records.history import Row, SegmentWriter
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.record import Record, write_record
from raysched.study.identity import Content, Resolved, RunSpec
from raysched.study.model import MAIN, Study
from raysched.study.space import Point, points
from raysched.tasks.predictions import ORIGIN, SCHEMA, Origin

LANGUAGES = ("en", "de", "th")
N_LAYERS = 4
ORDERS = {
    "standard": ((0, (0, 1, 2, 3)),),
    "gu": ((0, (3,)), (25, ()), (50, (2,)), (75, (1,)), (100, (0,))),
    "lpft": ((0, ()), (25, (0, 1, 2, 3))),
}


def study(
    schedules: tuple[str, ...] = ("standard", "gu", "lpft"), lr: tuple[float, ...] = (1e-3,), **changes: Any
) -> Study:
    """`changes` replace whole keys of the study; those of `search` and `evaluation` are put beside its own."""
    values: dict[str, Any] = {
        "description": "A made-up sweep.",
        "task": "qa",
        "data": {"train": "mini", "dev": "mini", "test": "mini"},
        "model": {"backbone": "mini", "language_adapters": "mini", "source_language": "en"},
        "training": {"steps": 200},
        "search": {"schedule": schedules, "lr": lr, "k": (25,), "sampler": "grid"},
        "seeds": (0, 1),
        "evaluation": {"languages": LANGUAGES},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if key in ("search", "evaluation") else value
    return Study.model_validate(values, strict=False)


def resolved(of: Study) -> Resolved:
    content = Content(where="mini", revision="c0ffee" * 6 + "1234")
    return Resolved(
        train=content,
        dev=content,
        test=dict.fromkeys(of.test_sets[MAIN].languages, content),
        also={name: dict.fromkeys(chosen.languages, content) for name, chosen in of.evaluation.also.items()},
        backbone=content,
        language_adapters=dict.fromkeys(of.languages, content),
        device="cpu",
    )


def scores(spec: RunSpec) -> dict[str, float]:
    """F1 by language: standard 40s, gu 50s, lpft 60s; seeds 2 apart; languages 10 apart."""
    base = {"standard": 40.0, "gu": 50.0, "lpft": 60.0}.get(spec.point.schedule, 45.0)
    base += 2 * spec.seed - 1000 * spec.point.lr
    return {"source_dev": base + 31, "en": base + 30, "de": base + 20, "th": base}


class MadeUp:
    """Writes a sweep run by run."""

    def __init__(self, storage: Path, of: Study, name: str = "made-up", sizes: Mapping[str, int] | None = None) -> None:
        """`sizes` are the test rows of each language of the main test set; 3 where it is not given."""
        self.sizes = sizes or {}
        self.layout = SweepLayout(storage, name).create()
        self.study, self.resolved = of, resolved(of)
        self.ledger = Ledger.take_over(self.layout.ledger, host="here", pid=1, clock=lambda: 1_000_000)
        self.ledger.append(Opened(study=of.model_dump(mode="json"), resolved=self.resolved.model_dump(mode="json")))

    def specs(self, point: Point) -> dict[int, RunSpec]:
        return {seed: RunSpec.make(self.study, self.resolved, point, seed) for seed in self.study.seeds}

    def take(self, number: int, point: Point) -> list[RunSpec]:
        specs = self.specs(point)
        run_ids = {seed: spec.run_id for seed, spec in specs.items()}
        params, cell_id = point.params(), specs[0].cell_id
        self.ledger.append(PointTaken(number=number, params=params, cell_id=cell_id, run_ids=run_ids))
        return list(specs.values())

    def start(self, spec: RunSpec, step: int | None = None) -> None:
        self.ledger.append(AttemptStarted(run_id=spec.run_id, attempt=1))
        attempt = self.layout.run(spec.run_id).attempt(self.ledger.epoch, 1).create()
        if step is not None:
            attempt.checkpoint(step).mkdir()
            (attempt.checkpoint(step) / "manifest.json").write_text("{}")

    def finish(self, spec: RunSpec, **changes: Any) -> Record:
        attempt = self.layout.run(spec.run_id).attempt(self.ledger.epoch, 1).create()
        order = ORDERS.get(spec.point.schedule, ORDERS["gu"])
        writer, awake = SegmentWriter(attempt.segments), set[int]()
        for step in (100, 200):
            awake |= {layer for at, woken in order for layer in woken if at <= step}
            traces = [step * (layer + 1) + spec.seed for layer in range(N_LAYERS)]
            data = {"purpose": "log", "traces": traces, "se": [0.1] * N_LAYERS, "awake": sorted(awake)}
            writer.append(Row(kind="fisher", step=step, time_ms=1, data={**data, "labels": "noise"}))
            writer.append(
                Row(kind="fisher", step=step, time_ms=1, data={**data, "purpose": "select", "traces": [1e9] * 4})
            )
        f1 = scores(spec)
        tests = {
            evaluation: {name: _metrics(f1[name]) for name in self.study.test_sets[test_set].languages if name in f1}
            for test_set, evaluation in spec.evaluation_ids.items()
        }
        values: dict[str, Any] = {
            "run_id": spec.run_id,
            "epoch": self.ledger.epoch,
            "attempt": 1,
            "attempt_folder": attempt.name,
            "cell_id": spec.cell_id,
            "params": spec.point.params(),
            "seed": spec.seed,
            "status": "finished",
            "steps": 200,
            "selected_step": 200,
            "source_dev": _metrics(f1["source_dev"]),
            "tests": tests,
            "unfreeze_order": order,
            "segments": (writer.seal(0, 200),),
            "started_ms": 1_000_000,
            "ended_ms": 1_000_000 + 1_800_000,
            "train_seconds": 900.0,
            "provenance": {"git": {"commit": "abcdef0123456789", "dirty": False}, "packages": {"raysched": "0.1.0"}},
        }
        record = Record(**{**values, **changes})
        self.predict(spec, record.tests)
        write_record(self.layout.run(spec.run_id).record, record)
        self.ledger.append(Recorded(run_id=spec.run_id, status=record.status))
        return record

    def predict(self, spec: RunSpec, tests: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Write predictions whose per-example scores average to those of `tests`, which may be a part of them.

        Of test sets beside the main one only where no `sizes` are given, or theirs are: `{"mlqa/de": 7}`.
        """
        folder = self.layout.run(spec.run_id).attempt(self.ledger.epoch, 1).predictions
        for test_set, evaluation in spec.evaluation_ids.items():
            prefix = "" if test_set == MAIN else f"{test_set}/"
            for language, of in tests.get(evaluation, {}).items():
                n = self.sizes.get(prefix + language, 3 if not self.sizes or test_set == MAIN else 0)
                if n:
                    origin = Origin(run_id=spec.run_id, evaluation_id=evaluation, language=language, split="test")
                    write_predictions(folder / f"{prefix}{language}.parquet", origin, n, of)

    def fail(self, spec: RunSpec, cause: str = "nan") -> Record:
        gone: dict[str, Any] = {"source_dev": {}, "tests": {}, "segments": (), "unfreeze_order": (), "steps": 17}
        return self.finish(spec, status="diverged", cause=cause, message="loss is\nnan | at step 17", **gone)

    def all(self) -> None:
        for number, point in enumerate(points(self.study.search)):
            for spec in self.take(number, point):
                self.start(spec)
                self.finish(spec)


def _metrics(f1: float) -> dict[str, float]:
    return {"f1": f1, "em": f1 - 10}


def write_predictions(path: Path, origin: Origin, n: int, of: Mapping[str, float]) -> None:
    """What `predictions.write` would, of `n` rows with these mean scores, without an object for every row.

    The first rows are right, the last are wrong, and the one between is right in part.
    """
    columns = {
        **{name: pa.repeat(pa.scalar(getattr(origin, name), pa.string()), n) for name in ORIGIN},
        "example_id": pa.array([f"{row:05}-{origin.language}" for row in range(n)]),
        "prediction": pa.repeat("a", n),
        "score": pa.repeat(0.5, n),
        "start": pa.repeat(pa.scalar(0, pa.int32()), n),
        "end": pa.repeat(pa.scalar(1, pa.int32()), n),
        "gold": pa.array([["a"]]).take(pa.repeat(0, n)),
        "f1": pa.array(_shared_out(n, of["f1"]) if "f1" in of else [None] * n, pa.float64()),
        "em": pa.array(_shared_out(n, of.get("em", of.get("accuracy", 0.0))), pa.float64()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).cast(SCHEMA), path, compression="zstd")


def _shared_out(n: int, mean: float) -> list[float]:
    """`n` scores with this mean, as many as possible of them 100."""
    return [min(100.0, max(0.0, n * mean - 100.0 * row)) for row in range(n)]


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[..., MadeUp]:
    return lambda **kwargs: MadeUp(tmp_path / "storage", study(**kwargs))
