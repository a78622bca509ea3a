"""The adapters of a run's last evaluations are kept, survive any interruption, and change nothing of the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from raysched.records import files
from raysched.records.derived import candidate_steps
from raysched.records.layout import AttemptLayout
from raysched.records.record import read_result
from raysched.runners.changes import MAY_CHANGE
from raysched.study.load import diff
from raysched.training import checkpoint
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.events import Evaluated, StepDone, TrainingEvent
from raysched.training.late_evaluation import LateEvaluation
from tests.training.tiny_training import Outcome, Tiny, execute, same

Folder = Callable[[], Path]
KEPT = {"evaluation__candidates": 2}


@pytest.fixture(scope="module")
def whole(tiny: Tiny, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path, list[int]]:
    """An undisturbed run that keeps two candidates, its folder, and the steps that were evaluated."""
    folder, evaluated = tmp_path_factory.mktemp("whole") / "attempt-0-0", []

    def watch(event: TrainingEvent) -> bool:
        if isinstance(event, Evaluated):
            evaluated.append(event.step)
        return False

    outcome = execute(bench, tiny.spec("gu", **KEPT), folder, leave=watch)
    assert outcome is not None
    return outcome, folder, evaluated


def candidates(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file of a finished attempt's candidates."""
    found = {name: digest for name, digest in read_result(folder / "result.json").files.items() if "candidates" in name}
    there = {path.relative_to(folder).as_posix() for path in (folder / "candidates").rglob("*") if path.is_file()}
    assert found.keys() == there
    assert all(files.sha256_file(folder / name) == digest for name, digest in found.items())
    return found


def at(step: int) -> Callable[[TrainingEvent], bool]:
    return lambda event: isinstance(event, StepDone) and event.step == step


def test_the_last_ones_are_kept_in_the_layout_of_the_adapter(whole: tuple[Outcome, Path, list[int]]) -> None:
    outcome, folder, evaluated = whole
    assert len(evaluated) > 2
    kept = candidates(folder)
    assert candidate_steps(kept) == tuple(evaluated[-2:])
    names = {name.removeprefix("adapter/") for name in outcome.adapter}
    for step in evaluated[-2:]:
        assert {name.rpartition("/")[2] for name in kept if f"step-{step:08d}/" in name} == names
    assert len(set(kept.values())) > len(names), "they are different adapters"


def test_the_selected_one_among_them_is_the_adapter(
    tiny: Tiny, bench: Bench, new_folder: Folder, whole: tuple[Outcome, Path, list[int]]
) -> None:
    folder = new_folder()
    outcome = execute(bench, tiny.spec("gu", evaluation__candidates=10), folder)
    assert outcome is not None
    kept = candidates(folder)
    assert candidate_steps(kept) == tuple(whole[2]), "never more than were evaluated"
    selected = f"candidates/step-{outcome.selected_step:08d}"
    assert {name: kept[name.replace("adapter", selected, 1)] for name in outcome.adapter} == outcome.adapter


@pytest.mark.parametrize("n", [0, 1, 3, 5, 6, 10])
def test_a_run_is_the_same_however_many_are_kept(
    tiny: Tiny, bench: Bench, new_folder: Folder, whole: tuple[Outcome, Path, list[int]], n: int
) -> None:
    one, other = tiny.spec("gu", **KEPT), tiny.spec("gu", evaluation__candidates=n)
    assert (one.run_id, one.cell_id, one.evaluation_ids) == (other.run_id, other.cell_id, other.evaluation_ids)
    folder = new_folder()
    same(execute(bench, other, folder), whole[0])
    assert len(candidate_steps(candidates(folder))) == min(n, len(whole[2]))


def test_another_number_is_no_other_study(tiny: Tiny) -> None:
    (line,) = diff(tiny.study(), tiny.study(evaluation__candidates=3))
    assert line.startswith(MAY_CHANGE)


@pytest.mark.parametrize("step", [1, 4, 7, 9, 10])
def test_continued_they_are_the_same_bit_by_bit(
    tiny: Tiny, bench: Bench, new_folder: Folder, whole: tuple[Outcome, Path, list[int]], step: int
) -> None:
    spec, first, second = tiny.spec("gu", **KEPT), new_folder(), new_folder()
    assert execute(bench, spec, first, leave=at(step)) is None
    same(execute(bench, spec, second, [first]), whole[0])
    assert candidates(second) == candidates(whole[1])


