"""The libraries' warnings about what is meant so do not reach whoever trains."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig

from raysched.training.bench import _tokenizer

ADDS_TWO_ADAPTERS = """
from transformers import XLMRobertaConfig
from raysched.training.mlm import add_language_adapter, new_backbone
sizes = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
model = new_backbone(XLMRobertaConfig(**sizes), seed=0)
for name in ("vel", "orl"):
    add_language_adapter(model, name, seed=0)
    assert model.active_adapters[0] == name
"""


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What transformers logs."""
    messages: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, logger = Kept(), logging.getLogger("transformers")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_a_tokenizer_as_large_as_that_of_xlm_r(tmp_path: Path, told: list[str]) -> None:
    core = Tokenizer(WordLevel({"<unk>": 0} | {f"w{n}": n + 1 for n in range(100_001)}, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(tmp_path)
    XLMRobertaConfig().save_pretrained(tmp_path)
    assert len(_tokenizer(tmp_path)) == 100_002
    assert told == []


def test_a_language_adapter_that_is_made_active() -> None:
    done = subprocess.run([sys.executable, "-c", ADDS_TWO_ADAPTERS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
