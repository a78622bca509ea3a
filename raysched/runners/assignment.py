"""What the driver hands to an executor: one attempt at a run."""

from __future__ import annotations

import json
from dataclasses import dataclass

from raysched.records.layout import AttemptLayout, SweepLayout
from raysched.study.identity import RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt to be executed: a run, its folder, and the folders of earlier attempts to continue from."""

    spec: RunSpec
    epoch: int
    number: int
    sweep: str
    storage: str
    late: bool = False
    """The run is done, and only to be tested on test sets that came later."""

    @property
    def key(self) -> str:
        return f"{self.spec.run_id}-{self.epoch}-{self.number}"

    @property
    def layout(self) -> AttemptLayout:
        return SweepLayout(self.storage, self.sweep).run(self.spec.run_id).attempt(self.epoch, self.number)

    def earlier(self) -> list[AttemptLayout]:
        """Folders of this run's other attempts."""
        run = SweepLayout(self.storage, self.sweep).run(self.spec.run_id)
        return [layout for epoch, number, layout in run.attempts() if (epoch, number) != (self.epoch, self.number)]

    def to_json(self) -> str:
        return json.dumps(
            {
                "spec": self.spec.to_json(),
                "epoch": self.epoch,
                "number": self.number,
                "sweep": self.sweep,
                "storage": self.storage,
                "late": self.late,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        value = json.loads(text)
        return cls(**{**value, "spec": RunSpec.from_json(value["spec"])})


@dataclass(slots=True)
class Progress:
    """Where a running attempt is."""

    assignment: Assignment
    step: int = 0
    total: int = 0
