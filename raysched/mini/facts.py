"""Facts: what happened, in no language.

A fact belongs to one split, by a hash of it. Everything follows from integers and names through sha256, on every
machine and in every process.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

Split = Literal["train", "dev", "test"]

VERSION = {"qa": 1, "choice": 2, "nli": 1}
"""A task's changes whenever any row of any split of it would change."""

TYPES = ("person", "place", "month", "thing", "animal")
NOUNS_PER_TYPE = 30
VERBS = 24
ADJECTIVES = 16
HARD_SHARE = 0.15
"""Share of questions whose context holds a second phrase of the asked type, in the other sentence."""
TEXT_HARD_SHARE = 0.25
"""The same share in the pre-training text."""
PERSON_SHARE, PHRASE_SHARE = 0.25, 0.15
"""Shares of choices of which both have the verb that the law asks for: the wrong one happens to another person, or
differs in its second phrase, which the right one has in common with the premise."""
TEXT_PERSON_SHARE = 0.5
"""The former share in the pre-training text, in the stages that have such choices; it has none of the latter."""
ADJECTIVE_SHARE = 0.2
"""Share of phrases that carry an adjective, which makes a two-word answer."""

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
TASKS = ("qa", "choice", "nli")
NLI_LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun of a type, and an adjective or None: indices into the shared concepts."""

    type: int
    noun: int
    adjective: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One sentence: a verb and phrases of different types."""

    verb: int
    phrases: tuple[Phrase, ...]

    def phrase(self, type_: int) -> Phrase | None:
        return next((phrase for phrase in self.phrases if phrase.type == type_), None)


@dataclass(frozen=True, slots=True)
class Question:
    """Two sentences, and which of them is asked for its phrase of which type."""

    events: tuple[Event, Event]
    asked: int
    type: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A premise, and what brought it about or follows from it; `label` is the place of the right sentence."""

    premise: Event
    relation: Literal["cause", "effect"]
    right: Event
    wrong: Event
    label: int


@dataclass(frozen=True, slots=True)
class Inference:
    """A premise and a claim about it; `label` is an index into `NLI_LABELS`."""

    premise: Event
    hypothesis: Event
    label: int


Fact = Question | Choice | Inference


def partner(verb: int) -> int:
    """The law of the world: verbs come in pairs, and each brings about the other."""
    return verb ^ 1


def seeded(*name: object) -> random.Random:
    """A generator of its own for every name."""
    text = "raysched.mini/" + "/".join(str(part) for part in name)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def _split_of(fact: Fact) -> str:
    """The one split a fact may appear in; "text" is the pre-training text."""
    events = sorted(fact.events, key=repr) if isinstance(fact, Question) else [fact.premise]
    # Names are hashed too: `Event` and `Phrase` in their repr, and the fact's own, which the weights know by `_`.
    digest = hashlib.sha256(repr((f"_{type(fact).__name__}", events)).encode()).digest()
    return ("dev", "test", "train", "train", "train", "text", "text", "text", "text", "text")[digest[0] % 10]


def _phrase(rng: random.Random, type_: int) -> Phrase:
    noun = rng.randrange(NOUNS_PER_TYPE)
    return Phrase(type_, noun, rng.randrange(ADJECTIVES) if rng.random() < ADJECTIVE_SHARE else None)


def _plain_phrase(rng: random.Random, type_: int, nouns: int = NOUNS_PER_TYPE) -> Phrase:
    return Phrase(type_, rng.randrange(nouns))


def _other_noun(rng: random.Random, phrase: Phrase, nouns: int = NOUNS_PER_TYPE) -> Phrase:
    return Phrase(phrase.type, (phrase.noun + rng.randrange(1, nouns)) % nouns)


def draw_question(rng: random.Random, hard_share: float = TEXT_HARD_SHARE) -> Question:
    """A question of any split; the asked type stands in both sentences with probability `hard_share`."""
    asked_type = rng.randrange(len(TYPES))
    others = [type_ for type_ in range(len(TYPES)) if type_ != asked_type]
    rng.shuffle(others)
    sizes = [2, 1] if rng.random() < 0.5 else [1, 2]  # phrases besides the one of the asked type, or its stand-in
    asked_types = [asked_type, *others[: sizes[0]]]
    if rng.random() < hard_share:
        other_types = [asked_type, *rng.sample(others, sizes[1])]
    else:
        other_types = rng.sample(others, sizes[1] + 1)
    verbs = rng.sample(range(VERBS), 2)
    told = Event(verbs[0], tuple(_phrase(rng, type_) for type_ in sorted(asked_types)))
    beside = Event(verbs[1], tuple(_phrase(rng, type_) for type_ in sorted(other_types)))
    answer, rival = told.phrase(asked_type), beside.phrase(asked_type)
    if rival is not None and answer is not None and rival.noun == answer.noun:
        return draw_question(rng, hard_share)
    asked = rng.randrange(2)
    return Question((told, beside) if asked == 0 else (beside, told), asked, asked_type)


def _draw_choice(rng: random.Random) -> Choice:
    relation: Literal["cause", "effect"] = "cause" if rng.random() < 0.5 else "effect"
    verb = rng.randrange(VERBS)
    right = partner(verb)
    wrong = rng.choice([other for other in range(VERBS) if other not in (verb, right)])
    who = rng.randrange(NOUNS_PER_TYPE)

    def event(of: int) -> Event:
        return Event(of, (Phrase(0, who), _plain_phrase(rng, rng.randrange(1, len(TYPES)))))

    return Choice(event(verb), relation, event(right), event(wrong), rng.randrange(2))


def wrong_person(rng: random.Random, fact: Choice) -> Choice:
    """The same choice with a wrong one that has the right verb and another person."""
    person, beside = fact.wrong.phrases
    return replace(fact, wrong=Event(fact.right.verb, (_other_noun(rng, person), beside)))


def _wrong_phrase(rng: random.Random, fact: Choice) -> Choice:
    """The same choice, the right one with the premise's second phrase, the wrong one with another noun there only."""
    person, beside = fact.premise.phrases
    right, wrong = (Event(fact.right.verb, (person, phrase)) for phrase in (beside, _other_noun(rng, beside)))
    return replace(fact, right=right, wrong=wrong)


