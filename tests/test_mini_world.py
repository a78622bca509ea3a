"""The made-up world: parallel, disjoint, deterministic, and as its README says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import islice

import pytest

from raysched.mini import adapter_path, languages, world
from raysched.mini.facts import ADJECTIVE_SHARE, HARD_SHARE, SPLITS, Split, facts_in, facts_of, seeded
from raysched.mini.text import OPENING, MlmRow, mlm_text
from raysched.mini.tokenizer import build_tokenizer

ROWS = {"qa": world.qa_rows, "choice": world.choice_rows, "nli": world.nli_rows}


def mlm_rows(language: str, n: int, seed: int) -> list[MlmRow]:
    return list(islice(mlm_text(language, seed), n))


def cognate_share(code: str) -> float:
    """Measured share of a language's words that are words of the source language."""
    ours, source = languages.lexicon(code), languages.lexicon(world.SOURCE)
    same = [word == twin for class_ in ours for word, twin in zip(ours[class_], source[class_], strict=True)]
    return sum(same) / len(same)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize("language", world.LANGUAGES)
@pytest.mark.parametrize("split", SPLITS)
def test_answers_stand_where_their_offsets_say(language: str, split: Split) -> None:
    for row in world.qa_rows(language, split, 300):
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert row["context"][start : start + len(text)] == text
        assert 1 <= len(text.split()) <= 2


@pytest.mark.parametrize("task", ROWS)
def test_splits_share_no_row(task: str) -> None:
    def facts(split: Split, n: int) -> list[str]:
        rows = ROWS[task](world.SOURCE, split, n)
        return [json.dumps({key: row[key] for key in row if key not in ("id", "idx")}, sort_keys=True) for row in rows]

    train, dev, test = facts("train", 6000), facts("dev", 400), facts("test", 400)
    assert (len(train), len(dev), len(test)) == (6000, 400, 400)
    everything = train + dev + test
    assert len(set(everything)) == len(everything)


def test_question_splits_share_no_context_and_neither_does_the_pretraining_text() -> None:
    contexts = {s: {row["context"] for row in world.qa_rows(world.SOURCE, s, 2000)} for s in SPLITS}
    assert not contexts["train"] & contexts["dev"]
    assert not contexts["train"] & contexts["test"]
    assert not contexts["dev"] & contexts["test"]
    told = {fact.events for fact in islice(facts_of("qa", seeded("any"), "text"), 500)}
    tested = {fact.events for fact in facts_in("qa", "test", 400)}
    assert not told & tested


@pytest.mark.parametrize("task", ROWS)
def test_a_shorter_split_is_the_beginning_of_a_longer_one(task: str) -> None:
    assert ROWS[task](world.SOURCE, "dev", 20) == ROWS[task](world.SOURCE, "dev", 50)[:20]


@pytest.mark.parametrize("language", world.TARGETS)
def test_languages_are_parallel(language: str) -> None:
    """Word for word, once the order of words is set aside."""
    meaning = {}
    for code in (world.SOURCE, language):
        words = languages.lexicon(code)
        meaning[code] = {word: (class_, index) for class_ in words for index, word in enumerate(words[class_])}
    for key in ("context", "question"):
        for ours, theirs in zip(
            world.qa_rows(world.SOURCE, "test", 100), world.qa_rows(language, "test", 100), strict=True
        ):
            assert ours["id"].removesuffix(f"-{world.SOURCE}") == theirs["id"].removesuffix(f"-{language}")
            source = sorted(meaning[world.SOURCE][word] for word in ours[key].rstrip("?.").replace(".", "").split())
            target = sorted(meaning[language][word] for word in theirs[key].rstrip("?.").replace(".", "").split())
            assert source == target
    assert [row["label"] for row in world.nli_rows(language, "test", 50)] == [
        row["label"] for row in world.nli_rows(world.SOURCE, "test", 50)
    ]
    assert [row["label"] for row in world.choice_rows(language, "test", 50)] == [
        row["label"] for row in world.choice_rows(world.SOURCE, "test", 50)
    ]


@pytest.mark.parametrize("code", world.LANGUAGES)
def test_cognates_are_as_stated(code: str) -> None:
    assert cognate_share(code) == pytest.approx(languages.language(code).cognates, abs=0.02)
    words = [word for class_ in languages.lexicon(code).values() for word in class_]
    assert len(set(words)) == len(words)
    assert not {"a", "an", "the"} & set(words)  # scorers drop them


def test_languages_share_no_other_word() -> None:
    shared = {code: {w for class_ in languages.lexicon(code).values() for w in class_} for code in world.LANGUAGES}
    for one in world.TARGETS:
        for other in world.TARGETS:
            if one != other:
                assert shared[one] & shared[other] <= shared[world.SOURCE]


