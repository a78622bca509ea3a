"""What tr(F) is measured on, and the squared norm of its gradient.

A unit is a module whose tensors are weights of linear maps. A hook sees its input A (B, T, di) and output; the backward
gives G (B, T, do), the gradient of the output. Then example b's gradient of a map's weight is G_b^T A_b, of its bias
sum_t G_bt. nn.Linear is one map. LoRA, o = s B A x with A (r, di) and B (do, r), is two: of x with gradient s G B, and
of A x with gradient s G.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

Map = tuple[Tensor, Tensor, bool]
"""Input (B, T, di), gradient of the output (B, T, do), whether there is a bias."""


def is_unit(module: nn.Module) -> bool:
    """An nn.Linear, or a module with the low-rank `lora_A`, `lora_B` and `scaling`."""
    return isinstance(module, nn.Linear) or _is_lora(module)


def _is_lora(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("lora_A", "lora_B", "scaling"))


def tensors(unit: nn.Module) -> list[nn.Parameter]:
    """The unit's own tensors: the ones whose gradients are measured."""
    return list(unit.parameters(recurse=False))


def kind(unit: nn.Module) -> str:
    return "Linear" if isinstance(unit, nn.Linear) else "LoRA"


def maps(unit: Any, a_btd: Tensor, g_btd: Tensor) -> Iterator[Map]:
    """The linear maps of a unit that saw A and whose output has the gradient G."""
    if isinstance(unit, nn.Linear):
        yield a_btd, g_btd, unit.bias is not None
        return
    lora_a, lora_b, g_btd = unit.lora_A.detach(), unit.lora_B.detach(), unit.scaling * g_btd
    yield a_btd, g_btd @ lora_b, False
    yield a_btd @ lora_a.T, g_btd, False


def squared_norm(a_btd: Tensor, g_btd: Tensor, bias: bool) -> Tensor:
    """||G_b^T A_b||^2, and ||sum_t G_bt||^2 of a bias: (B,), float64, by the formula that needs fewer operations."""
    length, d_in, d_out = a_btd.shape[1], a_btd.shape[2], g_btd.shape[2]
    squares = _ghost(a_btd, g_btd) if length * (d_in + d_out) < d_in * d_out else _explicit(a_btd, g_btd)
    return squares + _norm(g_btd.sum(dim=1), 1) if bias else squares


def _norm(tensor: Tensor, *dims: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=dims, dtype=torch.float64)
    return norm.square()


def _explicit(a_btd: Tensor, g_btd: Tensor) -> Tensor:
    """By making the (do, di) gradient: 2*B*T*di*do operations."""
    return _norm(torch.bmm(g_btd.transpose(1, 2), a_btd), 1, 2)


def _ghost(a_btd: Tensor, g_btd: Tensor) -> Tensor:
    """The same as sum((A A^T) * (G G^T)), without the gradient: 2*B*T^2*(di+do) operations."""
    products = torch.bmm(a_btd, a_btd.transpose(1, 2)).double() * torch.bmm(g_btd, g_btd.transpose(1, 2)).double()
    return products.sum(dim=(1, 2))
