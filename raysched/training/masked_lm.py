"""A backbone as a masked language model, from a local folder: tokenizer, encoder, and its head where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from raysched.errors import MissingError, StudyError
from raysched.madx.quiet import quiet
from raysched.training.mlm import HEADS
from raysched.training.seeding import global_rng, stream

KEY = "--backbone"
SPECIAL = ("cls_token", "sep_token", "pad_token", "mask_token")
LEGACY_HEAD = {
    r"^lm_predictions\.lm_head\.(dense|LayerNorm)": r"cls.predictions.transform.\1",
    r"^lm_predictions\.lm_head\.bias": "cls.predictions.bias",
}
"""DeBERTa-v3 checkpoints name the parts of their head otherwise than the class that computes with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What can be said of a backbone's folder before its weights are read."""

    folder: Path
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @property
    def positions(self) -> int:
        """Tokens of the longest input, special ones included."""
        positions = int(self.config.max_position_embeddings)
        if str(self.config.model_type).endswith("roberta"):  # counts positions from the padding id on
            positions -= int(self.config.pad_token_id or 0) + 1
        return positions


def inspect(folder: Path) -> Backbone:
    """Configuration and tokenizer of a local folder in the Hugging Face layout.

    Raises:
        MissingError: the folder has no configuration, weights or tokenizer.
        StudyError: there is no masked language model of its architecture here, or its tokenizer does not fit one.
    """
    if not (folder / "config.json").is_file():
        raise MissingError(f"no config.json in the backbone's folder {folder}", key=KEY)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise MissingError(f"no model.safetensors or pytorch_model.bin in {folder}", key=KEY)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"{folder}/config.json is not that of an encoder: {error}", key=KEY) from error
    if config.model_type not in HEADS:
        raise StudyError(
            f"must be an encoder with masked-language-model training, but {folder} holds a {config.model_type}",
            key=KEY,
            choices=HEADS,
            hint="mBERT, XLM-R and mDeBERTa-v3 are such encoders",
        )
    return Backbone(folder=folder, config=config, tokenizer=_tokenizer(folder, config.vocab_size))


def _tokenizer(folder: Path, vocab_size: int) -> PreTrainedTokenizerBase:
    hint = "copy tokenizer.json and tokenizer_config.json of the backbone into its folder"
    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
    except Exception as error:  # which one depends on what is missing
        raise MissingError(f"no tokenizer in {folder} ({type(error).__name__})", key=KEY, hint=hint) from error
    lacking = [name for name in SPECIAL if getattr(tokenizer, name) is None]
    if lacking:
        raise StudyError(f"the tokenizer in {folder} has no {', '.join(lacking)}", key=KEY, hint=hint)
    if len(tokenizer) > vocab_size:
        raise StudyError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, but the backbone only {vocab_size}",
            key=KEY,
            hint="give the backbone its own tokenizer",
        )
    return tokenizer


def load(backbone: Backbone, *, seed: int, device: torch.device) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model on `device` in evaluation mode, and the names of its head's tensors that the checkpoint lacks.

    Those are drawn from stream `init` of `seed`; a decoder that is tied to the embeddings is never among them.

    Raises:
        StudyError: the weights are not those of this encoder.
    """
    config = backbone.config
    options: dict[str, Any] = {}
    if config.model_type == "deberta-v2":
        config.legacy = True
        options["key_mapping"] = LEGACY_HEAD
    try:
        with quiet(), global_rng(stream(seed, "init", 1), torch.device("cpu")):
            model, info = AutoModelForMaskedLM.from_pretrained(
                backbone.folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise StudyError(f"{backbone.folder} cannot be loaded as a backbone: {error}", key=KEY) from error
    head = f"{HEADS[config.model_type]}."
    missing = sorted(info["missing_keys"])
    lacking = [name for name in missing if not name.startswith(head)]
    if lacking:
        raise StudyError(f"the weights in {backbone.folder} lack {', '.join(lacking[:3])}", key=KEY)
    return model.to(device).eval(), tuple(missing)
