"""The keys of a study and what may stand there, in words: read from the model, so that no message can be outdated."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from raysched.study.model import Study

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """`("search", "lr", 0)` as `search.lr[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def section(path: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that the keys of `path` lead to, or None where a value (or nothing) stands."""
    found = _annotation(path)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def known(path: Sequence[str | int]) -> bool:
    """Whether a study may have this key; below a section with names of the user's own, any name."""
    return _annotation(path) is not None


def _annotation(path: Sequence[str | int]) -> Any:
    """What may stand at `path`: a model, a type; None where a study has no such key."""
    here: Any = Study
    for part in path:
        if get_origin(here) is dict:
            here = get_args(here)[1]
        elif get_origin(here) is tuple and isinstance(part, int):
            here = get_args(here)[0]
        elif isinstance(here, type) and issubclass(here, BaseModel) and str(part) in here.model_fields:
            here = here.model_fields[str(part)].annotation
        else:
            return None
    return here


@lru_cache(maxsize=1)
def all_keys() -> tuple[str, ...]:
    """Every dotted key of a study, sections first."""

    def below(prefix: tuple[str, ...]) -> Iterable[str]:
        model = section(prefix)
        for name in model.model_fields if model else ():
            yield ".".join((*prefix, name))
            yield from below((*prefix, name))

    return tuple(below(()))


def closest(given: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant."""
    found = difflib.get_close_matches(given.lower(), list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    return Study.model_json_schema()


def valid(path: Path) -> str:
    """What may stand at `path`, in words, from the schema; empty where there is nothing to say."""
    schema = _schema()
    for part in path:
        schema = _followed(schema)
        schema = _below(schema, part)
    return _words(schema)


def _below(schema: dict[str, Any], part: str | int) -> dict[str, Any]:
    if isinstance(part, int):
        return dict(schema.get("items", {}))
    names = schema.get("patternProperties", {})
    own = next(iter(names.values()), schema.get("additionalProperties") or {})
    return dict(schema.get("properties", {}).get(part, own))


def _followed(schema: dict[str, Any]) -> dict[str, Any]:
    """Through a reference, and into the list of `list | something`."""
    if "$ref" in schema:
        return _schema()["$defs"][schema["$ref"].rsplit("/", 1)[-1]]  # type: ignore[no-any-return]
    return next((member for member in schema.get("anyOf", ()) if member.get("type") == "array"), schema)


def _words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return ", or ".join(filter(None, (_words(member) for member in schema["anyOf"])))
    if "$ref" in schema:
        return "keys " + ", ".join(_followed(schema).get("properties", ()))
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "")
    if kind == "array":
        items = _words(schema.get("items", {}))
        return f"a list ({'one of ' if 'enum' in schema.get('items', {}) else 'each '}{items})"
    if kind in ("integer", "number"):
        bounds = [
            f"{sign} {schema[name]:g}"
            for name, sign in (
                ("minimum", ">="),
                ("exclusiveMinimum", ">"),
                ("maximum", "<="),
                ("exclusiveMaximum", "<"),
            )
            if name in schema
        ]
        return " ".join(["a whole number" if kind == "integer" else "a number", " and ".join(bounds)]).rstrip()
    if kind == "string":
        return f"text that matches {schema['pattern']}" if "pattern" in schema else "text"
    return {"boolean": "true, false", "null": "null"}.get(kind, "")
