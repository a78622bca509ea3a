"""Algorithm 1 (FUN with Fisher, section 3): which layers wake before which step. No torch.

The state is a log of events; which layers are awake is its fold. Steps are 1-based optimizer steps, and an
event fires BEFORE the forward of its step. With interval k, event e is due at step e*k, at most L of them,
and none once nothing is frozen. The head is always awake and is no layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from raysched.errors import DamageError, Diverged, RayschedError, StudyError
from raysched.unfreezing.select import RULES, event_rng

GU_PHASES = ("reference", "prose")
Replay = tuple[tuple[int, tuple[int, ...]], ...]


def _is_int(value: object, least: int) -> bool:
    return type(value) is int and value >= least


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """One schedule, complete. Raises StudyError for what is malformed or means nothing to this schedule.

    `k` is in optimizer steps. `permutation` is an order of the layers 0..L-2 (the top layer is awake from the
    start). `replay` is a recorded log, (step, layers) per event: its top layer is awake from the start unless
    the log wakes it. `gu_phase` is looked at by `gu` alone.
    """

    name: str
    n_layers: int
    k: int | None = None
    seed: int = 0
    gu_phase: Literal["reference", "prose"] = "reference"
    permutation: tuple[int, ...] | None = None
    replay: Replay | None = None

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise StudyError(
                f"must be the name of a schedule, but got {self.name!r}", key="search.schedule", choices=RULES
            )
        if not _is_int(self.n_layers, 1):
            raise StudyError(f"n_layers >= 1 must hold, but got {self.n_layers!r}", key="n_layers")
        if not _is_int(self.seed, 0):
            raise StudyError(f"must be a whole number >= 0, but got {self.seed!r}", key="seed")
        if self.gu_phase not in GU_PHASES:
            raise StudyError(
                f"must name a phase, but got {self.gu_phase!r}", key="training.gu_phase", choices=GU_PHASES
            )
        for key, value, used in (
            ("search.k", self.k, RULES[self.name].needs_k),
            ("training.permutation", self.permutation, self.name == "permutation"),
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
        if self.replay is not None:
            _check_replay(self.replay, self.n_layers)


def _check_permutation(permutation: tuple[int, ...], n_layers: int) -> None:
    layers = tuple(range(n_layers - 1))
    if not all(_is_int(layer, 0) for layer in permutation) or tuple(sorted(permutation)) != layers:
        raise StudyError(
            f"must hold each of the layers below the top of {n_layers} exactly once, but got {list(permutation)}",
            key="training.permutation",
            choices=[f"an order of {list(layers)}"],
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the log: before the forward of `step`, event number `event` woke `layers` (perhaps none).

    `traces` and `se` hold tr(F) and its standard error per layer (L values) where they were measured.
    """

    step: int
    event: int
    layers: tuple[int, ...]
    traces: tuple[float, ...] | None = None
    se: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; floats survive the round trip exactly."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Event:
        """Inverse of `to_json`; DamageError for anything else."""
        try:
            tuples = {name: None if value[name] is None else tuple(value[name]) for name in ("traces", "se")}
            event = cls(step=value["step"], event=value["event"], layers=tuple(value["layers"]), **tuples)
        except (KeyError, TypeError) as error:
            raise DamageError(f"is no event: {value!r:.120}", key="schedule log") from error
        whole = (event.step, event.event, *event.layers)
        reals = (*(event.traces or ()), *(event.se or ()))
        if not all(type(number) is int for number in whole) or not all(
            type(number) in (int, float) for number in reals
        ):
            raise DamageError(f"is no event: {value!r:.120}", key="schedule log")
        return event


