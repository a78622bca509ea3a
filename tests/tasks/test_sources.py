"""Rows of the mini world and of local files, and how they are cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import DamageError, MissingError, RayschedError, StudyError
from raysched.mini import world
from raysched.study.model import MAIN, Study
from raysched.tasks import sources
from tests.tasks.written import MakeStudy, asked, copa, json_lines, put, squad, xnli

# The mini world


def test_mini(study: MakeStudy) -> None:
    made = asked(study, world.LANGUAGES, {"dev_limit": 7, "test_limit": 5}, train_examples=10)
    found = sources.resolve(made)
    contents = [found.train, found.dev, *found.tests[MAIN].values()]
    assert len({content.revision for content in contents}) == 2 + len(world.LANGUAGES)
    assert {(content.where, content.path) for content in contents} == {("mini", None)}
    assert all(len(content.revision) == 64 for content in contents)
    assert len(sources.rows(found.train, made, "train", world.SOURCE)) == 10
    assert len(sources.rows(found.dev, made, "dev", world.SOURCE)) == 7
    assert len(sources.rows(found.tests[MAIN][world.TARGETS[0]], made, "test", world.TARGETS[0], limit=3)) == 3
    assert sources.resolve(made) == found


@pytest.mark.parametrize("task", ["choice", "nli"])
def test_mini_of_the_other_tasks(study: MakeStudy, task: str) -> None:
    made = asked(study, world.TARGETS[:1], task=task, train_examples=20)
    found = sources.resolve(made)
    assert found.train.revision != sources.resolve(asked(study, world.TARGETS[:1])).train.revision
    rows = sources.rows(found.tests[MAIN][world.TARGETS[0]], made, "test", world.TARGETS[0])
    assert len(rows) == 400
    assert {row["label"] for row in rows} == ({0, 1} if task == "choice" else {0, 1, 2})
    assert len(sources.rows(found.train, made, "train", world.SOURCE)) == 20


def test_mini_sizes(study: MakeStudy) -> None:
    made = asked(study, world.TARGETS[:1])
    found = sources.resolve(made, check=False)
    assert len(sources.rows(found.train, made, "train", world.SOURCE)) == 6000
    assert len(sources.rows(found.dev, made, "dev", world.SOURCE)) == 400
    assert len(sources.rows(found.tests[MAIN][world.TARGETS[0]], made, "test", world.TARGETS[0])) == 400


def test_mini_knows_its_languages(study: MakeStudy) -> None:
    with pytest.raises(StudyError, match="no rows in language 'sw'") as caught:
        sources.resolve(asked(study, ("sw",)))
    assert set(caught.value.choices) == set(world.LANGUAGES)
    assert caught.value.key == "evaluation.languages"


# Subsets


@pytest.fixture
def local(study: MakeStudy, tmp_path: Path) -> Callable[..., Study]:
    put(tmp_path / "train.json", squad(50))
    put(tmp_path / "dev.json.gz", squad(20, "d"))
    for language in ("en", "th"):
        put(tmp_path / f"test.{language}.json", squad(4, language))
    names = {"train": "train.json", "dev": "dev.json.gz", "test": "test.{language}.json"}
    paths = {role: str(tmp_path / name) for role, name in names.items()}
    return lambda *arguments, **data: asked(study, *arguments, **(paths | data))


def ids(study: Study, role: sources.Role = "train", **options: Any) -> list[str]:
    content = getattr(sources.resolve(study), role)
    return [row["id"] for row in sources.rows(content, study, role, "en", **options)]


def test_subsets(local: Callable[..., Study]) -> None:
    whole = ids(local())
    assert whole == [f"q{n}" for n in range(50)]
    assert ids(local(train_examples=5, subset="first_n")) == whole[:5]
    few, more = ids(local(train_examples=5)), ids(local(train_examples=20))
    assert len(few) == 5
    assert set(few) < set(more)
    assert few != whole[:5]
    assert few == sorted(few, key=whole.index), "in data order"
    assert ids(local(train_examples=5)) == few
    assert ids(local(train_examples=5), seed_for_subset=1) != few
    assert ids(local(train_examples=50)) == whole


def test_more_rows_than_there_are(local: Callable[..., Study]) -> None:
    with pytest.raises(StudyError, match=r"data\.train_examples: train_examples must be at most the 50 rows .* got 51"):
        sources.resolve(local(train_examples=51))


def test_identity_tells_apart_what_rows_differ_in(local: Callable[..., Study]) -> None:
    content = sources.resolve(local()).train
    made = [local(), local(train_examples=5), local(train_examples=5, subset="first_n")]
    values = [json.dumps(sources.identity(content, one, "train", "en"), sort_keys=True) for one in made]
    assert len(set(values)) == 3
    few = local(("en",), {"dev_limit": 3})
    assert ids(few, "dev") == ["d0", "d1", "d2"]
    dev = [json.dumps(sources.identity(content, one, "dev", "en"), sort_keys=True) for one in (few, local())]
    assert len({*values, *dev}) == 5


# Local files


def test_local_files(local: Callable[..., Study], tmp_path: Path) -> None:
    made = local(("en", "th"))
    found = sources.resolve(made)
    assert found.tests[MAIN]["th"].path == str(tmp_path / "test.th.json")
    assert [row["id"] for row in sources.rows(found.tests[MAIN]["th"], made, "test", "th")] == [
        "th0",
        "th1",
        "th2",
        "th3",
    ]
    assert found.train.revision != found.dev.revision


def test_local_names_are_relative_to_where_one_is(
    local: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("./train.json", "train.json", "~/train.json"):
        assert sources.resolve(local(train=name)).train.path == str(tmp_path / "train.json")


def test_file_that_changed_since_is_refused(local: Callable[..., Study], tmp_path: Path) -> None:
    made = local()
    found = sources.resolve(made)
    put(tmp_path / "train.json", squad(49))
    with pytest.raises(DamageError, match="the file has changed"):
        sources.rows(found.train, made, "train", "en")


def test_own_files_of_the_other_tasks(
    study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "mine.jsonl.gz", json_lines(*map(copa, range(5))))
    for language in ("et", "th"):
        put(tmp_path / "data" / language / f"test.{language}.jsonl", json_lines(copa()))
        put(tmp_path / f"{language}.tsv", xnli(2, language))
    names = {"train": "mine.jsonl.gz", "dev": "./mine.jsonl.gz", "test": "data/{language}/test.{language}.jsonl"}
    found = sources.resolve(asked(study, ("et", "th"), task="choice", **names))
    assert found.tests[MAIN]["th"].path == str(tmp_path / "data" / "th" / "test.th.jsonl")
    with pytest.raises(StudyError, match=r"no rows in language 'sw'\n  valid: et, th"):
        sources.resolve(asked(study, ("sw",), task="choice", **names))
    labels = ("neutral", "-", "-")
    put(tmp_path / "mine.csv", "sentence1,sentence2,label\n" + "".join(f"a,b,{label}\n" for label in labels))
    names = {"train": "mine.csv", "dev": "mine.csv", "test": "{language}.tsv"}
    assert not caplog.messages
    found = sources.resolve(asked(study, ("et", "th"), task="nli", **names))
    assert caplog.messages[0] == f"{tmp_path}/mine.csv: 2 rows without a majority label are left out"
    assert found.tests[MAIN]["et"].path == str(tmp_path / "et.tsv")


BAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "a b c",
                    "qas": [{"id": "x", "question": "?", "answers": [{"text": "z", "answer_start": 0}]}],
                }
            ]
        }
    ]
}


@pytest.mark.parametrize("name", ["train.json", "dev.json.gz", "test.th.json"])
def test_bad_files_are_refused_at_once(local: Callable[..., Study], tmp_path: Path, name: str) -> None:
    put(tmp_path / name, BAD)
    with pytest.raises(StudyError, match=f"{name}: the answer of question 'x' is not in its context"):
        sources.resolve(local(("en", "th")))


@pytest.mark.parametrize(
    ("data", "languages", "kind", "message"),
    [
        ({"train": "./none.json"}, ("en",), MissingError, r"data\.train: no such file: /"),
        ({"test": "./none.{language}.json"}, ("en",), MissingError, r"data\.test: no such file"),
        ({"test": "./test.json"}, ("en",), StudyError, r"data\.test: a local test file must hold \{language\}"),
        ({"train": "squad"}, ("en",), StudyError, r"data\.train: must name data, but got 'squad'(.|\n)*owner/name"),
        ({}, ("en", "sw"), StudyError, r"language 'sw'\n  valid: en, th"),
    ],
)
def test_bad_values(
    local: Callable[..., Study],
    data: dict[str, Any],
    languages: tuple[str, ...],
    kind: type[RayschedError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        sources.resolve(local(languages, **data))


@pytest.mark.parametrize(
    ("test", "languages", "kind", "key", "hint"),
    [
        ("./none.{language}.json", ("en",), MissingError, "test", "--set evaluation.also.far.test=FILE"),
        ("./test.json", ("en",), StudyError, "test", ""),
        ("squad", ("en",), StudyError, "test", ""),
        ("facebook/xnli", ("en",), StudyError, "test", "set task: nli"),
        ("mini", ("sw",), StudyError, "languages", ""),
    ],
)
def test_faults_of_a_further_test_set_name_its_own_keys(
    local: Callable[..., Study], test: str, languages: tuple[str, ...], kind: type[RayschedError], key: str, hint: str
) -> None:
    also = {"far": {"test": test, "languages": languages}}
    made = local(("en",), {"also": also})
    for resolve in (sources.resolve, sources.resolve_tests):
        with pytest.raises(kind) as caught:
            resolve(made)
        assert caught.value.key == f"evaluation.also.far.{key}"
        assert hint in (caught.value.hint or "")
