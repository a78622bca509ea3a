"""From pydantic's errors to messages that teach: dotted key, rule, value given, valid choices, next step."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from raysched.errors import StudyError
from raysched.study.choices import Path, all_keys, closest, dotted, section, valid
from raysched.study.yaml_text import FLOAT, Node, Place

MOST_IN_FULL, MOST_SHOWN = 5, 18
"""Problems shown with choices and next step, and problems shown at all: what a screen holds."""
SECRET_WORDS = frozenset(
    {"token", "password", "passwd", "passphrase", "secret", "secrets", "credential", "credentials"}
)
SECRET_KEYS = frozenset({"apikey", "accesskey", "privatekey", "secretkey", "authtoken"})


class StudyErrors(StudyError):
    """Several problems of one study, found in one go, told on one screen; `errors` holds each."""

    def __init__(self, errors: Sequence[StudyError]) -> None:
        if len(errors) <= MOST_IN_FULL:
            shown = [str(error) for error in errors]
        else:
            shown = [error.what.replace("\n  at:    ", "  at: ") for error in errors[:MOST_SHOWN]]
            shown = [f"{error.key}: {line}" for error, line in zip(errors, shown, strict=False)]
            shown += [f"... and {len(errors) - MOST_SHOWN} more"] if len(errors) > MOST_SHOWN else []
            shown += [f"  next:  correct some; {MOST_IN_FULL} or fewer are shown with the valid values of each"]
        super().__init__(f"{len(errors)} problems\n" + "\n".join(shown))
        self.errors = tuple(errors)


def raise_all(errors: Sequence[StudyError]) -> NoReturn:
    """One error as itself, several as one; the same text twice is one error."""
    unique = list({str(error): error for error in errors}.values())
    raise unique[0] if len(unique) == 1 else StudyErrors(unique)


def is_secret(key: str) -> bool:
    """Whether a key asks for something that must not stand in a file (`tokenizer` does not)."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", key)
    lowered = [word.lower() for word in words]
    pairs = ("".join(pair) for pair in itertools.pairwise(lowered))
    return any(word in SECRET_WORDS | SECRET_KEYS for word in lowered) or any(pair in SECRET_KEYS for pair in pairs)


