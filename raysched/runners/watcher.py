"""Who shows a sweep to its user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from raysched.runners.control import Control
from raysched.runners.driver import Driver

if TYPE_CHECKING:  # it imports torch
    from raysched.runners.smoke import Smoked


class Watcher(Protocol):
    """Who shows a sweep to its user."""

    def stage(self, text: str) -> None:
        """What is being prepared."""

    def smoked(self, found: Sequence[Smoked]) -> None:
        """How the tiny runs before the real ones went."""

    def started(self, driver: Driver, slots: int, control: Control) -> None:
        """Runs are launched from now on; the driver, and `control.shown`, may be looked at from another thread."""

    def warn(self, text: str) -> None:
        """Something the user should know, which stops nothing."""
