"""Masked-language-model training: a backbone from nothing, or a MAD-X language adapter on a frozen backbone.

Data comes as rows of token ids with the mask already chosen by the caller: `MaskedRow`. For plain text, `random_mask`
chooses one as BERT does. Training is a generator of `MlmStep`s: whoever runs it decides what to do with progress.

Two runs with the same rows, settings, versions and number of threads are equal on CPU.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import adapters
import torch
from adapters import SeqBnInvConfig
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, XLMRobertaForMaskedLM

from raysched.madx.quiet import quiet
from raysched.training.seeding import generator, global_rng, stream

IGNORED = -100
HEADS = {"xlm-roberta": "lm_head", "roberta": "lm_head", "bert": "cls", "deberta-v2": "cls"}
"""Model types that can be trained here, and where each keeps its masked-language-model head."""


@dataclass(frozen=True, slots=True)
class MaskedRow:
    """Token ids as shown to the model, and what to predict at which positions of them (at least one)."""

    input_ids: Sequence[int]
    positions: Sequence[int]
    targets: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmSettings:
    """How to train. The learning rate rises over `warmup_steps`, then falls linearly to `final_lr` at the last step."""

    steps: int
    batch_size: int
    lr: float
    final_lr: float = 0.0
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps >= 1 and batch_size >= 1 must hold, but got {self.steps} and {self.batch_size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"0 <= dropout < 1 must hold, but got {self.dropout}")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        left = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.final_lr + (self.lr - self.final_lr) * left


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmStep:
    """One completed step: mean cross-entropy in nats over the masked positions of its batch, before the update."""

    step: int
    total: int
    loss: float
    lr: float


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """`input_ids` and `attention_mask` (batch, length); `labels` (batch, length), `IGNORED` where nothing is asked."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def random_mask(
    input_ids: Sequence[int],
    *,
    maskable: Collection[int],
    mask_id: int,
    vocab_size: int,
    rng: random.Random,
    share: float = 0.15,
) -> MaskedRow:
    """BERT's choice: `share` of the maskable positions; of those, 80 % masked, 10 % replaced, 10 % as they are."""
    shown = list(input_ids)
    positions = [position for position in sorted(maskable) if rng.random() < share]
    if not positions:
        positions = [rng.choice(sorted(maskable))]
    for position in positions:
        fate = rng.random()
        if fate < 0.8:
            shown[position] = mask_id
        elif fate < 0.9:
            shown[position] = rng.randrange(vocab_size)
    return MaskedRow(shown, positions, [input_ids[position] for position in positions])


def collate(rows: Sequence[MaskedRow], *, pad_id: int, device: torch.device | str = "cpu") -> MaskedBatch:
    """Rows as tensors, padded to the longest of them."""
    length = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), length), pad_id)
    labels = torch.full((len(rows), length), IGNORED)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[index, torch.tensor(row.positions)] = torch.tensor(row.targets)
    mask = (input_ids != pad_id).long()
    return MaskedBatch(input_ids.to(device), mask.to(device), labels.to(device))


def mlm_head(model: PreTrainedModel) -> nn.Module:
    """The module that scores the vocabulary, its decoder included."""
    head: nn.Module = getattr(model, HEADS[model.config.model_type])
    return head


