"""A tiny tokenizer and tiny rows: nothing here comes from a file or a network."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def make_tokenizer(
    texts: list[str], *, pair: str = "<s> $A </s> </s> $B </s>", **options: Any
) -> PreTrainedTokenizerFast:
    """One token a word or punctuation mark; pairs as XLM-R writes them."""
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)})
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*SPECIAL, *words])}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{"model_input_names": ["input_ids", "attention_mask"]} | names | options
    )


def make_row(n: int, context: str, question: str, *answers: str) -> dict[str, Any]:
    return {
        "id": f"q{n:03d}",
        "context": context,
        "question": question,
        "answers": {"text": list(answers), "answer_start": [context.index(answer) for answer in answers]},
    }
