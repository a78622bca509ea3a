"""A test set that is added to a finished sweep: every run is tested on it, none is trained again."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, DONE, RunError
from raysched.records.entries import Ended, Recorded, Told
from raysched.records.history import read_segments
from raysched.records.layout import AttemptLayout, SweepLayout
from raysched.records.record import Record, read_result
from raysched.runners.assignment import Assignment
from raysched.study.identity import Content, RunSpec
from raysched.study.space import points
from raysched.training.attempt import Attempt
from raysched.training.late_evaluation import LateEvaluation
from tests.processes import shell
from tests.runners.bed import LANGUAGES, RESOLVED, Bed, End, Killed, claim, study, succeed
from tests.runners.world import NAME, arguments, mlflow_runs, records
from tests.training.tiny_training import Tiny

NewBed = Callable[..., Bed]
OTHER = Content(where="mini", revision="1" * 64)
MORE = {"far": {"test": "mini", "languages": ["xim", "vel"]}}


def with_more(bed: Bed) -> Bed:
    """The same sweep, its study with another test set."""
    bed.study = study(evaluation__also={"far": {"test": "mini", "languages": list(LANGUAGES)}})
    bed.resolved = RESOLVED.model_copy(update={"also": {"far": dict.fromkeys(LANGUAGES, OTHER)}})
    return bed


def n_tests(bed: Bed) -> list[int]:
    return [len(record.tests) for record in bed.records()]


def test_every_run_is_tested_once_and_told_nothing_new(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep()
    told, before = bed.told(), bed.records()
    late: list[bool] = []

    def play(assignment: Assignment) -> End:
        late.append(assignment.late)
        return succeed(assignment)

    driver = with_more(bed).sweep(play)
    assert driver.complete
    assert late == [True] * 4
    assert n_tests(bed) == [2] * 4
    assert [(r.run_id, r.source_dev, r.seed) for r in bed.records()] == [
        (r.run_id, r.source_dev, r.seed) for r in before
    ]
    assert bed.told() == told
    assert sum(isinstance(entry, Told) for entry in bed.entries()) == 2
    assert sum(isinstance(entry, Recorded) for entry in bed.entries()) == 8
    bed.sweep()
    assert len(bed.executed) == 8


def test_with_a_half_finished_sweep_training_goes_first(new_bed: NewBed) -> None:
    bed = new_bed()
    driver = bed.driver()
    bed.work(driver, ends=3)
    driver.close()
    late: list[bool] = []

    def play(assignment: Assignment) -> End:
        late.append(assignment.late)
        return succeed(assignment)

    with_more(bed).sweep(play, slots=2)
    assert late == [False, True, True, True]
    assert n_tests(bed) == [2] * 4


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_every_append(new_bed: NewBed, before: bool) -> None:
    for die_at in range(2, 15):  # takeover, 4 x (attempt, end, recorded), ended
        bed = new_bed()
        bed.sweep()
        told = bed.told()
        with contextlib.suppress(Killed):
            with_more(bed).sweep(die_at=die_at, before=before)
        bed.sweep()
        assert n_tests(bed) == [2] * 4
        assert bed.told() == told


def test_a_result_that_was_not_recorded_is_adopted(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep()
    assignment = with_more(bed).driver().next()
    assert assignment is not None
    claim(assignment)
    bed.sweep()
    assert n_tests(bed) == [2] * 4
    assert len(bed.executed) == 4 + 3


@pytest.mark.parametrize(("cause", "tries"), [("checkpoint", 1), ("data", 1), ("worker_lost", 3)])
def test_one_that_cannot_be_tested_stays_done_and_is_tried_again_later(new_bed: NewBed, cause: str, tries: int) -> None:
    bed = new_bed()
    bed.sweep()
    before = bed.records()
    driver = with_more(bed).sweep(lambda assignment: ("failed", cause))
    assert len(bed.executed) == 4 + 4 * tries
    assert bed.records() == before
    assert driver.untested.keys() == {record.run_id for record in before}
    (*_, last) = bed.entries()
    assert isinstance(last, Ended)
    assert last.outcome == "stopped"  # so the same command has something to do
    bed.sweep()
    assert n_tests(bed) == [2] * 4


# On a trained model


def only_run(tiny: Tiny, schedule: str, **settings: object) -> RunSpec:
    """The run of the study's only point, whatever trains in it."""
    study = tiny.study(schedule, **settings)
    (point,) = points(study.search)
    return RunSpec.make(study, tiny.resolve(study), point, 0)


