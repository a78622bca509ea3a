"""Suites: several studies in one file, each a sweep of its own."""

# ruff: noqa: E501  (one row of a table is one line)
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.errors import StudyError
from raysched.study.load import LoadedStudy, Suite, load, load_study, study_names, suite_parts
from raysched.study.messages import StudyErrors

Write = Callable[..., Path]
GOOD = Path(__file__).with_name("good.yaml").read_text()
SUITE = """\
description: Two of them
parts:
  small:
    extends: [good, _base]
  large: {extends: both.small, seeds: 5}
"""


@pytest.fixture
def both(write: Write) -> Path:
    write(GOOD, "good.yaml")
    write("search: {k: [9]}\n", "_base.yaml")
    return write(SUITE, "both.yaml")


def suite(path: Path, *options: str, name: str | None = None) -> Suite:
    loaded = load(path, options, cwd=path.parent, name=name)
    assert isinstance(loaded, Suite)
    return loaded


def test_every_part_is_a_study_with_a_name_of_its_own(both: Path) -> None:
    loaded = suite(both)
    assert (loaded.name, loaded.description, loaded.source) == ("both", "Two of them", both)
    assert [part.name for part in loaded.parts] == ["both.small", "both.large"]
    assert [part.study.search.k for part in loaded.parts] == [(9,), (9,)]
    assert [part.n_runs for part in loaded.parts] == [8, 20]
    assert (loaded.n_points, loaded.n_runs) == (8, 28)
    assert [part.name for part in suite(both, name="mine").parts] == ["mine.small", "mine.large"]


@pytest.mark.parametrize("name", ["both.large", "both.yaml.large", "./both.large"])
def test_one_part_by_its_name(both: Path, name: str) -> None:
    loaded = load(name, ["search.k=[4, 5]"], cwd=both.parent)
    assert isinstance(loaded, LoadedStudy)
    assert (loaded.name, loaded.source.resolve()) == ("both.large", both)
    assert (loaded.study.search.k, len(loaded.study.seeds)) == ((4, 5), 5)
    assert load_study(name, cwd=both.parent, name="other").name == "other"


def test_a_study_extends_a_part(write: Write, both: Path) -> None:
    own = write("extends: both.large\nsearch: {lr: [1e-4]}\n", "own.yaml")
    study = load_study(own, cwd=own.parent).study
    assert (study.search.k, study.search.lr, len(study.seeds)) == ((9,), (1e-4,), 5)


def test_a_file_of_that_very_name_comes_before_a_part(write: Write, both: Path) -> None:
    write(GOOD, "both.large.yaml")
    assert len(load_study("both.large", cwd=both.parent).study.seeds) == 2


def test_options_reach_every_part(both: Path) -> None:
    assert [part.study.training.steps for part in suite(both, "training.steps=3").parts] == [3, 3]
    with pytest.raises(StudyError, match=r"^search\.lrs: unknown key") as caught:
        suite(both, "search.lrs=3")
    assert not isinstance(caught.value, StudyErrors)


def test_where_one_study_is_needed_a_suite_names_its_parts(both: Path) -> None:
    with pytest.raises(StudyError, match=r"^both: is a suite of 2 studies: say which") as caught:
        load_study("both", cwd=both.parent)
    assert caught.value.choices == ("both.small", "both.large")


def test_names_of_parts(both: Path) -> None:
    assert suite_parts("both", both.parent) == ["both.small", "both.large"]
    for name in ("good", "both.small", "nothing-like-it", "_base"):
        assert suite_parts(name, both.parent) == []


def test_suites_are_listed_with_their_totals(write: Write, tmp_path: Path) -> None:
    write(GOOD, "search_spaces/good.yaml")
    write("parts: {one: {extends: good}, two: {extends: good, seeds: 1}}", "search_spaces/two.yaml")
    write("parts: {one: {extends: good}, two: {extends: good, seeds: 0}}", "search_spaces/broken.yaml")
    infos = {info.name: info for info in study_names(tmp_path)}
    assert (infos["two"].points, infos["two"].runs, infos["two"].parts) == (12, 18, ("two.one", "two.two"))
    assert infos["good"].parts == ()
    assert "parts.two.seeds" in str(infos["broken"].problem)


