"""MAD-X (Pfeiffer et al. 2020): a frozen backbone, frozen language adapters, a stacked task adapter and a head.

Only the task adapter and the head ever train. At test time the language adapter is swapped and the task
adapter kept (section 2 of the FUN paper).
"""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters import AdapterConfig, SeqBnConfig
from adapters.composition import AdapterCompositionBlock, Stack
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig
from transformers.utils import logging as transformers_logging

from raysched.errors import MissingError, StudyError
from raysched.study.inputs import LanguageAdapterConfig, TaskAdapter

TASK = "task"
"""Name of the task adapter inside the model; language adapters are `language_<code>`, so no code can clash with it."""


_SDPA = frozenset({"bert", "roberta", "xlm-roberta"})


def check_composition(setup: AdapterCompositionBlock | None) -> None:
    """Refuse every composition but `Stack(language adapter, task adapter)`.

    `BatchSplit(Stack(..), ..)` and `Parallel(Stack, Stack)` apply the base LayerNorm and residual twice in
    adapters 1.3.0, silently; and the invertible adapter is always that of the first language.

    Raises:
        StudyError: the composition is another one.
    """
    members = list(setup.children) if isinstance(setup, Stack) else []
    names_ok = all(isinstance(member, str) for member in members)
    if not (names_ok and len(members) == 2 and members[0].startswith("language_") and members[1] == TASK):
        raise StudyError(
            f"adapters may only be composed as Stack(language adapter, task adapter), but got {setup}",
            hint="one language per forward; other compositions give wrong numbers silently",
        )


