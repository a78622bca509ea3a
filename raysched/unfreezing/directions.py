"""Directions v of a Fisher pass: gradients with respect to the logits z, one backward each (p = softmax(z)).

Any v with E v = 0 and E vv^T = diag(p) - pp^T makes ||J^T v||^2 an unbiased tr(F): `exact` gives C-1 of them that
sum to it, `noise` and `sampled` draw one. `mode` and `true` are the gradients of one label's log-probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from raysched.errors import Diverged


def directions(
    groups: Sequence[Tensor], labels: str, passes: int, generator: torch.Generator, targets: Sequence[Tensor] | None
) -> Iterator[list[Tensor | None]]:
    """One v per backward: a (B, C) for each group, or None where the group takes no part.

    `passes` counts the draws of sampled and noise labels; `targets` are the classes (B,) per group for `true`.
    Raises Diverged if a probability is not finite.
    """
    probabilities = [
        group.detach().softmax(dim=1, dtype=torch.promote_types(group.dtype, torch.float32)) for group in groups
    ]
    if not all(bool(p.isfinite().all()) for p in probabilities):
        raise Diverged("the probabilities of the model are not finite numbers")
    if labels == "exact":
        for index, p in enumerate(probabilities):
            for v in _factor(p):
                yield [v if index == other else None for other in range(len(groups))]
        return
    for _ in range(passes):
        if labels == "noise":
            yield [_noise(p, generator) for p in probabilities]
        else:
            chosen = _classes(probabilities, labels, generator) if targets is None else targets
            yield [_score(p, y.to(p.device)) for p, y in zip(probabilities, chosen, strict=True)]


def _classes(probabilities: list[Tensor], labels: str, generator: torch.Generator) -> list[Tensor]:
    if labels == "mode":
        return [p.argmax(dim=1) for p in probabilities]
    return [torch.multinomial(p.to(generator.device), 1, generator=generator)[:, 0] for p in probabilities]


def _factor(p: Tensor) -> Iterator[Tensor]:
    """C-1 directions (B, C) with sum_c v_c v_c^T = diag(p) - pp^T, group by group exact.

    diag(p) - pp^T = D (I - ss^T) D with s = sqrt(p), D = diag(s); the Householder reflection of s onto the first
    axis has the complement of s in its other columns. Any such factor gives the sum that the C-1 eigenvectors
    give, and this one needs no decomposition. For C = 2 it is sqrt(p1 p2) (-1, 1).
    """
    s = p.sqrt()
    u = s.clone()
    u[:, 0] += 1
    scale = 2 / u.square().sum(dim=1, keepdim=True)
    for c in range(1, p.shape[1]):
        column = -u * (scale * u[:, c : c + 1])
        column[:, c] += 1
        yield s * column


def _noise(p: Tensor, generator: torch.Generator) -> Tensor:
    """v = sqrt(p) eps - p <sqrt(p), eps>, eps of +-1."""
    signs = torch.randint(0, 2, p.shape, generator=generator, device=generator.device).to(p) * 2 - 1
    scaled = p.sqrt() * signs
    return scaled - p * scaled.sum(dim=1, keepdim=True)


def _score(p: Tensor, y: Tensor) -> Tensor:
    """v = e_y - p, the gradient of log p(y); zero where y is no class."""
    counted = (y >= 0) & (y < p.shape[1])
    v = -p
    v.scatter_add_(1, torch.where(counted, y, 0)[:, None], torch.ones_like(p[:, :1]))
    return torch.where(counted[:, None], v, 0)
