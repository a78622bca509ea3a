"""How answers are scored: SQuAD v1.1's exact match and token F1, MLQA's for its languages, three ways with Chinese.

A *way* is how a text becomes the words that are compared: two texts match exactly where their words are equal, and F1
counts the words they share. Both take the best over the gold answers.

* `squad` (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no English articles, split at white space.
* `mlqa` (Lewis et al. 2020): lower case, no punctuation of any script, no articles of the text's own language, split
  at white space; each Chinese ideograph is a word.
* `char`: lower case, no punctuation of any script, each character but white space is a word.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from raysched.study.values import ChineseMetric, Scoring

Way = Callable[[str], list[str]]
Scores = dict[str, float]

ARTICLES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "ال",
        "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
        "en": r"\b(?:a|an|the)\b",
        "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
        "hi": "",
        "vi": r"\b(?:của|là|cái|chiếc|những)\b",
        "zh": "",
    }
)
"""What MLQA's official script takes for articles, and puts a space for. Arabic: the two letters wherever they stand,
inside a word too. Hindi and Chinese have none."""
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
"""ASCII punctuation only, as in SQuAD's official script: `。` and `«` stay in every language."""
IDEOGRAPH = re.compile("([一-龥])")
"""U+4E00 to U+9FA5, what MLQA's official script takes for Chinese."""


def squad_words(text: str) -> list[str]:
    """As SQuAD v1.1 compares, whatever the language."""
    return re.sub(ARTICLES["en"], " ", text.lower().translate(WITHOUT_PUNCTUATION)).split()


def mlqa_words(language: str) -> Way:
    """As MLQA compares texts of `language`, one of `MLQA_LANGUAGES`: a study with another one is refused."""
    articles = re.compile(ARTICLES[language]) if ARTICLES[language] else None

    def words(text: str) -> list[str]:
        plain = _without_any_punctuation(text.lower())
        if articles is not None:
            plain = articles.sub(" ", plain)
        if language == "zh":
            plain = IDEOGRAPH.sub(r" \1 ", plain)
        return plain.split()

    return words


def characters(text: str) -> list[str]:
    """One word a character."""
    return [character for character in _without_any_punctuation(text.lower()) if not character.isspace()]


def _without_any_punctuation(text: str) -> str:
    """Neither Unicode's category P nor ASCII's punctuation, some of which Unicode calls symbols."""
    kept = (c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return "".join(kept)


def exact_match(prediction: str, gold: str, words: Way = squad_words) -> float:
    """1.0 where both have the same words, else 0.0."""
    return float(words(prediction) == words(gold))


def f1(prediction: str, gold: str, words: Way = squad_words) -> float:
    """Harmonic mean of precision and recall over words, in [0, 1]; 0 where no word is shared."""
    predicted, wanted = words(prediction), words(gold)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def best(metric: Callable[[str, str, Way], float], prediction: str, golds: Iterable[str], words: Way) -> float:
    """The highest `metric` of the prediction over its gold answers."""
    return max(metric(prediction, gold, words) for gold in golds)


def answer(prediction: str, golds: Sequence[str], words: Way = squad_words) -> Scores:
    """`{"f1", "em"}` of one question, 0 to 100."""
    return {"f1": 100 * best(f1, prediction, golds, words), "em": 100 * best(exact_match, prediction, golds, words)}


def way(scoring: Scoring, chinese_metric: ChineseMetric | None, language: str) -> Way:
    """How answers in `language` are compared; `chinese_metric` says it for Chinese, where it is given."""
    name = chinese_metric if language == "zh" and chinese_metric is not None else scoring
    if name == "char":
        return characters
    return mlqa_words(language) if name == "mlqa" else squad_words


def accuracy(prediction: str, golds: Sequence[str]) -> float:
    """100.0 where the named class is a gold one, else 0.0."""
    return 100.0 * (prediction in golds)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; raises `ValueError` where there is nothing to score."""
    scores = list(values)
    if not scores:
        raise ValueError("at least one scored example must be given, but got none")
    return sum(scores) / len(scores)
