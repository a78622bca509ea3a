"""Sentences: how a language tells a fact."""

from __future__ import annotations

from collections.abc import Sequence

from raysched.mini.facts import TYPES, Event, Phrase, Question
from raysched.mini.languages import language, lexicon


def _say_phrase(code: str, phrase: Phrase) -> tuple[list[str], slice]:
    """Words of a phrase, and which of them are its adjective and noun."""
    words, rules = lexicon(code), language(code)
    said = [words[TYPES[phrase.type]][phrase.noun]]
    if phrase.adjective is not None:
        said.insert(0 if rules.adjective_first else 1, words["adjective"][phrase.adjective])
    marker = words["marker"][phrase.type]
    return ([marker, *said], slice(1, None)) if rules.marker_first else ([*said, marker], slice(0, len(said)))


def say_event(code: str, event: Event) -> tuple[list[str], dict[int, range]]:
    """Words of a sentence, and per type the positions of the adjective and noun of its phrase."""
    rules = language(code)
    phrases = sorted(event.phrases, key=lambda phrase: rules.order.index(phrase.type))
    verb_at = {"first": 0, "second": 1, "last": len(phrases)}[rules.verb]
    said: list[str] = []
    where: dict[int, range] = {}
    for index in range(len(phrases) + 1):
        if index == verb_at:
            said.append(lexicon(code)["verb"][event.verb])
        if index < len(phrases):
            words, core = _say_phrase(code, phrases[index])
            start, stop, _ = core.indices(len(words))
            where[phrases[index].type] = range(len(said) + start, len(said) + stop)
            said.extend(words)
    return [*said, "."], where


def say_events(code: str, events: Sequence[Event]) -> tuple[list[str], list[dict[int, range]]]:
    """The same for several sentences, with positions counted through all of them."""
    said: list[str] = []
    where = []
    for event in events:
        words, spans = say_event(code, event)
        where.append({type_: range(span.start + len(said), span.stop + len(said)) for type_, span in spans.items()})
        said.extend(words)
    return said, where


def say_question(code: str, fact: Question) -> list[str]:
    """Words of a question: the asked type and the verb, in the order of the language."""
    asked = [lexicon(code)["question"][fact.type], lexicon(code)["verb"][fact.events[fact.asked].verb]]
    return [*(reversed(asked) if language(code).verb_opens_question else asked), "?"]


def write(words: Sequence[str]) -> str:
    """Words as text: spaces between them, none before punctuation."""
    return " ".join(words).replace(" .", ".").replace(" ?", "?")
