"""A small made-up world, told in six made-up languages.

The world has things (persons, places, months, tools, animals), what happens to them (verbs), and a law: verbs come in
pairs, each of which brings about the other. A *fact* is language-neutral; a `Language` tells it with its own words, the
share of cognates it has with the source language, and its own word order. So rows of one split are parallel: row *i* is
the same fact in every language.

Three tasks are made of it, in the row forms of their real counterparts:

* `qa_rows`: SQuAD. Two sentences; the question names a type (who, where, ...) and a verb; in `HARD_SHARE` of the rows
  both sentences hold a phrase of that type, and only the verb tells which one is meant.
* `choice_rows`: COPA. Which of two sentences is the cause, or the effect, of the premise?
* `nli_rows`: XNLI. A hypothesis claims one phrase of what happened: as in the premise (entailment), with another noun
  (contradiction), or of a type that the premise does not mention (neutral).

`mlm_rows` is the pre-training text: plain text and all three task shapes, told with facts that no task split contains.

Everything follows from integers and names through sha256, on every machine and in every process.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "dev", "test"]

VERSION = 1
"""Changes whenever any row of any split would change."""

TYPES = ("person", "place", "month", "thing", "animal")
NOUNS_PER_TYPE = 30
VERBS = 24
ADJECTIVES = 16
HARD_SHARE = 0.15
"""Share of questions whose context holds a second phrase of the asked type, in the other sentence."""
TEXT_HARD_SHARE = 0.25
"""The same share in the pre-training text."""
ADJECTIVE_SHARE = 0.2
"""Share of phrases that carry an adjective, which makes a two-word answer."""

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
NLI_LABELS = ("entailment", "neutral", "contradiction")
MASK = "<mask>"
OPENING = -1
"""In `MlmRow.targets`: the opening special token of the row, instead of a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How a language differs from the others.

    `cognates` is the share of its words that it has in common with the source language, exact within each word class.
    `order` is the order of the phrases, by type. `verb` is where the verb stands among them.
    """

    code: str
    name: str
    cognates: float
    order: tuple[int, ...]
    verb: Literal["first", "second", "last"]
    marker_first: bool
    adjective_first: bool
    verb_opens_question: bool
    syllables: tuple[str, str, str]
    text_share: float


_LANGUAGES = (
    Language(
        code="vel",
        name="Velan",
        cognates=1.0,
        order=(0, 3, 4, 1, 2),
        verb="second",
        marker_first=True,
        adjective_first=True,
        verb_opens_question=False,
        syllables=("b d f g l m n r s t v", "a e i o", "n r l"),
        text_share=0.24,
    ),
    Language(
        code="orl",
        name="Orlan",
        cognates=0.6,
        order=(0, 3, 4, 1, 2),
        verb="second",
        marker_first=True,
        adjective_first=False,
        verb_opens_question=False,
        syllables=("b d f g l m n p r s t", "a e i o u", "s l n"),
        text_share=0.18,
    ),
    Language(
        code="tum",
        name="Tumari",
        cognates=0.4,
        order=(2, 0, 3, 4, 1),
        verb="second",
        marker_first=True,
        adjective_first=False,
        verb_opens_question=False,
        syllables=("k m n p t y r h", "a i u", "m n k"),
        text_share=0.16,
    ),
    Language(
        code="kes",
        name="Kesh",
        cognates=0.25,
        order=(1, 2, 0, 4, 3),
        verb="last",
        marker_first=True,
        adjective_first=True,
        verb_opens_question=False,
        syllables=("k sh z ch t v kr st", "e i o u", "sh k t"),
        text_share=0.15,
    ),
    Language(
        code="ubb",
        name="Ubbeni",
        cognates=0.1,
        order=(4, 3, 2, 1, 0),
        verb="first",
        marker_first=False,
        adjective_first=False,
        verb_opens_question=True,
        syllables=("b bw d g gw mb nd w", "a o u e", "b d ng"),
        text_share=0.14,
    ),
    Language(
        code="xim",
        name="Ximo",
        cognates=0.0,
        order=(2, 4, 1, 3, 0),
        verb="last",
        marker_first=False,
        adjective_first=True,
        verb_opens_question=True,
        syllables=("x q ts hl j tl xw", "i a o", "q x j"),
        text_share=0.13,
    ),
)

SOURCE: str = _LANGUAGES[0].code
TARGETS: tuple[str, ...] = tuple(language.code for language in _LANGUAGES[1:])
"""From the nearest to the source to the farthest."""
LANGUAGES: tuple[str, ...] = (SOURCE, *TARGETS)
_BY_CODE = {language.code: language for language in _LANGUAGES}


def language(code: str) -> Language:
    """The description of a language. Raises `ValueError` for an unknown code."""
    if code not in _BY_CODE:
        raise ValueError(f"unknown language {code!r}: the mini world speaks {', '.join(LANGUAGES)}")
    return _BY_CODE[code]


# Facts: what happened, in no language. ----------------------------------------------------------------------------


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
class _Question:
    events: tuple[Event, Event]
    asked: int
    type: int

    @property
    def key(self) -> object:
        return frozenset(self.events)


@dataclass(frozen=True, slots=True)
class _Choice:
    premise: Event
    relation: Literal["cause", "effect"]
    right: Event
    wrong: Event
    label: int

    @property
    def key(self) -> object:
        return self.premise


@dataclass(frozen=True, slots=True)
class _Inference:
    premise: Event
    hypothesis: Event
    label: int

    @property
    def key(self) -> object:
        return self.premise


_Fact = _Question | _Choice | _Inference


def partner(verb: int) -> int:
    """The law of the world: verbs come in pairs, and each brings about the other."""
    return verb ^ 1


def _rng(*name: object) -> random.Random:
    text = "raysched.mini/" + "/".join(str(part) for part in name)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def _split_of(fact: _Fact) -> str:
    """The one split a fact may appear in; "text" is the pre-training text."""
    events = sorted([fact.events[0], fact.events[1]], key=repr) if isinstance(fact, _Question) else [fact.premise]
    digest = hashlib.sha256(repr((type(fact).__name__, events)).encode()).digest()
    return ("dev", "test", "train", "train", "train", "text", "text", "text", "text", "text")[digest[0] % 10]


def _phrase(rng: random.Random, type_: int) -> Phrase:
    noun = rng.randrange(NOUNS_PER_TYPE)
    return Phrase(type_, noun, rng.randrange(ADJECTIVES) if rng.random() < ADJECTIVE_SHARE else None)


def _plain_phrase(rng: random.Random, type_: int) -> Phrase:
    return Phrase(type_, rng.randrange(NOUNS_PER_TYPE))


def _draw_question(rng: random.Random, hard_share: float = TEXT_HARD_SHARE) -> _Question:
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
        return _draw_question(rng, hard_share)
    asked = rng.randrange(2)
    return _Question((told, beside) if asked == 0 else (beside, told), asked, asked_type)


def _draw_choice(rng: random.Random) -> _Choice:
    relation: Literal["cause", "effect"] = "cause" if rng.random() < 0.5 else "effect"
    verb = rng.randrange(VERBS)
    right = partner(verb)
    wrong = rng.choice([other for other in range(VERBS) if other not in (verb, right)])
    who = rng.randrange(NOUNS_PER_TYPE)

    def event(of: int) -> Event:
        return Event(of, (Phrase(0, who), _plain_phrase(rng, rng.randrange(1, len(TYPES)))))

    return _Choice(event(verb), relation, event(right), event(wrong), rng.randrange(2))


def _draw_inference(rng: random.Random) -> _Inference:
    types = rng.sample(range(len(TYPES)), 3)
    phrases = [_plain_phrase(rng, type_) for type_ in types]
    premise = Event(rng.randrange(VERBS), tuple(sorted(phrases, key=lambda phrase: phrase.type)))
    label = rng.randrange(len(NLI_LABELS))
    claim = rng.choice(phrases)
    if NLI_LABELS[label] == "neutral":
        claim = _plain_phrase(rng, rng.choice([type_ for type_ in range(len(TYPES)) if type_ not in types]))
    elif NLI_LABELS[label] == "contradiction":
        claim = Phrase(claim.type, (claim.noun + rng.randrange(1, NOUNS_PER_TYPE)) % NOUNS_PER_TYPE)
    return _Inference(premise, Event(premise.verb, (claim,)), label)


_TASKS = ("qa", "choice", "nli")


def _draw(task: str, rng: random.Random, split: str) -> _Fact:
    if task == "qa":
        return _draw_question(rng, TEXT_HARD_SHARE if split == "text" else HARD_SHARE)
    return _draw_choice(rng) if task == "choice" else _draw_inference(rng)


def _facts_of(task: str, rng: random.Random, split: str) -> Iterator[Any]:
    while True:
        fact = _draw(task, rng, split)
        if _split_of(fact) == split:
            yield fact


@functools.lru_cache(maxsize=32)
def _facts(task: str, split: Split, n: int) -> tuple[Any, ...]:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if n < 0:
        raise ValueError(f"n >= 0 must hold, but got n = {n}")
    seen: set[_Fact] = set()
    told: list[_Fact] = []
    for fact in _facts_of(task, _rng(VERSION, task, split), split):
        if len(told) == n:
            break
        if fact not in seen:
            seen.add(fact)
            told.append(fact)
    return tuple(told)


# Words: how a language says it. -----------------------------------------------------------------------------------

_CLASSES = {
    **dict.fromkeys(TYPES, NOUNS_PER_TYPE),
    "verb": VERBS,
    "adjective": ADJECTIVES,
    "marker": len(TYPES),  # the little word that goes with every phrase of a type
    "question": len(TYPES),
    "verdict": 5,  # entailed, unknown, contradicted; plausible, implausible
}
_SYLLABLES = {"marker": 1, "question": 1, "verdict": 1, "verb": 2, "adjective": 2}
_PLAUSIBLE = 3
# words that scorers drop or that mean something to a tokenizer are nobody's words
_RESERVED = frozenset(("a", "an", "the", "what", "was", "cause", "effect"))
PROMPT = "What was the {relation}?"
"""What a choice row asks, in English for every language, as in XCOPA."""


@functools.cache
def lexicon(code: str) -> dict[str, tuple[str, ...]]:
    """Words of a language by word class; the index in a class is the shared concept."""
    words: dict[str, tuple[str, ...]] = {}
    taken = set(_RESERVED)
    for earlier in LANGUAGES[: LANGUAGES.index(language(code).code)]:
        taken.update(word for class_ in lexicon(earlier).values() for word in class_)
    onsets, vowels, codas = (part.split() for part in language(code).syllables)
    for class_, size in _CLASSES.items():
        rng = _rng("lexicon", code, class_)
        shared: set[int] = set()
        if code != SOURCE:
            shared = set(rng.sample(range(size), round(language(code).cognates * size)))
        told = []
        for concept in range(size):
            word = lexicon(SOURCE)[class_][concept] if concept in shared else ""
            while not word or (word in taken and concept not in shared):
                syllables = _SYLLABLES.get(class_, 2 + rng.randrange(2))
                word = "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(syllables))
                word += rng.choice([*codas, ""])
            taken.add(word)
            told.append(word)
        words[class_] = tuple(told)
    return words


def vocabulary() -> list[str]:
    """Every word of every language, in a fixed order, each once."""
    words = [".", "?", *PROMPT.format(relation="cause").rstrip("?").split(), "effect"]
    for code in LANGUAGES:
        for class_ in lexicon(code).values():
            words.extend(class_)
    return list(dict.fromkeys(words))


def cognate_share(code: str) -> float:
    """Measured share of a language's words that are words of the source language."""
    pairs = [
        (word, source)
        for class_, words in lexicon(code).items()
        for word, source in zip(words, lexicon(SOURCE)[class_], strict=True)
    ]
    return sum(word == source for word, source in pairs) / len(pairs)


