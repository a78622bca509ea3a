"""A damaged checkpoint is never loaded; the one before it, or the beginning, continues the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.errors import DamageError
from raysched.records.layout import AttemptLayout
from raysched.training import checkpoint
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.events import StepDone, TrainingEvent
from raysched.training.loop import TrainingRun
from tests.training.tiny_training import STEPS, Outcome, Tiny, execute, same

Folder = Callable[[], Path]
TENSORS = ("weights.safetensors", "optimizer.safetensors", "best.safetensors", "candidates.safetensors")
FILES = (*TENSORS, "state.json", "manifest.json")
EVERY = {"training__checkpoint_every_steps": 3}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def step_7(path: Path) -> None:
    """A manifest of valid JSON that says something else."""
    path.write_text(path.read_text().replace('"step": 6', '"step": 7'))


@pytest.fixture(scope="module")
def whole(tiny: Tiny, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome = execute(bench, tiny.spec("fun", **EVERY), tmp_path_factory.mktemp("whole"))
    assert outcome is not None
    return outcome


@pytest.fixture(scope="module")
def made(tiny: Tiny, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An attempt that was killed at step 8, with checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("made") / "attempt-0-0"
    for event in Attempt(bench, tiny.spec("fun", **EVERY), AttemptLayout(folder), []).events():
        if event.step == 8:
            break
    return folder


@pytest.fixture
def left(made: Path, new_folder: Folder) -> Path:
    return Path(shutil.copytree(made, new_folder()))


def continued(
    bench: Bench, tiny: Tiny, whole: Outcome, here: Path, earlier: list[Path]
) -> tuple[int, list[tuple[int, str]]]:
    """(first step of the continued run, its notes); what it ends with is that of the undisturbed run."""
    spec = tiny.spec("fun", **EVERY)
    steps: list[int] = []

    def watch(event: TrainingEvent) -> bool:
        if isinstance(event, StepDone):
            steps.append(event.step)
        return False

    outcome = execute(bench, spec, here, earlier, leave=watch)
    assert outcome is not None
    notes = [(step, data["text"]) for kind, step, data in outcome.rows if kind == "note"]
    outcome.rows[:] = [row for row in outcome.rows if row[0] != "note"]
    same(outcome, whole)
    return steps[0], notes


def test_only_the_newest_two_are_kept(tiny: Tiny, bench: Bench, new_folder: Folder) -> None:
    folder = new_folder()
    execute(bench, tiny.spec("fun", training__checkpoint_every_steps=1), folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000009", "step-00000010"]


@pytest.mark.parametrize("own", [True, False])
def test_an_undamaged_one_is_continued(
    tiny: Tiny, bench: Bench, whole: Outcome, left: Path, new_folder: Folder, own: bool
) -> None:
    here, earlier = (left, []) if own else (new_folder(), [left])
    assert continued(bench, tiny, whole, here, earlier) == (7, [])


@pytest.mark.parametrize("own", [True, False], ids=["same folder", "next attempt"])
@pytest.mark.parametrize(
    ("damage", "name"),
    [*((damage, name) for damage in (truncate, flip, empty, remove) for name in FILES), (step_7, "manifest.json")],
)
def test_the_one_before_a_damaged_one_is_used(
    tiny: Tiny,
    bench: Bench,
    whole: Outcome,
    left: Path,
    new_folder: Folder,
    damage: Callable[[Path], None],
    name: str,
    own: bool,
) -> None:
    damage(left / "checkpoints" / "step-00000006" / name)
    here, earlier = (left, []) if own else (new_folder(), [left])
    spec = tiny.spec("fun", **EVERY)
    attempt = Attempt(bench, spec, AttemptLayout(here), [AttemptLayout(path) for path in earlier])
    assert attempt.step == 3
    # Whether what follows is right is the same question for every damage; it is asked of a few of them.
    if (damage, name) in ((flip, "optimizer.safetensors"), (remove, "manifest.json")):
        first, notes = continued(bench, tiny, whole, here, earlier)
        assert first == 4
        if not own:  # there the attempt above took the damaged one away, and another begins after it
            assert [step for step, _ in notes] == [3]
            assert "checkpoint passed over" in notes[0][1]
            assert name in notes[0][1]


def test_with_all_of_them_damaged_a_run_begins_anew(
    tiny: Tiny, bench: Bench, whole: Outcome, left: Path, new_folder: Folder
) -> None:
    flip(left / "checkpoints" / "step-00000006" / "weights.safetensors")
    remove(left / "checkpoints" / "step-00000003" / "best.safetensors")
    first, notes = continued(bench, tiny, whole, new_folder(), [left])
    assert first == 1
    assert [step for step, _ in notes] == [0, 0]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("damage", [flip, remove])
def test_a_checkpoint_is_not_used_without_the_history_it_seals(
    tiny: Tiny,
    bench: Bench,
    whole: Outcome,
    left: Path,
    new_folder: Folder,
    damage: Callable[[Path], None],
    own: bool,
) -> None:
    damage(left / "segments" / "00000003-00000006.jsonl")
    here, earlier = (left, []) if own else (new_folder(), [left])
    first, notes = continued(bench, tiny, whole, here, earlier)
    assert first == 4
    assert len(notes) == 1
    assert "00000003-00000006.jsonl" in notes[0][1]


def test_damaged_ones_do_not_count_among_those_kept(tiny: Tiny, bench: Bench, left: Path) -> None:
    flip(left / "checkpoints" / "step-00000006" / "weights.safetensors")
    spec = tiny.spec("fun", **EVERY)
    assert execute(bench, spec, left, leave=lambda e: isinstance(e, StepDone) and e.step == 4) is None
    names = sorted(path.name for path in (left / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000004"]
    for name in names:
        checkpoint.read(left / "checkpoints" / name)


def test_a_half_written_one_is_ignored_and_swept_up(tiny: Tiny, bench: Bench, whole: Outcome, left: Path) -> None:
    half = left / "checkpoints" / ".step-00000009.4711"
    shutil.copytree(left / "checkpoints" / "step-00000006", half)
    (half / "manifest.json").unlink()
    assert continued(bench, tiny, whole, left, []) == (7, [])
    assert not half.exists()


def test_a_checkpoint_of_another_model_is_refused(tiny: Tiny, bench: Bench, left: Path) -> None:
    other = TrainingRun(bench, tiny.spec("fun", model__task_adapter__reduction=2))
    with pytest.raises(DamageError, match="is of another model"):
        checkpoint.load(checkpoint.read(left / "checkpoints" / "step-00000006"), other)
    wrong = TrainingRun(bench, tiny.spec("reverse"))
    with pytest.raises(DamageError):
        checkpoint.load(checkpoint.read(left / "checkpoints" / "step-00000006"), wrong)


def test_the_format(left: Path) -> None:
    folder = left / "checkpoints" / "step-00000006"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    state = json.loads((folder / "state.json").read_text())
    assert (state["step"], state["told"]) == (6, "checkpoint")
    assert [(event["step"], len(event["layers"])) for event in state["log"]] == [(2, 1), (4, 1), (6, 1)]
    assert state["best_step"] <= 6 < STEPS
