from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysched.tasks import metrics


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat", "cat"),
        ("a an the", ""),
        ("An apple a day", "apple day"),
        ("theatre, another banana", "theatre another banana"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes first, and glues
        ("rock 'n' roll", "rock n roll"),
        ("l'an 2000", "lan 2000"),
        ("A.", ""),
        ("$1,000.50", "100050"),
        ("  tab\tnew\nline\u3000wide\u00a0hard ", "tab new line wide hard"),
        ("«Ñandú»", "«ñandú»"),  # only ASCII punctuation goes
        ("北京。", "北京。"),
        ("กรุงเทพฯ", "กรุงเทพฯ"),
        ("à a", "à"),
        ("İ", "i̇"),
        ("", ""),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert " ".join(metrics.squad_words(text)) == normal


@pytest.mark.parametrize(
    ("prediction", "gold", "f1", "em"),
    [
        ("The cat.", "cat", 1.0, 1.0),
        ("black cat", "the cat", 2 / 3, 0.0),
        ("cat cat dog", "cat dog dog", 2 / 3, 0.0),
        ("cat cat", "cat", 2 / 3, 0.0),
        ("in the year 1066", "1066", 0.5, 0.0),
        ("dog", "cat", 0.0, 0.0),
        ("", "cat", 0.0, 0.0),
        ("the", "a", 0.0, 1.0),  # v1.1 has no rule of its own for empty answers
        ("北京 市", "北京", 2 / 3, 0.0),
        ("北京市", "北京", 0.0, 0.0),
    ],
)
def test_pair(prediction: str, gold: str, f1: float, em: float) -> None:
    assert metrics.f1(prediction, gold) == pytest.approx(f1, abs=1e-12)
    assert metrics.exact_match(prediction, gold) == em


def test_best_gold_counts_for_each_score_alone() -> None:
    assert metrics.answer("black cat", ["dog", "cat", "black cat food"]) == pytest.approx({"f1": 80.0, "em": 0.0})
    assert metrics.answer("the dog", ["dog", "cat"]) == {"f1": 100.0, "em": 100.0}


def test_mean() -> None:
    assert metrics.mean(iter([0.0, 50.0, 100.0])) == 50.0
    with pytest.raises(ValueError, match="at least one scored example"):
        metrics.mean([])


def _words_slowly(text: str) -> list[str]:
    """The same normal form, one character and one word at a time."""
    kept = [c for c in text.lower() if not ("!" <= c <= "/" or ":" <= c <= "@" or "[" <= c <= "`" or "{" <= c <= "~")]
    words: list[str] = []
    word = ""
    for c in [*kept, " "]:
        if c.isspace():
            words += [word] if word else []
            word = ""
        else:
            word += c
    return [word for word in words if word not in ("a", "an", "the")]


def _f1_slowly(prediction: str, gold: str) -> float:
    left, hits = _words_slowly(gold), 0
    wanted, predicted = len(left), _words_slowly(prediction)
    for word in predicted:
        if word in left:
            left.remove(word)
            hits += 1
    return 2 * hits / (len(predicted) + wanted) if hits else 0.0


TEXT = st.text(st.sampled_from("atheno b,.'-AN\u3000京é"), max_size=24)


@given(TEXT, TEXT)
def test_equals_another_writing_of_the_definition(prediction: str, gold: str) -> None:
    # Letters next to articles only: `\b` also ends a word at a character that is no letter (京 is one, é is one).
    assert metrics.f1(prediction, gold) == pytest.approx(_f1_slowly(prediction, gold), abs=1e-12)
    assert metrics.exact_match(prediction, gold) == (_words_slowly(prediction) == _words_slowly(gold))
