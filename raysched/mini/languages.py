"""Languages: how they differ, and their words.

The share of its words that a language has in common with the source language, and its word order, set it apart.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from raysched.mini.facts import ADJECTIVES, NOUNS_PER_TYPE, TYPES, VERBS, seeded


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


_CLASSES = {
    **dict.fromkeys(TYPES, NOUNS_PER_TYPE),
    "verb": VERBS,
    "adjective": ADJECTIVES,
    "marker": len(TYPES),  # the little word that goes with every phrase of a type
    "question": len(TYPES),
    "verdict": 5,  # entailed, unknown, contradicted; plausible, implausible
}
_SYLLABLES = {"marker": 1, "question": 1, "verdict": 1, "verb": 2, "adjective": 2}
PLAUSIBLE = 3
"""Index of the verdict; the next one is implausible."""
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
        rng = seeded("lexicon", code, class_)
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
