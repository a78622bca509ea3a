"""The driver: what runs next, what counts, what is told, and that no kill loses or repeats anything."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.errors import RESUMABLE, DamageError, StoppedError
from raysched.records.entries import AttemptEnded, Ended, Note, Recorded, Takeover
from raysched.records.record import read_record, write_record, write_result
from raysched.runners.driver import Assignment
from raysched.runners.policy import RETRIED
from tests.runners.bed import CONTENT, Bed, End, Killed, claim, result, score, succeed

NewBed = Callable[..., Bed]
WHOLE = 18
"""Lines of a sweep of two cells with two seeds: takeover, 2 points, 4 x (attempt, end, recorded), 2 told, ended."""


def cells(bed: Bed) -> list[int]:
    """The cell of every attempt, in the order in which they ended."""
    assert bed.driver_now is not None
    return [bed.driver_now.book.run(run_id).number for run_id, _, _ in bed.executed]


@pytest.mark.parametrize("slots", [1, 2, 3, 10])
def test_cells_are_completed_one_after_the_other(new_bed: NewBed, slots: int) -> None:
    bed = new_bed(search__schedule=["standard", "gu", "lpft"], seeds=3)
    bed.sweep(slots=slots)
    assert cells(bed) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    bed.check_whole()


def test_a_cell_is_told_once_with_the_mean_over_its_seeds(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep(slots=2)
    entries = [type(entry).__name__ for entry in bed.entries()]
    assert Counter(entries) == {
        "Takeover": 1,
        "PointTaken": 2,
        "AttemptStarted": 4,
        "AttemptEnded": 4,
        "Recorded": 4,
        "Told": 2,
        "Ended": 1,
    }
    assert bed.told().keys() == {0, 1}
    bed.check_whole()


def test_a_failed_seed_fails_its_cell_and_nothing_else(new_bed: NewBed) -> None:
    bed = new_bed(seeds=3)

    def play(assignment: Assignment) -> End:
        failing = assignment.spec.point.schedule == "standard" and assignment.spec.seed == 1
        return ("failed", "code") if failing else succeed(assignment)

    driver = bed.sweep(play)
    told = bed.told()
    assert told[0] == ("failed", None)  # never a mean of the rest
    assert told[1][0] == "told"
    assert len(bed.executed) == 6  # the other seeds of the failed cell ran all the same
    assert driver.complete
    assert bed.entries()[-1].model_dump(include={"kind", "outcome"}) == {"kind": "ended", "outcome": "failed"}
    failed = [record for record in bed.records() if record.status != "finished"]
    assert [(record.status, record.cause, record.seed) for record in failed] == [("failed", "code", 1)]


@pytest.mark.parametrize(
    ("outcome", "cause", "tries", "status"),
    [
        *((("failed", cause, 3, "failed")) for cause in sorted(RETRIED)),
        ("lost", "worker_lost", 3, "failed"),
        ("failed", "data", 1, "failed"),
        ("failed", "code", 1, "failed"),
        ("diverged", "nan", 1, "diverged"),
        ("lost", None, 1, "failed"),
    ],
)
def test_causes_that_are_retried(new_bed: NewBed, outcome: str, cause: str | None, tries: int, status: str) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1)
    bed.sweep(lambda _: (outcome, cause))
    (record,) = bed.records()
    assert (record.status, record.cause, record.attempt) == (status, cause or "code", tries)
    assert len(bed.executed) == tries
    assert bed.told() == {0: ("failed", None)}


@pytest.mark.parametrize(("limit", "tries"), [(1, 1), (2, 2), (5, 3)])
def test_attempts_end_at_the_limit_or_with_success(new_bed: NewBed, limit: int, tries: int) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1, budget__attempts=limit)
    bed.sweep(lambda a: succeed(a) if a.number == 3 else ("lost", "worker_lost"))
    (record,) = bed.records()
    assert (record.status, record.attempt) == ("finished" if tries == 3 else "failed", tries)


def test_a_retry_keeps_the_seed_and_sees_the_earlier_attempts(new_bed: NewBed) -> None:
    bed, seen = new_bed(search__schedule=["standard"], seeds=1), []

    def play(assignment: Assignment) -> End:
        assignment.layout.create()
        seen.append((assignment.spec.seed, assignment.number, [layout.name for layout in assignment.earlier()]))
        assert Assignment.from_json(assignment.to_json()) == assignment
        return succeed(assignment) if assignment.number == 3 else ("lost", "node_lost")

    bed.sweep(play)
    assert seen == [(0, 1, []), (0, 2, ["attempt-1-1"]), (0, 3, ["attempt-1-1", "attempt-1-2"])]


def test_finished_without_a_whole_result_is_lost(new_bed: NewBed) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1)

    def play(assignment: Assignment) -> End:
        match assignment.number:
            case 1:
                pass  # no result.json at all
            case 2:
                assignment.layout.create().result.write_text('{"run_id": "cut sho')
            case 3:
                claim(assignment, attempt=2)  # another attempt's
        return "finished", None

    bed.sweep(play)
    (record,) = bed.records()
    assert (record.status, record.cause, len(bed.executed)) == ("failed", "storage", 3)
    assert "result.json is missing or damaged" in record.message


def test_stopping_requeues_and_the_next_driver_continues(new_bed: NewBed) -> None:
    bed = new_bed(budget__attempts=1)
    driver = bed.driver()
    first, second = driver.next(), driver.next()
    assert first is not None
    assert second is not None
    driver.stopping = True
    assert driver.next() is None
    assert not driver.done
    driver.ended(first.key, "stopped")
    driver.close()  # says "stopped" for the other one
    assert driver.done
    assert not driver.complete
    ends = [entry for entry in bed.entries() if isinstance(entry, (AttemptEnded, Ended))]
    assert [entry.outcome for entry in ends] == ["stopped", "stopped", "stopped"]
    assert bed.records() == []
    bed.sweep()
    bed.check_whole()
    assert [attempt for attempt in bed.attempts() if attempt[0] == first.spec.run_id] == [
        (first.spec.run_id, 1, 1),
        (first.spec.run_id, 2, 2),
    ]


def test_an_end_of_an_unknown_attempt_changes_nothing(new_bed: NewBed) -> None:
    bed = new_bed()
    driver = bed.driver()
    driver.ended("somebody-1-1", "finished")
    driver.progress("somebody-1-1", 3, 10)
    assert [type(entry) for entry in bed.entries()] == [Takeover]


def test_progress_is_kept_and_told(new_bed: NewBed) -> None:
    now, heard = [100.0], []
    bed = new_bed()
    driver = bed.driver(clock=lambda: now[0], recorded=lambda: heard.append(now[0]))
    assignment = driver.next()
    assert assignment is not None
    now[0] = 107.0
    driver.progress(assignment.key, 3, 10)
    here = driver.running[assignment.key]
    assert (here.step, here.total) == (3, 10)
    assert heard[-1] == 107.0


def test_the_budget_of_hours_ends_it_resumable(new_bed: NewBed) -> None:
    now = [0.0]
    bed = new_bed(budget__hours=2)
    driver = bed.driver(clock=lambda: now[0])
    driver.raise_unless_complete()
    bed.work(driver, ends=1)
    now[0] = 7201.0
    assert driver.next() is None
    assert driver.done
    driver.close()
    with pytest.raises(StoppedError, match=r"budget.hours=2 is used up\n.*the same command") as caught:
        driver.raise_unless_complete()
    assert caught.value.exit_code == RESUMABLE
    bed.sweep()  # the next start has hours of its own
    bed.check_whole()


# -- recovery ---------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("before", [False, True], ids=["after the write", "before the write"])
def test_killed_at_every_append(new_bed: NewBed, before: bool) -> None:
    n, died = 0, True
    while died:
        n += 1
        bed, died = new_bed(), False
        try:
            bed.sweep(slots=2, die_at=n, before=before)
        except Killed:
            died = True
            bed.sweep(slots=2)
        bed.check_whole()
        assert bed.entries()[-1].model_dump()["outcome"] == "finished"
        assert len(bed.executed) <= 4 + 2  # only what was running is executed again
        starts = [entry.epoch for entry in bed.entries() if isinstance(entry, Takeover)]
        # killed before its first line, a driver has left no trace
        assert starts == ([1, 2] if died and (n, before) != (1, True) else [1])
    assert n == WHOLE + 1  # the last kill never came


def test_killed_again_and_again(new_bed: NewBed) -> None:
    """Every driver dies at its sixth line: a takeover, perhaps a point, and at least one run from start to record."""
    bed, drivers, finished = new_bed(seeds=3), 0, False
    while not finished:
        drivers += 1
        assert drivers < 30
        try:
            bed.sweep(die_at=6)
            finished = True
        except Killed:
            pass
    assert drivers > 4
    bed.check_whole()


def test_a_finished_sweep_is_only_looked_at(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep()
    before = bed.records()
    driver = bed.sweep()
    assert driver.complete
    assert bed.records() == before
    assert len(bed.executed) == 4
    assert [type(entry) for entry in bed.entries()][-2:] == [Takeover, Ended]


def test_a_result_that_was_not_recorded_is_adopted(new_bed: NewBed) -> None:
    bed = new_bed()
    driver = bed.driver()
    assignment = driver.next()
    assert assignment is not None
    claim(assignment)  # the worker finished; its driver died before it heard of it
    bed.sweep()
    record = read_record(bed.layout.run(assignment.spec.run_id).record)
    assert (record.epoch, record.attempt, record.source_dev["f1"]) == (1, 1, score(assignment))
    assert assignment.spec.run_id not in {run_id for run_id, _, _ in bed.executed}
    bed.check_whole()


@pytest.mark.parametrize("folder", ["attempt-9-9", "attempt-1-2", "attempt-1-1"])
def test_a_result_of_an_attempt_nobody_started_is_ignored(new_bed: NewBed, folder: str) -> None:
    """Also one that lies in a started attempt's folder, but says it is another's."""
    bed = new_bed()
    driver = bed.driver()
    assignment = driver.next()
    assert assignment is not None
    path = bed.layout.run(assignment.spec.run_id).root / folder / "result.json"
    write_result(path, result(assignment, epoch=9, attempt=9, source_dev={"f1": 99.0, "em": 99.0}))
    bed.sweep()
    record = read_record(bed.layout.run(assignment.spec.run_id).record)
    assert (record.epoch, record.source_dev["f1"]) == (2, score(assignment))
    bed.check_whole()


def test_an_unfinished_claim_is_no_result(new_bed: NewBed) -> None:
    bed = new_bed()
    driver = bed.driver()
    assignment = driver.next()
    assert assignment is not None
    claim(assignment, status="failed", cause="oom")
    bed.sweep()
    bed.check_whole()
    assert (assignment.spec.run_id, 2, 2) in bed.executed


def test_what_a_stale_worker_ends_after_its_driver_changes_nothing(new_bed: NewBed) -> None:
    bed = new_bed()
    stale = bed.driver().next()
    assert stale is not None

    def play(assignment: Assignment) -> End:
        if assignment.spec.run_id == stale.spec.run_id:
            claim(stale, source_dev={"f1": 1.0, "em": 1.0})  # ends while the new attempt runs
        return succeed(assignment)

    bed.sweep(play)
    record = read_record(bed.layout.run(stale.spec.run_id).record)
    assert (record.epoch, record.source_dev["f1"]) == (2, score(stale))
    before = bed.records()
    bed.sweep()  # nor later: the run has its record
    assert bed.records() == before
    bed.check_whole()


def test_a_record_without_its_ledger_line_is_taken_up(new_bed: NewBed) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1)
    with pytest.raises(Killed):
        bed.sweep(die_at=5, before=True)  # record.json is there, its line is not
    assert len(bed.records()) == 1
    assert not any(isinstance(entry, Recorded) for entry in bed.entries())
    bed.sweep()
    assert len(bed.executed) == 1
    bed.check_whole()


@pytest.mark.parametrize("adopted", [True, False])
def test_a_damaged_record_is_made_again(new_bed: NewBed, adopted: bool) -> None:
    """From the attempt's own result where that is whole, else by another attempt: the scores are the same."""
    bed = new_bed(search__schedule=["standard"], seeds=1)
    with pytest.raises(Killed):
        bed.sweep(die_at=6)  # recorded, not told
    (record,) = bed.records()
    path = bed.layout.run(record.run_id).record
    path.write_bytes(path.read_bytes()[:-20])
    if not adopted:
        (path.parent / record.attempt_folder / "result.json").unlink()
    bed.sweep()
    notes = [entry.text for entry in bed.entries() if isinstance(entry, Note)]
    assert len(notes) == 1
    assert "record passed over" in notes[0]
    (again,) = bed.records()
    assert (again.attempt, again.source_dev) == (1 if adopted else 2, record.source_dev)
    assert bed.told()[0] == ("told", record.source_dev["f1"])


