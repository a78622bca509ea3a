"""Data in local files: named one by one, or published files looked up below `data.folder`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from raysched.errors import MissingError, StudyError
from raysched.study.identity import Content
from raysched.tasks import squad

Role = Literal["train", "dev", "test"]

PUBLISHED: Mapping[str, tuple[tuple[Role, ...], str]] = MappingProxyType(
    {
        "rajpurkar/squad": (("train", "dev"), "{role}-v1.1*.json"),
        "google/xquad": (("test",), "xquad.{language}.json"),
        "facebook/mlqa": (("test",), "test-context-{language}-question-{language}.json"),
    }
)
"""Hub name -> roles it can play, and its published file's name (also with `.gz`) in a `data.folder`."""
DEPTH = 3
"""How deep below `data.folder` files are looked for."""


def is_local(value: str) -> bool:
    return value.startswith(("./", "../", "/", "~")) or value.endswith((".json", ".json.gz"))


def named(value: str, role: Role, language: str) -> Content:
    if role == "test" and "{language}" not in value:
        raise StudyError(f"a local test file must hold {{language}} in its name, but got {value!r}", key="data.test")
    form = Path(value).expanduser().absolute()
    path = Path(str(form).replace("{language}", language))
    if not path.is_file() and role == "test":
        held = _languages(form.name, [other.name for other in path.parent.glob("*")])
        if held:
            raise no_language(value, language, role, held)
    if not path.is_file():
        raise MissingError(
            f"no such file: {path}", key=f"data.{role}", hint=f"check the path, or set --set data.{role}=FILE"
        )
    return Content(where=value, revision=squad.sha256(path), path=str(path))


def published(folder: str, repo: str, role: Role, language: str) -> Content:
    """The published file of a hub data set, in `data.folder`."""
    roles, form = PUBLISHED.get(repo, ((), ""))
    if role not in roles:
        raise StudyError(
            f"with data.folder, data.{role} must be one of the known data sets or a local file, but got {repo!r}",
            key=f"data.{role}",
            choices=[name for name, (plays, _) in PUBLISHED.items() if role in plays],
        )
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise MissingError(
            f"no such folder: {root}", key="data.folder", hint="name the folder that holds the published files"
        )
    pattern = form.format(role=role, language=language)
    found = _look_for(root, pattern)
    if not found:
        held = _languages(form, [path.name for path in _look_for(root, form.format(role=role, language="*"))])
        if held:
            raise no_language(repo, language, role, held)
        raise MissingError(
            f"no published file of {repo} for {role} below {root}: looked for {pattern} and {pattern}.gz down to depth "
            f"{DEPTH}, found {_listing(root)}",
            key="data.folder",
            hint="put the file there, or name it: --set data." + role + "=FILE",
        )
    exact = [path for path in found if path.name.removesuffix(".gz") == pattern.replace("*", "")]
    if len({path.name for path in (exact or found)}) > 1 and len(exact) != 1:
        raise StudyError(
            f"several files could be {role} of {repo} below {root}",
            key="data.folder",
            choices=[path.relative_to(root) for path in found],
            hint=f"name the one: --set data.{role}=FILE",
        )
    path = (exact or found)[0]
    where = f"{repo} {path.relative_to(root)}"
    return Content(where=where, revision=squad.sha256(path), path=str(path))


def _look_for(root: Path, pattern: str) -> list[Path]:
    """Files named like `pattern`, or that with `.gz`, at most `DEPTH` folders below `root`; the nearest first."""
    found: list[Path] = []
    for depth in range(DEPTH + 1):
        for name in (pattern, pattern + ".gz"):
            found += sorted(path for path in root.glob("*/" * depth + name) if path.is_file())
    return found


def _languages(form: str, names: list[str]) -> list[str]:
    """The languages of the files that are named like `form`."""
    head, *rest = re.split(r"\{language\}", form)
    pattern = re.escape(head) + "(?P<language>.+)" + "(?P=language)".join(map(re.escape, rest)) + r"(\.gz)?"
    matches = (re.fullmatch(pattern, name) for name in names) if rest else ()
    return sorted({match["language"] for match in matches if match})


def _listing(root: Path, shown: int = 12) -> str:
    names = [str(path.relative_to(root)) for path in _look_for(root, "*.json")]
    if not names:
        return "no .json or .json.gz file"
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def no_language(where: str, language: str, role: Role, valid: Iterable[str]) -> StudyError:
    return StudyError(
        f"{where} has no rows in language {language!r}",
        key="evaluation.languages" if role == "test" else "model.source_language",
        choices=sorted(set(valid)),
    )
