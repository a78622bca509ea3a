"""Sweeps that grow, and failed runs that get another try: only what is new is done, and no kill matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from raysched.records.entries import AttemptStarted, PointTaken, Recorded, Reopened, Told
from raysched.records.state import SweepState
from raysched.runners.driver import Assignment
from tests.runners.bed import Bed, End, Killed, study, succeed

NewBed = Callable[..., Bed]
BEFORE = pytest.mark.parametrize(
    "before",
    [pytest.param(False, id="after the write"), pytest.param(True, id="before the write", marks=pytest.mark.faults)],
)


def broken(assignment: Assignment) -> End:
    """Seed 1 of `standard` fails, and everything else succeeds."""
    failing = assignment.spec.point.schedule == "standard" and assignment.spec.seed == 1
    return ("failed", "code") if failing else succeed(assignment)


def reopened(bed: Bed) -> list[Reopened]:
    return [entry for entry in bed.entries() if isinstance(entry, Reopened)]


def check_grown(bed: Bed) -> None:
    """The newest word on each cell holds all its seeds, in the ledger as in the search; each run was done once."""
    state = SweepState.of(bed.entries())
    scores = {record.run_id: record.source_dev["f1"] for record in bed.records()}
    assert {number for number in state.points if number in state.told} == set(state.points)
    assert all(len(taken.run_ids) == len(bed.study.seeds) for taken in state.points.values())
    for number, taken in state.points.items():
        mean = sum(scores[run_id] for run_id in taken.run_ids.values()) / len(bed.study.seeds)
        assert bed.told()[number] == ("told", pytest.approx(mean, abs=1e-9))
        assert state.told[number].value == bed.told()[number][1]
    assert state.recorded.keys() == scores.keys()
    runs = [run_id for taken in state.points.values() for run_id in taken.run_ids.values()]
    assert sorted(runs) == sorted(scores)


# -- retry ------------------------------------------------------------------------------------------------------


def test_only_failed_runs_are_tried_again(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep(broken)
    (failed,) = [record for record in bed.records() if record.status == "failed"]
    assert bed.told()[0] == ("failed", None)
    bed.executed.clear()
    driver = bed.sweep(retry=frozenset())
    assert [run_id for run_id, _, _ in bed.executed] == [failed.run_id]
    assert driver.complete
    assert reopened(bed)[0].attempts == 1
    check_grown(bed)
    again = next(record for record in bed.records() if record.run_id == failed.run_id)
    assert (again.attempt, again.seed, again.status) == (2, 1, "finished")
    bed.executed.clear()
    bed.sweep(retry=frozenset())  # said twice
    assert (bed.executed, len(reopened(bed))) == ([], 1)
    assert Counter(type(entry) for entry in bed.entries())[Told] == 3


def test_named_runs_and_nothing_else(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep(lambda assignment: ("diverged", "nan"))
    chosen = bed.records()[2].run_id
    bed.executed.clear()
    bed.sweep(retry=frozenset({chosen}))
    assert [run_id for run_id, _, _ in bed.executed] == [chosen]
    assert Counter(record.status for record in bed.records()) == {"diverged": 3, "finished": 1}
    assert all(state == "failed" for state, _ in bed.told().values())


def test_a_retry_has_all_its_attempts_again(new_bed: NewBed) -> None:
    bed = new_bed(search__schedule=["standard"], seeds=1, budget__attempts=2)
    bed.sweep(lambda _: ("lost", "worker_lost"))
    assert len(bed.executed) == 2
    bed.sweep(lambda a: succeed(a) if a.number == 4 else ("lost", "worker_lost"), retry=frozenset())
    assert [number for _, _, number in bed.executed] == [1, 2, 3, 4]
    check_grown(bed)


def test_it_may_fail_again_and_be_tried_again(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep(broken)
    bed.sweep(broken, retry=frozenset())
    assert bed.told()[0] == ("failed", None)
    bed.sweep(retry=frozenset())
    assert [entry.attempts for entry in reopened(bed)] == [1, 2]
    check_grown(bed)


def test_a_sweep_without_the_word_continues_a_retry(new_bed: NewBed) -> None:
    """The driver dies with the run open again: from here on it is a run like any other."""
    bed = new_bed()
    bed.sweep(broken)
    with pytest.raises(Killed):
        bed.sweep(retry=frozenset(), die_at=2)
    assert len(reopened(bed)) == 1
    bed.sweep()
    assert len(bed.executed) == 5
    check_grown(bed)


@pytest.mark.timeout(240)
@BEFORE
def test_a_retry_killed_at_every_append(new_bed: NewBed, before: bool) -> None:
    n, died = 0, True
    while died:
        n += 1
        bed, died = new_bed(search__schedule=["standard"], seeds=3), False
        bed.sweep(broken)
        bed.executed.clear()
        try:
            bed.sweep(retry=frozenset(), die_at=n, before=before)
        except Killed:
            died = True
            bed.sweep(retry=frozenset())
        check_grown(bed)
        assert len(reopened(bed)) == 1
        assert 1 <= len(bed.executed) <= 2
        assert Counter(type(entry) for entry in bed.entries())[Recorded] == 4
    assert n == 8  # takeover, reopened, attempt, its end, recorded, told, ended: the last kill never came


def test_killed_between_told_and_its_line_and_then_retried(new_bed: NewBed) -> None:
    """Optuna was told FAIL, the ledger never heard of it."""
    bed = new_bed(search__schedule=["standard"])
    with pytest.raises(Killed):
        bed.sweep(broken, die_at=9, before=True)
    assert bed.told()[0] == ("failed", None)
    assert not any(isinstance(entry, Told) for entry in bed.entries())
    bed.sweep(retry=frozenset())
    check_grown(bed)


# -- extend -----------------------------------------------------------------------------------------------------


def grown(bed: Bed, **settings: Any) -> None:
    bed.study = study(**settings)


def test_more_seeds(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.sweep()
    before = {record.run_id: record for record in bed.records()}
    bed.executed.clear()
    grown(bed, seeds=[0, 1, 5])
    bed.sweep(slots=2)
    assert len(bed.executed) == 2
    assert all(record == before.get(record.run_id, record) for record in bed.records())
    assert [len(e.run_ids) for e in bed.entries() if isinstance(e, PointTaken)] == [2, 2, 3, 3]
    check_grown(bed)
    bed.executed.clear()
    lines = len(bed.entries())
    bed.sweep()  # said twice
    assert (bed.executed, len(bed.entries())) == ([], lines + 2)


def test_more_seeds_while_a_cell_is_open(new_bed: NewBed) -> None:
    bed = new_bed()
    bed.work(bed.driver(), ends=1)
    grown(bed, seeds=3)
    bed.sweep()
    check_grown(bed)
    assert len(bed.executed) == 6


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_more_points_and_more_values(new_bed: NewBed, sampler: str) -> None:
    settings: dict[str, Any] = {"search__sampler": sampler, "search__lr": [1e-3], "search__k": [5, 7]}
    bed = new_bed(**settings, search__points=2)
    bed.sweep()
    bed.executed.clear()
    done = len(bed.records())
    settings |= {"search__lr": [1e-3, 2e-3], "search__points": 5}
    grown(bed, **settings)
    bed.sweep()
    points = 5 if sampler == "tpe" else 6
    assert len(bed.records()) == 2 * points
    assert len(bed.executed) == 2 * points - done
    check_grown(bed)
    bed.executed.clear()
    bed.sweep()
    assert bed.executed == []


@pytest.mark.timeout(240)
@BEFORE
def test_an_extension_killed_at_every_append(new_bed: NewBed, before: bool) -> None:
    n, died = 0, True
    while died:
        n += 1
        bed, died = new_bed(search__schedule=["standard"]), False
        bed.sweep(broken)
        bed.executed.clear()
        grown(bed, search__schedule=["standard"], seeds=3)
        try:
            bed.sweep(retry=frozenset(), die_at=n, before=before)
        except Killed:
            died = True
            bed.sweep(retry=frozenset())
        check_grown(bed)
        assert 2 <= len(bed.executed) <= 3
    assert n == 12
    assert Counter(type(entry) for entry in bed.entries())[AttemptStarted] == 4