def test_a_failure_whose_record_was_lost_may_end_otherwise(new_bed: NewBed) -> None:
    """The search was told FAIL; the run is executed again, finishes, and the search is told anew."""
    bed = new_bed(search__schedule=["standard"], seeds=1)
    bed.sweep(lambda assignment: ("failed", "code"))
    (record,) = bed.records()
    bed.layout.run(record.run_id).record.unlink()
    bed.sweep()
    (again,) = bed.records()
    assert (again.status, again.attempt) == ("finished", 2)
    assert bed.told()[0] == ("told", again.source_dev["f1"])
    assert len(bed.driver().optuna.asked()) == 1


def test_a_record_that_contradicts_the_search_is_refused(new_bed: NewBed) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1)
    bed.sweep()
    (record,) = bed.records()
    write_record(
        bed.layout.run(record.run_id).record, record.model_copy(update={"source_dev": {"f1": 99.0, "em": 0.0}})
    )
    with pytest.raises(DamageError, match="was told"):
        bed.driver()


def test_a_search_database_that_was_lost_is_made_anew(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.work(bed.driver(), ends=3)
    bed.bury()
    bed.layout.optuna.unlink()
    bed.sweep()
    bed.check_whole()
    notes = [entry.text for entry in bed.entries() if isinstance(entry, Note)]
    assert notes == ["the search database was lost; made anew with the 2 points of the ledger"]
    assert len(bed.executed) == 4


def test_an_old_copy_of_the_search_database_is_refused(new_bed: NewBed, tmp_path: Path) -> None:
    bed = new_bed(search__schedule=["standard", "gu", "lpft"])
    bed.work(bed.driver(), ends=1)
    bed.bury()
    shutil.copy(bed.layout.optuna, tmp_path / "copy.db")
    bed.sweep()
    bed.bury()
    shutil.copy(tmp_path / "copy.db", bed.layout.optuna)
    with pytest.raises(DamageError, match=r"point \d of the ledger is not in the search database\n.*move it away"):
        bed.driver()


def test_a_driver_that_lost_the_sweep_may_write_nothing(new_bed: NewBed) -> None:
    bed = new_bed()
    old = bed.driver()
    assignment = old.next()
    assert assignment is not None
    stale_ledger, bed.ledger = bed.ledger, None  # type: ignore[assignment]
    driver = bed.driver()
    claim(assignment)
    with pytest.raises(StoppedError, match="taken over: another driver holds epoch 2") as caught:
        old.ended(assignment.key, "finished")
    assert caught.value.exit_code == RESUMABLE
    with pytest.raises(StoppedError, match="taken over"):  # the same at every further word, before anything is written
        old.append(Note(text="of a stale driver"))
    with contextlib.suppress(StoppedError):
        old.close()  # what it says at its leaving counts for nobody
    stale_ledger.close()
    assert bed.records() == []
    assert not any(isinstance(entry, Ended) for entry in bed.entries())
    bed.work(driver)
    driver.close()
    bed.check_whole()


def test_other_inputs_are_other_runs(new_bed: NewBed) -> None:
    """The bed's own check: made-up content enters the run's id, as real content does."""
    assert len(CONTENT.revision) == 64
    bed = new_bed()
    bed.sweep()
    assert len({record.run_id for record in bed.records()}) == 4


def test_a_run_that_memory_was_short_for_is_tried_again_alone(new_bed: NewBed) -> None:
    """Ray's monitor may end a neighbour of the run that took too much."""
    bed = new_bed(search__schedule=["standard"], seeds=3)
    driver = bed.driver()
    hog, neighbour = driver.next(), driver.next()
    assert hog is not None
    assert neighbour is not None
    driver.ended(neighbour.key, "lost", "oom", "made up")
    driver.ended(hog.key, "lost", "oom", "made up")
    alone = driver.next()
    assert alone is not None
    assert driver.next() is None
    claim(alone)
    driver.ended(alone.key, "finished")
    second = driver.next()
    assert second is not None
    assert {alone.spec.seed, second.spec.seed} == {hog.spec.seed, neighbour.spec.seed}
    assert driver.next() is None
    driver.ended(second.key, "lost", "oom", "made up")  # once more: that was its last try
    third = driver.next()
    assert third is not None
    claim(third)
    driver.ended(third.key, "finished")
    assert [record.cause for record in bed.records() if record.status == "failed"] == ["oom"]
