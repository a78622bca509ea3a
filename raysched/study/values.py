"""Types of a study's values, and the way in which a rule refuses one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema, WrapValidator
from pydantic_core import PydanticCustomError

from raysched.study import plugins

PUBLISHED = tuple(f"schedule-{number}" for number in range(10))
"""The paper's ten random permutations of twelve layers, by its own names."""
SCHEDULES = ("standard", "gu", "lpft", "rand", "fun", "reverse", "permutation", *PUBLISHED, "surgical", "replay")
WITHOUT_K = frozenset({"standard", "surgical", "replay"})
"""Schedules to which `k` means nothing: a point with one of them has no k."""

TASKS: dict[str, tuple[str, ...]] = {"qa": ("f1", "em"), "choice": ("accuracy",), "nli": ("accuracy",)}
"""Built-in tasks and their metrics, the first one the customary objective."""
MOST_SEEDS, MOST_POINTS = 1000, 100_000

Language = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
Lr = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Method = Literal["adapters", "full"]
Labels = Literal["auto", "exact", "noise", "sampled", "mode", "true"]
Scoring = Literal["squad", "mlqa"]
ChineseMetric = Literal["squad", "mlqa", "char"]
MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
"""Languages that MLQA's scoring has rules for (`tasks.metrics`)."""


def refused(what: str, *, key: str = "", choices: Iterable[object] = (), hint: str = "") -> PydanticCustomError:
    """A broken rule, in words: `key` is relative to the model that refuses (`arms.0.k`), `hint` the next step."""
    context = {"what": what, "key": key, "choices": tuple(str(choice) for choice in choices), "hint": hint}
    return PydanticCustomError("rule", "{what}", context)


def no_repeats(key: str, values: tuple[Any, ...]) -> None:
    twice = [value for position, value in enumerate(values) if value in values[:position]]
    if twice:
        raise refused(
            f"must not repeat a value, but {twice[0]} stands twice in {list(values)}",
            key=key,
            hint="remove the repetition",
        )


def metrics(task: str) -> tuple[str, ...]:
    """The metrics of a task, its own objective first. Raises StudyError for a plug-in that cannot be loaded."""
    return TASKS[task] if task in TASKS else tuple(plugins.load("task", task).metrics)


def form(task: str) -> str:
    """The form of a task's rows: qa, choice or nli. Raises StudyError for a plug-in that cannot be loaded."""
    return task if task in TASKS else str(plugins.load("task", task).form)


def uses_k(schedule: str) -> bool:
    """Whether a point with this schedule has an interval k."""
    if schedule in SCHEDULES:
        return schedule not in WITHOUT_K
    return bool(plugins.load("schedule", schedule).needs_k)


def _one_of(kind: plugins.Kind, own: Iterable[str]) -> Any:
    """Text that names a built-in, or what an installed package brings."""
    names = tuple(own)

    def check(value: str) -> str:
        choices = (*names, *plugins.installed(kind))
        if value not in choices:
            meant = difflib.get_close_matches(value.lower(), choices, n=1)
            hint = f"did you mean {meant[0]}?" if meant else "take one of the valid values"
            given = json.dumps(value[:80], ensure_ascii=False)
            raise refused(f"must be one of the valid values, but got {given}", choices=choices, hint=hint)
        return value

    named = {"anyOf": [{"enum": list(names)}, {"type": "string", "pattern": f"^{plugins.NAME.pattern}$"}]}
    return Annotated[str, AfterValidator(check), WithJsonSchema(named)]


def _interval(value: Any, handler: Any) -> Any:
    """One message instead of one per member of the union."""
    try:
        return handler(value)
    except ValidationError:
        what = f"must be a whole number >= 1, early or even, but got {json.dumps(value)[:80]}"
        hint = "even spreads the events over the whole run, early over its first tenth"
        if isinstance(value, str) and value.isdecimal():
            hint = f"write {int(value)} without quotes"
        elif isinstance(value, float) and value == int(value) >= 1:
            hint = f"write {int(value)}"
        elif isinstance(value, int):
            hint = "choose a larger value"
        raise refused(what, choices=("a whole number >= 1", "early", "even"), hint=hint) from None


def _seed_list(value: Any) -> Any:
    """`4` is short for `[0, 1, 2, 3]`."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MOST_SEEDS:
        raise refused(
            f"must be a number of seeds from 1 to {MOST_SEEDS}, but got {value}", hint="write seeds: 4, for example"
        )
    return tuple(range(value))


def _gpu(value: Any, handler: Any) -> Any:
    """One message instead of one per member of the union."""
    try:
        gpu = handler(value)
    except ValidationError:
        gpu = None
    if gpu is None or (gpu != "auto" and (gpu < 0 or (gpu > 1 and gpu != int(gpu)))):
        what = f"must be auto, a fraction of a GPU up to 1, or a whole number of GPUs, but got {value!r}"
        raise refused(what, choices=("auto", 0, 0.25, 0.5, 1, 2, "..."), hint="auto takes a GPU where there is one")
    return gpu


Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(min_length=1, max_length=MOST_SEEDS),
    BeforeValidator(_seed_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": MOST_SEEDS},
                {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS},
            ]
        }
    ),
]
ScheduleName = _one_of("schedule", SCHEDULES)
TaskName = _one_of("task", TASKS)
K = int | Literal["early", "even"]
Interval = Annotated[Annotated[int, Field(ge=1)] | Literal["early", "even"], WrapValidator(_interval)]
"""Steps between two events, or a share of the run: `even` spreads the events over all of it (k = N/L), `early` over
its first tenth (kL << N)."""
Gpu = Annotated[Literal["auto"] | Annotated[float, Field(ge=0)], WrapValidator(_gpu)]
