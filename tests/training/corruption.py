"""A sweep that was killed in the middle, damaged in one of its files, and continued; how it came out, in words."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from raysched.errors import DamageError
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptStarted, Note
from raysched.records.files import sha256_tree
from raysched.records.history import read_segments
from raysched.records.layout import AttemptLayout, RunLayout, SweepLayout
from raysched.records.record import read_record
from raysched.runners import requests
from raysched.runners.worker import Worker
from raysched.study.identity import Resolved
from raysched.study.model import Study
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.uploader import Uploader
from raysched.training.checkpoint import newest_first
from tests.runners.world import Left, check_equal, check_no_step_twice, left, mlflow_runs
from tests.training.sweep_in_process import driver_of, sweep_in_process, until_left
from tests.training.tiny_training import Tiny

NAME = "damaged"
PATIENCE_S = 2.0
"""With a search database that is damaged; one that is away would get minutes."""
SETTINGS = {"search__schedule": ["standard", "gu"], "seeds": 2, "training__checkpoint_every_steps": 3}
KILLED_AT = 8

Damage = Callable[[Path, random.Random], None]


def truncate(path: Path, chance: random.Random) -> None:
    """At any byte but the last: the file is shorter, and not empty where it had more than one."""
    content = path.read_bytes()
    path.write_bytes(content[: chance.randint(min(1, len(content) - 1), len(content) - 1)])


def flip(path: Path, chance: random.Random) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


DAMAGES: tuple[Damage, ...] = (truncate, flip, empty, delete)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep of two cells of two seeds: one cell told, a run that finished unrecorded, one killed at step 8."""

    storage: Path
    study: Study
    resolved: Resolved
    undisturbed: dict[str, Left]
    finished: str
    """run_id of the run that finished, with nobody left to record it."""
    half: str
    """run_id of the run that was killed between its checkpoints of steps 6 and 9."""
    worker: Worker
    """Its bench is warm."""

    @classmethod
    def make(cls, tiny: Tiny, folder: Path) -> Prepared:
        study = tiny.study("gu", **SETTINGS)
        resolved = tiny.resolve(study)
        worker = Worker()
        undisturbed = left(sweep_in_process(folder / "undisturbed", NAME, study, resolved, worker=worker))
        layout = SweepLayout(folder / "storage", NAME).create()
        shutil.copytree(SweepLayout(folder / "undisturbed", NAME).features, layout.features)
        with driver_of(layout, study, resolved) as driver:
            for _ in range(2):
                assignment = driver.next()
                assert assignment is not None
                worker.take(assignment)
                driver.ended(assignment.key, until_left(worker).outcome or "")
            finished, half = driver.next(), driver.next()
            assert finished is not None
            assert half is not None
            worker.take(finished)
            until_left(worker)
            worker.take(half)
            while worker.advance(0.0).step < KILLED_AT:
                pass
            assert len(driver.state.told) == 1
        assert Uploader(layout, Store(sqlite_uri(layout.mlflow_db), NAME), driver_alive=False).sync_once()
        return cls(
            storage=folder / "storage",
            study=study,
            resolved=resolved,
            undisturbed=undisturbed,
            finished=finished.spec.run_id,
            half=half.spec.run_id,
            worker=worker,
        )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A copy of the prepared sweep, and a seed for what happens to it."""

    of: Prepared
    storage: Path
    chance: random.Random
    damage: Damage

    @property
    def layout(self) -> SweepLayout:
        return SweepLayout(self.storage, NAME)

    @property
    def half(self) -> RunLayout:
        return self.layout.run(self.of.half)

    def hit(self, paths: Iterable[Path]) -> Path:
        """Damage one of these files."""
        path = self.chance.choice(sorted(paths))
        self.damage(path, self.chance)
        return path

    def go_on(self, worker: Worker | None = None) -> None:
        """The same sweep again; it ends as the undisturbed one did."""
        worker = worker or self.of.worker
        study, resolved = self.of.study, self.of.resolved
        sweep_in_process(self.storage, NAME, study, resolved, worker=worker, patience_s=PATIENCE_S)
        check_equal(self.layout, self.of.undisturbed)
        check_no_step_twice(self.layout)

    def refused(self) -> bool:
        """Whether the sweep does not go on because of the damage; then nothing of it has changed."""
        before = sha256_tree(self.layout.root)
        try:
            with driver_of(self.layout, self.of.study, self.of.resolved, PATIENCE_S):
                return False
        except DamageError:
            assert sha256_tree(self.layout.root) == before
            return True

    def notes(self, run: RunLayout) -> list[str]:
        """What the accepted attempt of a run noted."""
        record = read_record(run.record)
        folder = run.root / record.attempt_folder / "segments"
        return [row.data["text"] for row in read_segments(folder, record.segments) if row.kind == "note"]

    def started(self, run_id: str) -> int:
        entries = ledgers.read(self.layout.ledger)
        return sum(isinstance(entry, AttemptStarted) and entry.run_id == run_id for entry in entries)


# -- kinds of files, and what becomes of a sweep that has one of them damaged --------------------------------------


def checkpoint_file(pattern: str) -> Callable[[Case], str]:
    def play(case: Case) -> str:
        newest = newest_first(layout.checkpoints for _, _, layout in case.half.attempts())[0]
        path = case.hit(newest.glob(pattern))
        case.go_on()
        (note,) = case.notes(case.half)
        assert "checkpoint passed over" in note
        assert path.name in note
        return "noted; the checkpoint before it continued the run"

    return play


def history(case: Case) -> str:
    """Of the killed run: a segment that both checkpoints seal costs both."""
    ((_, _, attempt),) = case.half.attempts()
    path = case.hit(attempt.segments.iterdir())
    case.go_on()
    notes = case.notes(case.half)
    assert notes
    assert all("checkpoint passed over" in note and path.name in note for note in notes)
    return "noted; an earlier checkpoint, or the beginning, continued the run"


def result(case: Case) -> str:
    """Of the run that nobody recorded."""
    ((_, _, attempt),) = case.layout.run(case.of.finished).attempts()
    case.hit([attempt.result])
    case.go_on()
    assert case.started(case.of.finished) == 2
    return "not believed; another attempt finished the run from its last checkpoint"


def result_file(case: Case) -> str:
    """What the unrecorded result names: adapter, predictions, history."""
    ((_, _, attempt),) = case.layout.run(case.of.finished).attempts()
    case.hit(_kept(attempt))
    case.go_on()
    assert case.started(case.of.finished) == 2
    return "not believed; another attempt finished the run from its last checkpoint"


def record(case: Case) -> str:
    path = case.hit(case.layout.runs.glob("*/record.json"))
    before = case.started(path.parent.name)
    case.go_on()
    if case.damage is not delete:
        notes = [e.text for e in ledgers.read(case.layout.ledger) if isinstance(e, Note) and e.run_id]
        assert any("record passed over" in note for note in notes)
    assert case.started(path.parent.name) == before
    return "noted; written again from the worker's result.json, which is checked"


def recorded_file(case: Case) -> str:
    """Adapter, predictions or history of a run that is done: found by whoever reads it, its scores stay."""
    done = case.chance.choice(sorted(case.layout.runs.glob("*/record.json")))
    kept = read_record(done)
    path = case.hit(_kept(AttemptLayout(done.parent / kept.attempt_folder)))
    study, resolved = case.of.study, case.of.resolved
    sweep_in_process(case.storage, NAME, study, resolved, worker=case.of.worker)
    assert read_record(done) == kept
    for cursor in case.layout.uploads.glob("*/*.json"):  # MLflow held it before: let it be read again
        cursor.unlink()
    _upload(case)
    (run,) = [one for one in mlflow_runs(case.layout) if one.tags.get("raysched.run_id") == kept.run_id]
    assert path.name in run.tags["raysched.damaged"]
    return "named in MLflow (raysched.damaged); the run stays done with its recorded scores"


def _kept(attempt: AttemptLayout) -> list[Path]:
    named = [*attempt.root.glob("adapter/*"), *attempt.predictions.iterdir(), attempt.root / "unfreeze_order.json"]
    return [*named, *(path for path in attempt.segments.iterdir())]


def ledger_tail(case: Case) -> str:
    """Anything that an interrupted write, or a file system that lost the newest ones, can leave."""
    path = case.layout.ledger
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    if case.damage is truncate:
        path.write_bytes(content[: case.chance.randint(last, len(content) - 1)])
    elif case.damage is flip:
        changed = bytearray(content)
        changed[case.chance.randrange(last, len(content))] ^= 1 << case.chance.randrange(8)
        path.write_bytes(changed)
    else:
        case.damage(path, case.chance)
    case.go_on()
    return "cut off; made anew from records and folders"


def ledger_cut(case: Case) -> str:
    """At any byte: all that is behind it is lost."""
    truncate(case.layout.ledger, case.chance)
    case.go_on()
    return "cut off; made anew from records and folders"


def ledger_middle(case: Case) -> str:
    path = case.layout.ledger
    content = bytearray(path.read_bytes())
    lines = bytes(content).splitlines(keepends=True)
    before_last = len(content) - len(lines[-1])
    if case.damage is flip:
        content[case.chance.randrange(before_last)] ^= 1 << case.chance.randrange(8)
    else:  # bytes taken out of a line
        gone = case.chance.randrange(before_last - len(lines[-2]), before_last - 1)
        del content[gone : case.chance.randint(gone + 1, before_last - 1)]
    path.write_bytes(content)
    assert case.refused()
    return "refused (DamageError), nothing changed"


def search_database(case: Case) -> str:
    case.hit([case.layout.optuna])
    before = sha256_tree(case.layout.runs)
    try:
        case.go_on()
    except DamageError:
        assert sha256_tree(case.layout.runs) == before
        case.layout.optuna.unlink()
        case.go_on()
        return "refused (DamageError), no run changed; moved away, it is made anew from the ledger"
    return "the sweep went on, with its results"


def search_value(case: Case) -> str:
    """A database that is whole and says something else: what no checksum of SQLite's would find."""
    statement = {
        truncate: "DELETE FROM trials WHERE number = 1",
        flip: "UPDATE trial_params SET param_value = 1 - param_value WHERE param_name = 'schedule'",
        empty: "UPDATE trial_values SET value = value + 1",
        delete: "UPDATE trials SET state = 'FAIL'",
    }[case.damage]
    with contextlib.closing(sqlite3.connect(case.layout.optuna)) as database:
        database.execute(statement)
        database.commit()
    before = sha256_tree(case.layout.runs)
    with pytest.raises(DamageError, match=r"search database|was told"):
        case.go_on()
    assert sha256_tree(case.layout.runs) == before
    return "refused (DamageError), no run changed"


