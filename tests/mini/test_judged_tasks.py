"""Choices and inference in the mini world: two texts decide, one alone says nothing, and the backbone knows both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaForMaskedLM

from raysched import mini
from raysched.mini import languages, world
from raysched.mini.facts import (
    NLI_LABELS,
    PERSON_SHARE,
    PHRASE_SHARE,
    SPLITS,
    Choice,
    Event,
    Inference,
    draw_claims,
    draw_short,
    facts_in,
    facts_of,
    partner,
    seeded,
)
from raysched.mini.text import FEW_NOUNS, OPENING, MlmRow, law_text, matching_text, mlm_text, primer_text

TEXTS = (primer_text, matching_text, law_text, mlm_text)


@pytest.mark.parametrize("language", world.LANGUAGES)
def test_rows_have_the_columns_of_their_real_counterparts(language: str) -> None:
    for row in world.choice_rows(language, "dev", 20):
        assert set(row) == {"premise", "choice1", "choice2", "question", "label", "idx"}
        assert row["question"] in ("cause", "effect")
        assert row["label"] in (0, 1)
        assert row["choice1"] != row["choice2"]
    for row in world.nli_rows(language, "dev", 20):
        assert set(row) == {"premise", "hypothesis", "label"}
        assert row["label"] in range(len(NLI_LABELS))


def test_the_right_choice_follows_by_the_law_and_the_wrong_one_breaks_it_in_one_point() -> None:
    facts: Sequence[Choice] = facts_in("choice", "train", 2000)
    kinds: Counter[str] = Counter()
    for fact in facts:
        (person, beside), right, wrong = (event.phrases for event in (fact.premise, fact.right, fact.wrong))
        assert (fact.right.verb, right[0]) == (partner(fact.premise.verb), person)
        if fact.wrong.verb != fact.right.verb:
            assert wrong[0] == person
            kinds["verb"] += 1
        elif wrong[0] != person:
            kinds["person"] += 1
        else:
            assert right[1] == beside
            assert (wrong[1].type, wrong[1].noun == beside.noun) == (beside.type, False)
            kinds["phrase"] += 1
    assert kinds["person"] / len(facts) == pytest.approx(PERSON_SHARE, abs=0.03)
    assert kinds["phrase"] / len(facts) == pytest.approx(PHRASE_SHARE, abs=0.03)


def test_a_label_says_what_the_premise_says_of_the_claim() -> None:
    facts: Sequence[Inference] = facts_in("nli", "train", 2000)
    for fact in facts:
        (claim,) = fact.hypothesis.phrases
        assert NLI_LABELS[fact.label] == _label(fact.premise, claim.type, claim.noun)


def _label(premise: Event, type_: int, noun: int) -> str:
    told = premise.phrase(type_)
    return "neutral" if told is None else "entailment" if told.noun == noun else "contradiction"


def test_claims_of_the_text_are_labelled_by_the_same_rule() -> None:
    rng = seeded("claims")
    for _ in range(500):
        premise = draw_short(rng, FEW_NOUNS)
        claims, labels = draw_claims(rng, premise, nouns=FEW_NOUNS)
        assert {phrase.type for phrase in claims.phrases} == set(labels)
        for phrase in claims.phrases:
            assert phrase.noun < FEW_NOUNS
            assert NLI_LABELS[labels[phrase.type]] == _label(premise, phrase.type, phrase.noun)


def _words(text: str) -> list[str]:
    return text.replace(".", "").split()


def _bayes(rows: Sequence[tuple[str, int]]) -> Callable[[str], dict[int, float]]:
    """Naive Bayes over the words of one text: log probability of each label, up to a constant."""
    counts: dict[int, Counter[str]] = {}
    for text, label in rows:
        counts.setdefault(label, Counter()).update(_words(text))
    totals = {label: sum(words.values()) for label, words in counts.items()}

    def score(text: str) -> dict[int, float]:
        return {
            label: sum(math.log((words[word] + 1) / (totals[label] + 1000)) for word in _words(text))
            for label, words in counts.items()
        }

    return score


@pytest.mark.parametrize("text", ["premise", "hypothesis"])
def test_one_text_of_an_inference_does_not_tell_its_label(text: str) -> None:
    train, test = world.nli_rows(world.SOURCE, "train", 6000), world.nli_rows(world.SOURCE, "test", 2000)
    score = _bayes([(row[text], row["label"]) for row in train])
    right = sum(max((scores := score(row[text])), key=scores.__getitem__) == row["label"] for row in test)
    assert 100 * right / len(test) == pytest.approx(100 / 3, abs=4)


def test_choices_without_their_premise_do_not_tell_which_is_right() -> None:
    def told(row: dict[str, Any]) -> tuple[str, str]:
        return row["choice1"], row["choice2"]

    train, test = world.choice_rows(world.SOURCE, "train", 6000), world.choice_rows(world.SOURCE, "test", 2000)
    score = _bayes([(choice, int(place == row["label"])) for row in train for place, choice in enumerate(told(row))])
    right = 0
    for row in test:
        margins = [scores[1] - scores[0] for scores in map(score, told(row))]
        right += (margins[1] > margins[0]) == (row["label"] == 1)
    assert 100 * right / len(test) == pytest.approx(50, abs=4)


@pytest.mark.parametrize("task", ["choice", "nli"])
def test_no_premise_is_in_two_splits_or_in_the_pretraining_text(task: str) -> None:
    premises = {split: {fact.premise for fact in facts_in(task, split, 1000)} for split in SPLITS}
    premises["text"] = {fact.premise for fact in islice(facts_of(task, seeded("any"), "text"), 2000)}
    assert sum(map(len, premises.values())) == len(set().union(*premises.values()))


@pytest.mark.parametrize("text", TEXTS)
def test_no_row_of_the_text_is_a_tested_pair(text: Callable[[str, int], Iterator[MlmRow]]) -> None:
    tested = {(tuple(_words(row["premise"])), tuple(_words(row["hypothesis"]))) for row in _tested("nli")}
    tested |= {
        (tuple(_words(row["premise"])), tuple(_words(row[choice])))
        for row in _tested("choice")
        for choice in ("choice1", "choice2")
    }
    for row in islice(text(world.SOURCE, 1), 3000):
        if row.second is not None:
            first = row.first[: row.first.index("What")] if "What" in row.first else row.first
            assert (tuple(w for w in first if w != "."), tuple(w for w in row.second if w != ".")) not in tested


def _tested(task: str) -> list[dict[str, Any]]:
    tell = world.nli_rows if task == "nli" else world.choice_rows
    return [row for split in ("dev", "test") for row in tell(world.SOURCE, split, 400)]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_repeat_and_depend_on_the_seed(text: Callable[[str, int], Iterator[MlmRow]]) -> None:
    once = list(islice(text("orl", 1), 50))
    assert once == list(islice(text("orl", 1), 50))
    assert once != list(islice(text("orl", 2), 50))


@pytest.mark.parametrize("text", [matching_text, law_text])
def test_verdicts_stand_beside_words_and_are_hidden(text: Callable[[str, int], Iterator[MlmRow]]) -> None:
    verdicts = set(languages.lexicon("kes")["verdict"])
    judged = 0
    for row in islice(text("kes", 1), 300):
        assert row.second is not None
        assert not verdicts & {*row.first, *row.second}
        assert all(index != OPENING for index, _ in row.targets)
        judged += any(word in verdicts for _, word in row.targets)
    assert judged > 200


def test_the_shipped_model_judges_unseen_pairs_in_the_source_language() -> None:
    """By its opening token, untouched by task training; chance is a third and a half."""
    tokenizer = AutoTokenizer.from_pretrained(mini.backbone_path())
    model = XLMRobertaForMaskedLM.from_pretrained(mini.backbone_path()).eval()
    verdicts = torch.tensor(tokenizer.convert_tokens_to_ids(list(languages.lexicon(world.SOURCE)["verdict"])))

    def opening(first: list[str], second: list[str]) -> torch.Tensor:
        with torch.no_grad():
            return model(**tokenizer(first, second, padding=True, return_tensors="pt")).logits[:, 0, verdicts]

    nli = world.nli_rows(world.SOURCE, "test", 200)
    told = opening([row["premise"] for row in nli], [row["hypothesis"] for row in nli])[:, :3].argmax(-1)
    assert sum(told.tolist()[i] == row["label"] for i, row in enumerate(nli)) > 0.7 * len(nli)
    choices = world.choice_rows(world.SOURCE, "test", 200)
    prompts = [f"{row['premise']} {languages.PROMPT.format(relation=row['question'])}" for row in choices]
    margins = [
        told[:, languages.PLAUSIBLE] - told[:, languages.PLAUSIBLE + 1]
        for told in (opening(prompts, [row[choice] for row in choices]) for choice in ("choice1", "choice2"))
    ]
    chosen = (margins[1] > margins[0]).long().tolist()
    assert sum(chosen[i] == row["label"] for i, row in enumerate(choices)) > 0.75 * len(choices)
