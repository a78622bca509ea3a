"""A run that is left at any event and continued elsewhere equals one that was not, bit by bit (CPU)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.records.layout import AttemptLayout
from raysched.training import events as told
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.events import StepDone, TrainingEvent
from tests.training.tiny_training import SCHEDULES, STEPS, Outcome, Tiny, execute, same

Folder = Callable[[], Path]
Undisturbed = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def undisturbed(tiny: Tiny, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The outcome of a schedule's run that nobody interrupted."""
    known: dict[str, Outcome] = {}

    def of(schedule: str) -> Outcome:
        if schedule not in known:
            outcome = execute(bench, tiny.spec(schedule), tmp_path_factory.mktemp("whole"))
            assert outcome is not None
            known[schedule] = outcome
        return known[schedule]

    return of


class Leave:
    """Says when to leave: `events` events after the first step of an attempt (0: right after it)."""

    def __init__(self, events: int) -> None:
        self.events, self.seen = events, -1

    def __call__(self, event: TrainingEvent) -> bool:
        self.seen += isinstance(event, StepDone) or self.seen >= 0
        return self.seen >= self.events


def chain(bench: Bench, tiny: Tiny, schedule: str, new_folder: Folder, events: int) -> tuple[Outcome, int]:
    """A run cut into attempts, each left `events` events after its first step; (its outcome, number of attempts)."""
    spec, folders = tiny.spec(schedule), [new_folder()]
    while True:
        outcome = execute(bench, spec, folders[-1], folders[:-1], leave=Leave(events))
        if outcome is not None:
            return outcome, len(folders)
        folders.append(new_folder())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_left_after_every_single_step_is_the_undisturbed_one(
    tiny: Tiny, bench: Bench, undisturbed: Undisturbed, new_folder: Folder, schedule: str
) -> None:
    outcome, attempts = chain(bench, tiny, schedule, new_folder, 0)
    same(outcome, undisturbed(schedule))
    assert attempts == STEPS + 1


@pytest.mark.parametrize("schedule", ["gu", "fun"])
@pytest.mark.parametrize("events", [1, 2, 3, 4, 5])
def test_a_run_left_between_two_steps_is_the_undisturbed_one(
    tiny: Tiny, bench: Bench, undisturbed: Undisturbed, new_folder: Folder, schedule: str, events: int
) -> None:
    outcome, attempts = chain(bench, tiny, schedule, new_folder, events)
    same(outcome, undisturbed(schedule))
    assert attempts > 2


@pytest.mark.parametrize("kind", [told.FisherMeasured, told.Evaluated, told.CheckpointDue, told.Unfroze, told.Tested])
def test_a_run_left_at_its_last_event_of_a_kind_is_the_undisturbed_one(
    tiny: Tiny, bench: Bench, undisturbed: Undisturbed, new_folder: Folder, kind: type[TrainingEvent]
) -> None:
    spec, first, second = tiny.spec("fun"), new_folder(), new_folder()
    rows = {told.FisherMeasured: "fisher", told.Evaluated: "evaluated", told.Unfroze: "unfroze", told.Tested: "tested"}
    left_at = [step for name, step, _ in undisturbed("fun").rows if name == rows.get(kind)] or [7, STEPS]
    seen = 0

    def leave(event: TrainingEvent) -> bool:
        nonlocal seen
        seen += isinstance(event, kind)
        return seen == len(left_at)

    assert execute(bench, spec, first, leave=leave) is None
    same(execute(bench, spec, second, [first]), undisturbed("fun"))


@pytest.mark.parametrize("step", [1, 3, 4, 7, STEPS])
def test_left_at_any_one_step_and_continued_in_the_same_folder(
    tiny: Tiny, bench: Bench, undisturbed: Undisturbed, new_folder: Folder, step: int
) -> None:
    spec, folder = tiny.spec("fun"), new_folder()
    assert execute(bench, spec, folder, leave=lambda e: isinstance(e, StepDone) and e.step == step) is None
    same(execute(bench, spec, folder), undisturbed("fun"))


@pytest.mark.parametrize(("schedule", "step"), [("gu", 5), ("fun", 4), ("rand", 9)])
def test_continued_by_another_bench(
    tiny: Tiny, bench: Bench, undisturbed: Undisturbed, new_folder: Folder, schedule: str, step: int
) -> None:
    spec, first, second = tiny.spec(schedule), new_folder(), new_folder()
    assert execute(bench, spec, first, leave=lambda e: isinstance(e, StepDone) and e.step == step) is None
    same(execute(tiny.bench(spec), spec, second, [first]), undisturbed(schedule))


def test_what_a_killed_attempt_did_after_its_last_checkpoint_does_not_exist(
    tiny: Tiny, bench: Bench, undisturbed: Undisturbed, new_folder: Folder
) -> None:
    spec, killed = tiny.spec("fun"), new_folder()
    for event in Attempt(bench, spec, AttemptLayout(killed), []).events():
        if event.step == 9:  # two steps after the checkpoint of step 7, nothing saved
            break
    same(execute(bench, spec, new_folder(), [killed]), undisturbed("fun"))


def test_schedules_of_these_runs_are_different(undisturbed: Undisturbed) -> None:
    """Or the tests above would compare less than they say."""
    runs = {schedule: undisturbed(schedule) for schedule in SCHEDULES}
    assert all(len(run.rows) > 8 and run.predictions for run in runs.values())
    assert [step for kind, step, data in runs["fun"].rows if data.get("purpose") == "select"] == [1, 3]
    del runs["fun"]  # it may choose the order of another one
    assert len({run.order for run in runs.values()}) == len({run.weights for run in runs.values()}) == len(runs)
