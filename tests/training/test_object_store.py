"""Runs and sweeps whose storage is an object store, on machines that share nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysched.cli import looking
from raysched.records.entries import AttemptEnded
from raysched.records.layout import AttemptLayout
from raysched.records.remote import StorageLost
from raysched.reports.status import checkpoint_steps
from raysched.reports.sweep import read_sweep
from raysched.runners.worker import Worker, stop_file
from raysched.study.identity import RunSpec
from raysched.training.bench import Bench
from raysched.training.events import StepDone, TrainingEvent
from tests.object_store import Store, store  # noqa: F401 - a fixture
from tests.runners.world import check_equal, left
from tests.training.sweep_in_process import driver_of, sweep_in_process, until_left
from tests.training.tiny_training import STEPS, Outcome, Tiny, execute, same


@pytest.fixture
def fresh(store: Store) -> Store:  # noqa: F811
    return store.fresh()


@pytest.fixture(scope="module")
def spec(tiny: Tiny) -> RunSpec:
    return tiny.spec("fun", training__checkpoint_every_steps=3, tracking__log_every_steps=2)


@pytest.fixture(scope="module")
def whole(bench: Bench, spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome = execute(bench, spec, tmp_path_factory.mktemp("whole") / "attempt-1-1")
    assert outcome is not None
    return outcome


def often(value: object, quick: bool):  # type: ignore[no-untyped-def]
    """A case that only `make faults` runs, unless it is `quick`."""
    return pytest.param(value, marks=() if quick else pytest.mark.faults)


def at(step: int):  # type: ignore[no-untyped-def]
    def leave(event: TrainingEvent) -> bool:
        return isinstance(event, StepDone) and event.step == step

    return leave


def attempt(store: Store, machine: str, spec: RunSpec, number: int) -> AttemptLayout:  # noqa: F811
    return store.layout(machine).run(spec.run_id).attempt(1, number)


def notes(outcome: Outcome) -> list[str]:
    return [row[2]["text"] for row in outcome.rows if row[0] == "note"]


def test_another_machine_continues_bit_by_bit_and_keeps_two_checkpoints(
    fresh: Store, bench: Bench, spec: RunSpec, whole: Outcome
) -> None:
    first, second = attempt(fresh, "a", spec, 1), attempt(fresh, "b", spec, 2)
    assert execute(bench, spec, first.root, leave=at(8)) is None
    assert attempt(fresh, "c", spec, 1).saved_steps() == [6, 8]
    assert list(attempt(fresh, "c", spec, 1).manifests()) == [6, 8]
    earlier = [one for _, _, one in fresh.layout("b").run(spec.run_id).attempts()]
    assert [one.root.name for one in earlier] == ["attempt-1-1"]
    same(execute(bench, spec, second.root, [one.root for one in earlier]), whole)
    assert attempt(fresh, "c", spec, 2).saved_steps() == [9, STEPS]
    stored = fresh.layout("c").remote
    assert stored is not None
    own = sorted(path.relative_to(second.root).as_posix() for path in second.root.rglob("*") if path.is_file())
    there = stored.below(f"runs/{spec.run_id}/attempt-1-2")
    assert sorted(key.partition("attempt-1-2/")[2] for key in there) == own


@pytest.mark.parametrize("files", [often(files, files in (1, 5)) for files in range(7)])
def test_a_checkpoint_that_is_half_uploaded_is_never_seen(
    fresh: Store, bench: Bench, spec: RunSpec, whole: Outcome, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    first, second = attempt(fresh, "a", spec, 1), attempt(fresh, "b", spec, 2)
    stored = fresh.layout("a").remote
    assert stored is not None
    put, count = stored.put_file, [0]

    def lost(path: Path, key: str) -> None:
        if "/checkpoints/step-00000006/" in key or "/segments/00000003-00000006" in key:
            count[0] += 1
            if count[0] > files:
                raise StorageLost("the storage does not answer")
        put(path, key)

    monkeypatch.setattr(stored, "put_file", lost)
    if files < 6:
        with pytest.raises(StorageLost):
            execute(bench, spec, first.root, leave=at(8))
    else:
        execute(bench, spec, first.root, leave=at(6))
    monkeypatch.undo()
    assert attempt(fresh, "b", spec, 1).saved_steps() == ([3] if files < 6 else [3, 6])
    outcome = execute(bench, spec, second.root, [attempt(fresh, "b", spec, 1).root])
    same(outcome, whole)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "manifest.json", "segment"])
@pytest.mark.parametrize("damage", [often("flip", False), often("cut", False), "delete"])
def test_a_damaged_one_in_the_store_is_passed_over(
    fresh: Store, bench: Bench, spec: RunSpec, whole: Outcome, name: str, damage: str
) -> None:
    first, second = attempt(fresh, "a", spec, 1), attempt(fresh, "b", spec, 2)
    execute(bench, spec, first.root, leave=at(8))
    stored = fresh.layout("a").remote
    assert stored is not None
    end = "/segments/00000006-00000008.jsonl" if name == "segment" else f"/step-00000008/{name}"
    (key,) = [key for key in stored.below() if key.endswith(end)]
    content = stored.get(key)
    if damage == "delete":
        stored.delete([key])
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        stored.put(key, content[:middle] if damage == "cut" else flipped)
    outcome = execute(bench, spec, second.root, [attempt(fresh, "b", spec, 1).root])
    assert outcome is not None
    unseen = name == "manifest.json" and damage == "delete"
    assert len(notes(outcome)) == (0 if unseen else 1)
    same(
        Outcome(**{**vars_of(outcome), "rows": [row for row in outcome.rows if row[0] != "note"]}),
        whole,
    )


def vars_of(outcome: Outcome) -> dict[str, object]:
    return {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}


def test_a_damaged_copy_of_a_whole_checkpoint_is_fetched_anew(
    fresh: Store, bench: Bench, spec: RunSpec, whole: Outcome
) -> None:
    first = attempt(fresh, "a", spec, 1)
    execute(bench, spec, first.root, leave=at(8))
    weights = first.checkpoint(8) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (first.segments / "00000006-00000008.jsonl").unlink()
    same(execute(bench, spec, attempt(fresh, "a", spec, 2).root, [first.root]), whole)


def test_a_sweep_that_moves_from_machine_to_machine_ends_as_in_a_folder(
    fresh: Store, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny.study(search__schedule=["standard", "gu"], seeds=1, training__checkpoint_every_steps=3)
    resolved = tiny.resolve(study)
    folder = sweep_in_process(tmp_path, "demo", study, resolved)
    # A worker of another machine is stopped in the middle of the second run, and its driver is gone too.
    for name in ("LOOK_S", "SHARE"):
        monkeypatch.setattr(f"raysched.runners.worker.{name}", 0.0)
    layout, worker = fresh.layout("driver"), Worker()
    with fresh.machine("driver"), driver_of(layout, study, resolved) as driver:
        first = driver.next()
        assert first is not None
        assert first.storage == fresh.uri
        with fresh.machine("worker"):
            worker.take(first)
            assert until_left(worker).outcome == "finished"
        driver.ended(first.key, "finished")
        second = driver.next()
        assert second is not None
        with fresh.machine("worker"):
            worker.take(second)
            while worker.advance(0).step < 4:
                pass
        stop_file(layout).write_text("1")
        layout.push(stop_file(layout))
        with fresh.machine("worker"):
            assert worker.advance(0).outcome == "stopped"
        stop_file(layout).unlink()
        layout.push(stop_file(layout))
        assert not stop_file(fresh.layout("worker")).exists()  # the next process there would obey it
    seen = read_sweep(fresh.layout("viewer"))
    assert (len(seen.records), len(seen.state.attempts)) == (1, 2)
    assert 4 <= checkpoint_steps(seen.layout, seen.state)[second.spec.run_id] <= 6
    with fresh.machine("next"):
        layout = sweep_in_process(fresh.uri, "demo", study, resolved)
    assert layout.root.is_relative_to(fresh.folder / "next")
    resumed = [entry for entry in read_sweep(layout).state.attempts.values() if entry.attempt == 2]
    assert [entry.run_id for entry in resumed] == [second.spec.run_id]
    with fresh.machine("viewer"):
        looking.status("demo", fresh.uri, True)
        status = json.loads(capsys.readouterr().out)
        assert status["driver"] is None
        assert [(cell["done"], cell["seeds"]) for cell in status["cells"]] == [(1, 1), (1, 1)]
        seen = read_sweep(fresh.layout("viewer"))
        assert seen.n_tested() == {"vel": 10, "orl": 10, "xim": 10}
        assert all(list(seen.history(record)) for record in seen.records.values())
    here = fresh.layout("viewer")
    here.pull(here.root)
    check_equal(here, left(folder))


@pytest.mark.faults
def test_an_upload_that_fails_ends_the_attempt_and_the_next_one_goes_on(
    fresh: Store, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny.study("gu", training__checkpoint_every_steps=3, seeds=1)
    resolved = tiny.resolve(study)
    whole = sweep_in_process(tmp_path, "demo", study, resolved)
    layout = fresh.layout("a")
    assert layout.remote is not None
    put, broken = layout.remote.put_file, [True]

    def lost(path: Path, key: str) -> None:
        if broken[0] and "/step-00000006/" in key:
            broken[0] = False
            raise StorageLost("the storage does not answer")
        put(path, key)

    monkeypatch.setattr(layout.remote, "put_file", lost)
    with fresh.machine("a"):
        sweep_in_process(fresh.uri, "demo", study, resolved)
    ends = [entry for entry in read_entries(fresh) if isinstance(entry, AttemptEnded)]
    assert [(entry.outcome, entry.cause) for entry in ends] == [("failed", "storage"), ("finished", None)]
    check_equal(layout, left(whole))


def read_entries(store: Store):  # type: ignore[no-untyped-def]  # noqa: F811
    from raysched.records import ledger

    return ledger.read(store.layout("viewer").ledger)
