"""Deep merge of studies (`extends:`), and `--set KEY=VALUE`."""

from __future__ import annotations

from raysched.errors import StudyError
from raysched.study.choices import known
from raysched.study.messages import raise_all, secret_keys, unknown_key
from raysched.study.yaml_text import Node, Place, parse


def merge(base: Node, over: Node) -> Node:
    """`over` on top of `base`: mappings are merged key by key, everything else (lists too) is replaced.

    A section given as `{}` empties the one below it; a study that says nothing at all empties nothing. Every value
    keeps the place that gave it. The depth is bounded by `yaml_text.MOST_DEPTH`.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged and node.value != {} else node
    return Node(merged, over.place)


def override(text: str) -> Node:
    """`a.b.c=VALUE` as a tree that holds nothing else; VALUE is YAML.

    Raises StudyError for a key that no study has.
    """
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        shown = "a text without =" if not equals else repr(key)
        raise StudyError(
            f"must be KEY=VALUE with a dotted key, but got {shown}",
            key="--set",
            hint="for example --set search.lr='[1e-4]'",
        )
    # Only the key is named: a secret that was typed here by mistake must not reach a log.
    place = Place("--set " + ".".join(path))
    if path[0] == "extends":
        raise StudyError(
            f"stands in files only\n  at:    {place}", key="extends", hint="write a file that extends the other study"
        )
    if not any(
        secret_keys(_nested(path, Node(None, place)))
    ):  # those are refused with the study, in words of their own
        for end in range(1, len(path) + 1):
            if not known(path[:end]):
                raise unknown_key(path[:end], place)
    return _nested(path, parse(value, str(place), option=True))


def _nested(path: tuple[str, ...], node: Node) -> Node:
    for part in reversed(path):
        node = Node({part: node}, node.place)
    return node


def apply_overrides(study: Node, texts: tuple[str, ...]) -> Node:
    """The study with every `--set` merged in; of two for one key the later one holds."""
    place, errors = study.place, []
    for text in texts:
        try:
            study = merge(study, override(text))
        except StudyError as error:
            errors.append(error)
    if errors:
        raise_all(errors)
    return Node(study.value, place)
