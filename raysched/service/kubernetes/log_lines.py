"""A pod's log as it comes: whole lines, each once, whatever connection brings them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Place:
    """How far a log was read: the time stamp of the last line, and how many lines had it."""

    stamp: str = ""
    same: int = 0


def after(place: Place, answer: Any) -> Iterator[str]:
    """The lines after `place`, without their time stamps; `place` moves along."""
    skip, same = place.stamp, 0
    for line in _whole(answer):
        stamp, _, text = line.partition(" ")
        at = stamp.partition("Z")[0]  # "...01.5" < "...01.52": nanoseconds without their last zeros
        if at < skip:
            continue
        if at == skip:
            same += 1
            if same <= place.same:
                continue
        place.stamp, place.same = at, place.same + 1 if at == place.stamp else 1
        yield text


def _whole(answer: Any) -> Iterator[str]:
    """Whole lines as they come; of a connection that broke the last one is left out, and comes again."""
    rest = b""
    for part in answer.stream(amt=None):
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
