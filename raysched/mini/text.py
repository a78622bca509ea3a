"""The pre-training text: rows with their masks already chosen.

Plain text, and the shapes of all three tasks, told with facts that no task split contains.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raysched.mini.facts import TASKS, Choice, Event, Inference, Question, draw_question, facts_of, partner, seeded
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


def _judged_row(first: list[str], second: list[str], verdict: str, rng: random.Random) -> MlmRow:
    """Two texts and a verdict on them: a hidden word at the end, or what the opening token must say."""
    if rng.random() < 0.5:
        sheet = _Sheet(first, second)
        sheet.open_with(verdict)
    else:
        sheet = _Sheet(first, [*second, verdict])
        sheet.hide(len(first) + len(second))
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


def _choice_row(code: str, rng: random.Random, fact: Choice) -> MlmRow:
    """A premise and the right choice for it with its verb hidden; or either choice, and a verdict on it."""
    if rng.random() < 0.4:
        return _consequence_row(code, fact)
    right = rng.random() < 0.5
    verdict = lexicon(code)["verdict"][PLAUSIBLE if right else PLAUSIBLE + 1]
    return _judged_row(_prompted(code, fact), say_event(code, fact.right if right else fact.wrong)[0], verdict, rng)


def _nli_row(code: str, rng: random.Random, fact: Inference) -> MlmRow:
    """Premise, hypothesis and verdict: the verdict is hidden, or the hypothesis' noun."""
    premise, (hypothesis, where) = say_event(code, fact.premise)[0], say_event(code, fact.hypothesis)
    verdict = lexicon(code)["verdict"][fact.label]
    if rng.random() < 0.7:
        return _judged_row(premise, hypothesis, verdict, rng)
    sheet = _Sheet(premise, [*hypothesis, verdict])
    sheet.hide(len(premise) + where[fact.hypothesis.phrases[0].type].start)
    return sheet.row()


TEXT_SHARES = {"plain": 0.2, "qa": 0.45, "choice": 0.17, "nli": 0.18}
"""How much of the pre-training text has which shape."""


def _facts(rng: random.Random) -> dict[str, Iterator[Any]]:
    return {task: facts_of(task, rng, "text") for task in TASKS}


def primer_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless easy text of a language.

    Mostly a question, its answer, and the one sentence it is about, the answer or its twin in the sentence hidden;
    then inferences, and sentences whose verb follows from another's. From this a new model learns to look words up
    within a few hundred steps; from `mlm_text` alone it does not in thousands.
    """
    rng = seeded("primer", language, seed)
    facts = _facts(rng)
    while True:
        shape = rng.choices(("qa", "nli", "choice"), (0.6, 0.2, 0.2))[0]
        fact = next(facts[shape])
        if shape == "nli":
            yield _nli_row(language, rng, fact)
            continue
        if shape == "choice":
            yield _consequence_row(language, fact)
            continue
        sentence, where = say_event(language, fact.events[fact.asked])
        span = where[fact.type]
        sheet, answer, begin = _answered(language, fact, sentence, span)
        sheet.hide_all(answer if rng.random() < 0.5 else range(begin + span.start, begin + span.stop))
        yield sheet.row()


def mlm_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless pre-training text of a language."""
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
            yield _choice_row(language, rng, next(facts["choice"]))
        else:
            yield _nli_row(language, rng, next(facts["nli"]))


def mixed_mlm_text(seed: int) -> Iterator[MlmRow]:
    """Endless pre-training text of all languages, each with its `text_share`: the far ones are the rarer ones."""
    rng = seeded("mix", seed)
    texts = [mlm_text(code, seed) for code in LANGUAGES]
    shares = [language(code).text_share for code in LANGUAGES]
    while True:
        yield next(rng.choices(texts, shares)[0])
