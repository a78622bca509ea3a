"""A study file becomes a `Study`: found, read, extended, overridden, checked. Every failure is a StudyError."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raysched.errors import StudyError
from raysched.study.lookup import check_sweep_name, find_study, study_files
from raysched.study.messages import explain_all, raise_all, secret_keys, show
from raysched.study.model import Study
from raysched.study.overrides import apply_overrides, merge
from raysched.study.space import n_points
from raysched.study.yaml_text import MOST_BYTES, Node, Place, parse, refuse, to_yaml

MOST_EXTENDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStudy:
    """A study, the name its sweep takes, its file, and all its values as YAML (defaults included)."""

    study: Study
    name: str
    source: Path
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInfo:
    """One line of `raysched studies`; `problem` is set, and the numbers are 0, where the file is malformed."""

    name: str
    source: Path
    description: str
    points: int
    runs: int
    problem: str | None = None


def load_study(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, cwd: Path | None = None, name: str | None = None
) -> LoadedStudy:
    """The study of that name or path, with `--set` overrides (`a.b.c=VALUE`).

    The sweep's name is the file's stem unless `name` says otherwise. Raises StudyError, and nothing else; several
    problems come together, as StudyErrors.
    """
    cwd = cwd or Path.cwd()
    source = find_study(str(name_or_path), cwd=cwd)
    if name is None:
        name = check_sweep_name(
            source.stem, key="file name", hint="rename the file, or give the sweep a name: --name NAME"
        )
    else:
        check_sweep_name(name, key="--name", hint="choose another --name")
    tree = apply_overrides(_extended(source, cwd, ()), tuple(overrides))
    study = check(tree)
    return LoadedStudy(study=study, name=name, source=source, text=to_yaml(study.model_dump(mode="json")))


def check(tree: Node) -> Study:
    """The typed study of a tree; every broken rule is found and explained in one go."""
    if secrets := list(secret_keys(tree)):
        raise_all(secrets)
    try:
        return Study.model_validate_json(json.dumps(tree.plain()))
    except ValidationError as error:
        found = error.errors(include_url=False)
    raise_all(explain_all(found, tree))


def _extended(path: Path, cwd: Path, chain: tuple[Path, ...]) -> Node:
    """The tree of a file on top of the study it extends, which is looked up beside the file first."""
    tree = parse(_read(path, cwd), shown(path, cwd))
    if not isinstance(tree.value, dict):
        refuse(
            f"must hold keys and values, but got {show(tree.plain())}",
            Place(shown(path, cwd)),
            key="study",
            hint="start from a copy of one of the studies that `raysched studies` lists",
        )
    asked = tree.value.pop("extends", None)
    if asked is None:
        return tree
    bases = asked.value if isinstance(asked.value, list) else [asked]
    if not bases or not all(isinstance(base.value, str) for base in bases):
        what = f"must be the name or path of another study, or a list of them, but got {show(asked.plain())}"
        refuse(what, asked.place, key="extends", hint="for example extends: xquad-mini")
    under = [_base(base, path, cwd, (*chain, path.resolve())) for base in bases]
    return reduce(merge, (*under, tree))


def _base(asked: Node, path: Path, cwd: Path, chain: tuple[Path, ...]) -> Node:
    """The tree of a study that the file `path` extends; of several the later one is on top."""
    base = find_study(str(asked.value), cwd=cwd, beside=path, at=str(asked.place))
    if base.resolve() in chain or len(chain) >= MOST_EXTENDS:
        way = " -> ".join(one.name for one in (*chain, base))
        rule = (
            "must not lead back to itself"
            if base.resolve() in chain
            else f"must go through at most {MOST_EXTENDS} files"
        )
        refuse(f"{rule}, but goes {way}", asked.place, key="extends", hint="remove one of these extends")
    return _extended(base, cwd, chain)


def _read(path: Path, cwd: Path) -> str:
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


def study_names(cwd: Path | None = None) -> list[StudyInfo]:
    """Every study that can be given by name; a malformed one is listed with its problem."""
    cwd = cwd or Path.cwd()
    infos = []
    for name, source in study_files(cwd).items():
        try:
            study = load_study(source, cwd=cwd, name="any").study
        except StudyError as error:
            infos.append(StudyInfo(name=name, source=source, description="", points=0, runs=0, problem=str(error)))
            continue
        points = n_points(study.search)
        runs = points * len(study.seeds)
        infos.append(StudyInfo(name=name, source=source, description=study.description, points=points, runs=runs))
    return infos


def diff(old: Study, new: Study) -> list[str]:
    """`key: old -> new` for every value that differs, in the order of the study."""
    before, after = _leaves(old.model_dump(mode="json")), _leaves(new.model_dump(mode="json"))
    return [
        f"{key}: {show(before.get(key))} -> {show(after.get(key))}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves
