"""The tree of a study file: read, one part of a suite taken, put on top of the studies it extends."""

from __future__ import annotations

from functools import lru_cache, reduce
from pathlib import Path

from raysched.errors import StudyError
from raysched.study.choices import closest
from raysched.study.lookup import PART, find_study, no_such_study
from raysched.study.messages import show
from raysched.study.model import Study
from raysched.study.overrides import merge
from raysched.study.yaml_text import MOST_BYTES, Node, Place, parse, refuse

MOST_EXTENDS = 8
SUITE_KEYS = ("description", "parts")
Step = tuple[Path, str | None]
"""A file, and the part of it if it is a suite: what one study extends."""


def read_file(path: Path, cwd: Path) -> Node:
    """The keys and values of a study, of a suite or of a base; what they mean is not checked."""
    tree = _parse(_text(path, cwd), shown(path, cwd))
    if not isinstance(tree.value, dict):
        refuse(
            f"must hold keys and values, but got {show(tree.plain())}",
            Place(shown(path, cwd)),
            key="study",
            hint="start from a copy of one of the studies that `raysched studies` lists",
        )
    return tree


def is_suite(tree: Node) -> bool:
    return "parts" in tree.value


def parts_of(tree: Node) -> dict[str, Node]:
    """The parts of a suite by name. Raises StudyError where it holds anything but `description` and parts."""
    for key, node in tree.value.items():
        if key not in SUITE_KEYS:
            below = f"it stands below a part, parts.NAME.{key}, or in a study that the parts extend"
            hint = below if key in (*Study.model_fields, "extends") else "remove it"
            what = f"unknown key of a suite\n  at:    {node.place}"
            raise StudyError(what, key=key, choices=SUITE_KEYS, hint=hint)
    parts, description = tree.value["parts"], tree.value.get("description")
    if description is not None and not isinstance(description.value, str):
        refuse(f"must be text, but got {show(description.plain())}", description.place, key="description")
    if not isinstance(parts.value, dict) or not parts.value:
        what = f"must hold a study below each name, but got {show(parts.plain())}"
        refuse(what, parts.place, key="parts", hint="for example parts: {small: {extends: xquad-mini}}")
    for name, part in parts.value.items():
        if not PART.fullmatch(name):
            rule = f"a part's name must match {PART.pattern}, but got {name[:80]!a}"
            refuse(rule, part.place, key="parts", hint="lower-case letters, digits, _ and -, 32 at most")
        if not isinstance(part.value, dict):
            rule = f"must be a study's keys and values, but got {show(part.plain())}"
            refuse(rule, part.place, key=f"parts.{name}", hint="for example extends: xquad-mini")
    return dict(parts.value)


def study_tree(path: Path, part: str | None, cwd: Path, chain: tuple[Step, ...] = (), at: str = "") -> Node:
    """The tree of a study, or of one part of a suite, on top of all that it extends."""
    tree = read_file(path, cwd)
    if is_suite(tree):
        tree = _part(parts_of(tree), part, path, at)
    elif part is not None:
        raise no_such_study(f"{path.stem}.{part}", cwd=cwd, at=at)
    return extended(tree, path, part, cwd, chain)


def extended(tree: Node, path: Path, part: str | None, cwd: Path, chain: tuple[Step, ...] = ()) -> Node:
    """A study's own tree on top of those that it extends; they are looked for beside the file `path` first."""
    asked = tree.value.get("extends")
    if asked is None:
        return tree
    bases = asked.value if isinstance(asked.value, list) else [asked]
    if not bases or not all(isinstance(base.value, str) for base in bases):
        what = f"must be the name or path of another study, or a list of them, but got {show(asked.plain())}"
        refuse(what, asked.place, key="extends", hint="for example extends: xquad-mini")
    under = [_base(base, path, cwd, (*chain, (path.resolve(), part))) for base in bases]
    own = {key: node for key, node in tree.value.items() if key != "extends"}
    return reduce(merge, (*under, Node(own, tree.place)))


def _part(parts: dict[str, Node], name: str | None, path: Path, at: str) -> Node:
    names = [f"{path.stem}.{part}" for part in parts]
    if name in parts:
        return parts[name]
    place = f"\n  at:    {at}" if at else ""
    if name is None:
        raise StudyError(
            f"is a suite of {len(names)} studies: say which{place}",
            key=path.stem,
            choices=names,
            hint="raysched plan and raysched sweep take the whole suite",
        )
    meant = closest(name, parts)
    hint = f"did you mean {path.stem}.{meant}?" if meant else f"raysched plan {path.stem} lists them"
    raise StudyError(f"the suite {path.stem} has no part {name!r}{place}", key="part", choices=names, hint=hint)


def _base(asked: Node, path: Path, cwd: Path, chain: tuple[Step, ...]) -> Node:
    """The tree of a study that the file `path` extends."""
    at = str(asked.place)
    base, part = find_study(str(asked.value), cwd=cwd, beside=path, at=at)
    step = (base.resolve(), part)
    if step in chain or len(chain) >= MOST_EXTENDS:
        way = " -> ".join(one.name + (f" ({of})" if of else "") for one, of in (*chain, (base, part)))
        rule = "must not lead back to itself" if step in chain else f"must go through at most {MOST_EXTENDS} files"
        refuse(f"{rule}, but goes {way}", asked.place, key="extends", hint="remove one of these extends")
    return study_tree(base, part, cwd, chain, at)


@lru_cache(maxsize=64)
def _parse(text: str, source: str) -> Node:
    """Parsed once: the studies of a suite share their bases. Nobody changes a tree, `merge` makes new ones."""
    return parse(text, source)


def _text(path: Path, cwd: Path) -> str:
    place = Place(shown(path, cwd))
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        refuse(
            f"must be readable, but {error.strerror or error}",
            place,
            key="study",
            hint="check the path and its permissions",
        )
    if len(raw) > MOST_BYTES:
        refuse(
            f"must hold at most {MOST_BYTES} bytes, but holds more", place, key="study", hint="is this a study file?"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        refuse(
            f"must be UTF-8 text, but got the byte 0x{raw[error.start]:02x}",
            Place(place.source, line, column),
            key="study",
            hint="save the file as UTF-8",
        )


def shown(path: Path, cwd: Path) -> str:
    """A path as short as it can be typed from `cwd`."""
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
