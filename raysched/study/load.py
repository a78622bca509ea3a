"""A study file becomes a `Study`: found, read, extended, overridden, checked. Every failure is a StudyError."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raysched.errors import StudyError
from raysched.study.lookup import check_sweep_name, find_study, study_files
from raysched.study.messages import StudyErrors, explain_all, raise_all, secret_keys, show
from raysched.study.model import Study
from raysched.study.overrides import apply_overrides
from raysched.study.space import n_points
from raysched.study.tree import extended, is_suite, parts_of, read_file, study_tree
from raysched.study.yaml_text import Node, Place, parse, to_yaml

RENAME = "rename the file, or give the sweep a name: --name NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStudy:
    """A study, the name its sweep takes, its file, and all its values as YAML (defaults included)."""

    study: Study
    name: str
    source: Path
    text: str

    @property
    def description(self) -> str:
        return self.study.description

    @property
    def n_points(self) -> int:
        return n_points(self.study.search)

    @property
    def n_runs(self) -> int:
        return self.n_points * len(self.study.seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Several studies in one file, in its order; the sweep of each is named SUITE.PART."""

    name: str
    description: str
    source: Path
    parts: tuple[LoadedStudy, ...]

    @property
    def n_points(self) -> int:
        return sum(part.n_points for part in self.parts)

    @property
    def n_runs(self) -> int:
        return sum(part.n_runs for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInfo:
    """One line of `raysched studies`; `problem` is set, and the numbers are 0, where the file is malformed.

    `parts` are those of a suite, and the numbers then its totals.
    """

    name: str
    source: Path
    description: str
    points: int
    runs: int
    parts: tuple[str, ...] = ()
    problem: str | None = None


def load(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, cwd: Path | None = None, name: str | None = None
) -> LoadedStudy | Suite:
    """The study, the suite, or the part SUITE.PART of a suite, with `--set` overrides (`a.b.c=VALUE`) in every part.

    The sweep's name is the file's stem unless `name` says otherwise; those of a suite's parts start with it. Raises
    StudyError, and nothing else; several problems come together, as StudyErrors.
    """
    cwd = cwd or Path.cwd()
    source, part = find_study(str(name_or_path), cwd=cwd)
    tree = read_file(source, cwd)
    if part is None and is_suite(tree):
        return _load_suite(tree, source, tuple(overrides), cwd, name)
    if name is None:
        name = check_sweep_name(source.stem + (f".{part}" if part else ""), key="file name", hint=RENAME)
    else:
        check_sweep_name(name, key="--name", hint="choose another --name")
    return _load(source, part, tuple(overrides), cwd, name)


def load_study(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, cwd: Path | None = None, name: str | None = None
) -> LoadedStudy:
    """Like `load`, for one study: a suite is refused with the names of its parts."""
    loaded = load(name_or_path, overrides, cwd=cwd, name=name)
    if isinstance(loaded, Suite):
        raise StudyError(
            f"is a suite of {len(loaded.parts)} studies: say which",
            key=loaded.name,
            choices=[part.name for part in loaded.parts],
        )
    return loaded


def study_of(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, name: str, cwd: Path | None = None
) -> LoadedStudy:
    """Like `load_study`, for a study that is no file: its keys and values, `extends` among them. Raises StudyError."""
    cwd = cwd or Path.cwd()
    check_sweep_name(name, key="name", hint="choose another name")
    try:
        text = json.dumps(dict(values))
    except (TypeError, ValueError) as error:
        raise StudyError(f"must hold plain values: {error}", key="study") from error
    source = cwd / "study"
    tree = extended(parse(text, "study", option=True), source, None, cwd)
    study = check(apply_overrides(tree, tuple(overrides)))
    return LoadedStudy(study=study, name=name, source=source, text=to_yaml(study.model_dump(mode="json")))


def suite_parts(name: str, cwd: Path | None = None) -> list[str]:
    """Names of the sweeps of a suite, in its order; none where no suite has this name, or it is malformed."""
    cwd = cwd or Path.cwd()
    try:
        source, part = find_study(name, cwd=cwd)
        tree = read_file(source, cwd)
        return [f"{source.stem}.{one}" for one in parts_of(tree)] if part is None and is_suite(tree) else []
    except StudyError:
        return []


def _load(source: Path, part: str | None, overrides: tuple[str, ...], cwd: Path, name: str) -> LoadedStudy:
    study = check(apply_overrides(study_tree(source, part, cwd), overrides))
    return LoadedStudy(study=study, name=name, source=source, text=to_yaml(study.model_dump(mode="json")))


def _load_suite(tree: Node, source: Path, overrides: tuple[str, ...], cwd: Path, name: str | None) -> Suite:
    suite = name or source.stem
    key, hint = ("--name", "choose another --name") if name else ("file name", RENAME)
    apply_overrides(Node({}, Place("--set")), overrides)  # a key that no study has is told once, not for every part
    found: list[LoadedStudy] = []
    errors: list[StudyError] = []
    for part in parts_of(tree):
        try:
            of = check_sweep_name(f"{suite}.{part}", key=key, hint=hint)
            found.append(_load(source, part, overrides, cwd, of))
        except StudyError as error:
            errors += _in_part(part, error)
    if errors:
        raise_all(errors)
    description = tree.value.get("description")
    return Suite(
        name=suite, description=str(description.value) if description else "", source=source, parts=tuple(found)
    )


def _in_part(part: str, error: StudyError) -> Iterable[StudyError]:
    """What is wrong with a part, under its name."""
    for one in error.errors if isinstance(error, StudyErrors) else (error,):
        key = f"parts.{part}" + (f".{one.key}" if one.key else "")
        yield StudyError(one.what, key=key, choices=one.choices, hint=one.hint)


def check(tree: Node) -> Study:
    """The typed study of a tree; every broken rule is found and explained in one go."""
    if secrets := list(secret_keys(tree)):
        raise_all(secrets)
    try:
        return Study.model_validate_json(json.dumps(tree.plain()))
    except ValidationError as error:
        found = error.errors(include_url=False)
    raise_all(explain_all(found, tree))


def study_names(cwd: Path | None = None) -> list[StudyInfo]:
    """Every study and suite that can be given by name; a malformed one is listed with its problem."""
    cwd = cwd or Path.cwd()
    infos = []
    for name, source in study_files(cwd).items():
        try:
            loaded = load(source, cwd=cwd, name="any")
        except StudyError as error:
            infos.append(StudyInfo(name=name, source=source, description="", points=0, runs=0, problem=str(error)))
            continue
        infos.append(
            StudyInfo(
                name=name,
                source=source,
                description=loaded.description,
                points=loaded.n_points,
                runs=loaded.n_runs,
                parts=tuple(suite_parts(str(source), cwd)),
            )
        )
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
