"""What one report is asked for; every section of it is made from this."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from raysched.errors import DamageError, StudyError
from raysched.records.history import Row
from raysched.records.record import Record
from raysched.reports.methods import Method, methods
from raysched.reports.sweep import Sweep

REFERENCE = "standard"
MARGIN = 1.0
"""Points within which two methods count as equivalent."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Sweeps of one report. `by` are the parameters that group points (none: by method).

    `reference` is the method that others are compared with, `margin` the points (0-100) of equivalence. Sections add
    to `damaged` what they could not read.
    """

    sweeps: tuple[Sweep, ...]
    by: tuple[str, ...] = ()
    reference: str = REFERENCE
    margin: float = MARGIN
    damaged: list[str] = field(default_factory=list)

    _histories: dict[str, tuple[Row, ...] | None] = field(default_factory=dict, repr=False, compare=False)

    def history(self, sweep: Sweep, record: Record) -> tuple[Row, ...] | None:
        """What a run logged beside training metrics, read once however many sections ask.

        None where it is damaged, which is added to `damaged`.
        """
        key = str(sweep.layout.run(record.run_id).root)
        if key not in self._histories:
            try:
                self._histories[key] = tuple(row for row in sweep.history(record) if row.kind != "metrics")
            except DamageError as error:
                self._histories[key] = None
                self.damaged.append(str(error).replace("\n", " "))
        return self._histories[key]

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """Per group the cell that source dev selects. Raises StudyError where `by` names no parameter."""
        return tuple(methods(self.sweeps, self.by))

    def check_reference(self) -> None:
        """A reference that somebody chose is a method of at least one sweep; the usual one may be in none.

        Raises:
            StudyError: as it says.
        """
        labels = list(dict.fromkeys(one.label for one in self.methods))
        if self.reference != REFERENCE and self.reference not in labels:
            raise StudyError(
                f"must be a method of the sweep, but got {self.reference!r}", key="--reference", choices=labels
            )

    def reference_of(self, sweep: Sweep) -> Method | None:
        """The method that those of this sweep are compared with; None where it has none of that name."""
        labels = {one.label: one for one in self.methods if one.sweep is sweep}
        return labels.get(self.reference)
