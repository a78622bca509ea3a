"""One run in this very process, without Ray: the debugger's way in."""

from __future__ import annotations

from collections.abc import Callable

from raysched.errors import Interrupted, RunError
from raysched.records.record import AttemptResult, read_result
from raysched.runners.assignment import Assignment
from raysched.runners.signals import interrupted_by, signals
from raysched.runners.worker import Report, Worker
from raysched.study.identity import RunSpec


def run(spec: RunSpec, storage: str, name: str, show: Callable[[Report], None]) -> tuple[Assignment, AttemptResult]:
    """Execute `spec` below `storage`/`name`, from its own checkpoint if it was interrupted; report every slice.

    Raises:
        RunError: the run failed, with its cause.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    assignment = Assignment(spec=spec, epoch=0, number=1, sweep=name, storage=storage)
    worker = Worker()
    worker.take(assignment)
    with signals() as asked:
        while True:
            report = worker.advance()
            show(report)
            if report.outcome == "finished":
                return assignment, read_result(assignment.layout.result)
            if report.outcome is not None:
                raise RunError(
                    report.message,
                    cause=report.cause or "code",
                    hint=f"traceback in {assignment.layout.root}/error.txt",
                )
            if asked():  # between two events: a save in the middle of one would be torn
                worker.save()
                raise Interrupted(
                    f"stopped by {interrupted_by(asked())} at step {report.step}; the state is saved",
                    exit_code=asked(),
                    hint="the same command continues the run",
                )
