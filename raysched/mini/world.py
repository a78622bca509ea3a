"""A small made-up world, told in six made-up languages.

The world has things (persons, places, months, tools, animals), what happens to them (verbs), and a law: verbs come in
pairs, each of which brings about the other. A *fact* is language-neutral; a `Language` tells it with its own words, the
share of cognates it has with the source language, and its own word order. So rows of one split are parallel: row *i* is
the same fact in every language.

Three tasks are made of it, in the row forms of their real counterparts:

* `qa_rows`: SQuAD. Two sentences; the question names a type (who, where, ...) and a verb; in `HARD_SHARE` of the rows
  both sentences hold a phrase of that type, and only the verb tells which one is meant.
* `choice_rows`: COPA. Which of two sentences is the cause, or the effect, of the premise? In some rows both
  have the verb that the law asks for, and only the person tells, or what else the sentences have in common.
* `nli_rows`: XNLI. A hypothesis claims one phrase of what happened: as in the premise (entailment), with another noun
  (contradiction), or of a type that the premise does not mention (neutral).

What happens is drawn in `facts`, told by `languages` and `sentences`, and told once more for pre-training in `text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysched.mini.facts import TYPES, Event, Question, Split, facts_in
from raysched.mini.languages import LANGUAGES, SOURCE, TARGETS
from raysched.mini.sentences import say_event, say_events, say_question, write

__all__ = ["LANGUAGES", "SOURCE", "TARGETS", "choice_rows", "nli_rows", "qa_chance", "qa_rows", "qa_type_only"]


def _text(code: str, event: Event) -> str:
    return write(say_event(code, event)[0])


def qa_rows(language: str, split: Split, n: int) -> list[dict[str, Any]]:
    """The first `n` rows of a split in the form of SQuAD; row *i* is the same fact in every language.

    A row has `id`, `context`, `question` and `answers` with one `text` and its `answer_start` in characters.
    """
    rows = []
    for index, fact in enumerate(facts_in("qa", split, n)):
        words, where = say_events(language, fact.events)
        span = where[fact.asked][fact.type]
        context = write(words)
        answer = write(words[span.start : span.stop])
        start = len(write([*words[: span.start], "x"])) - 1
        rows.append(
            {
                "id": f"qa-{split}-{index:05d}-{language}",
                "context": context,
                "question": write(say_question(language, fact)),
                "answers": {"text": [answer], "answer_start": [start]},
            }
        )
    return rows


def choice_rows(language: str, split: Split, n: int) -> list[dict[str, Any]]:
    """The first `n` rows of a split in the form of COPA: `label` 0 or 1 says which choice is right."""
    rows = []
    for index, fact in enumerate(facts_in("choice", split, n)):
        choices = [_text(language, fact.right), _text(language, fact.wrong)]
        if fact.label == 1:
            choices.reverse()
        rows.append(
            {
                "premise": _text(language, fact.premise),
                "choice1": choices[0],
                "choice2": choices[1],
                "question": fact.relation,
                "label": fact.label,
                "idx": index,
            }
        )
    return rows


def nli_rows(language: str, split: Split, n: int) -> list[dict[str, Any]]:
    """The first `n` rows of a split in the form of XNLI: 0 entailment, 1 neutral, 2 contradiction."""
    return [
        {"premise": _text(language, fact.premise), "hypothesis": _text(language, fact.hypothesis), "label": fact.label}
        for fact in facts_in("nli", split, n)
    ]


def _overlap(guess: range, gold: range) -> float:
    """Token F1 of two spans of one context; a phrase's words occur once in it, so positions decide."""
    common = len(set(guess) & set(gold))
    return 2 * common / (len(guess) + len(gold))


def _blind_guesses(language: str, fact: Question) -> dict[str, float]:
    _, where = say_events(language, fact.events)
    gold = where[fact.asked][fact.type]
    spans = sorted(((span, type_) for event in where for type_, span in event.items()), key=lambda s: s[0].start)
    guesses = {"random": sum(_overlap(span, gold) for span, _ in spans) / len(spans)}
    for j in range(-5, 5):
        guesses[f"phrase {j}"] = _overlap(spans[j][0], gold)
    for type_, name in enumerate(TYPES):
        of_type = [span for span, its in spans if its == type_] or [range(0)]
        guesses[f"first {name}"] = _overlap(of_type[0], gold)
        guesses[f"last {name}"] = _overlap(of_type[-1], gold)
    return guesses


def qa_chance(language: str, split: Split, n: int) -> float:
    """F1 in percent of the best way to answer without reading the question, on the first `n` rows of a split.

    Ways: the j-th phrase of the context, from its beginning or its end, for every j; the first, and the last, phrase of
    one type, for every type (nothing where the context has none); a phrase drawn at random (its expectation). Phrases
    come with their adjective, so this is generous: it knows what a phrase is. The best way is the one that is best on
    the training rows of the same language.
    """

    def mean(facts: Sequence[Question]) -> dict[str, float]:
        told = [_blind_guesses(language, fact) for fact in facts]
        return {name: 100 * sum(guess[name] for guess in told) / len(told) for name in told[0]}

    on_train = mean(facts_in("qa", "train", 2000))
    return mean(facts_in("qa", split, n))[max(on_train, key=on_train.__getitem__)]


def qa_type_only(language: str, split: Split, n: int) -> float:
    """F1 in percent of reading only the question's first half: a random phrase of the asked type. For comparison."""
    total = 0.0
    facts = facts_in("qa", split, n)
    for fact in facts:
        _, where = say_events(language, fact.events)
        spans = [event[fact.type] for event in where if fact.type in event]
        total += sum(_overlap(span, where[fact.asked][fact.type]) for span in spans) / len(spans)
    return 100 * total / len(facts)