def _say_phrase(code: str, phrase: Phrase) -> tuple[list[str], slice]:
    """Words of a phrase, and which of them are its adjective and noun."""
    words, rules = lexicon(code), language(code)
    said = [words[TYPES[phrase.type]][phrase.noun]]
    if phrase.adjective is not None:
        said.insert(0 if rules.adjective_first else 1, words["adjective"][phrase.adjective])
    marker = words["marker"][phrase.type]
    return ([marker, *said], slice(1, None)) if rules.marker_first else ([*said, marker], slice(0, len(said)))


def _say_event(code: str, event: Event) -> tuple[list[str], dict[int, range]]:
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


def _say_events(code: str, events: Sequence[Event]) -> tuple[list[str], list[dict[int, range]]]:
    said: list[str] = []
    where = []
    for event in events:
        words, spans = _say_event(code, event)
        where.append({type_: range(span.start + len(said), span.stop + len(said)) for type_, span in spans.items()})
        said.extend(words)
    return said, where


def _say_question(code: str, fact: _Question) -> list[str]:
    asked = [lexicon(code)["question"][fact.type], lexicon(code)["verb"][fact.events[fact.asked].verb]]
    return [*(reversed(asked) if language(code).verb_opens_question else asked), "?"]


def write(words: Sequence[str]) -> str:
    """Words as text: spaces between them, none before punctuation."""
    return " ".join(words).replace(" .", ".").replace(" ?", "?")


