"""Types of a study's values, and the way in which a rule refuses one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, WrapValidator
from pydantic_core import PydanticCustomError

ScheduleName = Literal["standard", "gu", "lpft", "rand", "fun", "reverse", "permutation", "replay"]
SCHEDULES: tuple[str, ...] = get_args(ScheduleName)
WITHOUT_K = frozenset({"standard", "replay"})
"""Schedules to which `k` means nothing: a point with one of them has no k."""

OBJECTIVES = ("source_dev/f1", "source_dev/em")
MOST_SEEDS, MOST_POINTS = 1000, 100_000

Language = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
Lr = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Interval = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Labels = Literal["auto", "exact", "noise", "sampled", "mode", "true"]


def refused(what: str, *, key: str = "", choices: Iterable[object] = (), hint: str = "") -> PydanticCustomError:
    """A broken rule, in words: `key` is relative to the model that refuses, `hint` the next step."""
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
Gpu = Annotated[Literal["auto"] | Annotated[float, Field(ge=0)], WrapValidator(_gpu)]
