"""Algorithm 1 (FUN with Fisher, section 3): which layers wake before which step. No torch.

The state is a log of events; which layers are awake is its fold. Steps are 1-based optimizer steps, and an
event fires BEFORE the forward of its step. With interval k, event e is due at step e*k, at most L of them,
and none once nothing is frozen. The head is always awake and is no layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from raysched.errors import DamageError, Diverged, RayschedError, RunError
from raysched.study import plugins
from raysched.unfreezing.config import Replay, ScheduleConfig
from raysched.unfreezing.select import RULES, event_rng, rule_of


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
        self._rule = rule_of(config.name)
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
        if self.config.surgical is not None:
            return frozenset(self.config.surgical)
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
        if fired == len(self._steps) or self._steps[fired] > step or not self.frozen():
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
        offered = self._offered(number)
        try:
            layers = tuple(self._rule.select(offered, traces, event_rng(self.config.seed, number)))
        except Exception as error:
            if self.config.name in RULES:
                raise
            raise self._plugin_error(f"failed: {type(error).__name__}: {error}") from error
        if not set(layers) <= set(offered) or len(set(layers)) < len(layers):
            raise self._plugin_error(f"must choose among the frozen layers {list(offered)}, but gave {list(layers)}")
        return layers

    def _plugin_error(self, what: str) -> RunError:
        return RunError(
            f"the schedule {self.config.name!r} of {plugins.origin('schedule', self.config.name)} {what}",
            cause="code",
            hint="repair or uninstall the package that brings it",
        )

    def _offered(self, number: int) -> tuple[int, ...]:
        """The frozen layers in the order of the schedule; for `replay` those recorded for this event."""
        if self.config.replay is not None:
            return self.config.replay[number - 1][1]
        if self.config.fixed_order is not None:
            return tuple(layer for layer in self.config.fixed_order if layer not in self._awake)
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