def _text(code: str, event: Event) -> str:
    return write(_say_event(code, event)[0])


# Task rows. -------------------------------------------------------------------------------------------------------


def qa_rows(language: str, split: Split, n: int) -> list[dict[str, Any]]:
    """The first `n` rows of a split in the form of SQuAD; row *i* is the same fact in every language.

    A row has `id`, `context`, `question` and `answers` with one `text` and its `answer_start` in characters.
    """
    rows = []
    for index, fact in enumerate(_facts("qa", split, n)):
        words, where = _say_events(language, fact.events)
        span = where[fact.asked][fact.type]
        context = write(words)
        answer = write(words[span.start : span.stop])
        start = len(write([*words[: span.start], "x"])) - 1
        rows.append(
            {
                "id": f"qa-{split}-{index:05d}-{language}",
                "context": context,
                "question": write(_say_question(language, fact)),
                "answers": {"text": [answer], "answer_start": [start]},
            }
        )
    return rows


def choice_rows(language: str, split: Split, n: int) -> list[dict[str, Any]]:
    """The first `n` rows of a split in the form of COPA: `label` 0 or 1 says which choice is right."""
    rows = []
    for index, fact in enumerate(_facts("choice", split, n)):
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
        for fact in _facts("nli", split, n)
    ]


def _overlap(guess: range, gold: range) -> float:
    """Token F1 of two spans of one context; a phrase's words occur once in it, so positions decide."""
    common = len(set(guess) & set(gold))
    return 2 * common / (len(guess) + len(gold))