def test_targets_go_from_near_to_far() -> None:
    shares = [cognate_share(code) for code in world.LANGUAGES]
    assert shares == sorted(shares, reverse=True)
    assert world.SOURCE != "en"


def test_rows_are_short_and_known_to_the_tokenizer(tokenizer) -> None:
    for language in world.LANGUAGES:
        lengths = []
        for row in world.qa_rows(language, "train", 400):
            pair = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
            assert tokenizer.unk_token_id not in pair["input_ids"]
            lengths.append(len(pair["input_ids"]))
        assert sum(lengths) / len(lengths) < 24
        assert max(lengths) <= 27
        for row in world.choice_rows(language, "train", 100):
            prompt = languages.PROMPT.format(relation=row["question"])
            pair = tokenizer(f"{row['premise']} {prompt}", row["choice1"])["input_ids"]
            assert tokenizer.unk_token_id not in pair
            assert len(pair) <= 24
        for row in world.nli_rows(language, "train", 100):
            assert len(tokenizer(row["premise"], row["hypothesis"])["input_ids"]) <= 20


def test_pairs_and_offsets_are_encoded_as_xlmr_does(tokenizer) -> None:
    row = world.qa_rows(world.SOURCE, "dev", 1)[0]
    pair = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
    ids = pair["input_ids"]
    end = tokenizer.eos_token_id
    question = len(tokenizer(row["question"], add_special_tokens=False)["input_ids"])
    assert ids[0] == tokenizer.bos_token_id == 0
    assert (tokenizer.pad_token_id, end, tokenizer.unk_token_id) == (1, 2, 3)
    assert ids[1 + question : 3 + question] == [end, end]
    assert ids[-1] == end
    answer, start = row["answers"]["text"][0], row["answers"]["answer_start"][0]
    spans = [pair["offset_mapping"][i] for i in range(len(ids)) if pair.sequence_ids()[i] == 1]
    assert any(span[0] == start for span in spans)
    assert any(span[1] == start + len(answer) for span in spans)


def test_hard_rows_and_two_word_answers_are_there_in_their_shares() -> None:
    facts = facts_in("qa", "train", 3000)
    hard = sum(all(event.phrase(fact.type) for event in fact.events) for fact in facts) / len(facts)
    assert hard == pytest.approx(HARD_SHARE, abs=0.03)
    rows = world.qa_rows(world.SOURCE, "train", 3000)
    two = sum(" " in row["answers"]["text"][0] for row in rows) / len(rows)
    assert two == pytest.approx(ADJECTIVE_SHARE, abs=0.03)


@pytest.mark.parametrize("language", world.LANGUAGES)
def test_chance_is_far_below_reading_half_the_question(language: str) -> None:
    chance, type_only = world.qa_chance(language, "test", 400), world.qa_type_only(language, "test", 400)
    assert 15 < chance < 30
    assert 80 < type_only < 95


@pytest.mark.parametrize("task", ROWS)
def test_labels_are_balanced(task: str) -> None:
    if task == "qa":
        return
    labels = [row["label"] for row in ROWS[task](world.SOURCE, "train", 3000)]
    for label in set(labels):
        assert labels.count(label) / len(labels) == pytest.approx(1 / len(set(labels)), abs=0.04)


def test_pretraining_text_has_all_shapes_and_targets_in_range() -> None:
    for language in world.LANGUAGES:
        rows = mlm_rows(language, 200, seed=1)
        assert {row.second is None for row in rows} == {True, False}
        assert any(index == OPENING for row in rows for index, _ in row.targets)
        for row in rows:
            words = [*row.first, *(row.second or ())]
            assert row.targets
            assert all(index == OPENING or 0 <= index < len(words) for index, _ in row.targets)
        assert rows[:50] == mlm_rows(language, 50, seed=1)
        assert rows != mlm_rows(language, 200, seed=2)


def test_nothing_depends_on_the_process() -> None:
    code = (
        "import hashlib, json; from itertools import islice;"
        "from raysched.mini import text, world as w;"
        "t = [w.qa_rows('xim', 'test', 20), w.choice_rows('kes', 'dev', 20), w.nli_rows('orl', 'train', 20)];"
        "t.append([repr(r) for r in islice(text.mlm_text('ubb', 3), 50)]);"
        "print(hashlib.sha256(json.dumps(t).encode()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = [world.qa_rows("xim", "test", 20), world.choice_rows("kes", "dev", 20), world.nli_rows("orl", "train", 20)]
    text = json.dumps([*here, [repr(row) for row in mlm_rows("ubb", 50, 3)]])
    assert told == {hashlib.sha256(text.encode()).hexdigest()}


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="the mini world speaks vel, orl"):
        adapter_path("en")
    with pytest.raises(ValueError, match="choose one of train, dev, test"):
        world.qa_rows(world.SOURCE, "valid", 1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"n >= 0 must hold, but got n = -1"):
        world.nli_rows(world.SOURCE, "dev", -1)
