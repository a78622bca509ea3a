"""The settings of one schedule, checked as a whole. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from raysched.errors import StudyError
from raysched.unfreezing.select import known, rule_of

GU_PHASES = ("reference", "prose")
Replay = tuple[tuple[int, tuple[int, ...]], ...]


def _is_int(value: object, least: int) -> bool:
    return type(value) is int and value >= least


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """One schedule, complete. Raises StudyError for what is malformed or means nothing to this schedule.

    `k` is in optimizer steps. `permutation` is an order of the layers 0..L-2 (the top layer is awake from the
    start). `surgical` layers are awake for the whole run, and no other ever is. `replay` is a recorded log, (step,
    layers) per event: its top layer is awake from the start unless the log wakes it. `gu_phase` is looked at by `gu`
    alone.
    """

    name: str
    n_layers: int
    k: int | None = None
    seed: int = 0
    gu_phase: Literal["reference", "prose"] = "reference"
    permutation: tuple[int, ...] | None = None
    surgical: tuple[int, ...] | None = None
    replay: Replay | None = None

    def __post_init__(self) -> None:
        if self.name not in known():
            raise StudyError(
                f"must be the name of a schedule, but got {self.name!r}", key="search.schedule", choices=known()
            )
        rule = rule_of(self.name)
        if not _is_int(self.n_layers, 1):
            raise StudyError(f"n_layers >= 1 must hold, but got {self.n_layers!r}", key="n_layers")
        if not _is_int(self.seed, 0):
            raise StudyError(f"must be a whole number >= 0, but got {self.seed!r}", key="seed")
        if self.gu_phase not in GU_PHASES:
            raise StudyError(
                f"must name a phase, but got {self.gu_phase!r}", key="training.gu_phase", choices=GU_PHASES
            )
        for key, value, used in (
            ("search.k", self.k, rule.needs_k),
            ("training.permutation", self.permutation, self.name == "permutation"),
            ("training.surgical", self.surgical, self.name == "surgical"),
            ("training.replay", self.replay, self.name == "replay"),
        ):
            if used and value is None:
                raise StudyError(f"must be given for schedule {self.name}, but got none", key=key)
            if not used and value is not None:
                raise StudyError(
                    f"means nothing to schedule {self.name}, but got {value!r}", key=key, hint="leave it out"
                )
        if self.k is not None and not _is_int(self.k, 1):
            raise StudyError(
                f"must be a whole number of optimizer steps >= 1, but got {self.k!r}",
                key="search.k",
                choices=("1, 2, 3, ...",),
            )
        if self.permutation is not None:
            _check_permutation(self.permutation, self.n_layers)
        if rule.order is not None:
            _check_published(self.name, rule.order, self.n_layers)
        if self.surgical is not None:
            _check_surgical(self.surgical, self.n_layers)
        if self.replay is not None:
            _check_replay(self.replay, self.n_layers)

    @property
    def fixed_order(self) -> tuple[int, ...] | None:
        """The order that was given or published, of a schedule that follows one."""
        return self.permutation if self.permutation is not None else rule_of(self.name).order


def _check_permutation(permutation: tuple[int, ...], n_layers: int) -> None:
    layers = tuple(range(n_layers - 1))
    if not all(_is_int(layer, 0) for layer in permutation) or tuple(sorted(permutation)) != layers:
        raise StudyError(
            f"must hold each of the layers below the top of {n_layers} exactly once, but got {list(permutation)}",
            key="training.permutation",
            choices=[f"an order of {list(layers)}"],
        )


def _check_published(name: str, order: tuple[int, ...], n_layers: int) -> None:
    if len(order) + 1 != n_layers:
        raise StudyError(
            f"schedule {name} is an order for {len(order) + 1} layers, but the backbone has {n_layers}",
            key="search.schedule",
            hint="give an order of your own: schedule permutation with training.permutation",
        )
    _check_permutation(order, n_layers)


def _check_surgical(layers: tuple[int, ...], n_layers: int) -> None:
    wrong = [layer for layer in layers if not _is_int(layer, 0) or layer >= n_layers]
    if wrong or not layers or len(set(layers)) < len(layers):
        raise StudyError(
            f"must hold layers of the backbone's {n_layers}, each once, but got {list(layers)}",
            key="training.surgical",
            choices=[f"layers of 0..{n_layers - 1}, 0 nearest the embeddings"],
        )


def _check_replay(replay: Replay, n_layers: int) -> None:
    def refuse(rule: str, value: object) -> StudyError:
        return StudyError(
            f"{rule}, but got {value}",
            key="training.replay",
            choices=[f"[[step, [layers]], ...] with layers of 0..{n_layers - 1}"],
            hint="replay the unfreeze_order.json of a run with as many layers",
        )

    if not replay:
        raise refuse("must hold at least one event", "an empty log")
    for step, layers in replay:
        for number in (step, *layers):
            if type(number) is not int:
                raise refuse("steps and layers must be whole numbers", repr(number))
    frozen = {*range(n_layers - 1), *(layer for _, layers in replay for layer in layers)}
    previous = 0
    for step, layers in replay:
        if not frozen:
            raise refuse("no event may follow once nothing is frozen", f"one at step {step}")
        if step <= previous:
            raise refuse(f"steps must grow from 1 on, after {previous}", str(step))
        for layer in layers:
            if not 0 <= layer < n_layers:
                raise refuse(f"every layer must be one of 0..{n_layers - 1}", str(layer))
            if layer not in frozen:
                raise refuse("every layer must wake once", f"layer {layer} again at step {step}")
            frozen.remove(layer)
        previous = step


def replay_from_json(value: Any) -> Replay:
    """The recorded log of `[[step, [layer, ...]], ...]` (unfreeze_order.json); StudyError if it has another form."""
    if not isinstance(value, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list) for entry in value
    ):
        raise StudyError(
            f"must be a list of [step, [layers]], but got {value!r:.80}",
            key="training.replay",
            choices=["[[50, []], [100, [10]]]"],
        )
    return tuple((step, tuple(layers)) for step, layers in value)
