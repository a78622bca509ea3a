"""What workers left behind, looked at by the driver: is it a result, and whose?"""

from __future__ import annotations

from collections.abc import Iterable

from raysched.errors import DamageError, MissingError, StoppedError
from raysched.records.entries import AnyEntry, AttemptStarted
from raysched.records.history import read_segments
from raysched.records.layout import AttemptLayout
from raysched.records.record import AttemptResult, Record, read_result
from raysched.study.identity import RunSpec


def claim(attempt: AttemptLayout) -> AttemptResult | None:
    """A worker's word on its attempt; None where there is none, or no whole one."""
    try:
        return read_result(attempt.result)
    except (FileNotFoundError, DamageError):
        return None


def is_whole(attempt: AttemptLayout, result: AttemptResult) -> bool:
    """Whether everything that a result names, history, adapter and predictions, is there as it was written.

    Raises MissingError or StoppedError where the store does not answer.
    """
    try:
        for _ in read_segments(attempt.segments, result.segments):
            pass
        return all(attempt.has(name, digest) for name, digest in result.files.items())
    except (MissingError, StoppedError):
        raise
    except (OSError, DamageError):
        return False


def was_started(result: AttemptResult, entries: Iterable[AnyEntry]) -> bool:
    """Whether the ledger knows this attempt: what nobody started is nobody's result."""
    return any(
        isinstance(entry, AttemptStarted)
        and (entry.run_id, entry.epoch, entry.attempt) == (result.run_id, result.epoch, result.attempt)
        for entry in entries
    )


def is_behind(spec: RunSpec, record: Record) -> bool:
    """Whether the study names a test set that the run was not tested on."""
    return not set(spec.evaluation_ids.values()) <= record.tests.keys()