def trained(tiny: Tiny, folder: Path, schedule: str, **settings: object) -> tuple[Record, AttemptLayout]:
    spec = only_run(tiny, schedule, **settings)
    layout = AttemptLayout(folder / "attempt-1-1").create()
    for _ in Attempt(tiny.bench(spec), spec, layout, [], epoch=1, number=1).events():
        pass
    result = read_result(layout.result)
    return result.to_record(cell_id=spec.cell_id, params=spec.point.params(), seed=0), layout


def test_it_gives_what_testing_at_once_would_have_given(tiny: Tiny, tmp_path: Path) -> None:
    languages = ["vel", "orl"]
    more = {"far": {"test": "mini", "languages": ["xim"]}}
    record, accepted = trained(tiny, tmp_path / "later", "gu", evaluation__languages=languages)
    at_once, there = trained(tiny, tmp_path / "once", "gu", evaluation__languages=languages, evaluation__also=more)
    spec = tiny.spec("gu", evaluation__languages=languages, evaluation__also=more)
    assert spec.run_id == record.run_id == at_once.run_id
    layout = AttemptLayout(tmp_path / "later" / "attempt-2-1").create()
    late = LateEvaluation(tiny.bench(spec), spec, layout, [accepted], record=record, epoch=2, number=1)
    told = [type(event).__name__ for event in late.events()]
    assert told == ["Tested", "Finished"]
    result = read_result(layout.result)
    assert result.tests == at_once.tests
    assert result.files == at_once.files
    for name in ("vel.parquet", "orl.parquet", "far/xim.parquet"):
        assert (layout.predictions / name).read_bytes() == (there.predictions / name).read_bytes()
    same = ("source_dev", "steps", "selected_step", "unfreeze_order", "started_ms", "ended_ms", "train_seconds")
    assert all(getattr(result, name) == getattr(record, name) for name in same)
    assert result.segments[:-1] == record.segments  # what was uploaded stays as it was
    (tested,) = read_segments(layout.segments, result.segments[-1:])
    assert (tested.kind, tested.data["test_set"], tested.data["language"]) == ("tested", "far", "xim")
    shutil.rmtree(accepted.root)  # a third one needs only the newest folder
    again = result.to_record(cell_id=spec.cell_id, params=spec.point.params(), seed=0)
    wider = tiny.spec("gu", evaluation__languages=["orl"], evaluation__also=more)
    layout = AttemptLayout(tmp_path / "later" / "attempt-3-1").create()
    for _ in LateEvaluation(tiny.bench(wider), wider, layout, [late.layout], record=again, epoch=3, number=1).events():
        pass
    assert len(read_result(layout.result).tests) == 3


@pytest.mark.parametrize("method", ["adapters", "full"])
@pytest.mark.parametrize("left", ["all", "adapter", "checkpoint", "checkpoint elsewhere"])
def test_what_was_selected_is_taken_from_wherever_it_is_whole(
    tiny: Tiny, tmp_path: Path, method: str, left: str
) -> None:
    settings = {"search__method": [method]}
    record, accepted = trained(tiny, tmp_path, "gu", **settings)
    _, whole = trained(tiny, tmp_path / "at once", "gu", evaluation__also=MORE, **settings)
    other = AttemptLayout(tmp_path / "attempt-1-2").create()
    last = accepted.checkpoint(record.steps)
    if left == "checkpoint elsewhere":
        shutil.move(last, other.checkpoints)
    if left == "adapter":
        (last / "best.safetensors").write_bytes(b"damaged")
    if left.startswith("checkpoint"):
        (accepted.root / "adapter" / "head.safetensors").write_bytes(b"damaged")
    spec = only_run(tiny, "gu", evaluation__also=MORE, **settings)
    layout = AttemptLayout(tmp_path / "attempt-2-1").create()
    late = LateEvaluation(tiny.bench(spec), spec, layout, [accepted, other], record=record, epoch=2, number=1)
    assert [type(event).__name__ for event in late.events()] == ["Tested", "Tested", "Finished"]
    result, wanted = read_result(layout.result), read_result(whole.result)
    assert result.tests == wanted.tests
    assert result.files == wanted.files
    assert result.unfreeze_order == wanted.unfreeze_order
    assert (result.source_dev, result.selected_step) == (wanted.source_dev, wanted.selected_step)
    for name in ("far/xim.parquet", "far/vel.parquet"):
        assert (layout.predictions / name).read_bytes() == (whole.predictions / name).read_bytes()


