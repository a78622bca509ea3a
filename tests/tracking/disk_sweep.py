"""A sweep on disk, written as the driver and the workers write it, and what MLflow shows of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysched.records.entries import AttemptStarted, Ended, Opened, PointTaken, Recorded, Reopened, Told
from raysched.records.files import canonical, sha256_file
from raysched.records.history import Row, Sealed, SegmentWriter, copy_sealed
from raysched.records.layout import AttemptLayout, SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.record import AttemptResult, write_record
from raysched.study.identity import Resolved, evaluation_id
from raysched.study.model import Study
from raysched.tracking.mlflow_store import Store

STUDY: dict[str, Any] = {
    "task": "qa",
    "data": {"train": "mini", "dev": "mini", "test": "mini"},
    "model": {"backbone": "mini", "language_adapters": "mini", "source_language": "en"},
    "training": {"steps": 4},
    "search": {"schedule": ["gu"], "lr": [1e-3], "k": [2]},
    "seeds": [0, 1],
    "evaluation": {"languages": ["en", "de", "th"]},
}
CONTENT = {"where": "mini", "revision": "0" * 64}
RESOLVED: dict[str, Any] = {
    "train": CONTENT,
    "dev": CONTENT,
    "test": dict.fromkeys(("en", "de", "th"), CONTENT),
    "backbone": CONTENT,
    "language_adapters": dict.fromkeys(("en", "de", "th"), CONTENT),
    "device": "cpu",
}
PARAMS = {"schedule": "gu", "lr": 1e-3, "k": 2}
RUNS = {0: "a" * 16, 1: "b" * 16}
CELL = "c" * 16
START_MS = 1_700_000_000_000


class DiskSweep:
    """Writes a sweep step by step. Time passes one second at each ledger entry."""

    def __init__(self, root: Path) -> None:
        self.runs = dict(RUNS)
        self.layout = SweepLayout(root, "demo").create()
        self.time_ms = START_MS
        self.ledger = self._take_over()
        study = Study.model_validate_json(canonical(STUDY))
        self.study = study.model_dump(mode="json")
        self.ledger.append(Opened(study=self.study, resolved=RESOLVED, provenance={"git": {"commit": "f00"}}))

    def _take_over(self) -> Ledger:
        return Ledger.take_over(self.layout.ledger, host="here", pid=1, clock=self._clock)

    def _clock(self) -> int:
        self.time_ms += 1000
        return self.time_ms

    def again(self) -> None:
        """The next driver."""
        self.ledger.close()
        self.ledger = self._take_over()

    def point(self) -> None:
        self.ledger.append(PointTaken(number=0, params=PARAMS, cell_id=CELL, run_ids=self.runs))

    def extend(self, *seeds: int) -> None:
        """More seeds of the one point, each a run of its own letter."""
        self.study = self.study | {"seeds": [*self.runs, *seeds]}
        self.ledger.append(Opened(study=self.study, resolved=RESOLVED, provenance={"git": {"commit": "f00"}}))
        self.runs |= {seed: "defghij"[seed] * 16 for seed in seeds}
        self.point()

    def reopen(self, seed: int, attempts: int = 1) -> None:
        self.ledger.append(Reopened(run_id=self.runs[seed], attempts=attempts))

    def attempt(self, seed: int, number: int = 1) -> AttemptLayout:
        self.ledger.append(AttemptStarted(run_id=self.runs[seed], attempt=number))
        return self.layout.run(self.runs[seed]).attempt(self.ledger.epoch, number).create()

    def rows(self, from_step: int, to_step: int, salt: float) -> Iterator[Row]:
        def row(kind: str, step: int, data: dict[str, Any]) -> Row:
            return Row(kind=kind, step=step, time_ms=START_MS + 10 * step + int(salt), data=data)

        if from_step == 0:
            yield row("unfroze", 0, {"event": 0, "layers": [], "awake": []})
        for step in range(from_step + 1, to_step + 1):
            yield row("metrics", step, {"values": {"train/loss": 1 / step + salt, "train/lr": 1e-3}})
            traces = {
                "traces": [1.0, 2.0 + salt],
                "se": [0.1, 0.2],
                "n_batches": 2,
                "n_examples": 16,
                "labels": "noise",
            }
            yield row("fisher", step, {"purpose": "log", "awake": [1], **traces})
            yield row("unfroze", step, {"event": step, "layers": [step], "awake": list(range(step))})
        yield row("fisher", to_step, {"purpose": "select", "awake": [0, 1], **traces})
        yield row("evaluated", to_step, {"language": "en", "scores": {"f1": 50.0 + salt, "em": 40.0}, "best": True})

    def checkpoint(
        self, attempt: AttemptLayout, from_step: int, to_step: int, *, before: list[Sealed], salt: float = 0.0
    ) -> list[Sealed]:
        writer = SegmentWriter(attempt.segments)
        for row in self.rows(from_step, to_step, salt):
            writer.append(row)
        sealed = [*before, writer.seal(from_step, to_step)]
        self.manifest(attempt, to_step, sealed)
        return sealed

    def manifest(self, attempt: AttemptLayout, step: int, sealed: list[Sealed]) -> None:
        folder = attempt.checkpoint(step)
        folder.mkdir(parents=True)
        manifest = {"step": step, "files": {}, "segments": [segment.model_dump() for segment in sealed]}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def resume(self, seed: int, number: int, old: AttemptLayout, sealed: list[Sealed]) -> AttemptLayout:
        attempt = self.attempt(seed, number)
        copy_sealed(old.segments, attempt.segments, sealed)
        return attempt

    def finish(self, seed: int, attempt: AttemptLayout, sealed: list[Sealed], status: str = "finished") -> None:
        done = status == "finished"
        epoch, number = (int(part) for part in attempt.name.split("-")[1:])
        for name in ("adapter/weights.safetensors", "predictions/de.parquet", "unfreeze_order.json") if done else ():
            path = attempt.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{name} of {seed}")
        files = [path for path in attempt.root.rglob("*") if path.is_file()] if done else []
        kept = [path for path in files if path.parent.name in ("adapter", "predictions") or path.parent == attempt.root]
        run_id = self.runs[seed]
        tests = {
            language: {"f1": score + seed, "em": score} for language, score in (("en", 90), ("de", 60), ("th", 20))
        }
        evaluation = evaluation_id(
            Study.model_validate_json(canonical(self.study)), Resolved.model_validate_json(canonical(RESOLVED)), run_id
        )
        result = AttemptResult(
            run_id=run_id,
            epoch=epoch,
            attempt=number,
            status=status,  # type: ignore[arg-type]
            cause=None if done else "oom",
            message="" if done else "at http://me:canary@host/",
            steps=4,
            selected_step=3 if done else None,
            source_dev={"f1": 80.0 + 2 * seed, "em": 70.0} if done else {},
            tests={evaluation: tests} if done else {},
            unfreeze_order=((0, ()), (1, (1,)), (2, (0, 2))) if done else (),
            segments=tuple(sealed) if done else (),
            files={str(path.relative_to(attempt.root)): sha256_file(path) for path in kept},
            started_ms=START_MS,
            ended_ms=START_MS + 999 if done else 0,
            provenance={"packages": {"torch": "2"}},
        )
        write_record(self.layout.run(run_id).record, result.to_record(cell_id=CELL, params=PARAMS, seed=seed))
        self.ledger.append(Recorded(run_id=run_id, status=status))  # type: ignore[arg-type]

    def whole_run(self, seed: int) -> None:
        attempt = self.attempt(seed)
        sealed = self.checkpoint(attempt, 0, 2, before=[])
        sealed = self.checkpoint(attempt, 2, 4, before=sealed)
        self.finish(seed, attempt, sealed)

    def told(self, value: float | None) -> None:
        self.ledger.append(Told(number=0, state="fail" if value is None else "complete", value=value))

    def end(self, outcome: str) -> None:
        self.ledger.append(Ended(outcome=outcome))  # type: ignore[arg-type]


def snapshot(store: Store) -> dict[str, Any]:
    """Everything that MLflow shows of a store, by raysched.key, without ids that MLflow makes up."""
    client, experiment_id = store._open()
    runs = client.search_runs([experiment_id], max_results=1000)
    keys = {run.info.run_id: run.data.tags["raysched.key"] for run in runs}
    assert len(set(keys.values())) == len(keys), "a key has two runs"
    shown = {}
    for run in runs:
        tags = dict(run.data.tags)
        parent = tags.pop("mlflow.parentRunId", None)
        tags.pop("raysched.sweep_uid")
        metrics = {
            name: [
                (item.step, item.timestamp, repr(item.value))
                for item in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        shown[keys[run.info.run_id]] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "parent": keys.get(parent or ""),
            "params": dict(run.data.params),
            "tags": tags,
            "metrics": metrics,
            "artifacts": sorted(_files(client, run.info.run_id, "")),
        }
    return shown


def _files(client: Any, run_id: str, folder: str) -> Iterator[str]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from _files(client, run_id, item.path)
        else:
            yield item.path