def old(folder: Path) -> None:
    """The checkpoint as versions without candidates wrote it."""
    manifest = files.read_checked(folder / "manifest.json")
    for name in ("files", "sizes"):
        del manifest[name]["candidates.safetensors"]
    (folder / "candidates.safetensors").unlink()
    files.write_checked(folder / "manifest.json", manifest)


def test_a_checkpoint_of_an_older_version_is_continued(
    tiny: Tiny, bench: Bench, new_folder: Folder, whole: tuple[Outcome, Path, list[int]]
) -> None:
    spec, first, second = tiny.spec("gu", **KEPT), new_folder(), new_folder()
    assert execute(bench, spec, first, leave=at(9)) is None
    (newest, *others) = checkpoint.newest_first([first / "checkpoints"])
    assert "candidates.safetensors" in {path.name for path in newest.iterdir()}
    for path in (newest, *others):
        old(path)
    same(execute(bench, spec, second, [first]), whole[0])
    assert candidate_steps(candidates(second)) == (10,), "what was evaluated before it is gone"


def test_a_damaged_one_makes_the_checkpoint_a_damaged_one(tiny: Tiny, bench: Bench, new_folder: Folder) -> None:
    spec, first = tiny.spec("gu", **KEPT, training__checkpoint_every_steps=3), new_folder()
    for event in Attempt(bench, spec, AttemptLayout(first), []).events():
        if event.step == 8:
            break
    path = first / "checkpoints" / "step-00000006" / "candidates.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert Attempt(bench, spec, AttemptLayout(new_folder()), [AttemptLayout(first)]).step == 3


def test_fewer_asked_for_later_are_fewer(tiny: Tiny, bench: Bench, new_folder: Folder) -> None:
    first, second = new_folder(), new_folder()
    assert execute(bench, tiny.spec("gu", evaluation__candidates=9), first, leave=at(8)) is None
    newest = checkpoint.newest_first([first / "checkpoints"])[0]
    assert len({name.partition("/")[0] for name in load_file(newest / "candidates.safetensors")}) > 1
    execute(bench, tiny.spec("gu", evaluation__candidates=1), second, [first])
    assert candidate_steps(candidates(second)) == (10,)


def test_full_fine_tuning_keeps_none(tiny: Tiny, bench: Bench, new_folder: Folder) -> None:
    study = tiny.study("standard", **KEPT, search__method=["full"])
    spec = tiny.spec("standard", **KEPT)
    full = type(spec).make(study, spec.resolved, type(spec.point)(schedule="standard", lr=1e-3, method="full"), 0)
    folder = new_folder()
    assert execute(bench, full, folder) is not None
    assert candidates(folder) == {}
    assert not list(folder.glob("checkpoints/*/candidates.safetensors"))


@pytest.mark.parametrize("damaged", [False, True])
def test_an_attempt_that_only_tests_takes_them_along(
    tiny: Tiny, bench: Bench, tmp_path: Path, whole: tuple[Outcome, Path, list[int]], damaged: bool
) -> None:
    spec = tiny.spec("gu", **KEPT)
    first = AttemptLayout(Path(shutil.copytree(whole[1], tmp_path / "attempt-0-0")))
    record = read_result(first.result).to_record(cell_id=spec.cell_id, params=spec.point.params(), seed=spec.seed)
    lost = f"candidates/step-{whole[2][-1]:08d}/"
    if damaged:
        (first.root / lost / "head.safetensors").write_bytes(b"damaged")
    second = AttemptLayout(tmp_path / "attempt-0-1")
    for _ in LateEvaluation(bench, spec, second, [first], record=record, number=1).events():
        pass
    expected = candidates(whole[1])
    assert candidates(second.root) == {
        name: digest for name, digest in expected.items() if not (damaged and name.startswith(lost))
    }
    assert {name: read_result(second.result).files[name] for name in whole[0].adapter} == whole[0].adapter
