"""The official scores of SQuAD v1.1 (Rajpurkar et al. 2016): exact match and token F1, best over the gold answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
"""ASCII punctuation only, as in the official script: `。` and `«` stay in every language."""


def normalize(text: str) -> str:
    """Lower case, then without ASCII punctuation, then without English articles, then single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1.0 where both are equal once normalised, else 0.0."""
    return float(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall over white-space tokens, in [0, 1]; 0 where no token is shared."""
    predicted, wanted = normalize(prediction).split(), normalize(gold).split()
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def best(metric: Callable[[str, str], float], prediction: str, golds: Iterable[str]) -> float:
    """The highest `metric` of the prediction over its gold answers."""
    return max(metric(prediction, gold) for gold in golds)


def squad(prediction: str, golds: Sequence[str]) -> dict[str, float]:
    """`{"f1", "em"}` of one question, 0 to 100."""
    return {"f1": 100 * best(f1, prediction, golds), "em": 100 * best(exact_match, prediction, golds)}


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; raises `ValueError` where there is nothing to score."""
    scores = list(values)
    if not scores:
        raise ValueError("at least one scored example must be given, but got none")
    return sum(scores) / len(scores)