def check_language_adapter(language: str, folder: Path, expected: LanguageAdapterConfig | None) -> None:
    """Compare the `config` of a language adapter's adapter_config.json with what the study says it is.

    Raises:
        MissingError: there is no such file.
        StudyError: it is malformed, or says something else.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise MissingError(
            f"no adapter_config.json in the adapter's folder {folder} (language {language})",
            key="model.language_adapters",
        )
    try:
        # The library's own reading of names ("pfeiffer"), and of the keys that older versions wrote.
        with _quiet():
            config = AdapterConfig.load(json.loads(path.read_text())["config"])
        inside, after = config.mh_adapter, config.output_adapter
        made: dict[str, tuple[object, object]] = {
            "placement": (
                {(False, True): "pfeiffer", (True, True): "houlsby"}.get((inside, after), "other"),
                "mh_adapter",
            ),
            "reduction": (config.reduction_factor, "reduction_factor"),
            "invertible": (bool(config.inv_adapter), "inv_adapter"),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is not the configuration of a bottleneck adapter: {type(error).__name__}: {error}",
            key="model.language_adapters",
        ) from error
    for key, wanted in (expected.model_dump() if expected is not None else {}).items():
        found, name = made[key]
        if found != wanted:
            raise StudyError(
                f"must be what {path} says ({name} of language {language}), but expected {wanted} and found {found}",
                key=f"model.language_adapter_config.{key}",
                hint=f"--set model.language_adapter_config.{key}=VALUE where all adapters are so, or take others",
            )


class MadX(nn.Module):
    """Backbone + language adapters, loaded once and kept; the task adapter and head are made anew for each run."""

    head: nn.Module

    def __init__(
        self, backbone: nn.Module, languages: Mapping[str, Path], expected: LanguageAdapterConfig | None = None
    ) -> None:
        """Wrap an already loaded encoder; `languages` maps a language to its adapter's folder."""
        super().__init__()
        # Before the adapters come: their own dropout belongs to how they were made, not to the backbone.
        self._fresh_dropout = list(_dropouts(backbone))
        with _quiet():
            adapters.init(backbone)
        self.backbone: Any = backbone
        self.languages = tuple(languages)
        for language, folder in languages.items():
            check_language_adapter(language, folder, expected)
            self._load_language(language, folder)
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
        if not (folder / "config.json").is_file():
            raise MissingError(f"no config.json in the backbone's folder {folder}", key="model.backbone")
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
            raise MissingError(f"no model.safetensors or pytorch_model.bin in {folder}", key="model.backbone")
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with _quiet():
                config = AutoConfig.from_pretrained(folder, **options)
                architecture: Any = MODEL_MAPPING[type(config)]
                if "add_pooling_layer" in inspect.signature(architecture).parameters:
                    options["add_pooling_layer"] = False  # QA reads the last hidden states only
                backbone, info = architecture.from_pretrained(
                    folder, config=config, dtype=torch.float32, output_loading_info=True, **options
                )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise StudyError(f"{folder} cannot be loaded as a backbone: {error}", key="model.backbone") from error
        # The library fills what is missing with random numbers and goes on.
        if info["missing_keys"]:
            lacking = ", ".join(sorted(info["missing_keys"])[:3])
            raise StudyError(f"the weights in {folder} lack {lacking}", key="model.backbone")
        if config.is_encoder_decoder or not hasattr(backbone, "encoder"):
            raise StudyError(f"{folder} holds a {config.model_type}, which is no encoder", key="model.backbone")
        return cls(backbone, languages, expected)

    def _load_language(self, language: str, folder: Path) -> None:
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_adapter*.bin")):
            raise MissingError(
                f"no adapter.safetensors or pytorch_adapter.bin in {folder} (language {language})",
                key="model.language_adapters",
            )
        name, info = f"language_{language}", dict[str, list[str]]()
        try:
            with _quiet():
                self.backbone.load_adapter(
                    str(folder), load_as=name, use_safetensors=True, with_head=False, loading_info=info
                )
            # The library leaves what is missing random and passes over what does not belong, and goes on.
            for what in ("missing_keys", "unexpected_keys"):
                if info.get(what):
                    raise ValueError(f"{what.replace('_keys', '')} tensors {', '.join(sorted(info[what])[:3])}")
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise StudyError(
                f"the adapter in {folder} (language {language}) does not fit this backbone: {error}",
                key="model.language_adapters",
                hint="a language adapter must be trained on this very backbone",
            ) from error

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

    def new_task(self, settings: TaskAdapter, make_head: Callable[..., nn.Module], dropout: float | None) -> None:
        """Drop any earlier task adapter and head and make new ones from torch's global generator (seed it around).

        Nothing of an earlier run survives this call: a warm model is a cold one.

        Raises:
            StudyError: the bottleneck would have no units.
        """
        if settings.reduction > self.hidden_size:
            raise StudyError(
                f"reduction <= hidden size must hold, but got {settings.reduction} and {self.hidden_size}",
                key="model.task_adapter.reduction",
            )
        device = self.device
        with _quiet():
            if TASK in self.backbone.adapters_config:
                self.backbone.delete_adapter(TASK)
            config = SeqBnConfig(reduction_factor=settings.reduction, non_linearity=settings.activation)
            self.backbone.add_adapter(TASK, config=config, overwrite_ok=True)
        config = self.backbone.config
        self.head = make_head(
            hidden_size=self.hidden_size,
            model_type=str(config.model_type),
            pooler=None,
            dropout=float(config.hidden_dropout_prob) if dropout is None else dropout,
        )
        self.to(device)
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False)
        for module, name, p in self._fresh_dropout:
            setattr(module, name, p if dropout is None else dropout)

    def use_language(self, language: str) -> None:
        """Make `Stack(language, task)` the active composition.

        Raises:
            StudyError: no adapter of that language is loaded.
        """
        if language not in self.languages:
            raise StudyError(f"no language adapter is loaded for {language!r}", choices=self.languages)
        setup = Stack(f"language_{language}", TASK)
        check_composition(setup)
        with _quiet():
            self.backbone.set_active_adapters(setup)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, H) of token ids (B, T) and their 0/1 mask (B, T); segments (B, T) for BERT."""
        check_composition(self.backbone.adapters_config.active_setup)
        # A (B, 1, T) mask gives the same bits as (B, T) without the host-side all-ones test at each forward. Models
        # that use the mask at their embeddings too (DeBERTa) take (B, T) only.
        mask = attention_mask[:, None, :] if self.backbone.config.model_type in _SDPA else attention_mask
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.backbone(input_ids=input_ids, attention_mask=mask, **segments)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def task_modules(self) -> list[list[nn.Module]]:
        """The task adapter's modules of each layer, layer 0 (nearest the embeddings) first."""
        by_layer = self.backbone.get_adapter(TASK)
        return [list(by_layer[layer].values()) for layer in range(self.n_layers)]

    def task_linears(self) -> list[list[nn.Linear]]:
        """The Linears of each layer's task adapter: what tr(F) is measured on."""
        return [
            [part for module in modules for part in module.modules() if isinstance(part, nn.Linear)]
            for modules in self.task_modules()
        ]

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        return [
            [parameter for module in modules for parameter in module.parameters()] for modules in self.task_modules()
        ]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that may ever train (head, task adapter), by a name that does not change between versions."""
        named = {f"head.{name}": parameter for name, parameter in self.head.named_parameters()}
        for layer, modules in enumerate(self.task_modules()):
            for index, module in enumerate(modules):
                named |= {f"layer_{layer:02d}.{index}.{name}": value for name, value in module.named_parameters()}
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

    def save_task(self, folder: Path) -> list[Path]:
        """Write the task adapter in AdapterHub layout and the head beside it, all safetensors; return the files."""
        with _quiet():
            self.backbone.save_adapter(str(folder), TASK, use_safetensors=True)
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()},
            folder / "head.safetensors",
        )
        return sorted(folder.iterdir())

    def load_head(self, folder: Path) -> None:
        self.head.load_state_dict(load_file(folder / "head.safetensors"))


def _dropouts(backbone: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    """(module, attribute, probability) of every dropout; attention through SDPA has a number of its own."""
    for module in backbone.modules():
        name = "p" if isinstance(module, nn.Dropout) else "dropout_prob"
        if isinstance(getattr(module, name, None), float):
            yield module, name, getattr(module, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries report expected things (weights of a pooler, adapters not yet active) as warnings."""
    loggers = [logging.getLogger(name) for name in ("adapters", "transformers")]
    levels = [logger.level for logger in loggers]
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
