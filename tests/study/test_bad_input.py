"""Every way in which a study can be malformed, and the message that teaches: key, rule, value, choices, next step."""

# ruff: noqa: E501  (one row of a table is one line)
from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysched.errors import BAD_INPUT, StudyError
from raysched.study.load import load_study
from raysched.study.messages import StudyErrors, explain, is_secret
from raysched.study.yaml_text import parse

Write = Callable[..., Path]
GOOD = Path(__file__).with_name("good.yaml").read_text()

# what is replaced in the good study, by what; then key, line, rule, value given, one valid choice, next step
FILES = [
    ("schedule:", "schedul:", "search.schedul", 10, "unknown key", "", "schedule", "did you mean search.schedule?"),
    ("task: qa", "task: qa\nlr: [1e-3]", "lr", 2, "unknown key", "", "search", "did you mean search.lr?"),
    ("task: qa", "task: qa\nextend: x", "extend", 2, "unknown key", "", "extends", "did you mean extends?"),
    ("task: qa", "task: qa\n<<: x", "<<", 2, "unknown key", "", "extends", "raysched schema"),
    ("task: qa", "task: qq", "task", 1, "must be one of the valid values", '"qq"', "qa", "take one of the valid values"),
    ("gu]", "guu]", "search.schedule[1]", 10, "must be one of the valid values", '"guu"', "gu", "did you mean gu?"),
    ("k: [2, 3]", "k: [0]", "search.k[0]", 12, "must be a whole number >= 1, early or even", "0", "a whole number >= 1, early, even", "choose a larger value"),
    ("k: [2, 3]", "k: 0", "search.k", 12, "must be a list", "0", "each a whole number >= 1", "write k: [...]"),
    ("k: [2, 3]", "k: [2.0]", "search.k[0]", 12, "must be a whole number", "2.0", "a whole number >= 1, early, even", "write 2"),
    ("k: [2, 3]", 'k: ["5"]', "search.k[0]", 12, "must be a whole number", '"5"', "a whole number >= 1, early, even", "write 5 without quotes"),
    ("k: [2, 3]", "k: [evn]", "search.k[0]", 12, "early or even", '"evn"', "early, even", "even spreads"),
    ("k: [2, 3]", "k: [1e3]", "search.k[0]", 12, "must be a whole number", "1000.0", "a whole number >= 1", "write 1000"),
    ("k: [2, 3]", "k: [2, 2]", "search.k", 12, "must not repeat a value", "2 stands twice", "a list", "remove the repetition"),
    ("k: [2, 3]", "k: []", "search.k", 12, "must hold at least one interval for schedule gu", "none", "whole numbers from 1", "k: [100]"),
    ("  k: [2, 3]\n", "", "search.k", 9, "must hold at least one interval for schedule gu", "none", "whole numbers from 1", "k: [100]"),
    ("[1e-3, 2e-3]", '["1e-3"]', "search.lr[0]", 11, "must be a number, not text", '"1e-3"', "a number > 0 and < 1", "write 1e-3 without quotes"),
    ("[1e-3, 2e-3]", "[1_0]", "search.lr[0]", 11, "must be a number, not text", '"1_0"', "a number > 0", "write 10 without quotes"),
    ("[1e-3, 2e-3]", "[small]", "search.lr[0]", 11, "must be a number, not text", '"small"', "a number > 0", "write 0.001 without quotes"),
    ("[1e-3, 2e-3]", "[1]", "search.lr[0]", 11, "must be less than 1", "1", "a number > 0 and < 1", "choose a smaller value"),
    ("[1e-3, 2e-3]", "[-1e-3]", "search.lr[0]", 11, "must be greater than 0", "-0.001", "a number > 0", "choose a larger value"),
    ("[1e-3, 2e-3]", "1e-3", "search.lr", 11, "must be a list", "0.001", "a list (each a number", "write lr: [...]"),
    ("[1e-3, 2e-3]", "[true]", "search.lr[0]", 11, "must be a number", "true", "a number > 0", "change search.lr[0]"),
    ("[1e-3, 2e-3]", "[]", "search.lr", 11, "must hold at least 1 value", "[]", "a list (each a number", "give at least one value"),
    ("sampler: grid", "sampler: tpee", "search.sampler", 13, "must be one of the valid values", '"tpee"', "tpe, random, grid", "did you mean tpe?"),
    ("sampler: grid", "objective: test/de/f1", "search.objective", 13, "must be a source-language dev score", "'test/de/f1'", "source_dev/em", "targets are tested after training"),
    ("sampler: grid", "objective: f1", "search.objective", 13, "must be a source-language dev score", "'f1'", "source_dev/f1", "targets are tested after training"),
    ("sampler: grid", "points: 0", "search.points", 13, "must be at least 1", "0", "a whole number >= 1, or null", "choose a larger value"),
    ("seeds: 2", "seeds: 0", "seeds", 14, "must be a number of seeds from 1 to 1000", "0", "a list", "seeds: 4"),
    ("seeds: 2", "seeds: 999999999999", "seeds", 14, "must be a number of seeds from 1 to 1000", "999999999999", "a list", "seeds: 4"),
    ("seeds: 2", "seeds: []", "seeds", 14, "must hold at least 1 value", "[]", "a list", "give at least one value"),
    ("seeds: 2", "seeds: [0, 1, 0]", "seeds", 14, "must not repeat a value", "0 stands twice in [0, 1, 0]", "a list", "remove the repetition"),
    ("seeds: 2", "seeds: [-1]", "seeds[0]", 14, "must be at least 0", "-1", "a whole number >= 0", "choose a larger value"),
    ("seeds: 2", "seeds: two", "seeds", 14, "must be a list", '"two"', "or a whole number", "write seeds: [...]"),
    ("seeds: 2\n", "", "seeds", 1, "must be given", "nothing", "a list", "add seeds: ... to the file"),
    ("  backbone: mini\n", "", "model.backbone", 3, "must be given", "nothing", "text", "add backbone: ... below model:"),
    ("backbone: mini", "backbone: 3", "model.backbone", 4, "must be text", "3", "text", 'put it into quotes: "3"'),
    ("backbone: mini", 'backbone: ""', "model.backbone", 4, "must not be empty", '""', "text", "give a value"),
    ("adapters: mini", "adapters: AdapterHub/en", "model.language_adapters", 5, "contain {language}", "'AdapterHub/en'", "folder/{language}", "write {language}"),
    ("steps: 10", "steps: 10\n  epochs: 1", "training.epochs", 9, "exactly one of epochs and steps", "epochs=1, steps=10", "training.steps alone", "--set training.epochs=null"),
    ("steps: 10", "batch_size: 4", "training.steps", 7, "exactly one of epochs and steps", "epochs=None, steps=None", "training.steps alone", "give one of them"),
    ("training:\n  steps: 10", "training:", "training", 7, "must be a section with keys", "null", "epochs, steps", "put keys below training:"),
    ("seeds: 2", "seeds: 2\ntracking: 3", "tracking", 15, "must be a section with keys", "3", "log_every_steps", "or remove it to take the defaults"),
    ("steps: 10", "steps: 10\n  permutation: [1, 1]", "training.permutation", 9, "must not repeat a value", "[1, 1]", "a list", "remove the repetition"),
    ("gu]", "gu, permutation]", "training.permutation", 7, "must be given for schedule permutation", "none", "a list of layers", "permutation: [10, 9,"),
    ("gu]", "gu, replay]", "training.replay", 7, "must be given for schedule replay", "none", "a path", "artifacts"),
    ("test: mini}", "test: mini, max_length: 64}", "data.doc_stride", 2, "doc_stride < max_length must hold", "doc_stride=128, max_length=64", "1 ... 63", "smaller"),
    ("[vel, orl]", "[vel, vel]", "evaluation.languages", 16, "must not repeat a value", "vel stands twice", "a list", "remove the repetition"),
    ("[vel, orl]", "[vel, ../x]", "evaluation.languages[1]", 16, "must match", '"../x"', "text that matches", "short name of the language"),
    ("seeds: 2", "seeds: 2\nresources: {gpu: 1.5}", "resources.gpu", 15, "must be auto, a fraction of a GPU up to 1, or a whole number", "1.5", "auto, 0, 0.25", "auto takes a GPU"),
    ("seeds: 2", "seeds: 2\nresources: {gpu: some}", "resources.gpu", 15, "must be auto", "'some'", "auto, 0, 0.25", "auto takes a GPU"),
    ("seeds: 2", "seeds: 2\nbudget: {attempts: 0}", "budget.attempts", 15, "must be at least 1", "0", "a whole number >= 1", "choose a larger value"),
    ("sampler: grid", "arms: [{schedule: fun, lr: 1e-3, k: 0}]\n  sampler: grid", "search.arms[0].k", 13, "must be a whole number >= 1, early or even", "0", "early", "choose a larger value"),
    ("sampler: grid", "arms: [{schedule: fun, lr: 1e-3}]\n  sampler: grid", "search.arms[0].k", 13, "must be given for schedule fun", "None", "even", "add k: 100"),
    ("sampler: grid", "arms: [{schedule: standard, lr: 1e-3, k: 3}]\n  sampler: grid", "search.arms[0].k", 13, "means nothing for schedule standard", "3", "null", "leave it out"),
    ("sampler: grid", "arms: [{schedule: standard, lr: 1e-3, epoch: 3}]\n  sampler: grid", "search.arms[0].epoch", 13, "unknown key", "", "epochs", "did you mean search.arms[0].epochs?"),
    ("sampler: grid", "arms: [{schedule: standard, lr: 1e-3, epochs: 3, steps: 3}]\n  sampler: grid", "search.arms[0].steps", 13, "at most one of epochs and steps", "epochs=3, steps=3", "steps alone", "leave one of them out"),
    ("sampler: grid", "arms: [{schedule: standard, lr: 1e-3}]\n  sampler: tpe", "search.sampler", 14, "must be grid where arms are given", "tpe", "grid", "leave search.arms out"),
    ("sampler: grid", "arms: [{schedule: standard, lr: 1e-3, steps: 11}, {schedule: standard, lr: 1e-3, steps: 10}]\n  sampler: grid", "search.arms[1].steps", 13, "must be another length than training.steps", "10 for both", "any other number of steps", "leave it out"),
    ("[1e-3, 2e-3]\n  k: [2, 3]\n  sampler: grid", "[]\n  sampler: grid\n  arms: [{schedule: standard, lr: 1e-3}]", "search.lr", 11, "must hold at least 1 value", "[]", "a list", "for arms alone"),
    ("sampler: grid", "method: [all]", "search.method[0]", 13, "must be one of the valid values", '"all"', "adapters, full", "take one of the valid values"),
    ("languages: [vel, orl]", "languages: [vel]\n  also: {test: {test: mini, languages: [orl]}}", "evaluation.also", 17, "must not be named test", "test", "", "choose another name"),
    ("languages: [vel, orl]", "languages: [vel]\n  also: {Mlqa: {test: mini, languages: [orl]}}", "evaluation.also.Mlqa", 17, "a name must match", '"Mlqa"', "", "choose another name"),
    ("languages: [vel, orl]", "languages: [vel]\n  also: {mlqa: {test: mini}}", "evaluation.also.mlqa.languages", 17, "must be given", "nothing", "a list", "add languages: ... below evaluation.also.mlqa:"),
    ("languages: [vel, orl]", "languages: [vel]\n  also: {mlqa: {test: mini, language: [orl]}}", "evaluation.also.mlqa.language", 17, "unknown key", "", "languages", "did you mean evaluation.also.mlqa.languages?"),
    ("adapters: mini", "adapters: mini\n  language_adapter_overrides: {it: 3}", "model.language_adapter_overrides.it", 6, "must be text", "3", "text", 'put it into quotes: "3"'),
    ("task: qa", "task: qa\nseeds: 3", "seeds", 15, "must be given once", "mine.yaml:2:1", "", "remove one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "key", "line", "rule", "value", "choice", "step"),
    FILES,
    ids=[f"{row[2]}: {row[1]}"[:40] for row in FILES],
)
def test_file(
    write: Write, old: str, new: str, key: str, line: int, rule: str, value: str, choice: str, step: str
) -> None:
    assert GOOD.count(old) == 1
    path = write(GOOD.replace(old, new))
    with pytest.raises(StudyError) as caught:
        load_study(path, cwd=path.parent)
    error, message = caught.value, str(caught.value)
    assert error.exit_code == BAD_INPUT
    assert not isinstance(error, StudyErrors)
    assert error.key == key
    assert message.startswith(f"{key}: ")
    assert re.search(rf"\n  at:    mine\.yaml:{line}:\d+\n", message)
    assert rule in message
    assert value in error.what
    assert choice in ", ".join(map(str, error.choices))
    assert step in (error.hint or "")
    assert len(message.splitlines()) <= 4


OPTIONS = [
    ("model.language_adapter_overrides.th=null", "model.language_adapter_overrides.th", "must be text, but got null", "text", "change model"),
    ("search.lrs=[1]", "search.lrs", "unknown key", "schedule, lr, k", "did you mean search.lr?"),
    ("serch.lr=[1]", "serch", "unknown key", "training, search", "did you mean search?"),
    ("lr=[1e-3]", "lr", "unknown key", "training, search", "did you mean search.lr?"),
    ("search.lr.0=1e-3", "search.lr.0", "search.lr is a value, not a section", "a list (each a number", "--set search.lr='[...]'"),
    ("search.lr=1e-3", "search.lr", "must be a list, but got 0.001", "a list (each a number", "write lr: [...]"),
    ("search.k=[0]", "search.k[0]", "early or even, but got 0", "a whole number >= 1", "choose a larger value"),
    ("training.epochs=3", "training.epochs", "but got epochs=3, steps=10", "training.steps alone", "--set training.steps=null"),
    ("training.steps=", "training.steps", "but got epochs=None, steps=None", "training.steps alone", "give one of them"),
    ("description=GU: prose", "description", 'must be text, but got {"GU": "prose"}', "text", "change description"),
    ("evaluation.also.mlqa.tests=x", "evaluation.also.mlqa.tests", "unknown key", "test, languages, scoring", "did you mean evaluation.also.mlqa.test?"),
    ("evaluation.also.mlqa.test.x=x", "evaluation.also.mlqa.test.x", "evaluation.also.mlqa.test is a value, not a section", "text", "give the whole value"),
    ("evaluation.also.mlqa=x", "evaluation.also.mlqa", "must be a section with keys", "keys test, languages", "put keys below"),
    ("model.language_adapter_overrides.it.x=x", "model.language_adapter_overrides.it.x", "is a value, not a section", "text", "give the whole value"),
    ("search.arms=[{schedule: standard, lr: 1e-3, steps: 10}]", "search.arms[0].steps", "must be another length than training.steps, but got 10", "null", "leave it out"),
    ("search.arms.0.lr=1e-3", "search.arms.0", "search.arms is a value, not a section", "a list", "--set search.arms='[...]'"),
    ("extends=xquad-mini", "extends", "stands in files only", "", "write a file"),
    ("search={lr: [1], lr: [2]}", "lr", "must be given once", "", "remove one of the two"),
    ("search.lr=[1", None, "must be valid YAML", "", "quote text"),
]  # fmt: skip


@pytest.mark.parametrize("task", ["choice", "nli"])
@pytest.mark.parametrize(
    ("option", "key", "valid"),
    [
        ("evaluation.scoring=mlqa", "evaluation.scoring", "squad"),
        ("evaluation.chinese_metric=squad", "evaluation.chinese_metric", "null"),
        ("evaluation.also.far={test: mini, languages: [vel], scoring: mlqa}", "evaluation.also.far.scoring", "squad"),
        (
            "evaluation.also.far={test: mini, languages: [vel], chinese_metric: char}",
            "evaluation.also.far.chinese_metric",
            "null",
        ),
    ],
)
def test_only_answers_are_scored_by_rules(write: Write, task: str, option: str, key: str, valid: str) -> None:
    options = [f"task={task}", "search.objective=source_dev/accuracy", "evaluation.languages=[en]"]
    assert load_study(write(), [*options, "evaluation.scoring=squad", "evaluation.chinese_metric=null"])
    with pytest.raises(StudyError, match=f"compares answers, and task {task} has none") as caught:
        load_study(write(), [*options, option])
    assert (caught.value.key, caught.value.choices) == (key, (valid,))


@pytest.mark.parametrize(("option", "key", "rule", "choice", "step"), OPTIONS, ids=[row[0] for row in OPTIONS])
def test_option(write: Write, option: str, key: str | None, rule: str, choice: str, step: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write(), [option])
    error = caught.value
    assert error.key == key
    assert rule in error.what
    assert re.search(r"at: +--set [a-z.0-9_]+$", error.what)
    assert choice in ", ".join(map(str, error.choices))
    assert step in (error.hint or "")


def test_options_reach_below_names_of_the_users_own(write: Write) -> None:
    study = load_study(
        write(),
        [
            "evaluation.also.mlqa.test=facebook/mlqa",
            "evaluation.also.mlqa.languages=[en, de]",
            "evaluation.also.again={test: mini, languages: [orl]}",
            "model.language_adapter_overrides.orl=./orl",
        ],
    ).study
    assert {name: (one.test, one.languages) for name, one in study.test_sets.items()} == {
        "test": ("mini", ("vel", "orl")),
        "mlqa": ("facebook/mlqa", ("en", "de")),
        "again": ("mini", ("orl",)),
    }
    assert study.model.language_adapter_overrides == {"orl": "./orl"}


@pytest.mark.parametrize("option", ["", "search.lr", "=3", "search..lr=3", ".=3"])
def test_option_without_key_or_value(write: Write, option: str) -> None:
    with pytest.raises(StudyError, match=r"--set: must be KEY=VALUE"):
        load_study(write(), [option])


def test_exactly_one_length_is_solved_as_the_hint_says(write: Write) -> None:
    training = load_study(write(), ["training.epochs=3", "training.steps=null"]).study.training
    assert (training.epochs, training.steps) == (3, None)


def test_several_errors_come_at_once_with_all_their_help(write: Write) -> None:
    path = write(GOOD.replace("k: [2, 3]", "k: [0]").replace("seeds: 2", "seeds: []").replace("backbone", "bckbone"))
    with pytest.raises(StudyErrors, match="3 problems") as caught:
        load_study(path)
    assert [error.key for error in caught.value.errors] == ["model.bckbone", "search.k[0]", "seeds"]
    for error in caught.value.errors:
        assert str(error) in str(caught.value)
    with pytest.raises(StudyErrors, match=r"did you mean search\.lr\?"):
        load_study(write(), ["search.lrs=1", "sed=1"])


def test_many_errors_fit_on_one_screen(write: Write) -> None:
    lines = "".join(f"x{number}: 1\n" for number in range(40))
    with pytest.raises(StudyErrors) as caught:
        load_study(write(GOOD + lines))
    message = str(caught.value)
    assert len(message.splitlines()) <= 24
    assert message.startswith("40 problems\nx0: unknown key  at: ")
    assert "... and 22 more" in message


@pytest.mark.parametrize(
    "key",
    ["hub_token", "token", "password", "apiKey", "api_key", "API-KEY", "client_secret", "db.passwd", "x.credentials"],
)
def test_secrets_are_refused_and_never_shown(write: Write, key: str) -> None:
    assert is_secret(key)
    text = GOOD
    for part in (nested := key.split("."))[:-1]:
        text += f"{part}:\n"
    text += "  " * (len(nested) - 1) + f"{nested[-1]}: hf_canary\n"
    bad, good = write(text, "bad.yaml"), write()
    for path, options in ((bad, []), (good, [f"{key}=hf_canary"]), (good, [f"model.{key}=hf_canary"])):
        with pytest.raises(StudyError, match="secrets never stand in a study") as caught:
            load_study(path, options)
        assert "hf_canary" not in str(caught.value)
        assert "environment" in (caught.value.hint or "")


@pytest.mark.parametrize("key", ["tokenizer", "max_tokens_note", "secretary", "key", "lr"])
def test_harmless_words_are_no_secrets(key: str) -> None:
    assert not is_secret(key)


def test_credentials_in_an_address_are_masked(write: Write) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write(), ["search.lr=https://me:canary@host/x"])
    assert "canary" not in str(caught.value)
    assert "://***@host" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must hold keys and values, but got null"),
        (b"- 1\n", "must hold keys and values, but got [1]"),
        (b"just text", "must hold keys and values"),
        (b"task: qa\n\xff\xfe", r"must be UTF-8 text, but got the byte 0xff"),
        (b"x" * ((1 << 20) + 1), "must hold at most 1048576 bytes"),
    ],
    ids=["empty", "list", "text", "latin", "large"],
)
def test_no_study_at_all(write: Write, content: bytes, rule: str) -> None:
    with pytest.raises(StudyError, match=re.escape(rule)) as caught:
        load_study(write(content))
    assert caught.value.key == "study"
    assert "mine.yaml" in str(caught.value)
    assert caught.value.hint


