"""What is searched: the product of schedule, learning rate and interval, and arms beside it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raysched.study.inputs import Strict
from raysched.study.values import (
    MOST_POINTS,
    WITHOUT_K,
    Interval,
    Lr,
    Method,
    Name,
    ScheduleName,
    no_repeats,
    refused,
    uses_k,
)


class Arm(Strict):
    """One point by itself, with a length of its own if need be: a published setting, or a matched budget."""

    schedule: ScheduleName = Field(description="unfreezing schedule")
    lr: Lr = Field(description="learning rate")
    k: Interval | None = Field(default=None, description="unfreezing interval; null where the schedule has none")
    method: Method = Field(default="adapters", description="what is trained: the task adapter, or everything")
    epochs: int | None = Field(default=None, ge=1, description="if another length than training's")
    steps: int | None = Field(default=None, ge=1, description="if another length than training's")

    @model_validator(mode="after")
    def _consistent(self) -> Arm:
        if uses_k(self.schedule) == (self.k is None):
            given = "must be given" if self.k is None else "means nothing"
            raise refused(
                f"{given} for schedule {self.schedule}, but got {self.k}",
                key="k",
                choices=["a whole number from 1", "early", "even"] if self.k is None else ["null"],
                hint="add k: 100, for example" if self.k is None else "leave it out",
            )
        if self.epochs is not None and self.steps is not None:
            raise refused(
                f"at most one of epochs and steps may be given, but got epochs={self.epochs}, steps={self.steps}",
                key="steps",
                choices=["epochs alone", "steps alone"],
                hint="leave one of them out",
            )
        return self


class Search(Strict):
    """What is searched: the product of schedule, lr, k (only where the schedule uses it) and method, and the arms."""

    schedule: tuple[ScheduleName, ...] = Field(default=(), description="unfreezing schedules to compare")
    lr: tuple[Lr, ...] = Field(default=(), description="learning rates")
    k: tuple[Interval, ...] = Field(
        default=(),
        description="unfreezing intervals in steps, or early or even; standard, surgical and replay have none",
    )
    method: Annotated[tuple[Method, ...], Field(min_length=1)] = Field(
        default=("adapters",), description="adapters: the task adapter is trained; full: backbone and all (Table 7)"
    )
    arms: tuple[Arm, ...] = Field(
        default=(), description="points beside the product, each given whole; only with sampler grid"
    )
    sampler: Literal["tpe", "random", "grid"] = Field(default="tpe", description="who chooses; grid takes every point")
    points: int | None = Field(
        default=None, ge=1, description="how many points tpe and random take (all when null); grid takes all"
    )
    seed: int = Field(default=0, ge=0, description="seed of the sampler")
    objective: Name = Field(
        default="source_dev/f1",
        description="source_dev/<metric of the task>, maximised: only source-language dev scores steer",
        json_schema_extra={"pattern": "^source_dev/"},
    )

    @model_validator(mode="after")
    def _consistent(self) -> Search:
        for key in ("schedule", "lr", "k", "method", "arms"):
            no_repeats(key, getattr(self, key))
        for key in ("schedule", "lr"):
            if not getattr(self, key) and (self.schedule or self.lr or not self.arms):
                other = "or neither search.schedule nor search.lr, for arms alone" if self.arms else "or search.arms"
                raise refused(
                    "must hold at least 1 value, but got []", key=key, hint=f"give at least one value, {other}"
                )
        needs = [schedule for schedule in self.schedule if uses_k(schedule)]
        if needs and not self.k:
            raise refused(
                f"must hold at least one interval for schedule {', '.join(needs)}, but got none",
                key="k",
                choices=["a list of whole numbers from 1"],
                hint=f"add k: [100] to search, or search only {' and '.join(sorted(WITHOUT_K))}, which have no k",
            )
        if self.arms and self.sampler != "grid":
            raise refused(
                f"must be grid where arms are given, which are all taken, but got {self.sampler}",
                key="sampler",
                choices=["grid"],
                hint="set search.sampler: grid, or leave search.arms out",
            )
        if not self.objective.startswith("source_dev/"):
            what = f"must be a source-language dev score, but got {self.objective!r}"
            if re.match(r"(test|target|oracle)\b", self.objective):
                what += "; target-language scores never steer a zero-shot search"
            raise refused(
                what,
                key="objective",
                choices=["source_dev/f1, source_dev/em for qa", "source_dev/accuracy for choice and nli"],
                hint="targets are tested after training, and reported",
            )
        n_points = len(self.method) * len(self.lr) * (len(self.schedule) - len(needs) + len(needs) * len(self.k))
        if n_points + len(self.arms) > MOST_POINTS:
            raise refused(
                f"must hold at most {MOST_POINTS} points, but got {n_points + len(self.arms)}",
                hint="shorten search.lr, search.k, search.schedule or search.arms",
            )
        return self
