"""`render`: the manifests of a sweep, as YAML that is the same for the same study and options."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, SingleQuotedScalarString

from raysched.errors import DONE, MissingError

if TYPE_CHECKING:
    from raysched.service.kubernetes.options import ClusterOptions
    from raysched.service.submit import Order

PLAIN = re.compile(r"[A-Za-z/][-A-Za-z0-9_./@=,+%]*( [-A-Za-z0-9_./:@=,+%]+)*")
WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""Texts that YAML 1.1, which Kubernetes' tools read, takes for something else."""
ASCII = re.compile(r"[ -~]*")


def render(order: Order, options: ClusterOptions, output: Path | None) -> int:
    """Print the manifests, or write them to a file."""
    from raysched.service.kubernetes.rayjob import manifests

    text = to_yaml(manifests(order, options))
    if output is None:
        print(text, end="")  # noqa: T201
        return DONE
    try:
        output.write_text(text)
    except OSError as error:
        raise MissingError(
            f"{output} cannot be written: {error.strerror}",
            key="--output",
            hint="give a file in a folder that is there",
        ) from error
    return DONE


def to_yaml(manifests: Sequence[Mapping[str, Any]]) -> str:
    """One document each, keys in their order, nothing shared by anchors."""
    yaml = YAML()
    yaml.version = None
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.ignore_aliases = lambda _: True
    out = io.StringIO()
    yaml.dump_all([_shown(one) for one in manifests], out)
    return out.getvalue()


def _shown(value: Any) -> Any:
    """Texts of several lines as blocks, and quotes around what some reader of YAML takes for something else."""
    if isinstance(value, Mapping):
        return {_shown(key): _shown(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(below) for below in value]
    if not isinstance(value, str) or (PLAIN.fullmatch(value) and value.lower() not in WORDS):
        return value
    if _is_block(value):
        return LiteralScalarString(value)
    return SingleQuotedScalarString(value) if ASCII.fullmatch(value) else DoubleQuotedScalarString(value)


def _is_block(text: str) -> bool:
    """Whether a block gives back these lines as they are."""
    lines = text.split("\n")
    plain = all(line.isprintable() and not line.endswith(" ") for line in lines)
    return plain and len(lines) > 2 and lines[-1] == "" != lines[-2] and lines[0] != "" and not text.startswith(" ")
