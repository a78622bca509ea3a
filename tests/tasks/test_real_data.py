"""Checks on the published data, where it is there: `$RAYSCHED_DATA_DIR`, or `shared/data` beside the repository."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raysched.study.model import MAIN, Study
from raysched.tasks import forms, metrics, sources
from raysched.tasks.qa import QATask
from tests.real_data import DATA, needed

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
MakeStudy = Callable[..., Study]
QA = forms.FORMS["qa"]


@pytest.fixture(scope="module")
def xlmr() -> Any:
    needed("tokenizers/xlm-roberta-base/tokenizer.json.gz")
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    stored = gzip.decompress((DATA / "tokenizers/xlm-roberta-base/tokenizer.json.gz").read_bytes())
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_buffer(stored),
        model_input_names=["input_ids", "attention_mask"],
        unk_token="<unk>",
        mask_token="<mask>",
        **names,
    )


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