def cursor(case: Case) -> str:
    """What MLflow is believed to hold."""
    case.hit(case.layout.uploads.glob("*/*.json"))
    case.go_on()
    _upload(case)
    runs = [run for run in mlflow_runs(case.layout) if run.level == "run"]
    assert sorted(run.tags["raysched.run_id"] for run in runs) == sorted(case.of.undisturbed)
    assert {run.status for run in runs} == {"FINISHED"}
    return "made anew; every run exactly once in MLflow"


def _upload(case: Case) -> None:
    store = Store(sqlite_uri(case.layout.mlflow_db), NAME, case.layout.mlflow_artifacts)
    assert Uploader(case.layout, store, driver_alive=False).drain(30)


def features(case: Case) -> str:
    """Tokenised rows, which every run reads."""
    paths = sorted(case.layout.features.glob("*.arrow"))
    before = [_table(path) for path in paths]
    case.hit(paths)
    case.go_on(Worker())
    # A bit flipped between two columns, where the file holds nothing, changes no row and may stay.
    assert all(_table(path).equals(table, check_metadata=True) for path, table in zip(paths, before, strict=True))
    return "made anew, row for row"


def _table(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def request(case: Case) -> str:
    requests.ask(case.layout, "pause")
    case.hit([requests.request_file(case.layout)])
    assert requests.standing(case.layout) is None
    case.go_on()
    return "passed over"


KINDS: dict[str, Callable[[Case], str]] = {
    "checkpoint: tensors": checkpoint_file("*.safetensors"),
    "checkpoint: manifest.json": checkpoint_file("manifest.json"),
    "checkpoint: state.json": checkpoint_file("state.json"),
    "history of a killed run": history,
    "result.json": result,
    "files of an unrecorded result": result_file,
    "record.json": record,
    "files of a recorded run": recorded_file,
    "ledger: tail, or all of it": ledger_tail,
    "ledger: cut anywhere": ledger_cut,
    "ledger: middle": ledger_middle,
    "optuna.db": search_database,
    "optuna.db: a stored value": search_value,
    "upload cursor": cursor,
    "features": features,
    "request.json": request,
}


def play(prepared: Prepared, folder: Path, kind: str, damage: Damage, seed: object) -> str:
    """One case, in a folder that is gone afterwards; how it came out."""
    chance = random.Random(f"{seed} {kind} {damage.__name__}")
    # A folder that no other case had: MLflow keeps connections to databases by their path.
    case = Case(of=prepared, storage=Path(tempfile.mkdtemp(dir=folder)) / "storage", chance=chance, damage=damage)
    shutil.copytree(prepared.storage, case.storage)
    try:
        return KINDS[kind](case)
    finally:
        shutil.rmtree(case.storage.parent)
