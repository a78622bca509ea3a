"""SELECT of Algorithm 1: which of the frozen layers wake at an event. Plain functions in one table; no torch.

A rule sees the frozen layers in its schedule's order: ascending, or the order of the permutation, or, for
`replay`, the layers recorded for this event. Traces, where a rule needs them, hold one tr(F) per layer, all
L of them, frozen or not. `rng` belongs to this event alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from raysched.study import plugins

Select = Callable[[Sequence[int], Sequence[float] | None, random.Random], tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A schedule's SELECT, what is awake before step 1, and what it needs to be told.

    `chosen` layers are those of the study (`training.surgical`). `order` is a published order of all layers below the
    top: the schedule fits backbones with as many layers, and none other.
    """

    name: str
    select: Select
    initial: Literal["all", "top", "none", "chosen"] = "top"
    needs_k: bool = True
    needs_traces: bool = False
    order: tuple[int, ...] | None = None


def nothing(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """No layer."""
    return ()


def everything(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """All layers offered, in their order."""
    return tuple(frozen)


def first(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """The next still-frozen layer of the order."""
    return tuple(frozen[:1])


def highest(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """The frozen layer farthest from the embeddings (gradual unfreezing)."""
    return (max(frozen),)


def uniform(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """One layer, each with the same chance.

    Uses `random()` alone: of all of `random.Random`, only its sequence is promised to stay the same between
    Python versions.
    """
    return (frozen[int(rng.random() * len(frozen))],)


def largest_trace(frozen: Sequence[int], traces: Sequence[float] | None, rng: random.Random) -> tuple[int, ...]:
    """argmax of tr(F) over the frozen layers, ties to the higher layer; with one layer left no trace is looked at."""
    if len(frozen) == 1:
        return (frozen[0],)
    if traces is None:
        raise ValueError(
            f"traces of all layers are needed to choose among the frozen layers {list(frozen)}, but got none"
        )
    return (max(frozen, key=lambda layer: (traces[layer], layer)),)


PERMUTATIONS: tuple[tuple[int, ...], ...] = (
    (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
    (10, 2, 6, 5, 8, 3, 7, 0, 1, 9, 4),
    (9, 6, 2, 4, 5, 8, 7, 10, 1, 3, 0),
    (9, 7, 0, 10, 5, 8, 2, 4, 1, 3, 6),
    (10, 5, 4, 7, 1, 9, 0, 8, 3, 2, 6),
    (10, 8, 1, 6, 7, 2, 0, 5, 4, 9, 3),
    (10, 4, 7, 5, 3, 0, 6, 2, 9, 8, 1),
    (10, 1, 0, 3, 9, 6, 8, 2, 5, 7, 4),
    (10, 9, 3, 5, 0, 4, 1, 8, 6, 7, 2),
    (10, 7, 0, 3, 4, 8, 1, 2, 6, 5, 9),
)
"""The paper's schedule-0 to schedule-9 for 12 layers; schedule-0 is top-down."""

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(name="standard", select=nothing, initial="all", needs_k=False),
        Rule(name="gu", select=highest),
        Rule(name="lpft", select=everything, initial="none"),
        Rule(name="rand", select=uniform),
        Rule(name="fun", select=largest_trace, needs_traces=True),
        Rule(name="reverse", select=first),
        Rule(name="permutation", select=first),
        *(Rule(name=f"schedule-{number}", select=first, order=order) for number, order in enumerate(PERMUTATIONS)),
        Rule(name="surgical", select=nothing, initial="chosen", needs_k=False),
        Rule(name="replay", select=everything, needs_k=False),
    )
}


def known() -> tuple[str, ...]:
    """Names of all schedules: the built-in ones, then those of installed packages."""
    return (*RULES, *(name for name in plugins.installed("schedule") if name not in RULES))


def rule_of(name: str) -> Rule:
    """The rule of a built-in schedule, or of one that an installed package brings.

    Raises StudyError for any other name, and for a package that cannot be imported or brings no Rule.
    """
    if name in RULES:
        return RULES[name]
    found: Rule = plugins.load("schedule", name)
    return found


def event_rng(seed: int, event: int) -> random.Random:
    """The generator of one event, keyed by (schedule seed, event): the draw does not depend on what came before."""
    key = hashlib.sha256(f"raysched schedule seed={seed} event={event}".encode()).digest()
    return random.Random(int.from_bytes(key, "big"))