def _blind_guesses(language: str, fact: _Question) -> dict[str, float]:
    _, where = _say_events(language, fact.events)
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

    def mean(facts: Sequence[_Question]) -> dict[str, float]:
        told = [_blind_guesses(language, fact) for fact in facts]
        return {name: 100 * sum(guess[name] for guess in told) / len(told) for name in told[0]}

    on_train = mean(_facts("qa", "train", 2000))
    return mean(_facts("qa", split, n))[max(on_train, key=on_train.__getitem__)]


def qa_type_only(language: str, split: Split, n: int) -> float:
    """F1 in percent of reading only the question's first half: a random phrase of the asked type. For comparison."""
    total = 0.0
    facts = _facts("qa", split, n)
    for fact in facts:
        _, where = _say_events(language, fact.events)
        spans = [event[fact.type] for event in where if fact.type in event]
        total += sum(_overlap(span, where[fact.asked][fact.type]) for span in spans) / len(spans)
    return 100 * total / len(facts)


# Pre-training text. -----------------------------------------------------------------------------------------------


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
    first, second = _draw_question(rng).events
    if rng.random() < 0.5:
        second = Event(partner(first.verb), second.phrases)
    words, _ = _say_events(code, (first, second))
    sheet = _Sheet(words)
    sheet.hide(rng.randrange(len(words) - 1))
    sheet.hide_some(rng, 0.12)
    return sheet.row()


def _qa_row(code: str, rng: random.Random, fact: _Question) -> MlmRow:
    """Question and answer, then the context: the answer is hidden, or its twin in the context and others beside it."""
    question = _say_question(code, fact)
    context, where = _say_events(code, fact.events)
    span = where[fact.asked][fact.type]
    answer = [context[index] for index in span]
    sheet = _Sheet([*question, *answer], context)
    if rng.random() < 0.5:
        for index in range(len(answer)):
            sheet.hide(len(question) + index)
        return sheet.row()
    offset = len(question) + len(answer)
    rivals = [spans[fact.type] for event, spans in enumerate(where) if event != fact.asked and fact.type in spans]
    others = [other for spans in where for other in spans.values() if other != span and other not in rivals]
    for hidden in [span, *rivals, *rng.sample(others, 1)]:
        for index in hidden:
            class_ = next(c for c, words in lexicon(code).items() if context[index] in words)
            disguise = rng.choice(lexicon(code)[class_]) if rng.random() < 0.3 else MASK
            sheet.hide(offset + index, show=disguise)
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