def test_where_nothing_of_it_is_whole_it_says_what_and_where(tiny: Tiny, tmp_path: Path) -> None:
    record, accepted = trained(tiny, tmp_path, "standard")
    spec = tiny.spec("standard", evaluation__also=MORE)
    bench = tiny.bench(spec)

    def refused(record: Record, message: str) -> None:
        layout = AttemptLayout(tmp_path / "attempt-2-1").create()
        with pytest.raises(RunError, match=message) as caught:
            LateEvaluation(bench, spec, layout, [accepted], record=record)
        told = str(caught.value)
        assert f"run {record.run_id} left in {accepted.root} is gone or damaged" in told
        assert "next:  put that folder back from a backup, or sweep under another --name" in told
        assert "Errno" not in told
        assert caught.value.cause == "checkpoint"

    damaged = record.model_copy(update={"files": {**record.files, "predictions/vel.parquet": "0" * 64}})
    refused(damaged, r"vel\.parquet: is missing or is not what was recorded")
    (accepted.root / "adapter" / "adapter.safetensors").unlink()
    other = record.model_copy(update={"files": {**record.files, "adapter/head.safetensors": "0" * 64}})
    refused(other, "no checkpoint of its attempts holds the same")  # one of other tensors is not taken
    shutil.rmtree(accepted.checkpoint(record.steps))
    refused(record, r"adapter\.safetensors: is missing .*; and no checkpoint of its attempts holds the same")


# The command


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_finished_sweep_gets_a_test_set(tiny: Tiny, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    layout = SweepLayout(storage, NAME)
    with shell(tmp_path) as one:
        code, output = one.run(*arguments(tiny, storage, seeds=1, training__steps=40))
        assert code == DONE, output
        before = records(layout)
        runs = {run.id: run for run in mlflow_runs(layout) if run.level == "run"}
        more = arguments(tiny, storage, "--set", f"evaluation.also={json.dumps(MORE)}", seeds=1, training__steps=40)
        code, output = one.run(*more)
        assert code == DONE, output
        assert "2 runs are done; nothing was left to do." not in output
        code, output = one.run(*more)
        assert code == DONE, output
        assert "nothing was left to do." in output
        code, output = one.run(*arguments(tiny, storage, seeds=1, training__steps=41))
        assert code == BAD_INPUT, output
    after = records(layout)
    assert after.keys() == before.keys()
    for run_id, record in after.items():
        assert record.tests.items() > before[run_id].tests.items()
        assert {**record.files, **before[run_id].files} == record.files
        (added,) = record.tests.keys() - before[run_id].tests.keys()
        assert record.tests[added].keys() == {"xim", "vel"}
    now = {run.id: run for run in mlflow_runs(layout) if run.level == "run"}
    assert now.keys() == runs.keys()  # the same MLflow runs, with more in them
    for run in now.values():
        assert {"test/far/xim/f1", "test/far/average/f1", "test/xim/f1"} <= run.metrics.keys()
        assert runs[run.id].metrics.items() <= run.metrics.items()
    cells = [run for run in mlflow_runs(layout) if run.level == "cell"]
    assert all("mean/test/far/average/f1" in cell.metrics for cell in cells)