def test_too_many_points_are_refused_before_they_are_made(write: Write) -> None:
    many = ", ".join(str(number) for number in range(1, 9001))
    lrs = ", ".join(f"{number}e-5" for number in range(1, 30))
    with pytest.raises(StudyError, match="at most 100000 points, but got 261029"):
        load_study(write(), [f"search.k=[{many}]", f"search.lr=[{lrs}]"])


def test_an_error_of_a_kind_without_words_of_its_own_still_teaches() -> None:
    error = {"type": "unheard_of", "loc": ("search", "seed"), "msg": "", "input": 1}
    explained = explain(error, parse("search: {seed: 1}", "mine.yaml"))
    assert str(explained).splitlines() == [
        "search.seed: must be a whole number >= 0, but got 1",
        "  at:    mine.yaml:1:10",
        "  valid: a whole number >= 0",
        "  next:  change search.seed",
    ]


SCRAPS = st.sampled_from([
    *GOOD.splitlines(keepends=True),
    "extends: mine\n", "extends: xquad-mini\n", "extends: [1]\n", "extends: ../..\n", "seeds: true\n", "search: null\n",
    "data: [1]\n", "  lr: .nan\n", "  - x\n", "  k: {a: 1}\n", "training: {epochs: 1}\n", "1: 2\n", "null: 1\n",
    "fisher: {select: {batches: -1}}\n", "model: {task_adapter: 3}\n", "resources: {gpu: [1]}\n",
    "\t", "]", "&a ", "\x00", "é",
])  # fmt: skip


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | st.text(max_size=80).map(str.encode)
    | st.lists(SCRAPS, max_size=20).map(lambda s: "".join(s).encode())
)
def test_any_file_gives_a_study_or_a_study_error(write: Write, content: bytes) -> None:
    path = write(content)
    with contextlib.suppress(StudyError):
        load_study(path, cwd=path.parent)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["search", "search.lr", "seeds", "data", "resources.gpu", "a.b"]) | st.text(max_size=8),
    value=st.text(max_size=20),
)
def test_any_option_gives_a_study_or_a_study_error(write: Write, key: str, value: str) -> None:
    path = write()
    with contextlib.suppress(StudyError):
        load_study(path, [f"{key}={value}"], cwd=path.parent)