# what replaces the suite's file; then key, line, rule, one valid choice, next step
MALFORMED = [
    ("parts: {}", "parts", 1, "must hold a study below each name, but got {}", "", "extends: xquad-mini"),
    ("parts:", "parts", 1, "but got null", "", "extends: xquad-mini"),
    ("parts: [good]", "parts", 1, 'but got ["good"]', "", "extends: xquad-mini"),
    ("parts: {A: {extends: good}}", "parts", 1, "a part's name must match", "", "lower-case letters"),
    ("parts: {a.b: {extends: good}}", "parts", 1, "but got 'a.b'", "", "lower-case letters"),
    ("parts: {one: good}", "parts.one", 1, 'must be a study\'s keys and values, but got "good"', "", "extends:"),
    ("parts: {one: {extends: good}}\nseeds: 3", "seeds", 2, "unknown key of a suite", "parts", "parts.NAME.seeds"),
    ("parts: {one: {extends: good}}\nextends: good", "extends", 2, "unknown key of a suite", "parts", "below a part"),
    ("parts: {one: {extends: good}}\nx: 3", "x", 2, "unknown key of a suite", "description", "remove it"),
    ("parts: {one: {extends: good}}\ndescription: 3", "description", 2, "must be text, but got 3", "", ""),
    ("parts:\n  one: {extends: good}\n  two: {extends: good, seeds: 0}", "parts.two.seeds", 3, "number of seeds from 1", "a list", "seeds: 4"),
    ("parts:\n  one: {extends: good, serch: {}}", "parts.one.serch", 2, "unknown key", "search", "did you mean search?"),
    ("parts:\n  one: {extends: god}", "parts.one.'god'", 2, "names no study", "xquad-mini", ""),
    ("parts:\n  one: {extends: both}", "parts.one.both", 2, "is a suite of 1 studies: say which", "both.one", "whole suite"),
    ("parts:\n  one: {extends: both.one}", "parts.one.extends", 2, "both.yaml (one) -> both.yaml (one)", "", "remove"),
    ("parts:\n  one: {extends: both.two}\n  two: {extends: both.one}", "parts.one.extends", 3, "(two) -> both.yaml (one)", "", "remove"),
    ("parts:\n  one: {extends: good}\n  two: {extends: both.oen}", "parts.two.part", 3, "has no part 'oen'", "both.one", "did you mean both.one?"),
    ("parts:\n  one: {extends: good.one}", "parts.one.'good.one'", 2, "names no study", "xquad-mini", ""),
    ("parts:\n  one: {extends: good, hub_token: canary}", "parts.one.hub_token", 2, "secrets never stand", "", "environment"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "line", "rule", "choice", "step"), MALFORMED, ids=[f"{row[1]}: {row[3]}"[:50] for row in MALFORMED]
)
def test_malformed_suites(
    write: Write, both: Path, text: str, key: str, line: int, rule: str, choice: str, step: str
) -> None:
    both.write_text(text + "\n")
    with pytest.raises(StudyError) as caught:
        load(both, cwd=both.parent)
    found = caught.value.errors[0] if isinstance(caught.value, StudyErrors) else caught.value
    assert found.key == key
    assert rule in found.what
    assert re.search(rf"\n  at: +both\.yaml:{line}:\d+$", found.what)
    assert choice in ", ".join(map(str, found.choices))
    assert step in (found.hint or "")
    assert "canary" not in str(caught.value)


def test_every_part_that_breaks_a_rule_is_named(both: Path) -> None:
    with pytest.raises(StudyErrors, match="2 problems") as caught:
        load("both", ["training.batch_size=0"], cwd=both.parent)
    assert [error.key for error in caught.value.errors] == [
        "parts.small.training.batch_size",
        "parts.large.training.batch_size",
    ]


@pytest.mark.parametrize(
    ("name", "hint"), [("both.smal", "did you mean both.small?"), ("both.x", "raysched plan both")]
)
def test_an_unknown_part(both: Path, name: str, hint: str) -> None:
    with pytest.raises(StudyError, match="the suite both has no part") as caught:
        load(name, cwd=both.parent)
    assert caught.value.choices == ("both.small", "both.large")
    assert hint in str(caught.value.hint)


def test_the_names_of_all_sweeps_are_checked(write: Write, both: Path) -> None:
    with pytest.raises(StudyErrors, match=r"--name: must match"):
        load(both, cwd=both.parent, name="x" * 60)
    with pytest.raises(StudyErrors, match=r"file name: must match"):
        load(write(SUITE.replace("both.", "good."), "Both.yaml"))
