"""The whole model: backbone and language adapters, kept for all runs; the part that trains and the head, new for each.

In an adapter run only task adapter and head train. At test time the language adapter is swapped and the task adapter
kept (section 2 of the FUN paper). In a full run backbone and head train, and no adapter is active.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters.composition import Stack
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raysched.errors import StudyError
from raysched.madx.backbone import Pooler, dropouts, load_backbone, mask_for
from raysched.madx.full import WholeBackbone, thaw
from raysched.madx.language_adapters import PREFIX, check_language_adapter, load_language_adapter
from raysched.madx.quiet import quiet
from raysched.madx.task_adapter import TASK, TaskAdapters, adapter_config, check_composition, load_task_adapter
from raysched.study.inputs import LanguageAdapterConfig, TaskAdapter


class MadX(nn.Module):
    """Backbone + language adapters, loaded once and kept; what trains and the head are made anew for each run."""

    head: nn.Module

    def __init__(
        self,
        backbone: Any,
        languages: Mapping[str, Path],
        expected: LanguageAdapterConfig | None = None,
        pooler: Pooler | None = None,
    ) -> None:
        """Wrap an already loaded encoder; `languages` maps a language to its adapter's folder."""
        super().__init__()
        # Before the adapters come: their own dropout belongs to how they were made, not to the backbone.
        self._fresh_dropout = list(dropouts(backbone))
        self._whole = WholeBackbone(backbone)
        self._trained: TaskAdapters | WholeBackbone = self._whole
        self.pooler = pooler
        with quiet():
            adapters.init(backbone)
        self.backbone = backbone
        self.languages = tuple(languages)
        for language, folder in languages.items():
            check_language_adapter(language, folder, expected, backbone.config.to_dict())
            load_language_adapter(backbone, language, folder)
        self.head = nn.Identity()
        self.requires_grad_(False)

    @classmethod
    def load(cls, folder: Path, languages: Mapping[str, Path], expected: LanguageAdapterConfig | None = None) -> MadX:
        """Load a local folder in the Hugging Face layout (safetensors, or `.bin` read with `weights_only`).

        `expected` is what every language adapter must be; anything goes when it is None.

        Raises:
            MissingError: a folder or file is not there.
            StudyError: the folder holds no encoder, or an adapter does not fit it or is not as expected.
        """
        backbone, pooler = load_backbone(folder)
        return cls(backbone, languages, expected, pooler)

    @property
    def hidden_size(self) -> int:
        return int(self.backbone.config.hidden_size)

    @property
    def n_layers(self) -> int:
        return int(self.backbone.config.num_hidden_layers)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.backbone.parameters()).device
        return device

    @property
    def full(self) -> bool:
        """Whether the backbone itself trains, without adapters."""
        return isinstance(self._trained, WholeBackbone)

    # -- a new run --------------------------------------------------------------------------------------------

    def new_task(self, settings: TaskAdapter, make_head: Callable[..., nn.Module], dropout: float | None) -> None:
        """Make a new task adapter and head from torch's global generator (seed it around).

        Nothing of an earlier run survives this call: a warm model is a cold one. `make_head` is called as
        `Task.head` is.

        Raises:
            StudyError: the bottleneck would have no units.
        """
        config = adapter_config(settings, self.hidden_size)
        self._clear()
        with quiet():
            self.backbone.add_adapter(TASK, config=config, overwrite_ok=True)
        self._trained = TaskAdapters(self.backbone)
        self._new_head(make_head, dropout)

    def load_task(self, folder: Path, make_head: Callable[..., nn.Module]) -> None:
        """The same with the task adapter in `folder` (AdapterHub layout), and a new head that is still to be filled.

        Raises:
            MissingError, StudyError: there is no adapter, or it does not fit this backbone.
        """
        self._clear()
        load_task_adapter(self.backbone, folder)
        self._trained = TaskAdapters(self.backbone)
        self._new_head(make_head, None)

    def new_full(self, make_head: Callable[..., nn.Module], dropout: float | None) -> None:
        """The same for a run that trains the backbone: no adapter is active, and nothing of the head is frozen."""
        self._clear()
        self._whole.remember()
        self._new_head(make_head, dropout)
        thaw(self.head)

    def _clear(self) -> None:
        """Forget the last run."""
        with quiet():
            self.backbone.set_active_adapters(None)
            if TASK in self.backbone.adapters_config:
                self.backbone.delete_adapter(TASK)
        self._whole.restore()
        self._trained = self._whole

    def _new_head(self, make_head: Callable[..., nn.Module], dropout: float | None) -> None:
        config, device = self.backbone.config, self.device
        self.head = make_head(
            hidden_size=self.hidden_size,
            model_type=str(config.model_type),
            pooler=self.pooler,
            dropout=float(config.hidden_dropout_prob) if dropout is None else dropout,
        )
        self.to(device)
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False)
        for module, name, p in self._fresh_dropout:
            setattr(module, name, p if dropout is None else dropout)

    def use_language(self, language: str) -> None:
        """Make `Stack(language, task)` the active composition; a full run has one model for all languages.

        Raises:
            StudyError: no adapter of that language is loaded.
        """
        if self.full:
            return
        if language not in self.languages:
            raise StudyError(f"no language adapter is loaded for {language!r}", choices=self.languages)
        setup = Stack(PREFIX + language, TASK)
        check_composition(setup)
        with quiet():
            self.backbone.set_active_adapters(setup)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, H) of token ids (B, T) and their 0/1 mask (B, T); segments (B, T) for BERT."""
        if not self.full:
            check_composition(self.backbone.adapters_config.active_setup)
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        mask = mask_for(self.backbone.config.model_type, attention_mask)
        output = self.backbone(input_ids=input_ids, attention_mask=mask, **segments)
        hidden: Tensor = output.last_hidden_state
        return hidden

    # -- what trains ------------------------------------------------------------------------------------------

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """What wakes with each layer, layer 0 (nearest the embeddings) first."""
        return [list(tensors.values()) for tensors in self._trained.layers()]

    def measured_modules(self) -> list[list[nn.Module]]:
        """What tr(F) of each layer is measured on."""
        return self._trained.measured()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that may ever train (head, layers), by a name that does not change between versions."""
        named = {f"head.{name}": parameter for name, parameter in self.head.named_parameters()}
        for layer, tensors in enumerate(self._trained.layers()):
            named |= {f"layer_{layer:02d}.{name}": tensor for name, tensor in tensors.items()}
        return named

    def task_state(self) -> dict[str, Tensor]:
        """A copy of the trained tensors, on the CPU."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.trainable().items()}

    def load_task_state(self, state: Mapping[str, Tensor]) -> None:
        """Write `state` (of `task_state`) into the model.

        Raises:
            ValueError: names or shapes differ.
        """
        mine = self.trainable()
        if mine.keys() != state.keys():
            raise ValueError(f"the state's tensors differ from the model's: {sorted(mine.keys() ^ state.keys())[:4]}")
        with torch.no_grad():
            for name, parameter in mine.items():
                if parameter.shape != state[name].shape:
                    raise ValueError(f"{name} has shape {tuple(state[name].shape)}, the model {tuple(parameter.shape)}")
                parameter.copy_(state[name])

    # -- files ------------------------------------------------------------------------------------------------

    def save_task(self, folder: Path) -> list[Path]:
        """Write what was trained, all safetensors, and return the files.

        The task adapter in AdapterHub layout, or the backbone in Hugging Face's; the head beside it.
        """
        self._trained.save(folder)
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()},
            folder / "head.safetensors",
        )
        return sorted(folder.iterdir())

    def load_saved(self, folder: Path) -> None:
        """Put what `save_task` wrote in the place of what `new_task` or `new_full` made.

        Raises:
            MissingError, StudyError, OSError, RuntimeError, KeyError, SafetensorError: it does not fit, or is damaged.
        """
        if self.full:
            self._whole.load(folder)
        else:
            load_task_adapter(self.backbone, folder)
            self._trained = TaskAdapters(self.backbone)
            self.to(self.device)
        self.load_head(folder)

    def load_head(self, folder: Path) -> None:
        self.head.load_state_dict(load_file(folder / "head.safetensors"))
