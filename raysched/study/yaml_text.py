"""Reading a study's text: YAML 1.2 with the place of every value, and nothing that surprises.

Only mappings, lists and plain values are taken. Anchors, aliases, tags, directives, repeated keys, several
documents, NaN and infinity, and texts beyond the limits below are refused (reliability.md, S9). The parser is
read event by event, so that no nesting can exhaust the stack.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from raysched.errors import StudyError

MOST_BYTES, MOST_DEPTH, MOST_VALUES, MOST_KEY = 1 << 20, 32, 20_000, 200
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
UNREADABLE = re.compile("[^\t\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was given: a file with 1-based line and column, or an option of the command line."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place; a mapping holds `dict[str, Node]`, a list `list[Node]`. The place is that of the key."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places (at most `MOST_DEPTH` deep, see `parse`)."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def refuse(what: str, place: Place, *, key: str | None = None, hint: str | None = None) -> NoReturn:
    raise StudyError(f"{what}\n  at:    {place}", key=key, hint=hint)


def parse(text: str, source: str, *, option: bool = False) -> Node:
    """The tree of one YAML document. `option`: `source` is a command-line option, and has no lines.

    Raises StudyError for everything that is not a small, plain YAML 1.2 document.
    """

    def place(mark: Any) -> Place:
        return Place(source) if option or mark is None else Place(source, mark.line + 1, mark.column + 1)

    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        refuse(f"must hold at most {MOST_BYTES} bytes, but holds more", Place(source), hint="is this a study file?")
    for number, line in enumerate(text.split("\n"), start=1):
        if odd := UNREADABLE.search(line):
            here = Place(source) if option else Place(source, number, odd.start() + 1)
            refuse(f"must be text, but holds the character {odd[0]!a}", here, hint="is this a study file?")
    try:
        return _tree(YAML(typ="safe", pure=True).parse(text), place)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        hint = (
            "indent with spaces, never with tabs"
            if "\\t" in problem
            else "quote text that holds : # { [ or starts with @ or *"
        )
        refuse(f"must be valid YAML, but {problem}", place(mark), hint=hint)
    except (ValueError, RecursionError, OverflowError, IndexError) as error:
        refuse(
            f"must be valid YAML, but reading it failed ({type(error).__name__})",
            Place(source),
            hint="look for odd escapes",
        )


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not been read."""

    value: Any
    place: Place
    key: str | None = None
    key_place: Place | None = None
    places: dict[str, Place] = field(default_factory=dict)


def _tree(events: Iterator[Any], place: Any) -> Node:
    stack: list[_Open] = []
    root: Node | None = None
    n_values = 0
    for event in events:
        kind, here = type(event).__name__, place(event.start_mark)
        _no_extras(event, kind, here, root)
        if kind in ("MappingEndEvent", "SequenceEndEvent"):
            done = stack.pop()
            node = Node(done.value, done.place)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            is_map = kind == "MappingStartEvent"
            if len(stack) >= MOST_DEPTH:
                refuse(f"must nest at most {MOST_DEPTH} levels, but nests deeper", here, hint="is this a study file?")
            if stack and isinstance(stack[-1].value, dict) and stack[-1].key is None:
                refuse("a key must be text, but got a list or mapping", here, hint="write key: value")
            stack.append(_Open({} if is_map else [], _entry_place(stack, here)))
            continue
        elif kind == "ScalarEvent":
            if stack and isinstance(stack[-1].value, dict) and stack[-1].key is None:
                _open_key(stack, event.value, here)
                continue
            plain = event.style is None
            node = Node(_scalar(event.value, here) if plain else _text(event.value, here), _entry_place(stack, here))
        else:
            continue
        n_values += 1
        if n_values > MOST_VALUES:
            refuse(f"must hold at most {MOST_VALUES} values, but holds more", here, hint="is this a study file?")
        if not stack:
            root = node
        elif isinstance(stack[-1].value, list):
            stack[-1].value.append(node)
        else:
            stack[-1].value[stack[-1].key] = node
            stack[-1].key = None
    return root if root is not None else Node(None, place(None))


def _entry_place(stack: list[_Open], here: Place) -> Place:
    """Mapping entries are named by their key's place: the line a reader looks for."""
    return stack[-1].key_place or here if stack and isinstance(stack[-1].value, dict) else here


def _open_key(stack: list[_Open], key: str, here: Place) -> None:
    mapping = stack[-1]
    if not key or len(key) > MOST_KEY:
        refuse(f"a key must have 1 to {MOST_KEY} characters, but got {len(key)}", here, hint="write key: value")
    _text(key, here)
    if key in mapping.places:
        dotted = ".".join([outer.key for outer in stack[:-1] if outer.key] + [key])
        refuse(
            f"must be given once, but stands at {mapping.places[key]} too",
            here,
            key=dotted,
            hint="remove one of the two",
        )
    mapping.places[key] = here
    mapping.key, mapping.key_place = key, here


def _no_extras(event: Any, kind: str, here: Place, root: Node | None) -> None:
    if kind == "AliasEvent" or getattr(event, "anchor", None):
        refuse(
            f"anchors and aliases are not used in studies, but got {event.anchor!r}",
            here,
            hint="write the value out, or let one study extend another (extends: NAME)",
        )
    if getattr(event, "tag", None) is not None:
        refuse(f"tags are not used in studies, but got {event.tag}", here, hint="remove the tag")
    if kind == "DocumentStartEvent":
        if root is not None:
            refuse("must be one document, but a second one starts", here, hint="put each study into a file of its own")
        if event.tags or event.version not in (None, (1, 2)):
            refuse(
                "must be plain YAML 1.2, but a directive says otherwise",
                here,
                hint="remove the line that starts with %",
            )


def _scalar(text: str, here: Place) -> Any:
    """A plain (unquoted) value by the core schema of YAML 1.2."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        # Cut before int(): Python refuses thousands of digits with an error of its own.
        number = int(text, 0 if text.startswith(("0o", "0x")) else 10) if len(text) <= 40 else 1 << 64
        if abs(number) >= 1 << 63:
            refuse("a whole number must have less than 64 bits, but got one with more", here, hint="is this a number?")
        return number
    if FLOAT.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
    elif not NOT_FINITE.fullmatch(text):
        return _text(text, here)
    refuse(f"a number must be finite, but got {text[:40]}", here, hint="write a number such as 1e-4")


def _text(text: str, here: Place) -> str:
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t":
            refuse(f"text must hold no control characters, but got {char!a}", here, hint="remove it")
    return text


def to_yaml(values: dict[str, Any], indent: int = 0) -> str:
    """Plain nested values as YAML that `parse` reads back to the same values; each list stands on one line."""
    lines = []
    for key, value in values.items():
        name = f"{' ' * indent}{_written(key)}:"
        if value and isinstance(value, dict):
            lines.append(f"{name}\n{to_yaml(value, indent + 2)}")
        else:
            lines.append(f"{name} {_written(value)}\n")
    return "".join(lines)


def _written(value: Any) -> str:
    """A value within a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    text = str(value)
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_/.-]*", text) and text not in WORDS:
        return text
    escaped = (char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
    return '"' + "".join(escaped) + '"'