class Unfreezing:
    """The schedule at work. `log` is a pure value: a second `Unfreezing(config, log)` has the same future.

    Raises DamageError where `log` is not one that `config` can have produced.
    """

    def __init__(self, config: ScheduleConfig, log: Sequence[Event] = ()) -> None:
        self.config = config
        self._rule = RULES[config.name]
        self.initial = self._initial()
        self._awake = set(self.initial)
        self._log: list[Event] = []
        self._steps = self._timetable()
        for event in log:
            try:
                fired = self.fire(event.step, event.traces, event.se)
            except (ValueError, RayschedError) as error:
                raise self._damage(f"event {event.event} at step {event.step} cannot be: {error}") from error
            if fired != event:
                raise self._damage(f"the schedule gives {fired.to_json()}, the log holds {event.to_json()}")

    def _initial(self) -> frozenset[int]:
        top = self.config.n_layers - 1
        if self.config.replay is not None:
            recorded = {layer for _, layers in self.config.replay for layer in layers}
            return frozenset({top} - recorded)
        return frozenset({"all": range(top + 1), "top": (top,), "none": ()}[self._rule.initial])

    def _timetable(self) -> tuple[int, ...]:
        """The step of every event, if training lasts that long."""
        if self.config.replay is not None:
            return tuple(step for step, _ in self.config.replay)
        if not self.frozen() or self.config.k is None:
            return ()
        n_events = 1 if self.config.name == "lpft" else len(self.frozen()) + self._starts_empty()
        return tuple(self.config.k * event for event in range(1, n_events + 1))

    def _starts_empty(self) -> bool:
        """The released GU's first event names the top layer, which is awake: an event of the log that wakes nothing."""
        return self.config.name == "gu" and self.config.gu_phase == "reference"

    @property
    def log(self) -> tuple[Event, ...]:
        return tuple(self._log)

    @property
    def order(self) -> Replay:
        """(step, layers) of every event so far: what `replay` takes."""
        return tuple((event.step, event.layers) for event in self._log)

    def awake(self) -> frozenset[int]:
        return frozenset(self._awake)

    def frozen(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(layer for layer in range(self.config.n_layers) if layer not in self._awake)

    def due(self, step: int) -> int | None:
        """Number of the event that fires before the forward of 1-based `step`; None if none does.

        Raises DamageError if the log does not fit this step: an earlier event is missing from it, or it holds a
        later one (a run resumed from weights and log of different steps).
        """
        fired = len(self._log)
        if fired and self._log[-1].step > step:
            raise self._damage(f"step {step} comes after event {fired} of step {self._log[-1].step} was fired")
        if fired == len(self._steps) or self._steps[fired] > step:
            return None
        if self._steps[fired] < step:
            raise self._damage(f"event {fired + 1} of step {self._steps[fired]} was not fired before step {step}")
        return fired + 1

    def needs_traces(self, step: int) -> bool:
        """Whether the event of `step` has to be given tr(F) of every layer: a choice, and a rule that measures."""
        return self._rule.needs_traces and self.due(step) is not None and len(self.frozen()) > 1

    def fire(self, step: int, traces: Sequence[float] | None = None, se: Sequence[float] | None = None) -> Event:
        """The event of `step`, appended to the log.

        Raises Diverged if a trace is not finite, ValueError if no event is due at `step` or the traces are
        missing or not one per layer.
        """
        number = self.due(step)
        if number is None:
            raise ValueError(f"an event must be due, but none is before step {step}")
        event = Event(
            step=step,
            event=number,
            layers=self._select(number, self._per_layer("traces", traces)),
            traces=self._per_layer("traces", traces),
            se=self._per_layer("standard errors", se),
        )
        self._awake.update(event.layers)
        self._log.append(event)
        return event

    def last_event_step(self, total_steps: int) -> int:
        """Last of the steps 1..total_steps at which an event fires; 0 if none does."""
        return max((step for step in self._steps if step <= total_steps), default=0)

    def _select(self, number: int, traces: tuple[float, ...] | None) -> tuple[int, ...]:
        if number == 1 and self._starts_empty():
            return ()
        return self._rule.select(self._offered(number), traces, event_rng(self.config.seed, number))

    def _offered(self, number: int) -> tuple[int, ...]:
        """The frozen layers in the order of the schedule; for `replay` those recorded for this event."""
        if self.config.replay is not None:
            return self.config.replay[number - 1][1]
        if self.config.permutation is not None:
            return tuple(layer for layer in self.config.permutation if layer not in self._awake)
        return self.frozen()

    def _per_layer(self, what: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
        if values is None:
            return None
        if len(values) != self.config.n_layers:
            raise ValueError(f"{what} must be {self.config.n_layers}, one per layer, but got {len(values)}")
        numbers = tuple(float(value) for value in values)
        for layer, number in enumerate(numbers):
            if not math.isfinite(number):
                raise Diverged(f"{what} must be finite numbers, but layer {layer} has {number}")
        return numbers

    def _damage(self, what: str) -> DamageError:
        return DamageError(
            f"{what} (schedule {self.config.name}, k={self.config.k}, {self.config.n_layers} layers)",
            key="schedule log",
            hint="resume from a checkpoint whose log, step and settings belong together",
        )
