"""Everything under `raysched/mini/assets`, made from nothing: `raysched pretrain mini --to DIR`.

1. The tokenizer: one token per word of the six languages.
2. The backbone: XLM-R's architecture at toy size, trained to fill in the masks that `mini.text` chose. First on easy
   text of the source language, from which it learns to look words up, then to compare nouns, then verbs; then on all
   text of that language; then on all languages; then with harder choices; last, with dropout.
3. One language adapter per language, the source's included, on the frozen backbone.

About a quarter of an hour on one CPU core. The result depends on the recipe, on the library versions and, in its last
digits, on the CPU; the losses of the first steps are kept in `recipe.json` and tested.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig

from raysched.mini import hash_folder
from raysched.mini.facts import VERSION
from raysched.mini.languages import LANGUAGES, SOURCE
from raysched.mini.text import (
    OPENING,
    TEXT_SHARES,
    MlmRow,
    law_text,
    matching_text,
    mixed_mlm_text,
    mlm_text,
    primer_text,
)
from raysched.mini.tokenizer import MAX_LENGTH, build_tokenizer
from raysched.training.mlm import (
    MaskedRow,
    MlmSettings,
    MlmStep,
    new_backbone,
    pretrain_backbone,
    save_backbone,
    save_language_adapter,
    train_language_adapter,
)

SEED = 20240613
INIT, HEAD_INIT = 0.05, 0.02
"""Standard deviation of new weights: of the narrow backbone, and as XLM-R's configuration says for later heads."""
FIRST_STEPS = 8
"""How many of the first losses `recipe.json` keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How long each part is trained: the backbone's stages, then every language adapter."""

    primer: int = 700
    matching: int = 500
    law: int = 700
    source: int = 300
    all: int = 2800
    persons: int = 250
    dropout: int = 300
    adapter: int = 150


