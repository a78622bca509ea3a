"""Checks on the published data, where it is there: `$RAYSCHED_DATA_DIR`, or `shared/data` beside the repository."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raysched.study.model import MAIN, Study
from raysched.tasks import forms, metrics, sources
from raysched.tasks.choice import ChoiceTask
from raysched.tasks.classify import PairTask
from raysched.tasks.nli import NLITask
from raysched.tasks.qa import QATask
from tests.real_data import DATA, needed

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
MakeStudy = Callable[..., Study]
QA = forms.FORMS["qa"]


@pytest.fixture
def real(study: MakeStudy) -> Study:
    return study(
        data={
            "train": "rajpurkar/squad",
            "dev": "rajpurkar/squad",
            "test": "google/xquad",
            "folder": str(DATA),
            "max_length": 384,
            "doc_stride": 128,
        },
        evaluation={"languages": LANGUAGES, "dev_limit": 512, "max_answer_length": 384},
    )


def test_folder_as_it_is(real: Study) -> None:
    needed("squad_v1.1", "xquad")
    found = sources.resolve(real, check=False)
    assert found.train.where.endswith("train-v1.1.recon.json.gz")
    assert len(sources.rows(found.dev, real, "dev", "en")) == 512
    for language in LANGUAGES:
        rows = sources.rows(
            found.tests[MAIN][language], real, "test", language
        )  # each answer was compared with its context
        assert len(rows) == 1190


def oracle(task: QATask, rows: list[dict[str, Any]], tokenizer: Any) -> list[Any]:
    """Predictions from logits that are highest at the labels."""
    features = task.features(rows, tokenizer, "eval")
    starts = [np.where(np.arange(n) == s, 9.0, 0.0) for n, s in zip(features.lengths, features.start, strict=True)]
    ends = [np.where(np.arange(n) == e, 9.0, 0.0) for n, e in zip(features.lengths, features.end, strict=True)]
    return task.predict(rows, features, list(zip(starts, ends, strict=True)), "en", None)


@pytest.mark.parametrize("name", ["train-v1.1.recon.json.gz", "dev-v1.1.recon.json.gz"])
def test_labels_of_squad_decode_to_the_answers(real: Study, xlmr: Any, name: str) -> None:
    needed(f"squad_v1.1/{name}")
    rows = forms.read(DATA / "squad_v1.1" / name, QA, "en").rows[::25][:400]
    predictions = oracle(QATask(real), rows, xlmr)
    right = [metrics.exact_match(p.prediction, p.gold[0]) for p in predictions]
    assert np.mean(right) > 0.99


@pytest.mark.parametrize(("language", "at_least"), [("en", 100.0), ("zh", 99.0), ("th", 99.0)])
def test_oracle_on_xquad(real: Study, xlmr: Any, language: str, at_least: float) -> None:
    """Where words are not spaced, a token may reach beyond the answer's edge."""
    needed(f"xquad/xquad.{language}.json")
    rows = forms.read(DATA / "xquad" / f"xquad.{language}.json", QA, "en").rows[::6]
    task = QATask(real)
    predictions = oracle(task, rows, xlmr)
    assert task.score(predictions)["f1"] >= at_least
    for row, prediction in zip(rows, predictions, strict=True):
        answer = row["answers"]["text"][0].strip()
        assert answer in prediction.prediction
        assert len(prediction.prediction) <= len(answer) + 8


def test_decoding_all_of_dev_takes_seconds(real: Study, xlmr: Any) -> None:
    needed("squad_v1.1/dev-v1.1.recon.json.gz")
    rows = forms.read(DATA / "squad_v1.1" / "dev-v1.1.recon.json.gz", QA, "en").rows[:1000]
    task = QATask(real)
    features = task.features(rows, xlmr, "eval")
    logits = np.random.default_rng(0).normal(size=(2, len(features), 384)).astype(np.float32)
    begin = time.process_time()
    predictions = task.predict(rows, features, list(zip(*logits, strict=True)), "en", None)
    assert (time.process_time() - begin) * 10.57 < 30
    assert len(predictions) == 1000


@pytest.mark.parametrize(
    ("kind", "form", "file", "rows"),
    [
        (ChoiceTask, "choice", "xcopa/data/{0}/test.{0}.jsonl", 500),
        (NLITask, "nli", "xnli/test-{0}.tsv.gz", 5010),
    ],
)
@pytest.mark.parametrize("language", ["th", "tr", "zh"])
def test_pairs_are_the_published_texts(
    real: Study, xlmr: Any, kind: type[PairTask], form: str, file: str, rows: int, language: str
) -> None:
    """Text by text, as far as the tokenizer's own normal form goes; and each class is named equally often."""
    needed(file.format(language))
    task = kind(real)
    published = forms.read(DATA / file.format(language), forms.FORMS[form], language).rows
    assert len(published) == rows
    features = task.features(published[:500], xlmr, "eval")
    pairs = [pair for row in published[:500] for pair in task.pairs(row)]
    compared = 0
    for j, texts in enumerate(pairs):
        ids = features.input_ids[features.bounds[j] : features.bounds[j + 1]]
        for part, text in zip(np.split(ids, [features.second[j]]), texts, strict=True):
            if xlmr.unk_token_id not in part:
                assert _plain(xlmr.decode(part, skip_special_tokens=True)) == _plain(text)
                compared += 1
    assert compared > 0.98 * 2 * len(pairs)
    if form == "choice" and language == "th":  # data.md: every row says effect, and is asked so
        assert {text.rsplit(" ", 1)[1] for text, _ in pairs} == {"effect?"}
    flat = [(np.zeros(len(task.labels)),)] * len(published)
    assert task.score(task.predict(published, None, flat, language, None)) == {
        "accuracy": pytest.approx(100 / len(task.labels))
    }


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
