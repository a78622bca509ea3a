"""Shared tiny inputs of the task tests."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from raysched.study.model import Study
from tests.real_data import DATA, needed
from tests.tasks.tiny_qa import make_row, make_tokenizer


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        make_row(0, "Ada met Bob in Rome, and Eve in Oslo.", "  Where was Bob?", "Rome", "in Rome"),
        make_row(1, "The blue cat sleeps.", "What sleeps?", "blue cat"),
        make_row(2, "one two three four five six seven eight nine ten", "Which?", "nine ten"),
    ]


@pytest.fixture
def tokenizer(rows: list[dict[str, Any]]) -> PreTrainedTokenizerFast:
    return make_tokenizer([row[name] for row in rows for name in ("context", "question")])


@pytest.fixture
def study() -> Callable[..., Study]:
    """A small study; keyword arguments replace its task, and values of its sections."""

    def make(task: str = "qa", **sections: dict[str, Any]) -> Study:
        values: dict[str, Any] = {
            "task": task,
            "data": {"train": "mini", "dev": "mini", "test": "mini", "max_length": 24, "doc_stride": 4},
            "model": {"backbone": "mini", "language_adapters": "mini", "source_language": "en"},
            "training": {"steps": 5},
            "search": {
                "schedule": ("standard",),
                "lr": (1e-3,),
                "objective": "source_dev/f1" if task == "qa" else "source_dev/accuracy",
            },
            "seeds": (0,),
            "evaluation": {"languages": ("en",)},
        }
        for name, section in sections.items():
            values[name] = values[name] | section
        return Study.model_validate(values)

    return make


@pytest.fixture(scope="session")
def xlmr() -> Any:
    """XLM-R's own tokenizer, where the data is there."""
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
