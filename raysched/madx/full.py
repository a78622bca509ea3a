"""Full fine-tuning (Table 7 of the paper): the backbone itself trains, without any adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class WholeBackbone:
    """The part of a model that a full run trains: every tensor of the encoder, adapters excepted.

    Layer j is the encoder's layer j. What lies outside the layers (embeddings; DeBERTa's table of relative positions
    and its LayerNorm) is below all of them and belongs to layer 0, as the embeddings of gradual unfreezing belong to
    the group that wakes last (Howard & Ruder 2018).
    """

    def __init__(self, encoder: Any) -> None:
        """Of an encoder before adapters are added: from then on its tensors are known by identity."""
        self._encoder, self._config = encoder, encoder.config.to_json_string()
        layer_of = {
            id(tensor): layer for layer, module in enumerate(encoder.encoder.layer) for tensor in module.parameters()
        }
        self._layers: list[dict[str, nn.Parameter]] = [{} for _ in encoder.encoder.layer]
        for name, tensor in encoder.named_parameters():
            self._layers[layer_of.get(id(tensor), 0)][name] = tensor
        self._checkpoint: dict[str, Tensor] | None = None

    def layers(self) -> list[dict[str, nn.Parameter]]:
        """Tensors of each layer by their Hugging Face name, layer 0 (nearest the embeddings) first."""
        return self._layers

    def measured(self) -> list[list[nn.Module]]:
        """What tr(F) of each layer is measured on: the Linears of encoder layer j.

        LayerNorms and embeddings are left out: per-example gradients of an embedding table are as large as the table,
        and layers are compared by what all of them have.
        """
        mine = {id(tensor) for tensors in self._layers for tensor in tensors.values()}
        return [
            [one for one in layer.modules() if isinstance(one, nn.Linear) and id(one.weight) in mine]
            for layer in self._encoder.encoder.layer
        ]

    def remember(self) -> None:
        """Keep a copy of the checkpoint's tensors on the CPU, once: before the first run that changes them."""
        if self._checkpoint is None:
            self._checkpoint = self._tensors()

    def restore(self) -> None:
        """Make the encoder what its checkpoint says again, bit by bit."""
        if self._checkpoint is None:
            return
        with torch.no_grad():
            for tensors in self._layers:
                for name, tensor in tensors.items():
                    tensor.copy_(self._checkpoint[name])

    def save(self, folder: Path) -> None:
        """Write model.safetensors and config.json, the Hugging Face layout."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors(), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(self._config)

    def load(self, folder: Path) -> None:
        """Take the tensors that `save` wrote. Raises OSError, KeyError, RuntimeError, SafetensorError."""
        saved = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for tensors in self._layers:
                for name, tensor in tensors.items():
                    tensor.copy_(saved[name])

    def _tensors(self) -> dict[str, Tensor]:
        return {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for tensors in self._layers
            for name, tensor in tensors.items()
        }


def thaw(head: nn.Module) -> None:
    """Make parameters of a head's buffers, under the same names; like all others they learn once they are told to.

    What of a head is frozen beside adapters lies in its buffers: the pooler of the checkpoint. Full fine-tuning trains
    the pooler too, as the library's own classes do.
    """
    for module in head.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_floating_point():
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(buffer.detach().clone(), requires_grad=False))
