"""A sweep as its ledger tells it: the fold of its entries, for every reader (driver, uploader, status, report)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raysched.records.ledger import (
    AnyEntry,
    AttemptEnded,
    AttemptStarted,
    Ended,
    Note,
    Opened,
    PointTaken,
    Recorded,
    Takeover,
    Told,
)


@dataclass(slots=True)
class SweepState:
    """Changed only by `add`; the fold of the same entries is the same state."""

    opened: Opened | None = None
    opened_ms: int = 0
    """When the sweep was first opened."""
    uid: str = ""
    """The sweep's own, from its first opening."""
    takeover: Takeover | None = None
    points: dict[int, PointTaken] = field(default_factory=dict)
    """By Optuna number; a later entry of the same number (more seeds) replaces the earlier one."""
    first_attempts: dict[str, AttemptStarted] = field(default_factory=dict)
    attempts: dict[str, AttemptStarted] = field(default_factory=dict)
    """run_id -> the newest attempt."""
    n_attempts: dict[str, int] = field(default_factory=dict)
    attempt_ends: dict[str, AttemptEnded] = field(default_factory=dict)
    """run_id -> the end of the newest ended attempt."""
    recorded: dict[str, Recorded] = field(default_factory=dict)
    told: dict[int, Told] = field(default_factory=dict)
    ended: Ended | None = None
    """Set from the driver's leaving to the next takeover."""
    last_note: str = ""
    """Text of the newest note that concerns no single run."""

    @classmethod
    def of(cls, entries: Iterable[AnyEntry]) -> SweepState:
        state = cls()
        for entry in entries:
            state.add(entry)
        return state

    @property
    def epoch(self) -> int:
        return self.takeover.epoch if self.takeover else 0

    def running(self, run_id: str) -> bool:
        """Whether the present driver started the run and has not recorded it yet."""
        newest = self.attempts.get(run_id)
        return newest is not None and newest.epoch == self.epoch and run_id not in self.recorded and self.ended is None

    def add(self, entry: AnyEntry) -> None:
        match entry:
            case Opened():
                self.opened = entry
                self.opened_ms = self.opened_ms or entry.time_ms
                self.uid = self.uid or entry.uid
            case Takeover():
                self.takeover, self.ended = entry, None
            case PointTaken():
                self.points[entry.number] = entry
            case AttemptStarted():
                self.first_attempts.setdefault(entry.run_id, entry)
                self.attempts[entry.run_id] = entry
                self.n_attempts[entry.run_id] = self.n_attempts.get(entry.run_id, 0) + 1
            case AttemptEnded():
                self.attempt_ends[entry.run_id] = entry
            case Recorded():
                self.recorded[entry.run_id] = entry
            case Told():
                self.told[entry.number] = entry
            case Note() if entry.run_id is None:
                self.last_note = entry.text
            case Ended():
                self.ended = entry