def _prompted(code: str, fact: _Choice) -> list[str]:
    prompt = PROMPT.format(relation=fact.relation).rstrip("?").split()
    return [*_say_event(code, fact.premise)[0], *prompt, "?"]


def _consequence_row(code: str, fact: _Choice) -> MlmRow:
    """Premise, prompt and the right choice, whose verb is hidden."""
    first, second = _prompted(code, fact), _say_event(code, fact.right)[0]
    sheet = _Sheet(first, second)
    sheet.hide(len(first) + second.index(lexicon(code)["verb"][fact.right.verb]))
    return sheet.row()


def _choice_row(code: str, rng: random.Random, fact: _Choice) -> MlmRow:
    """A premise and the right choice for it with its verb hidden; or either choice, and a verdict on it."""
    if rng.random() < 0.4:
        return _consequence_row(code, fact)
    right = rng.random() < 0.5
    verdict = lexicon(code)["verdict"][_PLAUSIBLE if right else _PLAUSIBLE + 1]
    return _judged_row(_prompted(code, fact), _say_event(code, fact.right if right else fact.wrong)[0], verdict, rng)


def _nli_row(code: str, rng: random.Random, fact: _Inference) -> MlmRow:
    """Premise, hypothesis and verdict: the verdict is hidden, or the hypothesis' noun."""
    premise, (hypothesis, where) = _say_event(code, fact.premise)[0], _say_event(code, fact.hypothesis)
    verdict = lexicon(code)["verdict"][fact.label]
    if rng.random() < 0.7:
        return _judged_row(premise, hypothesis, verdict, rng)
    sheet = _Sheet(premise, [*hypothesis, verdict])
    sheet.hide(len(premise) + where[fact.hypothesis.phrases[0].type].start)
    return sheet.row()


TEXT_SHARES = {"plain": 0.2, "qa": 0.45, "choice": 0.17, "nli": 0.18}
"""How much of the pre-training text has which shape."""


def primer_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless easy text of a language.

    Mostly a question, its answer, and the one sentence it is about, the answer or its twin in the sentence hidden;
    then inferences, and sentences whose verb follows from another's. From this a new model learns to look words up
    within a few hundred steps; from `mlm_text` alone it does not in thousands.
    """
    rng = _rng("primer", language, seed)
    facts = {task: _facts_of(task, rng, "text") for task in _TASKS}
    while True:
        shape = rng.choices(("qa", "nli", "choice"), (0.6, 0.2, 0.2))[0]
        fact = next(facts[shape])
        if shape == "nli":
            yield _nli_row(language, rng, fact)
            continue
        if shape == "choice":
            yield _consequence_row(language, fact)
            continue
        question = _say_question(language, fact)
        sentence, where = _say_event(language, fact.events[fact.asked])
        span = where[fact.type]
        answer = sentence[span.start : span.stop]
        sheet = _Sheet([*question, *answer], sentence)
        start = len(question) if rng.random() < 0.5 else len(question) + len(answer) + span.start
        for index in range(start, start + len(answer)):
            sheet.hide(index)
        yield sheet.row()


def mlm_text(language: str, seed: int) -> Iterator[MlmRow]:
    """Endless pre-training text of a language."""
    rng = _rng("text", language, seed)
    facts = {task: _facts_of(task, rng, "text") for task in _TASKS}
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


def mlm_rows(language: str, n: int, seed: int) -> list[MlmRow]:
    """The first `n` rows of the pre-training text of a language."""
    return list(itertools.islice(mlm_text(language, seed), n))


def mixed_mlm_text(seed: int) -> Iterator[MlmRow]:
    """Endless pre-training text of all languages, each with its `text_share`: the far ones are the rarer ones."""
    rng = _rng("mix", seed)
    texts = [mlm_text(code, seed) for code in LANGUAGES]
    shares = [_BY_CODE[code].text_share for code in LANGUAGES]
    while True:
        yield next(rng.choices(texts, shares)[0])
