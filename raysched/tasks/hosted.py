"""Data sets of the hub: which commit, which config and which split play a role in a study."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from raysched import hub
from raysched.errors import MissingError, StudyError
from raysched.study.identity import Content
from raysched.tasks import forms, local
from raysched.tasks.forms import Form
from raysched.tasks.local import Role
from raysched.tasks.stored import Row

CONVERTED = "refs/convert/parquet"
"""Branch on which the hub keeps data sets that were uploaded in another form."""
CONFIGS: Mapping[str, str] = MappingProxyType({"aps/super_glue": "copa"})
"""Data sets of which one config is meant: they hold others, of other tasks."""
SPLITS: Mapping[Role, tuple[str, ...]] = MappingProxyType(
    {"train": ("train",), "dev": ("validation", "validation_matched", "dev"), "test": ("test", "validation")}
)
CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
"""A config that is named like a language, as opposed to `all_languages` or `translation-et`."""
Parts = set[tuple[str, str]]
"""(config, split) pairs of a data set on the hub."""
Asked = dict[str, tuple[str, Parts]]


def resolve(repo: str, role: Role, language: str, asked: Asked) -> Content:
    """A data set with the commit it has now, once it is known to hold rows for `role`; none is downloaded.

    `asked` remembers what the hub said: each repository is asked for once, so all its parts are of one commit.
    """
    try:
        if repo not in asked:
            asked[repo] = _commit(repo)
        commit, parts = asked[repo]
        _part(repo, parts, role, language)
    except (MissingError, StudyError) as error:
        if error.key is not None:
            raise
        raise type(error)(error.what, key=f"data.{role}", choices=error.choices, hint=error.hint) from error
    return Content(where=repo, revision=commit)


def rows(content: Content, form: Form, role: Role, language: str) -> list[Row]:
    """Checked rows of a resolved data set; downloaded where they are not yet."""
    config, split = _part(content.where, _parts(content.where, content.revision), role, language)
    found = hub.parquet_rows(content.where, config, split, content.revision, columns=forms.COLUMNS)
    return forms.published_rows(found, form, f"{content.where} {config} {split}")[0]


def _commit(repo: str) -> tuple[str, Parts]:
    """The commit of `main`, or of the hub's own conversion where `main` holds no Parquet files."""
    commit = hub.resolve(repo, "dataset")
    parts = _parts(repo, commit)
    if not parts:
        commit = hub.resolve(repo, "dataset", CONVERTED)
        parts = _parts(repo, commit)
    return commit, parts


def _parts(repo: str, commit: str) -> Parts:
    return set(hub.parquet_files(hub.files(repo, "dataset", commit)))


def _part(repo: str, parts: Parts, role: Role, language: str) -> tuple[str, str]:
    """Config and split that play `role` in a data set of the hub."""
    config = _config(repo, sorted({config for config, _ in parts}), role, language)
    for split in SPLITS[role]:
        if (config, split) in parts and not (role == split == "test" and repo in local.TESTED_ON_DEV):
            return config, split
    raise StudyError(
        f"{repo} has no split for {role} in its config {config}",
        key=f"data.{role}",
        choices=sorted(split for name, split in parts if name == config),
    )


def _config(repo: str, configs: list[str], role: Role, language: str) -> str:
    if repo in CONFIGS:
        return CONFIGS[repo]
    if role != "test" and len(configs) == 1:
        return configs[0]
    name = repo.partition("/")[2]
    patterns = ("{0}", f"{name}.{{0}}", f"{name}.{{0}}.{{0}}")
    wanted = [pattern.format(language) for pattern in patterns]
    if role != "test":
        wanted += ["plain_text", "default", "data"]
    for config in wanted:
        if config in configs:
            return config
    last = {config.rpartition(".")[2] for config in configs}
    valid = {one for one in last if CODE.fullmatch(one) and any(pattern.format(one) in configs for pattern in patterns)}
    if role == "test" or valid:
        raise local.no_language(repo, language, role, valid)
    raise StudyError(f"{repo} has no single config to take {role} rows from", key=f"data.{role}", choices=configs)
