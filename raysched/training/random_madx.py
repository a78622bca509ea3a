"""A small backbone with random weights and its language adapters: for trying a pipeline, not for results.

`raysched pretrain random` makes one around a real tokenizer, so that a study runs on real text in minutes.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters import SeqBnInvConfig
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from raysched.errors import MissingError, StudyError
from raysched.training.mlm import save_language_adapter

ABOUT = "about.json"
LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A fast tokenizer from a folder with tokenizer.json (or .json.gz), special tokens as XLM-R names them.

    Raises:
        MissingError: the folder holds none.
    """
    plain, packed = folder / "tokenizer.json", folder / "tokenizer.json.gz"
    if not plain.is_file() and not packed.is_file():
        raise MissingError(f"no tokenizer.json in {folder}", key="--tokenizer", hint="give a folder that holds one")
    text = plain.read_text() if plain.is_file() else gzip.decompress(packed.read_bytes()).decode()
    try:
        core = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise StudyError(f"{folder} holds no tokenizer that can be read: {error}", key="--tokenizer") from error
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def make(
    to: Path,
    tokenizer: PreTrainedTokenizerBase,
    languages: Iterable[str],
    *,
    layers: int = 12,
    width: int = 64,
    heads: int = 4,
    max_length: int = 384,
    seed: int = 0,
) -> tuple[Path, str]:
    """Write `to`/backbone and `to`/adapters/<language>; return (the backbone's folder, the adapters' template).

    Raises:
        StudyError: the width is not divided by the heads, a language's name is malformed, or `to` holds another model.
    """
    languages = tuple(languages)
    if width % heads:
        raise StudyError(f"must be a multiple of the {heads} attention heads, but got {width}", key="--width")
    for language in languages:
        if not LANGUAGE.fullmatch(language):
            raise StudyError(f"must be names such as en or zh, but got {language!r}", key="--languages")
    if (to / "backbone").exists() and not (to / ABOUT).is_file():
        raise StudyError(f"{to} holds a backbone that was not made here", key="--to", hint="give another folder")
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=max_length + 2,  # XLM-R counts positions from the padding id on
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        type_vocab_size=1,
    )
    backbone, template = to / "backbone", f"{to}/adapters/{{language}}"
    shutil.rmtree(backbone, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = XLMRobertaModel(config, add_pooling_layer=False)
        model.save_pretrained(backbone)
        tokenizer.save_pretrained(backbone)
        adapters.init(model)
        for language in languages:
            model.add_adapter(language, config=SeqBnInvConfig(reduction_factor=2))
            (to / "adapters").mkdir(parents=True, exist_ok=True)
            save_language_adapter(model, language, to / "adapters" / language)
            model.delete_adapter(language)
    (to / ABOUT).write_text(json.dumps({"weights": "random", "seed": seed, "layers": layers, "width": width}))
    return backbone, template
