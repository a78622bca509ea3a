"""A sweep as its ledger tells it: the fold of its entries, for every reader (driver, uploader, status, report)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raysched.records.entries import (
    AnyEntry,
    AttemptEnded,
    AttemptStarted,
    Ended,
    Note,
    Opened,
    PointTaken,
    Recorded,
    Reopened,
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
    reopened: dict[str, int] = field(default_factory=dict)
    """run_id -> how many of its attempts do not count any more, for it had failed and is tried again."""
    told: dict[int, Told] = field(default_factory=dict)
    """Cells whose end, as they are now, the search was told."""
    grown: set[int] = field(default_factory=set)
    """Cells that got more seeds, or a failed run of theirs another try: they may be told again."""
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

    def executing(self, run_id: str) -> bool:
        """Whether it runs and its newest attempt has not ended: in a paused sweep none does."""
        newest, ended = self.attempts.get(run_id), self.attempt_ends.get(run_id)
        over = newest and ended and (ended.epoch, ended.attempt) == (newest.epoch, newest.attempt)
        return self.running(run_id) and not over

    def add(self, entry: AnyEntry) -> None:
        match entry:
            case Opened():
                self.opened = entry
                self.opened_ms = self.opened_ms or entry.time_ms
                self.uid = self.uid or entry.uid
            case Takeover():
                self.takeover, self.ended = entry, None
            case PointTaken():
                before = self.points.get(entry.number)
                if before is not None and before.run_ids != entry.run_ids:
                    self._grew(entry.number)
                self.points[entry.number] = entry
            case AttemptStarted():
                self.first_attempts.setdefault(entry.run_id, entry)
                self.attempts[entry.run_id] = entry
                self.n_attempts[entry.run_id] = self.n_attempts.get(entry.run_id, 0) + 1
            case AttemptEnded():
                self.attempt_ends[entry.run_id] = entry
            case Recorded():
                self.recorded[entry.run_id] = entry
            case Reopened():
                self.recorded.pop(entry.run_id, None)
                self.reopened[entry.run_id] = entry.attempts
                for number, point in self.points.items():
                    if entry.run_id in point.run_ids.values():
                        self._grew(number)
            case Told():
                self.told[entry.number] = entry
            case Note() if entry.run_id is None:
                self.last_note = entry.text
            case Ended():
                self.ended = entry

    def _grew(self, number: int) -> None:
        self.grown.add(number)
        self.told.pop(number, None)

    def counts(self, run_id: str, attempt: int) -> bool:
        """Whether a record made of this attempt counts: not where the run was opened again after it."""
        return attempt > self.reopened.get(run_id, 0)
