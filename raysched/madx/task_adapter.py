"""The task adapter: its variants, how each is stacked on a language adapter, and its tensors layer by layer.

In `Stack(language, task)` both must act. With adapters 1.3.0 they do where the task adapter is

* pfeiffer or houlsby: its bottleneck after the feed-forward block reads the language adapter's output;
* lora: it changes the attention's weights, the language adapter what comes after the feed-forward block;
* parallel, beside the attention block: the language adapter has the feed-forward block for itself.

They do not where a parallel bottleneck stands beside the feed-forward block: the library hands it the block's input and
throws the language adapter's output away, silently. So `parallel` means the attention block here (both places are in He
et al. 2022), and what is saved gives the same numbers in the library alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters import AdapterConfig, DoubleSeqBnConfig, LoRAConfig, ParBnConfig, SeqBnConfig
from adapters.composition import AdapterCompositionBlock, Stack
from adapters.methods.lora import LoRA
from safetensors import SafetensorError
from torch import nn

from raysched.errors import MissingError, StudyError
from raysched.madx.language_adapters import PREFIX
from raysched.madx.quiet import quiet
from raysched.study.inputs import TaskAdapter

TASK = "task"
"""Name of the task adapter inside the model."""


def adapter_config(settings: TaskAdapter, hidden_size: int) -> AdapterConfig:
    """The library's configuration of a variant; what a study does not set (first weights, scaling) is the library's.

    Raises:
        StudyError: the bottleneck would have no units.
    """
    if settings.kind == "lora":
        return LoRAConfig(r=settings.rank, alpha=settings.alpha)  # query and value, as in Hu et al. 2022
    if settings.reduction > hidden_size:
        raise StudyError(
            f"reduction <= hidden size must hold, but got {settings.reduction} and {hidden_size}",
            key="model.task_adapter.reduction",
        )
    options: dict[str, Any] = {"reduction_factor": settings.reduction, "non_linearity": settings.activation}
    match settings.placement:
        case "houlsby":
            return DoubleSeqBnConfig(**options)
        case "parallel":
            return ParBnConfig(mh_adapter=True, output_adapter=False, **options)
        case _:
            return SeqBnConfig(**options)


def check_composition(setup: AdapterCompositionBlock | None) -> None:
    """Refuse every composition but `Stack(language adapter, task adapter)`.

    `BatchSplit(Stack(..), ..)` and `Parallel(Stack, Stack)` apply the base LayerNorm and residual twice in
    adapters 1.3.0, silently; and the invertible adapter is always that of the first language.

    Raises:
        StudyError: the composition is another one.
    """
    members = list(setup.children) if isinstance(setup, Stack) else []
    names_ok = all(isinstance(member, str) for member in members)
    if not (names_ok and len(members) == 2 and members[0].startswith(PREFIX) and members[1] == TASK):
        raise StudyError(
            f"adapters may only be composed as Stack(language adapter, task adapter), but got {setup}",
            hint="one language per forward; other compositions give wrong numbers silently",
        )


def load_task_adapter(encoder: Any, folder: Path) -> None:
    """Put the task adapter in `folder` (AdapterHub layout) in the place of the encoder's, with its own settings.

    Raises:
        MissingError: there is no adapter.
        StudyError: it is of another architecture or width, or its tensors are not the encoder's.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise MissingError(f"no adapter_config.json in {folder}", key="ADAPTER", hint="name a folder with an adapter")
    info = dict[str, list[str]]()
    try:
        written = json.loads(path.read_text())
        for name in ("model_type", "hidden_size"):
            made, here = written.get(name), getattr(encoder.config, name)
            if made is not None and made != here:
                raise ValueError(f"it was made for {name} {made}, the backbone has {here}")
        with quiet():
            if TASK in encoder.adapters_config:
                encoder.delete_adapter(TASK)
            encoder.load_adapter(str(folder), load_as=TASK, use_safetensors=True, with_head=False, loading_info=info)
        for what in ("missing_keys", "unexpected_keys"):
            if info.get(what):
                raise ValueError(f"{what.replace('_keys', '')} tensors {', '.join(sorted(info[what])[:3])}")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise StudyError(
            f"the adapter in {folder} does not fit this backbone: {error}",
            key="ADAPTER",
            hint="a task adapter only works on the backbone that it was trained on",
        ) from error


class TaskAdapters:
    """The part of a model that an adapter run trains: the task adapter of every layer, of any variant."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        by_layer = encoder.get_adapter(TASK)
        self._modules: list[list[nn.Module]] = [
            list(by_layer[layer].values()) for layer in range(encoder.config.num_hidden_layers)
        ]

    def layers(self) -> list[dict[str, nn.Parameter]]:
        """Tensors of each layer by name, layer 0 (nearest the embeddings) first."""
        return [
            {f"{index}.{name}": value for index, part in enumerate(parts) for name, value in part.named_parameters()}
            for parts in self._modules
        ]

    def measured(self) -> list[list[nn.Module]]:
        """What tr(F) of each layer is measured on: the Linears of its bottlenecks, or its low-rank matrices."""
        return [
            [one for part in parts for one in part.modules() if isinstance(one, nn.Linear | LoRA)]
            for parts in self._modules
        ]

    def save(self, folder: Path) -> None:
        """Write adapter.safetensors and adapter_config.json, the AdapterHub layout."""
        with quiet():
            self._encoder.save_adapter(str(folder), TASK, use_safetensors=True)
