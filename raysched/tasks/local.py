"""Data in local files: named one by one, or published files looked up below `data.folder`."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from raysched.errors import MissingError, StudyError
from raysched.study.identity import Content
from raysched.tasks import stored
from raysched.tasks.forms import SUFFIXES, Form

Role = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Published:
    """The files of a data set as they are published, by the role they can play.

    Patterns of a file's last folders and name, which may also end in `.gz`; the first one that is there counts.
    `{language}` is the asked one; a file without it holds one language, or says it in every row.
    """

    form: str
    files: Mapping[Role, tuple[str, ...]]


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "rajpurkar/squad": Published("qa", {"train": ("train-v1.1*.json",), "dev": ("dev-v1.1*.json",)}),
        "google/xquad": Published("qa", {"test": ("xquad.{language}.json",)}),
        "facebook/mlqa": Published("qa", {"test": ("test-context-{language}-question-{language}.json",)}),
        "aps/super_glue": Published(
            "choice",
            {
                "train": ("train.{language}.jsonl", "COPA/train.jsonl", "train.jsonl"),
                "dev": ("val.{language}.jsonl", "COPA/val.jsonl", "val.jsonl"),
                "test": ("val.{language}.jsonl", "COPA/val.jsonl", "val.jsonl"),
            },
        ),
        "cambridgeltl/xcopa": Published(
            "choice",
            {"dev": ("{language}/val.{language}.jsonl",), "test": ("{language}/test.{language}.jsonl",)},
        ),
        "nyu-mll/multi_nli": Published(
            "nli",
            {
                "train": tuple(f"multinli_1.0_train.{suffix}" for suffix in ("jsonl", "txt", "tsv", "csv")),
                "dev": tuple(f"multinli_1.0_dev_matched.{suffix}" for suffix in ("jsonl", "txt", "tsv", "csv")),
            },
        ),
        "facebook/xnli": Published(
            "nli",
            {"dev": ("dev-{language}.tsv", "xnli.dev.tsv"), "test": ("test-{language}.tsv", "xnli.test.tsv")},
        ),
    }
)
"""By hub name."""
TESTED_ON_DEV: Mapping[str, str] = MappingProxyType({"aps/super_glue": "en"})
"""Data sets with hidden test labels, and their language: as in the paper, a test on them is one on their dev rows."""
DEPTH = 3
"""How deep below `data.folder` files are looked for, beside the folders that a pattern names."""


def is_local(value: str) -> bool:
    return value.startswith(("./", "../", "/", "~")) or value.endswith(SUFFIXES)


def named(value: str, role: Role, language: str) -> Content:
    """A file that the study names, with {language} in its name, or in that of a folder, replaced."""
    if role == "test" and "{language}" not in value:
        raise StudyError(f"a local test file must hold {{language}} in its name, but got {value!r}", key="data.test")
    form = str(Path(value).expanduser().absolute())
    path = Path(form.replace("{language}", language))
    if not path.is_file():
        held = _languages(form, glob.glob(glob.escape(form).replace("{language}", "*")))
        if held:
            raise no_language(value, language, role, held)
        raise MissingError(
            f"no such file: {path}", key=f"data.{role}", hint=f"check the path, or set --set data.{role}=FILE"
        )
    return Content(where=value, revision=stored.sha256(path), path=str(path))


def published(folder: str, repo: str, role: Role, language: str, form: Form) -> Content:
    """The published file of a hub data set, in `data.folder`."""
    known = PUBLISHED.get(repo)
    patterns = known.files.get(role, ()) if known else ()
    if not patterns:
        raise StudyError(
            f"with data.folder, {role} data must be one of the known data sets or a local file, but got {repo!r}",
            key=f"data.{role}",
            choices=[name for name, one in PUBLISHED.items() if role in one.files and one.form == form.name],
        )
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise MissingError(
            f"no such folder: {root}", key="data.folder", hint="name the folder that holds the published files"
        )
    for pattern in patterns:
        found = _look_for(root, pattern.format(language=language))
        if found:
            path = _the_one(found, pattern.format(language=language), root, role, repo)
            return Content(where=f"{repo} {path.relative_to(root)}", revision=stored.sha256(path), path=str(path))
    for pattern in patterns:
        held = _languages(pattern, map(str, _look_for(root, pattern.format(language="*"))))
        if held:
            raise no_language(repo, language, role, held)
    names = " or ".join(pattern.format(language=language) for pattern in patterns)
    raise MissingError(
        f"no published file of {repo} for {role} below {root}: looked for {names} (or with .gz) down to depth "
        f"{DEPTH}, found {_listing(root)}",
        key="data.folder",
        hint=f"put the file there, or name it: --set data.{role}=FILE",
    )


def _the_one(found: list[Path], pattern: str, root: Path, role: Role, repo: str) -> Path:
    """Of the files named like `pattern`, the one with the published name, or the nearest where all have one name."""
    exact = [path for path in found if path.name.removesuffix(".gz") == Path(pattern.replace("*", "")).name]
    if len({path.name for path in (exact or found)}) > 1 and len(exact) != 1:
        raise StudyError(
            f"several files could be {role} of {repo} below {root}",
            key="data.folder",
            choices=[path.relative_to(root) for path in found],
            hint=f"name the one: --set data.{role}=FILE",
        )
    return (exact or found)[0]


def _look_for(root: Path, pattern: str) -> list[Path]:
    """Files named like `pattern`, or that with `.gz`, at most `DEPTH` folders below `root`; the nearest first."""
    found: list[Path] = []
    for depth in range(DEPTH + 1):
        for name in (pattern, pattern + ".gz"):
            found += sorted(path for path in root.glob("*/" * depth + name) if path.is_file())
    return found


def _languages(form: str, paths: Iterable[str]) -> list[str]:
    """The languages of the files whose paths end like `form`."""
    head, *rest = form.split("{language}")
    pattern = re.escape(head) + "(?P<language>[^/]+)" + "(?P=language)".join(map(re.escape, rest)) + r"(\.gz)?"
    matches = (re.fullmatch("(.*/)?" + pattern, path) for path in paths) if rest else ()
    return sorted({match["language"] for match in matches if match})


def _listing(root: Path, shown: int = 12) -> str:
    paths = dict.fromkeys(path for path in _look_for(root, "*") if path.name.endswith(SUFFIXES))
    names = [str(path.relative_to(root)) for path in paths]
    if not names:
        return "no data file (" + ", ".join(suffix for suffix in SUFFIXES if not suffix.endswith(".gz")) + ")"
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def no_language(where: str, language: str, role: Role, valid: Iterable[str]) -> StudyError:
    return StudyError(
        f"{where} has no rows in language {language!r}",
        key="evaluation.languages" if role == "test" else "model.source_language",
        choices=sorted(set(valid)),
    )