def show(value: Any) -> str:
    """A value as it is written in a file, short, with the credentials of an address masked."""
    text = re.sub(r"(://)[^/@\s]+@", r"\1***@", json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else text[:77] + "..."


def secret_keys(tree: Node, path: Path = ()) -> Iterable[StudyError]:
    """A message for every key that asks for a secret, at any depth; the value is never shown."""
    entries = (
        tree.value.items()
        if isinstance(tree.value, dict)
        else enumerate(tree.value)
        if isinstance(tree.value, list)
        else ()
    )
    for key, node in entries:
        if isinstance(key, str) and is_secret(key):
            yield StudyError(
                f"secrets never stand in a study or on the command line\n  at:    {node.place}",
                key=dotted((*path, key)),
                hint="remove it, and put it into the environment (HF_TOKEN, MLFLOW_TRACKING_PASSWORD, ...)",
            )
        else:
            yield from secret_keys(node, (*path, key))


def unknown_key(path: Path, place: Place) -> StudyError:
    """A key that a study does not have."""
    key, parent = str(path[-1]), section(path[:-1])
    choices = list(parent.model_fields) if parent else []
    if not choices:
        value = dotted(path[:-1])
        return StudyError(
            f"unknown key: {value} is a value, not a section\n  at:    {place}",
            key=dotted(path),
            choices=[valid(path[:-1])] if valid(path[:-1]) else [],
            hint=f"give the whole value, --set {value}='[...]' for a list",
        )
    if not path[:-1] and place.line is not None:
        choices.append("extends")
    meant = closest(key, choices)
    elsewhere = [known for known in all_keys() if known.rsplit(".", 1)[-1] == key]
    if meant:
        hint = f"did you mean {dotted((*path[:-1], meant))}?"
    elif elsewhere:
        hint = f"did you mean {' or '.join(elsewhere)}?"
    else:
        hint = "remove it, or see `raysched schema` for every key"
    return StudyError(f"unknown key\n  at:    {place}", key=dotted(path), choices=choices, hint=hint)


def find(tree: Node, path: Path) -> tuple[Place, Node | None]:
    """The node at `path`, and its place; where it is missing, the place of the nearest one above it."""
    node = tree
    for part in path:
        held = dict(enumerate(node.value)) if isinstance(node.value, list) else node.value
        if not isinstance(held, dict) or part not in held:
            return node.place, None
        node = held[part]
    return node.place, node


def explain(error: dict[str, Any], tree: Node) -> StudyError:
    """One of pydantic's error dicts as a message."""
    kind, path, context = error["type"], tuple(error["loc"]), error.get("ctx", {})
    if kind == "rule":
        parts = context["key"].split(".") if context["key"] else ()
        path += tuple(int(part) if part.isdecimal() else part for part in parts)
        place = _last_given(tree, path) if "." not in context["key"] else find(tree, path)[0]
        what = f"{context['what']}\n  at:    {place}"
        choices = context["choices"] or [valid(path)]
        return StudyError(what, key=dotted(path) or "study", choices=choices, hint=context["hint"] or None)
    if path[-1:] == ("[key]",):  # a name of the user's own, not the value below it
        what = (
            f"a name must match {context.get('pattern')}, but got {show(path[-2])}\n  at:    {find(tree, path[:-1])[0]}"
        )
        return StudyError(what, key=dotted(path[:-1]), hint="choose another name")
    place, node = find(tree, path)
    if kind == "extra_forbidden":
        return unknown_key(path, place)
    given = show(node.plain()) if node else "nothing"
    choices = valid(path)
    rule, hint = _rule(kind, path, context, node)
    what = f"{rule}, but got {given}\n  at:    {place}"
    return StudyError(what, key=dotted(path) or "study", choices=[choices] if choices else (), hint=hint)


def explain_all(found: Sequence[Any], tree: Node) -> list[StudyError]:
    """All of pydantic's error dicts as messages, without those that only follow from another one.

    A list of wrong items is "too short" as well to pydantic, which counts the right ones; a misspelled key is
    missing under its right name.
    """
    items = {tuple(one["loc"][:-1]) for one in found if one["loc"] and isinstance(one["loc"][-1], int)}
    kept = [dict(one) for one in found if one["type"] != "too_short" or tuple(one["loc"]) not in items]
    errors = [(one["type"], explain(one, tree)) for one in kept]
    hints = {error.hint for kind, error in errors if kind == "extra_forbidden"}
    return [error for kind, error in errors if kind != "missing" or f"did you mean {error.key}?" not in hints]


def _last_given(tree: Node, path: Path) -> Place:
    """The place of the value at `path`; of its --set neighbour, where a rule over several keys was broken by one."""
    parent, own = find(tree, path[:-1])[1], find(tree, path)[0]
    neighbours = parent.value.values() if parent and isinstance(parent.value, dict) else ()
    options = [node.place for node in neighbours if node.place.line is None]
    return own if own.line is None or not options else options[-1]


def _rule(kind: str, path: Path, context: dict[str, Any], node: Node | None) -> tuple[str, str]:
    """The broken rule as the start of a sentence, and the next step."""
    key, value = dotted(path), node.plain() if node else None
    what = valid(path)
    change = f"change {key}"
    if kind == "missing":
        return "must be given", f"add {path[-1]}: ... " + (
            f"below {dotted(path[:-1])}:" if path[:-1] else "to the file"
        )
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        parent = section(path[:-1])
        optional = parent is not None and path and not parent.model_fields[str(path[-1])].is_required()
        return "must be a section with keys", f"put keys below {key}:" + (
            ", or remove it to take the defaults" if optional else ""
        )
    if kind == "tuple_type":
        return "must be a list", f"write {path[-1]}: [...], a list even for one value"
    if kind in ("int_type", "float_type", "int_from_float"):
        wanted = "a whole number" if kind.startswith("int") else "a number"
        if isinstance(value, str):
            loose = value.replace("_", "").replace(",", ".").strip()
            number = loose if FLOAT.fullmatch(loose) else "0.001" if kind == "float_type" else "100"
            return f"must be {wanted}, not text", f"write {number} without quotes"
        if isinstance(value, float) and value == int(value):
            return f"must be {wanted}", f"write {int(value)}"
        return f"must be {wanted}", change
    if kind in ("string_type", "bool_type"):
        wanted = "text" if kind == "string_type" else "true or false"
        return f"must be {wanted}", f'put it into quotes: "{value}"' if isinstance(value, (int, float)) else change
    if kind in ("literal_error", "enum"):
        meant = closest(value, what.split(", ")) if isinstance(value, str) else None
        return "must be one of the valid values", f"did you mean {meant}?" if meant else "take one of the valid values"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}", "use the short name of the language, such as en, de or zh"
    bounds = {
        "greater_than": ("must be greater than {gt}", "choose a larger value"),
        "greater_than_equal": ("must be at least {ge}", "choose a larger value"),
        "less_than": ("must be less than {lt}", "choose a smaller value"),
        "less_than_equal": ("must be at most {le}", "choose a smaller value"),
        "too_short": ("must hold at least {min_length} value", "give at least one value"),
        "too_long": ("must hold at most {max_length} values", "shorten the list"),
        "string_too_short": ("must not be empty", "give a value, or remove the key"),
        "string_too_long": ("must have at most {max_length} characters", "shorten it"),
        "finite_number": ("must be finite", "write a number such as 1e-4"),
    }
    if kind in bounds:
        rule, hint = bounds[kind]
        return rule.format(
            **{name: f"{bound:g}" for name, bound in context.items() if isinstance(bound, (int, float))}
        ), hint
    return f"must be {what or 'valid'}", change
