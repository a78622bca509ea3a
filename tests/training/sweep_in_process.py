"""A whole sweep, trained in this process, one run after the other: everything real but Ray and MLflow."""

from __future__ import annotations

import contextlib
from pathlib import Path

from raysched.records import ledger as ledgers
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger, Opened
from raysched.runners.driver import Driver
from raysched.runners.worker import Worker
from raysched.search.optuna_study import OptunaStudy
from raysched.study.identity import Resolved
from raysched.study.model import Study


def sweep_in_process(storage: Path, name: str, study: Study, resolved: Resolved) -> SweepLayout:
    """Every run of `study` is done when this returns."""
    layout = SweepLayout(storage, name).create()
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(contextlib.closing(Ledger.take_over(layout.ledger, host="here", pid=1)))
        ledger.append(Opened(study=study.model_dump(mode="json"), resolved=resolved.model_dump(mode="json")))
        ledger.entries = tuple(ledgers.read(layout.ledger))
        optuna = stack.enter_context(contextlib.closing(OptunaStudy(layout.optuna, name, study.search)))
        driver, worker = Driver(layout, study, resolved, ledger, optuna), Worker()
        while not driver.done:
            assignment = driver.next()
            if assignment is None:
                continue  # now the driver knows that it is done
            worker.take(assignment)
            while (report := worker.advance()).outcome is None:
                pass
            driver.ended(assignment.key, report.outcome, report.cause, report.message)
        assert not driver.untested
        driver.close()
    return layout
