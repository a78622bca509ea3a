"""Published files below `data.folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError, RayschedError, StudyError
from raysched.study.model import MAIN
from raysched.tasks import sources
from tests.tasks.written import (
    PUBLIC,
    MakeStudy,
    asked,
    copa,
    json_lines,
    multinli,
    multinli_txt,
    put,
    squad,
    tsv,
    xnli,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "squad" / "v1.1" / "train-v1.1.rebuilt.json.gz", squad(5))
    put(tmp_path / "squad" / "v1.1" / "dev-v1.1.json", squad(4))
    for language in ("en", "th", "pt-br"):
        put(tmp_path / "xquad" / f"xquad.{language}.json", squad(3, language))
    return tmp_path


def test_folder(study: MakeStudy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # never asked
    found = sources.resolve(asked(study, ("en", "pt-br"), folder=str(folder), **PUBLIC))
    assert found.train.where == "rajpurkar/squad squad/v1.1/train-v1.1.rebuilt.json.gz"
    assert found.dev.path == str(folder / "squad/v1.1/dev-v1.1.json")
    assert found.tests[MAIN]["pt-br"].path == str(folder / "xquad/xquad.pt-br.json")


def test_folder_prefers_the_published_name(study: MakeStudy, folder: Path) -> None:
    put(folder / "dev-v1.1.cut.json", squad(1))
    made = asked(study, folder=str(folder), **PUBLIC)
    assert sources.resolve(made).dev.path == str(folder / "squad/v1.1/dev-v1.1.json")
    put(folder / "train-v1.1.cut.json", squad(1))
    with pytest.raises(StudyError, match=r"several files could be train(.|\n)*train-v1\.1\.cut\.json"):
        sources.resolve(made)


@pytest.mark.parametrize(
    ("change", "languages", "kind", "message"),
    [
        ({}, ("sw",), StudyError, r"google/xquad has no rows in language 'sw'\n  valid: en, pt-br, th"),
        (
            {"test": "facebook/mlqa"},
            ("en",),
            MissingError,
            r"looked for test-context-en-question-en\.json .*found xquad/xquad\.en",
        ),
        ({"train": "owner/name"}, ("en",), StudyError, r"data\.train: .*'owner/name'\n  valid: rajpurkar/squad$"),
        ({"dev": "google/xquad"}, ("en",), StudyError, r"data\.dev: with data\.folder"),
        ({"folder": "./nowhere"}, ("en",), MissingError, r"data\.folder: no such folder"),
        ({"folder": "."}, ("en",), MissingError, r"data\.folder: .*found no data file \(\.json, \.jsonl"),
    ],
)
def test_folder_without_the_file(
    study: MakeStudy,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    languages: tuple[str, ...],
    kind: type[RayschedError],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(kind, match=message):
        sources.resolve(asked(study, languages, **({"folder": str(folder)} | PUBLIC | change)))


# The other tasks

COPA = {"train": "aps/super_glue", "dev": "aps/super_glue", "test": "cambridgeltl/xcopa"}
XNLI = {"train": "nyu-mll/multi_nli", "dev": "facebook/xnli", "test": "facebook/xnli"}


def paths(found: sources.Sources, root: Path) -> list[str]:
    contents = [found.train, found.dev, *(one for tests in found.tests.values() for one in tests.values())]
    return [str(Path(str(content.path)).relative_to(root)) for content in contents]


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_mlqa(study: MakeStudy, folder: Path, packed: str) -> None:
    """A second test set of the same runs: one file per pair of languages, of which those of one language are meant."""
    for context, question in (("de", "de"), ("zh", "zh"), ("de", "zh")):
        name = f"test-context-{context}-question-{question}.json{packed}"
        put(folder / "MLQA_V1" / "test" / name, squad(2, context + question))
    also = {"mlqa": {"test": "facebook/mlqa", "languages": ("de", "zh"), "scoring": "mlqa"}}
    made = asked(study, evaluation={"also": also}, folder=str(folder), **PUBLIC)
    found = sources.resolve(made)
    assert set(found.tests) == {"test", "mlqa"}
    assert [row["id"] for row in sources.rows(found.tests["mlqa"]["zh"], made, "test", "zh")] == ["zhzh0", "zhzh1"]
    also["mlqa"]["languages"] = ("de", "ar")
    with pytest.raises(StudyError, match=r"facebook/mlqa has no rows in language 'ar'\n  valid: de, zh"):
        sources.resolve(asked(study, evaluation={"also": also}, folder=str(folder), **PUBLIC))


@pytest.mark.parametrize("names", [("COPA/train.jsonl", "COPA/val.jsonl"), ("a/train.en.jsonl", "a/val.en.jsonl")])
def test_copa(study: MakeStudy, tmp_path: Path, names: tuple[str, str]) -> None:
    for n, name in enumerate(names):
        put(tmp_path / name, json_lines(*map(copa, range(4 - n))))
    put(tmp_path / "BoolQ" / "train.jsonl", json_lines({"question": "is it", "passage": "It is.", "label": True}))
    for language in ("et", "th"):
        for split in ("val", "test"):
            put(tmp_path / f"xcopa/data/{language}/{split}.{language}.jsonl", json_lines(copa(0), copa(1)))
    made = asked(study, ("et", "th"), task="choice", folder=str(tmp_path), **COPA)
    found = sources.resolve(made)
    assert paths(found, tmp_path) == [*names, "xcopa/data/et/test.et.jsonl", "xcopa/data/th/test.th.jsonl"]
    assert len(sources.rows(found.train, made, "train", "en")) == 4
    assert sources.rows(found.tests[MAIN]["th"], made, "test", "th")[1]["label"] == 1
    assert sources.notes(made) == [
        "XCOPA's `question` differs from English COPA's, as published and kept here, in so many of 500 test rows: "
        "th 250"
    ]


def test_copa_folder_itself(study: MakeStudy, tmp_path: Path) -> None:
    for name in ("train.jsonl", "val.jsonl"):
        put(tmp_path / name, json_lines(copa()))
    english = COPA | {"test": "aps/super_glue"}
    found = sources.resolve(asked(study, task="choice", folder=str(tmp_path), **english))
    assert paths(found, tmp_path) == ["train.jsonl", "val.jsonl", "val.jsonl"], "test labels are hidden"
    with pytest.raises(StudyError, match=r"aps/super_glue has no rows in language 'th'\n  valid: en"):
        sources.resolve(asked(study, ("th",), task="choice", folder=str(tmp_path), **english))
    with pytest.raises(MissingError, match=r"looked for et/test\.et\.jsonl .*found train\.jsonl, val\.jsonl"):
        sources.resolve(asked(study, ("et",), task="choice", folder=str(tmp_path), **COPA))


@pytest.mark.parametrize("suffix", ["jsonl", "txt", "csv.gz"])
def test_xnli(study: MakeStudy, tmp_path: Path, suffix: str) -> None:
    texts = {"jsonl": json_lines(*map(multinli, range(3))), "txt": multinli_txt(3)}
    texts["csv.gz"] = "pairID,sentence1,sentence2,label\n1,a,b,neutral\n2,a,b,-\n3,a,c,neutral\n4,c,d,neutral\n"
    put(tmp_path / "multinli_1.0" / f"multinli_1.0_train.{suffix}", texts[suffix])
    put(tmp_path / "xnli" / "dev-en.tsv.gz", xnli(3))
    for language in ("en", "sw"):
        put(tmp_path / "xnli" / f"test-{language}.tsv.gz", xnli(3, language))
    made = asked(study, ("en", "sw"), task="nli", folder=str(tmp_path), train_examples=3, **XNLI)
    found = sources.resolve(made)
    tests = ["xnli/test-en.tsv.gz", "xnli/test-sw.tsv.gz"]
    assert paths(found, tmp_path) == [f"multinli_1.0/multinli_1.0_train.{suffix}", "xnli/dev-en.tsv.gz", *tests]
    assert len(sources.rows(found.train, made, "train", "en")) == 3
    with pytest.raises(StudyError, match=r"facebook/xnli has no rows in language 'ur'\n  valid: en, sw"):
        sources.resolve(asked(study, ("ur",), task="nli", folder=str(tmp_path), **XNLI))
    with pytest.raises(StudyError, match=r"data\.train_examples: .* at most the 3 rows .* got 4"):
        sources.resolve(asked(study, task="nli", folder=str(tmp_path), train_examples=4, **XNLI))


def test_the_original_xnli(study: MakeStudy, tmp_path: Path) -> None:
    """One file for all languages; dev rows are those of the source language."""
    columns = ["language", "gold_label", "sentence1", "sentence2", "pairID"]
    for split in ("dev", "test"):
        rows = [[language, "neutral", language, "h", str(n)] for language in ("de", "en", "th") for n in range(2)]
        put(tmp_path / "XNLI-1.0" / f"xnli.{split}.tsv", tsv(columns, *rows))
    put(tmp_path / "multinli_1.0_train.txt", multinli_txt(3))
    made = asked(study, ("th",), task="nli", folder=str(tmp_path), **XNLI)
    found = sources.resolve(made)
    assert [row["premise"] for row in sources.rows(found.dev, made, "dev", "en")] == ["en", "en"]
    assert [row["premise"] for row in sources.rows(found.tests[MAIN]["th"], made, "test", "th")] == ["th", "th"]
    with pytest.raises(StudyError, match=r"xnli\.test\.tsv: has no rows in language 'ur'\n  valid: de, en, th"):
        sources.resolve(asked(study, ("ur",), task="nli", folder=str(tmp_path), **XNLI))
