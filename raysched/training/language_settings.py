"""What decides a language adapter, when its training ends, and where it stands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from raysched.errors import StudyError
from raysched.study.identity import Content
from raysched.training.plain_text import HELD_OUT

Stop = Literal["epochs", "steps", "hours"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides the adapter. Defaults are the paper's where it has any; AdamW, constant learning rate."""

    language: str
    backbone: Content
    text: Content
    part: str | None = None
    column: str = "text"
    lr: float = 1e-4
    batch_size: int = 64
    length: int = 512
    reduction: float = 2
    train_head: bool = False
    held_out: float = HELD_OUT
    every: int = 500
    seed: int = 0
    precision: Precision = "fp32"
    device: str = "cpu"
    """`cpu` or `cuda`: other hardware gives other last digits."""

    def check(self, positions: int, width: int) -> None:
        """Raises StudyError where a value is out of its range; `positions` and `width` are the backbone's."""
        rules = (
            ("--lr", 0 < self.lr < 1, f"must be between 0 and 1, but got {self.lr:g}", "1e-4 is the paper's"),
            (
                "--reduction",
                1 <= self.reduction <= width,
                f"must be from 1 to the backbone's hidden size {width}, but got {self.reduction:g}",
                "2 is the paper's",
            ),
            (
                "--precision",
                self.precision in get_args(Precision),
                f"must be {' or '.join(get_args(Precision))}, but got {self.precision!r}",
                "fp32 is the default; bf16 is quicker on recent GPUs",
            ),
            (
                "--held-out",
                0 < self.held_out < 1 or (self.held_out >= 1 and self.held_out == int(self.held_out)),
                f"must be a share below 1 or a number of lines, but got {self.held_out}",
                f"{HELD_OUT} is the default",
            ),
            (
                "--length",
                8 <= self.length <= positions,
                f"must be from 8 to the {positions} positions of the backbone, but got {self.length}",
                f"--length {min(positions, 512)}",
            ),
        )
        for key, holds, what, hint in rules:
            if not holds:
                raise StudyError(what, key=key, hint=hint)

    def to_json(self) -> dict[str, Any]:
        """Inputs by what they are, not by where they lie."""
        inputs = {"backbone": self.backbone.revision, "text": self.text.revision}
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self)} | inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When training ends: at the first of them. They may be raised later, and training goes on."""

    epochs: int = 100
    hours: float = 24.0
    steps: int | None = None

    def total(self, per_epoch: int) -> int:
        """Steps, where time does not run out."""
        return min(self.epochs * per_epoch, self.steps or self.epochs * per_epoch)

    def reached(self, state: State) -> Stop | None:
        if state.step >= self.epochs * state.per_epoch:
            return "epochs"
        if self.steps is not None and state.step >= self.steps:
            return "steps"
        return "hours" if state.seconds >= self.hours * 3600 else None


@dataclass(slots=True, kw_only=True)
class State:
    """Where a training stands. Losses are means in nats per masked token."""

    per_epoch: int
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    without_adapter: float = math.nan
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    """step, held_out (loss), train (mean loss since the last evaluation; none before the first step)."""
    best_step: int = 0
    since: list[float] = field(default_factory=list)
    """Training losses of the steps since the last evaluation."""

    @property
    def best_loss(self) -> float:
        """Held-out loss of the kept adapter; infinite before there is one."""
        kept = [one["held_out"] for one in self.evaluations if one["step"] == self.best_step > 0]
        return float(kept[0]) if kept else math.inf

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> State:
        """A state that was stored as JSON, in which a number that is not finite is text."""
        return cls(**{**value, "without_adapter": float(value["without_adapter"])})
