"""The tokenizer of the mini world: one token per word, with character offsets, special tokens as XLM-R has them."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from raysched.mini.languages import vocabulary
from raysched.mini.text import MASK

BOS, PAD, EOS, UNK = "<s>", "<pad>", "</s>", "<unk>"  # ids 0, 1, 2, 3 as in XLM-R; the mask token is the last id
MAX_LENGTH = 64


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer over all languages' words: `<s> a </s>`, and pairs as `<s> a </s></s> b </s>`."""
    words = [BOS, PAD, EOS, UNK, *vocabulary(), MASK]
    core = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNK))
    core.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    core.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{BOS} $A {EOS}",
        pair=f"{BOS} $A {EOS} {EOS} $B {EOS}",
        special_tokens=[(BOS, words.index(BOS)), (EOS, words.index(EOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        cls_token=BOS,
        eos_token=EOS,
        sep_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        mask_token=MASK,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
