"""What other processes ask of a sweep's driver: a small file in the sweep's folder, looked at again and again."""

from __future__ import annotations

from typing import Literal

from raysched.records.layout import SweepLayout

Verb = Literal["stop", "pause"]


def ask(layout: SweepLayout, verb: Verb) -> None:
    """Leave a request; asking the same again changes nothing."""
    raise NotImplementedError


def pending(layout: SweepLayout) -> Verb | None:
    """The request that stands, if any."""
    return None


def withdraw(layout: SweepLayout) -> None:
    """Take back whatever stands."""
    raise NotImplementedError
