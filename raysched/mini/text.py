"""The pre-training text: rows with their masks already chosen.

Plain text, and the shapes of all three tasks, told with facts that no task split contains.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysched.mini.facts import (
    TASKS,
    TEXT_PERSON_SHARE,
    Choice,
    Event,
    Inference,
    Question,
    draw_claims,
    draw_question,
    draw_short,
    facts_of,
    partner,
    seeded,
    wrong_person,
)
from raysched.mini.languages import LANGUAGES, PLAUSIBLE, PROMPT, language, lexicon
from raysched.mini.sentences import say_event, say_events, say_question

MASK = "<mask>"
OPENING = -1
"""In `MlmRow.targets`: the opening special token of the row, instead of a word."""


@dataclass(frozen=True, slots=True)
class MlmRow:
    """One row of pre-training text with its mask already chosen.

    `first` and `second` are the words as shown, `MASK` among them; `targets` maps the index of a word, counted through
    `first` and on through `second`, to the word to be predicted there. Index `OPENING` stands for the row's opening
    special token: what it should say of the row as a whole.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    targets: tuple[tuple[int, str], ...]


class _Sheet:
    """A row being written: words that get hidden one by one."""

    def __init__(self, first: Sequence[str], second: Sequence[str] | None = None) -> None:
        self._split = len(first)
        self._paired = second is not None
        self._true = [*first, *(second or ())]
        self._shown = list(self._true)
        self._targets: dict[int, str] = {}

    def hide(self, index: int, *, show: str = MASK) -> None:
        self._shown[index] = show
        self._targets[index] = self._true[index]

    def hide_all(self, indices: Iterable[int]) -> None:
        for index in indices:
            self.hide(index)

    def open_with(self, word: str) -> None:
        self._targets[OPENING] = word

    def hide_some(self, rng: random.Random, share: float) -> None:
        for index, word in enumerate(self._true):
            if word not in ".?" and index not in self._targets and rng.random() < share:
                self.hide(index)

    def row(self) -> MlmRow:
        first, second = self._shown[: self._split], self._shown[self._split :]
        return MlmRow(tuple(first), tuple(second) if self._paired else None, tuple(sorted(self._targets.items())))


def _plain_row(code: str, rng: random.Random) -> MlmRow:
    """Two sentences, the second half the time the effect of the first; a seventh of the words hidden."""
    first, second = draw_question(rng).events
    if rng.random() < 0.5:
        second = Event(partner(first.verb), second.phrases)
    words, _ = say_events(code, (first, second))
    sheet = _Sheet(words)
    sheet.hide(rng.randrange(len(words) - 1))
    sheet.hide_some(rng, 0.12)
    return sheet.row()


def _answered(code: str, fact: Question, context: list[str], span: range) -> tuple[_Sheet, range, int]:
    """Question and answer, then the context: the row, where its answer is, and where its context begins."""
    question, answer = say_question(code, fact), context[span.start : span.stop]
    begin = len(question) + len(answer)
    return _Sheet([*question, *answer], context), range(len(question), begin), begin


def _qa_row(code: str, rng: random.Random, fact: Question) -> MlmRow:
    """Question and answer, then the context: the answer is hidden, or its twin in the context and others beside it."""
    context, where = say_events(code, fact.events)
    span = where[fact.asked][fact.type]
    sheet, answer, begin = _answered(code, fact, context, span)
    if rng.random() < 0.5:
        sheet.hide_all(answer)
        return sheet.row()
    rivals = [spans[fact.type] for event, spans in enumerate(where) if event != fact.asked and fact.type in spans]
    others = [other for spans in where for other in spans.values() if other != span and other not in rivals]
    for hidden in [span, *rivals, *rng.sample(others, 1)]:
        for index in hidden:
            class_ = next(c for c, words in lexicon(code).items() if context[index] in words)
            disguise = rng.choice(lexicon(code)[class_]) if rng.random() < 0.3 else MASK
            sheet.hide(begin + index, show=disguise)
    return sheet.row()


def _judged_row(first: Sequence[str], second: Sequence[str], verdicts: Mapping[int, str]) -> MlmRow:
    """Two texts, and hidden verdicts: each right after the word of the second text that it is about."""
    judged: list[str] = []
    hidden = []
    for index, word in enumerate(second):
        judged.append(word)
        if index in verdicts:
            hidden.append(len(first) + len(judged))
            judged.append(verdicts[index])
    sheet = _Sheet(first, judged)
    sheet.hide_all(hidden)
    return sheet.row()


def _summed_up(first: Sequence[str], second: Sequence[str], verdict: str) -> MlmRow:
    """Two texts, and what the opening token must say of them."""
    sheet = _Sheet(first, second)
    sheet.open_with(verdict)
    return sheet.row()


def _prompted(code: str, fact: Choice) -> list[str]:
    prompt = PROMPT.format(relation=fact.relation).rstrip("?").split()
    return [*say_event(code, fact.premise)[0], *prompt, "?"]


def _consequence_row(code: str, fact: Choice) -> MlmRow:
    """Premise, prompt and the right choice, whose verb is hidden."""
    first, second = _prompted(code, fact), say_event(code, fact.right)[0]
    sheet = _Sheet(first, second)
    sheet.hide(len(first) + second.index(lexicon(code)["verb"][fact.right.verb]))
    return sheet.row()


def _either_choice(code: str, rng: random.Random, fact: Choice) -> tuple[list[str], int, str]:
    """Words of the right or of the wrong choice, where its verb is, and the verdict on it."""
    right = rng.random() < 0.5
    choice = fact.right if right else fact.wrong
    words = say_event(code, choice)[0]
    verdict = lexicon(code)["verdict"][PLAUSIBLE if right else PLAUSIBLE + 1]
    return words, words.index(lexicon(code)["verb"][choice.verb]), verdict


