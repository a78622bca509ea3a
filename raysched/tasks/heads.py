"""Heads that read the first token, by architecture, as Hugging Face's own classes have them (method.md 1.1).

| architecture | classes (nli) | choices |
|---|---|---|
| bert | frozen pooler, out | frozen pooler, out |
| roberta, xlm-roberta | dense, tanh, out | frozen pooler, out |
| deberta-v2 | dense, gelu, out | dense, gelu, out |
| any other | dense, tanh, out | dense, tanh, out |

A *frozen pooler* is the backbone's own dense layer and tanh: the paper's code froze everything named bert or roberta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

INITIAL_STD = 0.02
"""Standard deviation of a head's first weights, as in the backbones' own configurations."""
Activation = Literal["tanh", "gelu"]
ROBERTA = ("roberta", "xlm-roberta")


def new_linear(width: int, n: int) -> nn.Linear:
    """`n` outputs of `width` values, drawn from torch's global generator."""
    made = nn.Linear(width, n)
    nn.init.normal_(made.weight, std=INITIAL_STD)
    nn.init.zeros_(made.bias)
    return made


class FrozenLinear(nn.Module):
    """A Linear that never trains: `weight` (out, in) and `bias` (out,) are buffers, saved with the head."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.weight, self.bias)


class FirstTokenHead(nn.Module):
    """dropout, dense (H, H), activation, dropout, out (H, n) on the first token: hidden states (B, T, H) to (B, n).

    `dense` is an `nn.Linear`, or a `FrozenLinear` where it is the backbone's pooler; `activation` is the name of a
    function; `out` is an `nn.Linear`. Whatever the architecture, the state holds `dense.*` and `out.*`.
    """

    activation: Activation

    def __init__(
        self, dense: nn.Linear | FrozenLinear, activation: Activation, n: int, *, before: float, dropout: float
    ) -> None:
        """`before` and `dropout`: probabilities of the dropout before the dense layer and before the last one."""
        super().__init__()
        self.activation = activation
        self.before, self.dropout = nn.Dropout(before), nn.Dropout(dropout)
        self.dense, self.out = dense, new_linear(dense.weight.shape[0], n)

    def forward(self, hidden: Tensor) -> Tensor:
        dense = self.dense(self.before(hidden[:, 0]))
        active = torch.tanh(dense) if self.activation == "tanh" else functional.gelu(dense)
        logits: Tensor = self.out(self.dropout(active))
        return logits


def class_head(
    hidden_size: int, model_type: str, pooler: Mapping[str, Tensor] | None, dropout: float, n_classes: int
) -> FirstTokenHead:
    """`n_classes` logits of each row. What is new is drawn from torch's global generator."""
    if model_type == "bert":
        return _on_pooler(hidden_size, pooler, dropout, n_classes)
    return _on_dense(hidden_size, model_type, dropout, n_classes)


def choice_head(
    hidden_size: int, model_type: str, pooler: Mapping[str, Tensor] | None, dropout: float
) -> FirstTokenHead:
    """One logit of each row. What is new is drawn from torch's global generator."""
    if model_type == "bert" or model_type in ROBERTA:
        return _on_pooler(hidden_size, pooler, dropout, 1)
    return _on_dense(hidden_size, model_type, dropout, 1)


def _on_pooler(hidden_size: int, pooler: Mapping[str, Tensor] | None, dropout: float, n: int) -> FirstTokenHead:
    """A checkpoint without a pooler gets a random one, frozen all the same, as the library gives it."""
    if pooler is None:
        pooler = {name: value.detach() for name, value in new_linear(hidden_size, hidden_size).named_parameters()}
    return FirstTokenHead(FrozenLinear(pooler["weight"], pooler["bias"]), "tanh", n, before=0.0, dropout=dropout)


def _on_dense(hidden_size: int, model_type: str, dropout: float, n: int) -> FirstTokenHead:
    dense = new_linear(hidden_size, hidden_size)
    if model_type == "deberta-v2":  # its configurations have no dropout before the dense layer
        return FirstTokenHead(dense, "gelu", n, before=0.0, dropout=dropout)
    return FirstTokenHead(dense, "tanh", n, before=dropout, dropout=dropout)
