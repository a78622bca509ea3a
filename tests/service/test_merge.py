"""Two sweeps compared, and made one: nothing is lost, nothing is done twice, and what disagrees is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import DamageError, MissingError, StoppedError, StudyError
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptStarted, Ended, Opened, PointTaken, Told
from raysched.records.files import sha256_tree
from raysched.records.layout import SweepLayout
from raysched.records.lock import DriverLock
from raysched.records.record import Record, read_record, write_record
from raysched.reports.sweep import read_sweep
from raysched.search.optuna_study import OptunaStudy, study_name
from raysched.service.compare import compare
from raysched.service.loaded import stored_study
from raysched.service.merge import merge
from raysched.service.union import united
from raysched.study.model import Study
from raysched.study.space import Point, n_points, points
from tests.service.kept import BOTH, ONE, Kept

pytestmark = pytest.mark.usefixtures("no_fsync")


@pytest.fixture
def storage(kept: Kept, tmp_path: Path) -> Path:
    """Copies of both sweeps, to be changed."""
    for layout in (kept.one, kept.two):
        kept.copy(layout, tmp_path / "storage")
    return tmp_path / "storage"


def layouts(storage: Path) -> tuple[SweepLayout, SweepLayout, SweepLayout]:
    return SweepLayout(storage, "one"), SweepLayout(storage, "two"), SweepLayout(storage, "both")


def change(layout: SweepLayout, point: str, seed: int, **changes: Any) -> Record:
    """The record of one run, rewritten."""
    sweep = read_sweep(layout)
    (record,) = [
        one for one in sweep.records.values() if str(Point(**one.params)).startswith(point) and one.seed == seed
    ]
    changed = record.model_copy(update=changes)
    write_record(layout.run(record.run_id).record, changed)
    return changed


def fail(layout: SweepLayout, point: str, seed: int, cause: str = "oom") -> Record:
    gone: dict[str, Any] = {"source_dev": {}, "tests": {}, "segments": (), "files": {}, "unfreeze_order": ()}
    return change(layout, point, seed, status="failed", cause=cause, message="no memory", steps=3, **gone)


# -- diff -----------------------------------------------------------------------------------------------------------


def test_two_sweeps_that_share_a_run(kept: Kept) -> None:
    found = compare(kept.one, kept.two)
    assert found.study == ('search.schedule: ["standard", "gu"] -> ["gu", "rand"]', "seeds: [0, 1] -> [1, 2]")
    assert found.inputs == ()
    assert [len(one) for one in found.only] == [3, 3]
    assert all("seed=2" in one or "rand" in one for one in found.only[1])
    (pair,) = found.pairs
    assert (pair.point.schedule, pair.seed, pair.kind, pair.fields) == ("gu", 1, "equal", {})
    assert json.loads(json.dumps(found.to_json()))["runs"][0]["kind"] == "equal"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"source_dev": {"f1": 1.0, "em": 2.0}}, ["source_dev/f1", "source_dev/em"]),
        ({"unfreeze_order": ((0, (3,)),)}, ["unfreeze_order"]),
        ({"selected_step": 1}, ["selected_step"]),
        ({"train_seconds": 1.0, "provenance": {"host": "other"}, "ended_ms": 7}, []),
        ({"tests": {}}, []),  # what only one was tested on tells nothing
    ],
)
def test_which_results_differ(storage: Path, changes: dict[str, Any], fields: list[str]) -> None:
    one, two, _ = layouts(storage)
    change(two, "schedule=gu", 1, **changes)
    (pair,) = compare(one, two).pairs
    assert sorted(pair.fields) == sorted(fields)
    assert pair.kind == ("different" if fields else "equal")


def test_scores_of_tests_and_adapters_are_named(storage: Path) -> None:
    one, two, _ = layouts(storage)
    record = change(two, "schedule=gu", 1)
    (key,) = record.tests
    tests = {key: {language: dict.fromkeys(scores, 1.0) for language, scores in record.tests[key].items()}}
    tensors = next(name for name in record.files if name.endswith(".safetensors"))
    change(two, "schedule=gu", 1, tests=tests, files={**record.files, tensors: "0" * 64})
    (pair,) = compare(one, two).pairs
    assert {"test/test/vel/f1", "test/test/orl/em", tensors} <= pair.fields.keys()
    assert pair.fields["test/test/vel/f1"][1] == 1.0
    assert pair.fields[tensors][1] == "0" * 16


def test_failed_in_one_and_open_in_one(storage: Path) -> None:
    one, two, _ = layouts(storage)
    fail(two, "schedule=gu", 1)
    (pair,) = compare(one, two).pairs
    assert (pair.kind, pair.status, pair.fields) == ("one_finished", ("finished", "failed"), {})
    fail(one, "schedule=gu", 1)
    assert compare(one, two).pairs[0].kind == "both_failed"
    one.run(pair.run_id).record.unlink()
    assert compare(one, two).pairs[0].status == ("open", "failed")
    two.run(pair.run_id).record.write_text("{}")
    found = compare(one, two)
    assert (found.pairs[0].kind, len(found.damaged[1])) == ("open", 1)


def test_a_sweep_beside_itself(kept: Kept, storage: Path) -> None:
    found = compare(kept.one, SweepLayout(storage, "one"))
    assert (found.study, found.inputs, found.only, len(found.of("equal"))) == ((), (), ((), ()), 4)


# -- the study of both ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "schedules", "arms"),
    [
        ({"schedule": ["gu"]}, {"schedule": ["gu"]}, ["gu"], 0),
        ({"schedule": ["gu"], "lr": [1e-3]}, {"schedule": ["rand"], "lr": [1e-3]}, ["gu", "rand"], 0),
        ({"schedule": ["gu"], "lr": [1e-3]}, {"schedule": ["rand"], "lr": [1e-2]}, ["gu"], 1),  # no square of them
        ({"schedule": ["gu"], "k": [2]}, {"schedule": ["standard"], "k": [3]}, ["gu"], 1),
        ({"schedule": ["gu"], "k": [2]}, {"schedule": ["gu"], "k": [3, 4]}, ["gu"], 0),
    ],
)
def test_a_grid_of_both_has_their_points_and_no_others(
    kept: Kept, a: dict[str, Any], b: dict[str, Any], schedules: list[str], arms: int
) -> None:
    one, two = (kept.study(**{f"search__{key}": value for key, value in search.items()}) for search in (a, b))
    both = united(one, two, [])
    assert set(points(both.search)) == {*points(one.search), *points(two.search)}
    assert (list(both.search.schedule), len(both.search.arms)) == (schedules, arms)


@pytest.mark.parametrize(
    ("a", "b", "taken", "wanted"), [(2, 3, 2, 3), (2, 2, 4, 4), (2, None, 2, 6), (None, None, 0, 6), (6, 1, 0, 6)]
)
def test_a_search_of_both_takes_as_many_points_as_either(
    kept: Kept, a: int | None, b: int | None, taken: int, wanted: int
) -> None:
    space = {"search__schedule": ["gu"], "search__k": [1, 2, 3, 4, 5, 6], "search__sampler": "random"}
    one, two = (kept.study(**space, search__points=points) for points in (a, b))
    both = united(one, two, points(one.search)[:taken])
    assert n_points(both.search) == wanted


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training__steps", 11),
        ("search__sampler", "random"),
        ("model__task_adapter__reduction", 2),
        ("data__max_length", 65),
    ],
)
def test_other_studies_are_refused(kept: Kept, key: str, value: Any) -> None:
    with pytest.raises(StudyError, match=f"(?s)different studies.*{key.replace('__', '.')}: .* -> .*{value}"):
        united(kept.study(), kept.study(**{key: value}), [])


def test_budget_resources_and_tests_may_differ(kept: Kept) -> None:
    also = {"more": {"test": "mini", "languages": ["xim"]}}
    other = kept.study(budget__hours=3, resources__cpu=2, description="other", evaluation__also=also)
    both = united(kept.study(), other, [])
    assert (both.budget.hours, both.resources.cpu) == (None, 1)
    assert list(both.evaluation.also) == ["more"]


# -- merge ----------------------------------------------------------------------------------------------------------


def test_merged_and_continued_it_is_the_sweep_of_both(kept: Kept, storage: Path) -> None:
    one, two, both = layouts(storage)
    before = [sha256_tree(layout.root) for layout in (one, two)]
    done = merge(one, two, both)
    assert (done.finished, done.failed, done.left, done.made) == (7, 0, 2, True)
    assert [sha256_tree(layout.root) for layout in (one, two)] == before
    assert sorted(path.name for path in storage.iterdir()) == ["both", "one", "two"]
    merged = read_sweep(both)
    assert merged.damaged == ()
    assert merged.state.ended is not None
    assert merged.state.ended.outcome == "stopped"
    assert [row.step for record in merged.records.values() for row in merged.history(record)]
    for run_id, record in (read_sweep(two).records | read_sweep(one).records).items():
        copied, other = merged.records[run_id], {"epoch", "attempt", "attempt_folder", "provenance"}
        assert copied.model_dump(exclude=other) == record.model_dump(exclude=other)
        assert merged.tests(copied).keys() == {"vel", "orl"}
    loaded = stored_study(both)
    kept.sweep(storage, "both", **BOTH)
    assert loaded.study == kept.study(**BOTH)
    started = [entry for entry in ledgers.read(both.ledger) if isinstance(entry, AttemptStarted)]
    assert [entry.epoch for entry in started] == [1] * 7 + [2] * 2
    whole = kept.sweep(storage, "whole", **BOTH)
    found = compare(whole, both)
    assert [pair.kind for pair in found.pairs] == ["equal"] * 9
    assert (found.study, found.only) == ((), ((), ()))
    assert means(both, loaded.study) == means(whole, loaded.study)


def means(layout: SweepLayout, study: Study) -> Mapping[str, tuple[str, float | None]]:
    """What the search was told of each point."""
    state = read_sweep(layout).state
    optuna = OptunaStudy(layout.optuna, study_name(layout.name, study.search, state.uid), study.search)
    told = {str(one.point): (one.state, one.mean) for one in optuna.asked()}
    optuna.close()
    return told


def test_merged_twice_it_is_there_already(storage: Path) -> None:
    one, two, both = layouts(storage)
    assert merge(one, two, both).made
    before = sha256_tree(both.root)
    again = merge(one, two, both)
    assert (again.made, again.finished, again.left) == (False, 7, 2)
    assert sha256_tree(both.root) == before


def test_a_merged_sweep_that_has_grown_behind_is_refused(kept: Kept, tmp_path: Path) -> None:
    one = kept.begin(tmp_path, "one", 1, **ONE)
    kept.copy(kept.two, tmp_path)
    _, two, both = layouts(tmp_path)
    assert merge(one, two, both).finished == 5
    kept.begin(tmp_path, "one", 2, **ONE)
    with pytest.raises(StudyError, match="was merged from these two before, and they have 1 runs more since"):
        merge(one, two, both)


def test_a_whole_merge_has_ended(kept: Kept, storage: Path) -> None:
    """Two sweeps of one study on two machines, with other seeds: nothing is left."""
    kept.sweep(storage, "a", search__schedule=["gu"], seeds=[0])
    kept.sweep(storage, "b", search__schedule=["gu"], seeds=[1])
    both = SweepLayout(storage, "both")
    assert merge(SweepLayout(storage, "a"), SweepLayout(storage, "b"), both).left == 0
    entries = ledgers.read(both.ledger)
    assert [entry.outcome for entry in entries if isinstance(entry, Ended)] == ["finished"]
    (told,) = [entry for entry in entries if isinstance(entry, Told)]
    scores = [record.source_dev["f1"] for record in read_sweep(both).records.values()]
    assert told.value == pytest.approx(sum(scores) / 2)
    epoch = read_sweep(both).state.epoch
    kept.sweep(storage, "both", search__schedule=["gu"], seeds=[0, 1])
    after = ledgers.read(both.ledger)
    assert {type(entry).__name__ for entry in after if entry.epoch > epoch} == {"Takeover", "Ended"}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_run_that_failed_in_one_has_finished(storage: Path, swapped: bool) -> None:
    one, two, both = layouts(storage)
    failed = fail(two, "schedule=gu", 1)
    fail(two, "schedule=rand", 2, "nan")
    first, second = (two, one) if swapped else (one, two)
    done = merge(first, second, both)
    assert (done.finished, done.failed, done.left) == (6, 1, 2)
    merged = read_sweep(both)
    assert merged.records[failed.run_id].status == "finished"
    assert [record.cause for record in merged.records.values() if record.status == "failed"] == ["nan"]
    (told,) = [entry for entry in ledgers.read(both.ledger) if isinstance(entry, Told)]
    assert (told.state, told.value is not None) == ("complete", True)  # gu, all three seeds


def test_different_results_are_refused_and_nothing_is_written(storage: Path) -> None:
    one, two, both = layouts(storage)
    change(two, "schedule=gu", 1, source_dev={"f1": 1.5, "em": 2.0})
    with pytest.raises(StudyError, match=r"(?s)1 runs finished in both with different results.*source_dev/f1: .*1\.5"):
        merge(one, two, both)
    assert sorted(path.name for path in storage.iterdir()) == ["one", "two"]


def test_damage_is_taken_from_the_other_one_or_refused(storage: Path) -> None:
    one, two, both = layouts(storage)
    (shared,) = compare(one, two).pairs
    spoil(one, shared.run_id)
    merge(one, two, both)
    record = read_record(both.run(shared.run_id).record)
    assert record.provenance["merged_from"] == {"sweep": "two", "attempt": record.attempt_folder}
    shutil.rmtree(both.root)
    spoil(two, shared.run_id)
    with pytest.raises(DamageError, match="is not what was recorded"):
        merge(one, two, both)
    assert sorted(path.name for path in storage.iterdir()) == ["one", "two"]


def spoil(layout: SweepLayout, run_id: str) -> None:
    record = read_record(layout.run(run_id).record)
    name = next(name for name in record.files if name.endswith(".safetensors"))
    path = layout.run(run_id).root / record.attempt_folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def reopen(layout: SweepLayout, **resolved: Any) -> None:
    """As if the sweep had been started with other inputs."""
    lines = ledgers.read(layout.ledger)
    layout.ledger.unlink()
    ledger = ledgers.Ledger.take_over(layout.ledger, host="here", pid=1)
    for entry in lines[1:]:
        if isinstance(entry, Opened):
            entry = entry.model_copy(update={"resolved": {**entry.resolved, **resolved}})
        ledger.append(entry)
    ledger.close()


def test_other_inputs_are_refused(storage: Path) -> None:
    one, two, both = layouts(storage)
    other = {"where": "mini", "revision": "f" * 64}
    reopen(two, train=other, device="cuda")
    assert compare(one, two).inputs[0] == "device: cpu -> cuda"
    with pytest.raises(StudyError, match="the content of device, train is not the same in 'one' and 'two'"):
        merge(one, two, both)
    assert not both.root.exists()


def test_names(storage: Path) -> None:
    one, two, both = layouts(storage)
    for arguments, match in (
        ((one, one, both), "is the sweep 'one' itself"),
        ((one, two, two), "is one of the two: 'two'"),
    ):
        with pytest.raises(StudyError, match=match):
            merge(*arguments)
    shutil.copytree(one.root, both.root)
    with pytest.raises(StudyError, match="another sweep has this name already"):
        merge(one, two, both)
    with pytest.raises(MissingError):
        merge(one, SweepLayout(storage, "none"), SweepLayout(storage, "new"))


def test_refused_while_a_driver_runs(storage: Path) -> None:
    one, two, both = layouts(storage)
    with DriverLock(two.lock), pytest.raises(StoppedError, match="two: runs now: host"):
        merge(one, two, both)
    assert not both.root.exists()


def test_from_two_storages(kept: Kept, tmp_path: Path) -> None:
    one = kept.copy(kept.one, tmp_path / "here")
    same_name = kept.copy(kept.one, tmp_path / "there")
    both = SweepLayout(tmp_path / "third", "both")
    assert merge(one, same_name, both).finished == 4
    numbers = [entry.number for entry in ledgers.read(both.ledger) if isinstance(entry, PointTaken)]
    assert numbers == [0, 1]


def test_a_search_goes_on_with_what_both_found(kept: Kept, tmp_path: Path) -> None:
    space = {"search__schedule": ["gu"], "search__k": [1, 2, 3, 4], "search__sampler": "random", "seeds": [0]}
    one = kept.sweep(tmp_path, "one", **space, search__points=2)
    two = kept.sweep(tmp_path, "two", **space, search__points=2, search__seed=2)
    taken = {*read_sweep(one).points.values(), *read_sweep(two).points.values()}
    both = SweepLayout(tmp_path, "both")
    done = merge(one, two, both)
    assert (done.finished, done.left) == (len(taken), 0)
    study = stored_study(both).study
    assert study.search.points in (len(taken), None)
    assert set(means(both, study)) == {str(point) for point in taken}
