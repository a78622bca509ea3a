"""Layer -> parameters, by identity: which tensors learn now."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from torch import nn

from raysched.errors import RunError


def _code(what: str) -> RunError:
    return RunError(what, cause="code")


class TrainableLayers:
    """What is trained of each of L layers (its task adapter, or the layer itself), and what always learns (the head).

    Raises RunError if a layer has no parameter or a tensor has two owners.
    """

    def __init__(self, layer_parameters: Sequence[Sequence[nn.Parameter]], always: Sequence[nn.Parameter]) -> None:
        self._layers = tuple(tuple(parameters) for parameters in layer_parameters)
        self._always = tuple(always)
        owner: dict[int, str] = {}
        for name, parameters in self._named():
            if not parameters and name != "always":
                raise _code(f"{name} must have at least one parameter, but has none")
            for parameter in parameters:
                if id(parameter) in owner:
                    raise _code(f"a tensor must have one owner, but {owner[id(parameter)]} and {name} share one")
                owner[id(parameter)] = name
        self._ids = frozenset(owner)

    def __len__(self) -> int:
        return len(self._layers)

    def _named(self) -> list[tuple[str, tuple[nn.Parameter, ...]]]:
        return [("always", self._always), *((f"layer {layer}", tensors) for layer, tensors in enumerate(self._layers))]

    def parameters(self) -> list[nn.Parameter]:
        """Every tensor, frozen or not, always the same order: what ONE optimizer holds for the whole run."""
        return [parameter for _, parameters in self._named() for parameter in parameters]

    def apply(self, awake: AbstractSet[int]) -> None:
        """Make exactly the `awake` layers and the head learn; a frozen tensor's old gradient is dropped.

        An optimizer steps whatever has a gradient, so one left behind would move a frozen tensor.
        """
        self._check_layers(awake)
        for parameter in self._always:
            parameter.requires_grad_(True)
        for layer, parameters in enumerate(self._layers):
            for parameter in parameters:
                parameter.requires_grad_(layer in awake)
                if layer not in awake:
                    parameter.grad = None

    def freeze_others(self, model: nn.Module) -> None:
        """Freeze every tensor of `model` that is not one of these."""
        for parameter in model.parameters():
            if id(parameter) not in self._ids:
                parameter.requires_grad_(False)
                parameter.grad = None

    def check(self, awake: AbstractSet[int], *, after_backward: bool = True, model: nn.Module | None = None) -> None:
        """Raise RunError unless exactly the expected tensors learn.

        After a backward exactly those have a gradient too; with `model`, none of its other tensors does either.
        """
        self._check_layers(awake)
        for layer, (name, parameters) in enumerate(self._named(), start=-1):
            expected = layer < 0 or layer in awake
            for parameter in parameters:
                self._check_one(name, parameter, expected, after_backward)
        for name, parameter in model.named_parameters() if model is not None else ():
            if id(parameter) not in self._ids:
                self._check_one(name, parameter, False, after_backward)

    def _check_one(self, name: str, parameter: nn.Parameter, expected: bool, after_backward: bool) -> None:
        state = "learns" if expected else "is frozen"
        if parameter.requires_grad is not expected:
            raise _code(f"{name} {state}, but requires_grad is {parameter.requires_grad}")
        if after_backward and (parameter.grad is not None) is not expected:
            raise _code(
                f"{name} {state}, but has {'no' if parameter.grad is None else 'a'} gradient after the backward"
            )

    def _check_layers(self, awake: AbstractSet[int]) -> None:
        unknown = sorted(set(awake) - set(range(len(self._layers))))
        if unknown:
            raise _code(f"layers must be of 0..{len(self._layers) - 1}, but got {unknown}")
