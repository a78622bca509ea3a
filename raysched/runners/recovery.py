"""How a driver takes up what earlier ones left: their cells, their ends, and failed runs that get another try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from raysched.errors import DamageError
from raysched.records.entries import Note, PointTaken, Recorded, Reopened
from raysched.records.record import Record, read_record
from raysched.runners.claims import claim, is_behind, is_whole, was_started
from raysched.study.identity import RunSpec
from raysched.study.space import Point

if TYPE_CHECKING:
    from raysched.runners.driver import Driver

ANEW = "move it away: the same command makes a new one out of the ledger and the records"


def recover(driver: Driver, retry: frozenset[str] | None) -> None:
    """Cells of earlier drivers, whose every end is known by its record.

    `retry` holds the failed runs that get another try, all of them where it is empty.
    """
    if retry is not None:
        _reopen(driver, retry)
    known = driver.optuna.asked()
    driver.agreed = {trial.number: trial.mean for trial in known if trial.state != "open"}
    asked: Mapping[int, Point] = {trial.number: trial.point for trial in known}
    if driver.state.points and not asked:
        asked = _rebuilt(driver)
    for number in sorted(driver.state.points):
        if number not in asked:
            raise DamageError(
                f"point {number} of the ledger is not in the search database",
                key=driver.optuna.place,
                hint=ANEW if driver.optuna.is_file else "restore it from a copy",
            )
        if asked[number] != Point(**driver.state.points[number].params):
            raise DamageError(
                f"point {number} is {asked[number]} in the search database, and another one in the ledger",
                key=driver.optuna.place,
                hint=ANEW if driver.optuna.is_file else "restore it from a copy",
            )
        open_cell(driver, number, asked[number])


def _reopen(driver: Driver, retry: frozenset[str]) -> None:
    """Say in the ledger which ends count no more. Once said, it holds for every later driver."""
    failed = [run_id for run_id, end in driver.state.recorded.items() if end.status != "finished"]
    for run_id in failed:
        if not retry or run_id in retry:
            driver.append(Reopened(run_id=run_id, attempts=driver.state.n_attempts.get(run_id, 0)))


def _rebuilt(driver: Driver) -> Mapping[int, Point]:
    """The ledger's points in a search database that knows none: it was lost, and a new one is here."""
    known = {number: Point(**taken.params) for number, taken in driver.state.points.items()}
    driver.optuna.rebuild(known)
    driver.append(Note(text=f"the search database was lost; made anew with the {len(known)} points of the ledger"))
    return known


def open_cell(driver: Driver, number: int, point: Point) -> None:
    """Open a cell; runs that have a record, or an unrecorded but complete result, have ended already."""
    specs = {seed: RunSpec.make(driver.study, driver.resolved, point, seed) for seed in driver.study.seeds}
    run_ids = {seed: spec.run_id for seed, spec in specs.items()}
    before = driver.state.points.get(number)
    if before is None or before.run_ids.items() < run_ids.items():
        first = next(iter(specs.values()))
        driver.append(PointTaken(number=number, params=point.params(), cell_id=first.cell_id, run_ids=run_ids))
    verdict = driver.book.open(number, point, run_ids)
    for spec in specs.values():
        driver.specs[spec.run_id] = spec
        record = _known(driver, spec)
        if record is not None:
            verdict = driver.end(record)
            if record.status == "finished" and is_behind(spec, record):
                driver.behind[spec.run_id] = None
    if verdict is not None:
        driver.tell(verdict)


def _known(driver: Driver, spec: RunSpec) -> Record | None:
    """The run's record, if it is done; an attempt that finished just before its driver died is accepted now."""
    run = driver.layout.run(spec.run_id)
    try:
        record = read_record(run.record)
    except FileNotFoundError:
        record = None
    except DamageError as error:
        driver.append(Note(text=f"record passed over: {error}", run_id=spec.run_id))
        record = None
    if record is not None and not driver.state.counts(spec.run_id, record.attempt):
        record = None  # of a failure that is tried again
    if record is not None and spec.run_id not in driver.state.recorded:
        driver.layout.push(run.record)
        driver.append(Recorded(run_id=record.run_id, status=record.status))
    if record is not None and (record.status != "finished" or not is_behind(spec, record)):
        return record
    tested = record.tests.keys() if record is not None else frozenset()
    for _, _, attempt in reversed(run.attempts()):
        result = claim(attempt)
        if (
            result is None
            or result.status != "finished"
            or not was_started(result, (*driver.ledger.entries, *driver.state.attempts.values()))
        ):
            continue
        if record is not None and not result.tests.keys() > tested:
            continue
        driver.layout.pull(attempt.segments, *(attempt.root / name for name in result.files))
        if is_whole(attempt, result):
            return driver.accept(spec, result)
    if record is None and spec.run_id in driver.state.recorded:  # its end is lost: another try may end otherwise
        driver.append(Reopened(run_id=spec.run_id, attempts=driver.state.n_attempts.get(spec.run_id, 0)))
    return record
