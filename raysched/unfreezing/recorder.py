"""The hooks of a Fisher pass: they keep what each unit saw and made, and turn gradients of the outputs into squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from raysched.errors import RunError
from raysched.unfreezing import units


class Recorder:
    """Keeps (input, output) of each call of the units, while it is entered.

    An output that needs no gradient is replaced by a copy that does, which starts the graph there.
    """

    def __init__(self, modules: Sequence[Sequence[nn.Module]]) -> None:
        self._modules = [tuple(layer) for layer in modules]
        self._names = {
            id(unit): f"{units.kind(unit)} {i} of layer {j}"
            for j, layer in enumerate(modules)
            for i, unit in enumerate(layer)
        }
        self._calls: dict[int, list[tuple[Tensor, Tensor, int]]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._check()

    def _check(self) -> None:
        if not all(self._modules):
            raise RunError("every layer must have at least one Linear to measure, but one has none", cause="code")
        measured = [unit for layer in self._modules for unit in layer]
        wrong = [type(unit).__name__ for unit in measured if not units.is_unit(unit)]
        if wrong:
            raise RunError(f"only Linear and LoRA modules can be measured, but got {', '.join(wrong)}", cause="code")
        tensors = [id(tensor) for unit in measured for tensor in units.tensors(unit)]
        if len(set(tensors)) != len(tensors):
            raise RunError("no two of the measured Linears may share a tensor, but two do", cause="code")

    def __enter__(self) -> Self:
        self._handles = [unit.register_forward_hook(self._keep) for layer in self._modules for unit in layer]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._calls.clear()

    def start(self) -> None:
        """Forget the last forward."""
        self._calls.clear()

    def _keep(self, unit: nn.Module, inputs: tuple[Tensor | None, ...], output: Any) -> Any:
        rest = output[1:] if isinstance(output, tuple) else None  # a LoRA module returns its gate too
        made = output if rest is None else output[0]
        kept = made if made.requires_grad else made.detach().requires_grad_(True)
        seen = next(value for value in inputs if value is not None)
        self._calls.setdefault(id(unit), []).append((seen.detach(), kept, kept._version))
        return kept if rest is None else (kept, *rest)

    def shared(self, rows: int) -> bool:
        """Whether a unit computed something once for all `rows` rows: DeBERTa projects its relative positions so.

        The gradient of such an output is summed over the examples, so they can only be told apart one by one.
        """
        return rows > 1 and any(a.shape[0] == 1 for calls in self._calls.values() for a, _, _ in calls)

    def square(
        self, groups: list[Tensor], directions: Iterable[list[Tensor | None]], n: int, rows: int, estimator: str
    ) -> Tensor:
        """Sum over the directions of squared gradient norms, float64: (n, L) per example, (1, L) per batch.

        Per batch it is B * ||mean g||^2. `rows` is what every unit must see, n examples of one or more rows each.
        """
        size = n if estimator == "per_example" else 1
        self._check_calls(rows, size)
        outputs = [output for calls in self._calls.values() for _, output, _ in calls]
        total = torch.zeros(size, len(self._modules), dtype=torch.float64, device=groups[0].device)
        reached: set[int] = set()
        for direction in directions:
            pairs = [(group, v.to(group)) for group, v in zip(groups, direction, strict=True) if v is not None]
            gradients = torch.autograd.grad(
                [group for group, _ in pairs], outputs, [v for _, v in pairs], retain_graph=True, allow_unused=True
            )
            by_output = {id(output): gradient for output, gradient in zip(outputs, gradients, strict=True)}
            for j, layer in enumerate(self._modules):
                for unit in layer:
                    # a unit called more than once has one gradient, the sum over its calls: longer rows
                    calls = [(a, by_output[id(out)]) for a, out, _ in self._calls[id(unit)]]
                    pieces = [
                        (a.reshape(size, -1, a.shape[-1]), g.reshape(size, -1, g.shape[-1]))
                        for a, g in calls
                        if g is not None
                    ]
                    if pieces:
                        reached.add(id(unit))
                        a_btd, g_btd = (torch.cat(side, dim=1) for side in zip(*pieces, strict=True))
                        for one in units.maps(unit, a_btd, g_btd):
                            squares = units.squared_norm(*one)
                            total[:, j] += squares if estimator == "per_example" else squares / n
        self._check_reached(reached)
        return total

    def _check_calls(self, rows: int, size: int) -> None:
        for key, name in self._names.items():
            if key not in self._calls:
                raise RunError(f"{name} was not reached by the forward: is its adapter active?", cause="code")
            for a, output, version in self._calls[key]:
                if a.dim() < 2 or not (a.shape[0] == rows or a.shape[0] == size == 1):
                    raise RunError(
                        f"{name} must see {rows} rows, one or more per example, but saw {tuple(a.shape)}", cause="code"
                    )
                if output._version != version:
                    raise RunError(f"{name} had its output changed in place: its gradient is lost", cause="code")

    def _check_reached(self, reached: set[int]) -> None:
        for key, name in self._names.items():
            if key not in reached:
                raise RunError(f"{name} ran, but no logit depends on it", cause="code")
