"""Averages and candidates of a really trained sweep: scored once, left and continued, and named where damaged."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from raysched.cli import main
from raysched.errors import DamageError, MissingError, StudyError
from raysched.records import derived, files
from raysched.records.derived import Derived, candidate_steps
from raysched.records.layout import SweepLayout
from raysched.reports.sweep import read_sweep
from raysched.service import deriving
from raysched.service.archive import archive
from raysched.service.deriving import KINDS, Plan, Progress
from raysched.service.merge import merge
from raysched.tasks import predictions
from raysched.training import averaging
from tests.object_store import Store, store  # noqa: F401 - a fixture
from tests.runners.world import mlflow_runs
from tests.service.kept import ONE, Kept

pytestmark = pytest.mark.usefixtures("no_fsync")


@pytest.fixture
def one(kept: Kept, tmp_path: Path) -> SweepLayout:
    return kept.copy(kept.one, tmp_path / "storage")


@pytest.fixture(scope="module")
def done(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """The sweep with everything derived; tests that change it take a copy."""
    layout = kept.copy(kept.one, tmp_path_factory.mktemp("done"))
    make(layout)
    return layout


def planned(layout: SweepLayout, *what: str) -> Plan:
    return deriving.plan(read_sweep(layout), what or tuple(KINDS))


def make(layout: SweepLayout, *what: str) -> list[Progress]:
    sweep = read_sweep(layout)
    return list(deriving.derive(sweep, deriving.plan(sweep, what or tuple(KINDS))))


def entries(layout: SweepLayout) -> dict[str, Derived]:
    found, damaged = derived.read_all(layout)
    assert not damaged
    return found


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with mock.patch.object(sys, "argv", ["raysched", *arguments]), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_everything_that_can_be_made_is_made_once(kept: Kept, done: SweepLayout) -> None:
    sweep = read_sweep(done)
    steps = {run_id: candidate_steps(record.files) for run_id, record in sweep.records.items()}
    assert all(len(each) > 1 for each in steps.values())
    found = entries(done)
    kinds = Counter(entry.kind for entry in found.values())
    others = sum(len(set(each) - {sweep.records[run_id].selected_step}) for run_id, each in steps.items())
    assert kinds == {"checkpoint_average": 4, "seed_average": 2, "candidate": others}
    for name, entry in found.items():
        assert entry.derived_id == name
        assert entry.tests["test"].keys() == {"vel", "orl"}
        assert entry.source_dev.keys() == {"f1", "em"}
        assert entry.versions["packages"]["raysched"]
    assert planned(done).todo == []
    assert planned(done).done == len(found)


def test_an_average_of_seeds_says_of_which_runs_and_steps(done: SweepLayout) -> None:
    sweep = read_sweep(done)
    for number in sweep.points:
        records = sweep.cell(number)
        (entry,) = [
            entry
            for entry in entries(done).values()
            if entry.kind == "seed_average" and entry.cell_id == records[0].cell_id
        ]
        assert entry.run_ids == tuple(record.run_id for record in records)
        assert entry.steps == tuple(record.selected_step for record in records)
        assert (entry.n, entry.seed) == (2, None)


def test_predictions_lie_beside_the_scores_and_give_them(done: SweepLayout) -> None:
    for name, entry in entries(done).items():
        assert entry.files.keys() == {"predictions/vel.parquet", "predictions/orl.parquet"}
        for file, sha256 in entry.files.items():
            path = done.derived / name / file
            assert files.sha256_file(path) == sha256
            origin, made = predictions.read(path)
            assert (origin.run_id, origin.evaluation_id) == (name, entry.evaluations["test"])
            mean = sum(one.f1 or 0.0 for one in made) / len(made)
            assert mean == pytest.approx(entry.tests["test"][origin.language]["f1"])


def test_neither_ledger_nor_records_change(kept: Kept, done: SweepLayout) -> None:
    before, after = (
        {path.relative_to(of.root): files.sha256_file(path) for path in of.root.rglob("*.json*") if path.is_file()}
        for of in (kept.one, done)
    )
    assert {path: sha256 for path, sha256 in after.items() if path.parts[0] != "derived"} == before


@pytest.mark.parametrize(("what", "kind"), KINDS.items())
def test_one_kind_alone(done: SweepLayout, tmp_path: Path, what: str, kind: str) -> None:
    assert {piece.kind for piece in planned_anew(done, tmp_path, what).todo} == {kind}


def planned_anew(layout: SweepLayout, storage: Path, *what: str) -> Plan:
    copy = SweepLayout(shutil.copytree(layout.storage, storage / "anew"), layout.name)
    shutil.rmtree(copy.derived)
    return planned(copy, *what)


def test_left_half_way_and_continued_it_is_the_same(one: SweepLayout, done: SweepLayout) -> None:
    sweep = read_sweep(one)
    first = deriving.plan(sweep, tuple(KINDS))
    for progress in deriving.derive(sweep, first):
        if progress.place == 3 and progress.language == "orl":
            break  # two are made, the third was scored and not yet written
    assert len(entries(one)) == 2
    assert len(list(one.derived.iterdir())) == 3, "predictions of the third are there"
    again = planned(one)
    assert (again.done, len(again.todo)) == (2, len(first.todo) - 2)
    make(one)
    plain = {name: entry.model_dump(exclude={"versions"}) for name, entry in entries(done).items()}
    assert {name: entry.model_dump(exclude={"versions"}) for name, entry in entries(one).items()} == plain


def test_a_half_finished_sweep_gives_what_there_is(kept: Kept, tmp_path: Path) -> None:
    layout = kept.begin(tmp_path, "half", 3, **ONE)
    first = planned(layout)
    kinds = Counter(piece.kind for piece in first.todo)
    assert (kinds["seed_average"], kinds["checkpoint_average"]) == (1, 3)
    assert first.lacking == {"no average over seeds: the cell has not finished": 1}
    assert all(progress.error is None for progress in make(layout, "seeds"))
    assert len(entries(layout)) == 1


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def candidate(layout: SweepLayout) -> tuple[str, Path]:
    """A run, and one file of its first candidate."""
    record = next(iter(read_sweep(layout).records.values()))
    name = next(name for name in record.files if name.startswith("candidates/") and "head" in name)
    return record.run_id, layout.run(record.run_id).root / record.attempt_folder / name


@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_what_is_made_of_damaged_candidates_is_named_and_the_rest_is_made(
    one: SweepLayout, done: SweepLayout, how: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, path = candidate(one)
    how(path)
    assert run("derive", "one", "--storage", str(one.storage)) == DamageError.exit_code
    told = capsys.readouterr()
    assert str(path) in told.err
    assert "is missing or is not what was recorded" in told.err
    lost = [entry for name, entry in entries(done).items() if name not in entries(one)]
    assert {entry.run_ids for entry in lost} == {(run_id,)}
    assert 1 <= len(lost) <= 2
    assert "checkpoint_average" in {entry.kind for entry in lost}


def test_a_damaged_entry_is_named_and_made_again(done: SweepLayout, tmp_path: Path) -> None:
    copy = SweepLayout(shutil.copytree(done.storage, tmp_path / "copy"), "one")
    name, entry = next(iter(entries(copy).items()))
    damage(copy.derived / name / "result.json")
    found, damaged = derived.read_all(copy)
    assert name not in found
    assert [name in text for text in damaged] == [True]
    assert [piece.derived_id for piece in planned(copy).todo] == [name]
    make(copy)
    assert entries(copy)[name].tests == entry.tests


def test_an_entry_in_anothers_place_is_damaged(done: SweepLayout, tmp_path: Path) -> None:
    copy = SweepLayout(shutil.copytree(done.storage, tmp_path / "copy"), "one")
    first, second = list(entries(copy))[:2]
    shutil.copy(copy.derived / first / "result.json", copy.derived / second / "result.json")
    found, damaged = derived.read_all(copy)
    assert second not in found
    assert len(damaged) == 1


def test_without_candidates_the_next_step_is_said(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = kept.sweep(tmp_path, "none", search__schedule=["standard"], seeds=[0, 1], evaluation__candidates=0)
    storage = ("--storage", str(tmp_path))
    assert run("derive", "none", *storage, "--what", "checkpoints,oracle") == MissingError.exit_code
    told = capsys.readouterr().err
    assert "trained without candidates (2)" in told
    assert "--set evaluation.candidates=5, under another --name" in told
    assert run("derive", "none", *storage) == 0
    told = capsys.readouterr().out
    assert "left out: trained without candidates (2)" in told
    assert "1 derived, 0 were there" in told
    assert [entry.kind for entry in entries(layout).values()] == ["seed_average"]
    assert run("derive", "none", *storage) == 0
    assert "0 derived, 1 were there" in capsys.readouterr().out


def test_bad_words_and_no_sweep(one: SweepLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudyError, match="checkpoints, seeds, oracle"):
        deriving.kinds("seeds,best")
    assert deriving.kinds(None) == deriving.kinds("checkpoints, seeds,oracle,seeds") == tuple(KINDS)
    assert run("derive", "one", "--storage", str(one.storage), "--what", "") == StudyError.exit_code
    assert run("derive", "two", "--storage", str(one.storage)) == MissingError.exit_code
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_finished(kept: Kept, tmp_path: Path) -> None:
    layout = kept.begin(tmp_path, "begun", 0, **ONE)
    with pytest.raises(MissingError, match="no run of begun is done yet"):
        deriving.read(layout)


def test_other_inputs_than_the_sweeps_are_refused(one: SweepLayout, kept: Kept, tmp_path: Path) -> None:
    """The backbone has changed since."""
    sweep = read_sweep(one)
    content = sweep.resolved.backbone.model_copy(update={"revision": "0" * 64})
    other = type(sweep)(
        layout=one,
        state=sweep.state,
        study=sweep.study,
        resolved=sweep.resolved.model_copy(update={"backbone": content}),
        records=sweep.records,
    )
    with pytest.raises(StudyError, match="backbone"):
        list(deriving.derive(other, deriving.plan(sweep, ("seeds",))))


def test_ctrl_c_leaves_what_is_done(one: SweepLayout, capsys: pytest.CaptureFixture[str]) -> None:
    plain, calls = averaging.scored, 0

    def pressed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(averaging, "scored", pressed)
        assert run("derive", "one", "--storage", str(one.storage), "--what", "seeds") == 130
    told = capsys.readouterr().err
    assert "stopped by Ctrl-C; 1 of 2 are done and stay" in told
    assert "continue: raysched" in told
    assert len(entries(one)) == 1
    assert run("derive", "one", "--storage", str(one.storage), "--what", "seeds") == 0
    assert len(entries(one)) == 2


def test_an_archive_holds_what_was_derived(done: SweepLayout, tmp_path: Path) -> None:
    path = archive(done, tmp_path / "one.tar.gz").path
    with tarfile.open(path) as tar:
        held = {name for name in tar.getnames() if name.startswith("one/derived/") and name.endswith("result.json")}
        candidates = [name for name in tar.getnames() if "/candidates/step-" in name and name.endswith(".safetensors")]
    assert held == {f"one/derived/{name}/result.json" for name in entries(done)}
    assert candidates


def test_mlflow_gets_the_adapters_and_no_candidates(one: SweepLayout) -> None:
    assert run("sync", "one", "--storage", str(one.storage)) == 0
    artifacts = [logged.artifacts for logged in mlflow_runs(one) if logged.level == "run"]
    assert len(artifacts) == 4
    assert all("adapter" in found and "candidates" not in found for found in artifacts)


@pytest.mark.timeout(180)
def test_in_an_object_store_another_machine_sees_and_continues_it(kept: Kept, store: Store) -> None:  # noqa: F811
    fresh = store.fresh()
    merge(kept.one, kept.two, fresh.layout("a", "both"))
    with fresh.machine("b"):
        layout = SweepLayout(fresh.uri, "both")
        sweep = read_sweep(layout)
        first = deriving.plan(sweep, ("seeds", "checkpoints"))
        for progress in deriving.derive(sweep, first):
            if progress.made and progress.place == 2:
                break
        made = entries(layout)
        assert len(made) == 2
    with fresh.machine("c"):
        layout = SweepLayout(fresh.uri, "both")
        assert entries(layout) == made
        again = planned(layout, "seeds", "checkpoints")
        assert (again.done, len(again.todo)) == (2, len(first.todo) - 2)
        assert not list(layout.derived.rglob("*.parquet")), "a report needs none of them"
        layout.pull(layout.derived)
        assert len(list(layout.derived.rglob("*.parquet"))) == 4
