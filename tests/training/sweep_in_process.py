"""A whole sweep, trained in this process, one run after the other: everything real but Ray and MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from raysched.records import ledger as ledgers
from raysched.records.entries import Opened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.runners.driver import Driver
from raysched.runners.worker import Report, Worker
from raysched.search.optuna_study import OptunaStudy, study_name
from raysched.study.identity import Resolved
from raysched.study.model import Study


def sweep_in_process(
    storage: Path | str,
    name: str,
    study: Study,
    resolved: Resolved,
    *,
    worker: Worker | None = None,
    patience_s: float = 300,
) -> SweepLayout:
    """Every run of `study` is done when this returns; one that was begun earlier is continued.

    `worker` may be kept from sweep to sweep, with its warm bench; `patience_s` is the one with the search database.
    """
    layout = SweepLayout(storage, name).create()
    worker = worker or Worker()
    with contextlib.ExitStack() as stack:
        driver = stack.enter_context(driver_of(layout, study, resolved, patience_s))
        while not driver.done:
            assignment = driver.next()
            if assignment is None:
                continue  # now the driver knows that it is done
            worker.take(assignment)
            report = until_left(worker)
            driver.ended(assignment.key, report.outcome or "lost", report.cause, report.message)
        assert not driver.untested
        driver.close()
    return layout


@contextlib.contextmanager
def driver_of(layout: SweepLayout, study: Study, resolved: Resolved, patience_s: float = 300) -> Iterator[Driver]:
    """The next driver of a sweep, with the ledger and the search open for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(contextlib.closing(Ledger.take_over(layout.ledger, host="here", pid=1)))
        if not any(isinstance(entry, Opened) for entry in ledger.entries):
            ledger.append(Opened(study=study.model_dump(mode="json"), resolved=resolved.model_dump(mode="json")))
        ledger.entries = tuple(ledgers.read(layout.ledger))
        uid = next(entry.uid for entry in ledger.entries if isinstance(entry, Opened))
        known_as = study_name(layout.name, study.search, uid)
        layout.pull(layout.optuna)
        saved = partial(layout.push, layout.optuna)
        search = OptunaStudy(layout.optuna, known_as, study.search, saved=saved, patience_s=patience_s)
        optuna = stack.enter_context(contextlib.closing(search))
        yield Driver(layout, study, resolved, ledger, optuna)


def until_left(worker: Worker) -> Report:
    """The report with which the attempt leaves its worker."""
    while (report := worker.advance()).outcome is None:
        pass
    return report
