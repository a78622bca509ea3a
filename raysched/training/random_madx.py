"""A small backbone with random weights and its language adapters: for trying a pipeline, not for results.

`raysched pretrain random` makes one around a real tokenizer, so that a study runs on real text in minutes.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import adapters
import torch
from adapters import SeqBnInvConfig
from tokenizers import Tokenizer
from transformers import (
    MODEL_MAPPING,
    BertConfig,
    DebertaV2Config,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from raysched.errors import MissingError, StudyError
from raysched.training.mlm import save_language_adapter

Architecture = Literal["xlm-roberta", "bert", "deberta-v2"]
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
    architecture: Architecture = "xlm-roberta",
    pooler: bool = True,
) -> tuple[Path, str]:
    """Write `to`/backbone and `to`/adapters/<language>; return (the backbone's folder, the adapters' template).

    `architecture` is that of XLM-R, mBERT or mDeBERTa. `pooler`: whether the checkpoint has one, where its
    architecture knows any (DeBERTa's does not).

    Raises:
        StudyError: the architecture is another, the width is not divided by the heads, a language's name is malformed,
            or `to` holds another model.
    """
    languages = tuple(languages)
    if architecture not in get_args(Architecture):
        raise StudyError(
            f"must be an architecture, but got {architecture!r}", key="--architecture", choices=get_args(Architecture)
        )
    if width % heads:
        raise StudyError(f"must be a multiple of the {heads} attention heads, but got {width}", key="--width")
    for language in languages:
        if not LANGUAGE.fullmatch(language):
            raise StudyError(f"must be names such as en or zh, but got {language!r}", key="--languages")
    if architecture == "bert":  # its tokenizers tell the two texts of a pair apart
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    if (to / "backbone").exists() and not (to / ABOUT).is_file():
        raise StudyError(f"{to} holds a backbone that was not made here", key="--to", hint="give another folder")
    backbone, template = to / "backbone", f"{to}/adapters/{{language}}"
    shutil.rmtree(backbone, ignore_errors=True)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(architecture, sizes, max_length)
        encoder: Any = MODEL_MAPPING[type(config)]
        poolable = architecture != "deberta-v2"
        model = encoder(config, **({"add_pooling_layer": False} if poolable else {}))
        with torch.random.fork_rng(devices=[]):  # drawn aside: the rest is the same with and without
            model.pooler = encoder(config).pooler if pooler and poolable else None
        model.save_pretrained(backbone)
        model.pooler = None
        tokenizer.save_pretrained(backbone)
        adapters.init(model)
        for language in languages:
            model.add_adapter(language, config=SeqBnInvConfig(reduction_factor=2))
            (to / "adapters").mkdir(parents=True, exist_ok=True)
            save_language_adapter(model, language, to / "adapters" / language)
            model.delete_adapter(language)
    about = {"weights": "random", "architecture": architecture, "seed": seed, "layers": layers, "width": width}
    (to / ABOUT).write_text(json.dumps(about))
    return backbone, template


def _config(architecture: Architecture, sizes: dict[str, Any], max_length: int) -> PretrainedConfig:
    """Settings beyond `sizes` are those of the multilingual checkpoint that the architecture stands for."""
    if architecture == "bert":
        return BertConfig(**sizes, max_position_embeddings=max_length, type_vocab_size=2)
    if architecture == "deberta-v2":
        return DebertaV2Config(
            **sizes,
            max_position_embeddings=max_length,
            type_vocab_size=0,
            relative_attention=True,
            max_relative_positions=-1,
            position_buckets=max(1, max_length // 2),
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
        )
    # XLM-R counts positions from the padding id on
    return XLMRobertaConfig(**sizes, max_position_embeddings=max_length + 2, type_vocab_size=1)
