"""MLQA's scoring and the three ways with Chinese, by cases computed by hand from the published rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from raysched.study.model import Study
from raysched.study.values import MLQA_LANGUAGES, ChineseMetric, Scoring
from raysched.tasks import metrics


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "The «Cat», an (odd) one-off", "cat odd oneoff"),
        ("en", "$5 or €5", "5 or €5"),  # `$` is ASCII, `€` a symbol of Unicode and no punctuation
        ("en", "“U.S.” – el gato", "us el gato"),  # another language's article
        ("es", "¿El gato y las casas?", "gato y casas"),
        ("es", "un a unos Unas lo", "a lo"),
        ("es", "Ela «la» elástico", "ela elástico"),  # whole words only
        ("de", "Der „Hund“, dessen Haus", "hund dessen haus"),
        ("de", "eines einem keiner", "keiner"),
        ("de", "the den DES Straße", "the straße"),
        ("vi", "Những con mèo của tôi là…", "con mèo tôi"),
        ("vi", "chiếc xe đạp, cái bàn", "xe đạp bàn"),
        ("hi", "यह एक किताब है।", "यह एक किताब है"),  # the danda is punctuation; no articles
        ("hi", "the ‘भारत’", "the भारत"),
        ("ar", "في القاهرة، مصر؟", "في قاهرة مصر"),
        ("ar", "بالقاهرة", "ب قاهرة"),  # wherever it stands: a word may fall in two
        ("ar", "الاحتلال", "احتل"),
        ("ar", "«كتاب»", "كتاب"),
        ("zh", "北京。", "北 京"),
        ("zh", "在1949年10月1日", "在 1949 年 10 月 1 日"),
        ("zh", "《NBA 总决赛》the", "nba 总 决 赛 the"),
        ("zh", "龥龦", "龥 龦"),  # the script's range ends at 龥; what stands alone is a word all the same
        ("zh", "龦龦ア", "龦龦ア"),
        ("zh", "３０％，约", "３０ 约"),  # wide digits are no ideographs; the wide percent sign is punctuation
        ("zh", "!?。", ""),
    ],
)
def test_words_of_mlqa(language: str, text: str, words: str) -> None:
    assert metrics.mlqa_words(language)(text) == words.split()


@pytest.mark.parametrize(
    ("text", "words"),
    [("北京 NBA。", "北 京 n b a"), ("１９４９ 年!", "１ ９ ４ ９ 年"), ("\u3000$ 《》", "")],
)
def test_characters(text: str, words: str) -> None:
    assert metrics.characters(text) == words.split()


@pytest.mark.parametrize(
    ("scoring", "chinese", "language", "prediction", "gold", "f1", "em"),
    [
        ("squad", None, "zh", "北京市", "北京", 0.0, 0.0),
        ("squad", "mlqa", "zh", "北京市", "北京", 80.0, 0.0),  # 2 of 3 and 2 of 2
        ("squad", "char", "zh", "北京市", "北京", 80.0, 0.0),
        ("mlqa", None, "zh", "北京市。", "北京", 80.0, 0.0),
        ("mlqa", "squad", "zh", "北京。", "北京", 0.0, 0.0),
        ("mlqa", None, "zh", "“北京”", "北京", 100.0, 100.0),
        ("squad", "squad", "zh", "北京 市", "北京", 200 / 3, 0.0),
        ("squad", "mlqa", "zh", "NBA球星", "NBA", 50.0, 0.0),  # 1 of 3 and 1 of 1
        ("squad", "char", "zh", "NBA球星", "NBA", 75.0, 0.0),  # 3 of 5 and 3 of 3
        ("squad", "mlqa", "zh", "北 京", "北京", 100.0, 100.0),
        ("squad", "char", "zh", "1 9", "19", 100.0, 100.0),
        ("squad", "mlqa", "zh", "1 9", "19", 0.0, 0.0),
        ("squad", "char", "th", "ab c", "abc", 0.0, 0.0),  # Chinese alone
        ("squad", "mlqa", "de", "der Hund", "Hund", 200 / 3, 0.0),
        ("mlqa", "char", "de", "der Hund", "Hund", 100.0, 100.0),
        ("mlqa", None, "de", "The Hund", "Hund", 200 / 3, 0.0),
        ("squad", None, "de", "The Hund", "Hund", 100.0, 100.0),
        ("mlqa", None, "ar", "القاهرة", "قاهرة", 100.0, 100.0),
        ("mlqa", None, "vi", "của", "là", 0.0, 100.0),  # nothing is left of either: equal, but no word is shared
    ],
)
def test_way(
    scoring: Scoring, chinese: ChineseMetric | None, language: str, prediction: str, gold: str, f1: float, em: float
) -> None:
    words = metrics.way(scoring, chinese, language)
    assert metrics.answer(prediction, [gold], words) == pytest.approx({"f1": f1, "em": em}, abs=1e-9)


def test_best_gold_in_the_same_way() -> None:
    words = metrics.way("mlqa", None, "es")
    assert metrics.answer("el gato negro", ["un perro", "gato"], words) == pytest.approx({"f1": 200 / 3, "em": 0.0})


def test_accuracy() -> None:
    assert (metrics.accuracy("choice1", ("choice1",)), metrics.accuracy("choice1", ("choice2",))) == (100.0, 0.0)


def test_rules_and_names_of_languages_agree() -> None:
    assert tuple(metrics.ARTICLES) == MLQA_LANGUAGES


@pytest.mark.parametrize(
    ("also", "key"),
    [
        ({}, r"evaluation\.scoring"),
        ({"mlqa": {"test": "mini", "languages": ("de", "el"), "scoring": "mlqa"}}, r"evaluation\.also\.mlqa\.scoring"),
    ],
)
def test_languages_without_rules_are_refused_with_the_study(
    study: Callable[..., Study], also: dict[str, Any], key: str
) -> None:
    main = {"languages": ("de", "th"), "scoring": "squad" if also else "mlqa"}
    with pytest.raises(ValidationError, match=r"has no rules for, but got mlqa with (th|el)") as caught:
        study(evaluation=main | {"also": also})
    (error,) = caught.value.errors()
    assert error["ctx"]["key"] == key.replace("\\", "")