def mlm_loss(model: PreTrainedModel, batch: MaskedBatch, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Cross-entropy in nats over the masked positions, the only ones at which the vocabulary is scored."""
    hidden_BTD = model.base_model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    asked = batch.labels != IGNORED
    return nn.functional.cross_entropy(mlm_head(model)(hidden_BTD[asked]), batch.labels[asked], reduction=reduction)


def new_backbone(config: PretrainedConfig, *, seed: int) -> XLMRobertaForMaskedLM:
    """An untrained masked language model of the XLM-R architecture."""
    with global_rng(stream(seed, "init"), torch.device("cpu")):
        return XLMRobertaForMaskedLM(config)


def pretrain_backbone(
    model: XLMRobertaForMaskedLM, rows: Iterable[MaskedRow], settings: MlmSettings
) -> Iterator[MlmStep]:
    """Train every parameter of `model`. Takes `steps * batch_size` rows; stops early where they run out."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    yield from _train(model, rows, settings)


def add_language_adapter(
    model: PreTrainedModel, name: str, *, seed: int, reduction_factor: float = 2
) -> list[nn.Parameter]:
    """Freeze `model`, add a fresh MAD-X language adapter (bottlenecks and an invertible one), and make it active.

    Returns the adapter's parameters: the only ones that are trainable afterwards.
    """
    if not hasattr(model, "adapters_config"):
        adapters.init(model)
    adaptable: Any = model  # `adapters.init` gives it methods that its type does not have
    with global_rng(stream(seed, "init"), torch.device("cpu")):
        adaptable.add_adapter(name, config=SeqBnInvConfig(reduction_factor=reduction_factor))
    with quiet():  # on its way to make it active, the library says that none is
        adaptable.train_adapter(name)
    for parameter in mlm_head(model).parameters():  # `train_adapter` freezes the encoder only
        parameter.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train_language_adapter(
    model: PreTrainedModel,
    name: str,
    rows: Iterable[MaskedRow],
    settings: MlmSettings,
    *,
    reduction_factor: float = 2,
) -> Iterator[MlmStep]:
    """Train a new language adapter on the frozen `model`, which keeps it, active, afterwards."""
    add_language_adapter(model, name, seed=settings.seed, reduction_factor=reduction_factor)
    yield from _train(model, rows, settings)


def _train(model: PreTrainedModel, rows: Iterable[MaskedRow], settings: MlmSettings) -> Iterator[MlmStep]:
    device = next(model.parameters()).device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, foreach=True
    )
    pad_id = model.config.pad_token_id
    assert isinstance(pad_id, int)
    stock = iter(rows)
    with _dropout(model, settings.dropout):
        for step in range(1, settings.steps + 1):
            taken = list(itertools.islice(stock, settings.batch_size))
            if not taken:
                return
            for group in optimizer.param_groups:
                group["lr"] = settings.lr_at(step)
            batch = collate(taken, pad_id=pad_id, device=device)
            with global_rng(stream(settings.seed, "dropout", step), device):
                loss = mlm_loss(model, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
            optimizer.step()
            yield MlmStep(step=step, total=settings.steps, loss=loss.item(), lr=settings.lr_at(step))


@contextmanager
def _dropout(model: PreTrainedModel, p: float) -> Iterator[None]:
    """The model in training mode with this dropout everywhere; afterwards in evaluation mode with its own."""
    undo: list[tuple[nn.Module, str, float]] = []
    for module in model.modules():
        name = "p" if isinstance(module, nn.Dropout) else "dropout_prob"  # the latter: attention through SDPA
        if isinstance(getattr(module, name, None), float):
            undo.append((module, name, getattr(module, name)))
            setattr(module, name, p)
    model.train()
    try:
        yield
    finally:
        for module, name, was in undo:
            setattr(module, name, was)
        model.eval()


def shuffled_epochs(rows: Sequence[MaskedRow], *, seed: int) -> Iterator[MaskedRow]:
    """Rows for ever: each epoch in a new order, which depends on `seed` and the epoch only."""
    for epoch in itertools.count():
        order = torch.randperm(len(rows), generator=generator(stream(seed, "data", epoch)))
        for index in order.tolist():
            yield rows[index]


def save_backbone(model: XLMRobertaForMaskedLM, to: Path, *, extra: Mapping[str, Tensor] | None = None) -> None:
    """Configuration and safetensors, the masked-language-model head included, and `extra` tensors beside them."""
    model.save_pretrained(to, state_dict={**model.state_dict(), **(extra or {})}, safe_serialization=True)


def save_language_adapter(model: PreTrainedModel, name: str, to: Path) -> None:
    """AdapterHub layout with safetensors: `load_adapter(to, use_safetensors=True)` reads it."""
    to.mkdir(parents=True, exist_ok=True)
    adaptable: Any = model
    adaptable.save_adapter(str(to), name, with_head=False, use_safetensors=True)