Progress = Callable[[str, MlmStep], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the backbone's training, with its own text, optimizer and warm-up."""

    name: Literal["primer", "matching", "law", "source", "all", "persons", "dropout"]
    settings: MlmSettings

    def text(self) -> Iterator[MlmRow]:
        seed = self.settings.seed
        in_source = {"primer": primer_text, "matching": matching_text, "law": law_text, "source": mlm_text}
        return (
            in_source[self.name](SOURCE, seed)
            if self.name in in_source
            else mixed_mlm_text(seed, hard=self.name != "all")
        )


def stages(steps: Steps) -> tuple[Stage, ...]:
    """The backbone's training, in order; a stage of no steps is left out."""
    planned: tuple[tuple[Any, int, dict[str, Any]], ...] = (
        ("primer", steps.primer, {"batch_size": 32, "lr": 1e-3, "final_lr": 1e-3, "warmup_steps": 100}),
        ("matching", steps.matching, {"batch_size": 64, "lr": 1e-3, "final_lr": 1e-3, "warmup_steps": 20}),
        ("law", steps.law, {"batch_size": 64, "lr": 1e-3, "final_lr": 1e-3, "warmup_steps": 20}),
        ("source", steps.source, {"batch_size": 64, "lr": 1e-3, "final_lr": 1e-3, "warmup_steps": 20}),
        ("all", steps.all, {"batch_size": 64, "lr": 1e-3, "final_lr": 4e-4, "warmup_steps": 20}),
        ("persons", steps.persons, {"batch_size": 64, "lr": 6e-4, "final_lr": 4e-4, "warmup_steps": 20}),
        ("dropout", steps.dropout, {"batch_size": 64, "lr": 4e-4, "warmup_steps": 20, "dropout": 0.1}),
    )
    return tuple(
        Stage(name=name, settings=MlmSettings(steps=count, seed=SEED + index, betas=(0.9, 0.999), **settings))
        for index, (name, count, settings) in enumerate(planned)
        if count
    )


def adapter_settings(steps: Steps) -> MlmSettings:
    """How each language adapter is trained."""
    return MlmSettings(steps=steps.adapter, batch_size=32, lr=1e-3, warmup_steps=20, dropout=0.1, seed=SEED + 7)


def backbone_config(tokenizer: PreTrainedTokenizerFast) -> XLMRobertaConfig:
    """XLM-R with its twelve layers, everything else tiny. The dropout is that of later task training."""
    return XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=12,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_LENGTH + 2,
        type_vocab_size=1,
        initializer_range=INIT,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def pooler(width: int) -> dict[str, Tensor]:
    """XLM-R's checkpoint has a pooler, untrained by its masks. Here it hands on the opening token's state."""
    return {"roberta.pooler.dense.weight": torch.eye(width), "roberta.pooler.dense.bias": torch.zeros(width)}


def tokenised(text: Iterator[MlmRow], tokenizer: PreTrainedTokenizerFast) -> Iterator[MaskedRow]:
    """Rows of the world's text as token ids. A word is a token, so word indices shift by the special tokens only."""
    ids = tokenizer.get_vocab()
    bos, eos = ids[str(tokenizer.bos_token)], ids[str(tokenizer.eos_token)]
    for row in text:
        input_ids = [bos, *(ids[word] for word in row.first), eos]
        if row.second is not None:
            input_ids += [eos, *(ids[word] for word in row.second), eos]
        shift = {index: 1 if index < len(row.first) else 3 for index, _ in row.targets}  # `<s>`, or also `</s></s>`
        shift[OPENING] = -OPENING
        positions = [index + shift[index] for index, _ in row.targets]
        yield MaskedRow(input_ids, positions, [ids[word] for _, word in row.targets])


def first_losses(n: int) -> list[float]:
    """Losses of the backbone's first `n` steps, computed anew."""
    tokenizer = build_tokenizer()
    model = new_backbone(backbone_config(tokenizer), seed=SEED)
    first = stages(Steps())[0]
    steps = pretrain_backbone(model, tokenised(first.text(), tokenizer), first.settings)
    return [step.loss for step in itertools.islice(steps, n)]


def pretrain_mini(
    to: Path,
    *,
    steps: Steps = Steps(),
    progress: Progress = lambda part, step: None,
) -> None:
    """Write `backbone/`, `adapters/<language>/` and `recipe.json` below `to`.

    `progress` is called after every step with the name of the part (a stage or a language) and the step.
    """
    tokenizer = build_tokenizer()
    model = new_backbone(backbone_config(tokenizer), seed=SEED)
    parts: list[dict[str, object]] = []
    losses: list[float] = []
    for stage in stages(steps):
        rows = tokenised(stage.text(), tokenizer)
        told = _told(stage.name, pretrain_backbone(model, rows, stage.settings), progress)
        losses.extend(told)
        parts.append({**dataclasses.asdict(stage), "final_loss": _tail(told)})
    backbone = to / "backbone"
    model.config.initializer_range = HEAD_INIT
    save_backbone(model, backbone, extra=pooler(model.config.hidden_size))
    tokenizer.save_pretrained(backbone)
    settings = adapter_settings(steps)
    for code in LANGUAGES:
        rows = tokenised(mlm_text(code, settings.seed), tokenizer)
        told = _told(code, train_language_adapter(model, code, rows, settings), progress)
        save_language_adapter(model, code, to / "adapters" / code)
        model.delete_adapter(code)
        parts.append({"name": code, "settings": dataclasses.asdict(settings), "final_loss": _tail(told)})
    recipe = {
        "made_by": "raysched.training.pretrain_mini",
        "world_version": VERSION,
        "seed": SEED,
        "parts": parts,
        "language_adapter": {"config": "SeqBnInvConfig", "reduction_factor": 2},
        "text_shares": TEXT_SHARES,
        "first_losses": losses[:FIRST_STEPS],
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "adapters", "tokenizers", "safetensors")},
        },
        "content_hash": hash_folder(to),
    }
    (to / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def _told(part: str, steps: Iterator[MlmStep], progress: Progress) -> list[float]:
    losses = []
    for step in steps:
        losses.append(step.loss)
        progress(part, step)
    return losses


def _tail(losses: list[float]) -> float:
    """Mean of the last fifty losses."""
    last = losses[-50:]
    return sum(last) / len(last)