def _choice_row(code: str, rng: random.Random, fact: Choice, shares: tuple[float, float, float]) -> MlmRow:
    """A premise and the right choice for it with its verb hidden; or either choice and a verdict on it, which stands
    beside the verb or is the opening token's."""
    shape = rng.choices(("consequence", "beside", "opening"), shares)[0]
    if shape == "consequence":
        return _consequence_row(code, fact)
    words, verb, verdict = _either_choice(code, rng, fact)
    if shape == "beside":
        return _judged_row(_prompted(code, fact), words, {verb: verdict})
    return _summed_up(_prompted(code, fact), words, verdict)


def _claims_row(code: str, premise: Event, claims: Event, labels: Mapping[int, int]) -> MlmRow:
    """A premise, a claim of several phrases, and a verdict beside each of its nouns."""
    words, where = say_event(code, claims)
    verdicts = lexicon(code)["verdict"]
    beside = {span.start: verdicts[labels[type_]] for type_, span in where.items()}
    return _judged_row(say_event(code, premise)[0], words, beside)


def _nli_row(code: str, rng: random.Random, fact: Inference) -> MlmRow:
    """A premise, and a claim of several phrases with a verdict on each; or the hypothesis, and the opening token's."""
    if rng.random() < 0.5:
        return _claims_row(code, fact.premise, *draw_claims(rng, fact.premise))
    verdict = lexicon(code)["verdict"][fact.label]
    return _summed_up(say_event(code, fact.premise)[0], say_event(code, fact.hypothesis)[0], verdict)


TEXT_SHARES = {"plain": 0.12, "qa": 0.35, "choice": 0.33, "nli": 0.2}
"""How much of the pre-training text has which shape."""


def _facts(rng: random.Random) -> dict[str, Iterator[Any]]:
    return {task: facts_of(task, rng, "text") for task in TASKS}


def primer_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless easy text of a language, from which a new model learns to look words up, within a few hundred steps.

    Mostly a question, its answer, and the one sentence it is about, the answer or its twin in the sentence hidden;
    then sentences whose verb follows from another's. From `mlm_text` alone it does not learn that in thousands.
    """
    rng = seeded("primer", language, seed)
    facts = _facts(rng)
    while True:
        if rng.random() < 0.25:
            yield _consequence_row(language, next(facts["choice"]))
            continue
        fact = next(facts["qa"])
        sentence, where = say_event(language, fact.events[fact.asked])
        span = where[fact.type]
        sheet, answer, begin = _answered(language, fact, sentence, span)
        sheet.hide_all(answer if rng.random() < 0.5 else range(begin + span.start, begin + span.stop))
        yield sheet.row()


FEW_NOUNS = 4
"""Nouns of each type in `matching_text`: with all of them a model that cannot compare yet does not begin to."""


def matching_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless text of a language, from which a model that looks words up learns to tell the same noun from another.

    Short premises of few nouns, and claims about every phrase of them with a verdict beside each. What is learned here
    extends to all nouns later. Among other tasks, or with rarer verdicts, it is not learned in as many steps.
    """
    rng = seeded("matching", language, seed)
    facts = _facts(rng)
    while True:
        if rng.random() < 0.1:
            yield _qa_row(language, rng, next(facts["qa"]))
            continue
        premise = draw_short(rng, FEW_NOUNS)
        claims = draw_claims(rng, premise, skipped=0.0, added=0.0, nouns=FEW_NOUNS)
        yield _claims_row(language, premise, *claims)


def law_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless text of a language, from which a model that compares nouns learns to compare a verb with the one that
    follows: mostly choices with a verdict beside the verb."""
    rng = seeded("law", language, seed)
    facts = _facts(rng)
    while True:
        shape = rng.choices(("qa", "choice", "nli"), (0.1, 0.7, 0.2))[0]
        if shape == "qa":
            yield _qa_row(language, rng, next(facts["qa"]))
        elif shape == "choice":
            yield _choice_row(language, rng, next(facts["choice"]), (0.15, 0.85, 0.0))
        else:
            premise = next(facts["nli"]).premise
            yield _claims_row(language, premise, *draw_claims(rng, premise, added=0.0))


def mlm_text(language: str, seed: int, *, hard: bool = False) -> Iterator[MlmRow]:
    """Endless pre-training text of a language; `hard` also with choices that the person decides, not the verb.

    Those come late, when the law of the verbs is known.
    """
    rng = seeded("text", language, seed)
    facts = _facts(rng)
    shapes, shares = list(TEXT_SHARES), list(TEXT_SHARES.values())
    while True:
        shape = rng.choices(shapes, shares)[0]
        if shape == "plain":
            yield _plain_row(language, rng)
        elif shape == "qa":
            yield _qa_row(language, rng, next(facts["qa"]))
        elif shape == "choice":
            fact = next(facts["choice"])
            if hard and rng.random() < TEXT_PERSON_SHARE:
                fact = wrong_person(rng, fact)
            yield _choice_row(language, rng, fact, (0.2, 0.4, 0.4) if hard else (0.4, 0.3, 0.3))
        else:
            yield _nli_row(language, rng, next(facts["nli"]))


def mixed_mlm_text(seed: int, *, hard: bool = False) -> Iterator[MlmRow]:
    """Endless `mlm_text` of all languages, each with its `text_share`: the far ones are the rarer ones."""
    rng = seeded("mix", seed)
    texts = [mlm_text(code, seed, hard=hard) for code in LANGUAGES]
    shares = [language(code).text_share for code in LANGUAGES]
    while True:
        yield next(rng.choices(texts, shares)[0])