def _draw_inference(rng: random.Random) -> Inference:
    types = rng.sample(range(len(TYPES)), 3)
    phrases = [_plain_phrase(rng, type_) for type_ in types]
    premise = Event(rng.randrange(VERBS), tuple(sorted(phrases, key=lambda phrase: phrase.type)))
    label = rng.randrange(len(NLI_LABELS))
    claim = rng.choice(phrases)
    if NLI_LABELS[label] == "neutral":
        claim = _plain_phrase(rng, rng.choice([type_ for type_ in range(len(TYPES)) if type_ not in types]))
    elif NLI_LABELS[label] == "contradiction":
        claim = _other_noun(rng, claim)
    return Inference(premise, Event(premise.verb, (claim,)), label)


def draw_short(rng: random.Random, nouns: int) -> Event:
    """A sentence of mostly one phrase, of two or three otherwise, made of the first `nouns` nouns of each type."""
    types = rng.sample(range(len(TYPES)), 1 if rng.random() < 0.6 else rng.choice((2, 3)))
    return Event(rng.randrange(VERBS), tuple(_plain_phrase(rng, type_, nouns) for type_ in sorted(types)))


def draw_claims(
    rng: random.Random, premise: Event, *, skipped: float = 0.2, added: float = 0.3, nouns: int = NOUNS_PER_TYPE
) -> tuple[Event, dict[int, int]]:
    """A claim of several phrases about a premise of plain phrases, and by type the index of each phrase's label.

    A phrase of the premise is left out with probability `skipped`, else it keeps its noun or gets another, each half
    the time. A type that the premise does not mention is claimed all the same with probability `added`.
    """
    claims: list[Phrase] = []
    labels: dict[int, int] = {}
    for type_ in range(len(TYPES)):
        told = premise.phrase(type_)
        if rng.random() < (1 - added if told is None else skipped):
            continue
        label = "neutral" if told is None else rng.choice(("entailment", "contradiction"))
        if told is None:
            told = _plain_phrase(rng, type_, nouns)
        claims.append(_other_noun(rng, told, nouns) if label == "contradiction" else told)
        labels[type_] = NLI_LABELS.index(label)
    if not claims:
        return draw_claims(rng, premise, skipped=skipped, added=added, nouns=nouns)
    return Event(premise.verb, tuple(claims)), labels


def _draw(task: str, rng: random.Random, split: str) -> Fact:
    if task == "qa":
        return draw_question(rng, TEXT_HARD_SHARE if split == "text" else HARD_SHARE)
    if task == "nli":
        return _draw_inference(rng)
    fact = _draw_choice(rng)
    fate = rng.random() if split != "text" else 1.0
    if fate < PERSON_SHARE:
        return wrong_person(rng, fact)
    return _wrong_phrase(rng, fact) if fate < PERSON_SHARE + PHRASE_SHARE else fact


def facts_of(task: str, rng: random.Random, split: str) -> Iterator[Any]:
    """Endless facts of a split, "text" included, in the order in which they are drawn."""
    while True:
        fact = _draw(task, rng, split)
        if _split_of(fact) == split:
            yield fact


@functools.lru_cache(maxsize=32)
def facts_in(task: str, split: Split, n: int) -> tuple[Any, ...]:
    """The first `n` facts of a split, each once."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if n < 0:
        raise ValueError(f"n >= 0 must hold, but got n = {n}")
    seen: set[Fact] = set()
    told: list[Fact] = []
    for fact in facts_of(task, seeded(VERSION[task], task, split), split):
        if len(told) == n:
            break
        if fact not in seen:
            seen.add(fact)
            told.append(fact)
    return tuple(told)
