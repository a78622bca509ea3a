"""Rows of the published COPA, XCOPA, MultiNLI and XNLI, where they are."""

from __future__ import annotations

from collections import Counter

import pytest

from raysched.study.model import MAIN
from raysched.tasks import copa, forms, sources
from raysched.tasks.inference import LABELS
from tests.real_data import DATA, needed
from tests.tasks.written import MakeStudy, asked

CHOICE, NLI = forms.FORMS["choice"], forms.FORMS["nli"]
XCOPA = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
XNLI = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")


def test_copa_and_xcopa(study: MakeStudy) -> None:
    needed("copa_en", "xcopa")
    named = {"train": "aps/super_glue", "dev": "aps/super_glue", "test": "cambridgeltl/xcopa"}
    made = asked(study, XCOPA, task="choice", folder=str(DATA), **named)
    found = sources.resolve(made)
    train, dev = (sources.rows(getattr(found, role), made, role, "en") for role in ("train", "dev"))
    assert (len(train), len(dev)) == (400, 100)
    english = forms.read(DATA / "copa_en" / "test.en.jsonl", CHOICE, "en").rows
    for language in XCOPA:
        rows = sources.rows(found.tests[MAIN][language], made, "test", language)
        assert len(rows) == 500
        assert Counter(row["label"] for row in rows) == {0: 250, 1: 250}
        twins = list(zip(rows, english, strict=True))
        assert all(row["id"] == twin["id"] and row["label"] == twin["label"] for row, twin in twins)
        assert sum(row["question"] != twin["question"] for row, twin in twins) == copa.DEFECTS.get(language, 0), (
            "questions are kept as published"
        )


def test_multinli_dev_and_xnli(study: MakeStudy) -> None:
    needed("nli_en", "xnli")
    matched = str(DATA / "nli_en" / "multinli_1.0_dev_matched.csv.gz")
    made = asked(study, XNLI, task="nli", folder=str(DATA), train=matched, dev="facebook/xnli", test="facebook/xnli")
    found = sources.resolve(made, check=False)
    train = sources.rows(found.train, made, "train", "en")
    assert len(train) == 9815
    assert train[0] == {
        "id": "0",
        "premise": "The new rights are nice enough",
        "hypothesis": "Everyone really likes the newest benefits",
        "label": LABELS.index("neutral"),
    }
    mismatched = forms.read(DATA / "nli_en" / "multinli_1.0_dev_mismatched.csv.gz", NLI, "en").rows
    assert len(train) + len(mismatched) == 19_647
    dev = sources.rows(found.dev, made, "dev", "en")
    assert Counter(row["label"] for row in dev) == {0: 830, 1: 830, 2: 830}
    for language in XNLI:
        rows = sources.rows(found.tests[MAIN][language], made, "test", language)
        assert Counter(row["label"] for row in rows) == {0: 1670, 1: 1670, 2: 1670}


@pytest.mark.parametrize(("name", "dropped"), [("dev", 158), ("test", 176)])
def test_rows_without_a_majority(name: str, dropped: int) -> None:
    needed(f"nli_en/snli_1.0_{name}.csv.gz")
    found = forms.read(DATA / "nli_en" / f"snli_1.0_{name}.csv.gz", NLI, "en")
    assert (len(found.rows), found.dropped) == (10_000 - dropped, dropped)
