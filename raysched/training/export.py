"""A run's task adapter and head as the `adapters` library knows them: AdapterHub layout, safetensors.

    adapter_config.json, adapter.safetensors       the task adapter
    head_config.json, model_head.safetensors       the head, as one of the library's own prediction heads
    raysched.json                                  study, inputs, point, seed and scores: what `evaluate` reads
    README.md                                      the card

`AutoAdapterModel.load_adapter` reads it without raysched, and predicts the same, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raysched.errors import DamageError, MissingError, StudyError
from raysched.madx.quiet import quiet
from raysched.records import files
from raysched.study.identity import RunSpec
from raysched.study.model import Study
from raysched.tasks.registry import make_task

ABOUT = "raysched.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """`raysched.json`: where an exported adapter comes from, and all that is needed to score it again."""

    spec: RunSpec
    sweep: str
    source_dev: Mapping[str, float]
    tests: Mapping[str, Mapping[str, Mapping[str, float]]]
    """test set -> language -> scores."""
    versions: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA,
            "sweep": self.sweep,
            "run_id": self.spec.run_id,
            **self.spec.to_json(),
            "source_dev": self.source_dev,
            "tests": self.tests,
            "versions": self.versions,
        }

    @classmethod
    def read(cls, folder: Path) -> About | None:
        """None where the folder holds an adapter that somebody else saved. Raises DamageError for a malformed file."""
        path = folder / ABOUT
        if not path.is_file():
            return None
        try:
            value = json.loads(path.read_text())
            return cls(
                spec=RunSpec.from_json(value),
                **{name: value[name] for name in ("sweep", "source_dev", "tests", "versions")},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"is not what raysched exports: {error}", key=str(path)) from error


def adapter_name(sweep: str) -> str:
    """A sweep's name as an adapter may be called: it becomes part of tensors' names, which dots divide."""
    return re.sub(r"[^a-z0-9]+", "_", sweep)


def layers(head: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(weight (out, in), bias (out,)) of a head, in the order of its forward; a frozen pooler's are among them."""
    found: list[tuple[Tensor, Tensor]] = []
    for module in head.modules():
        weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
        if isinstance(weight, Tensor) and isinstance(bias, Tensor) and weight.dim() == 2:
            found.append((weight, bias))
    if not found:
        raise StudyError(f"a head of type {type(head).__name__} cannot be exported: it has no linear layer", key="task")
    return found


def write(to: Path, saved: Path, backbone: Path, about: About) -> None:
    """Fill `to` with what an attempt `saved` (its `adapter/` folder), for the backbone in the folder `backbone`.

    Raises:
        StudyError: the task's head has no counterpart in the library.
        DamageError: what was saved cannot be read.
    """
    from adapters import AutoAdapterModel

    study, name = about.spec.study, adapter_name(about.sweep)
    full = about.spec.point.method == "full"
    try:
        with quiet():
            model = AutoAdapterModel.from_pretrained(saved if full else backbone, local_files_only=True)
            if not full:
                model.load_adapter(str(saved), load_as=name, use_safetensors=True, with_head=False)
            _add_head(model, name, study, load_head(study, model.config, saved))
            files.make_folder(to)
            if full:
                model.save_pretrained(to, safe_serialization=True)
                model.save_head(str(to), name, use_safetensors=True)
            else:
                model.save_adapter(str(to), name, with_head=True, use_safetensors=True)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise DamageError(f"cannot be exported: {type(error).__name__}: {error}", key=str(saved)) from error
    for tokenizer in _tokenizer_files(backbone):
        shutil.copyfile(tokenizer, to / tokenizer.name)
    files.write_atomic(to / ABOUT, json.dumps(about.to_json(), indent=2) + "\n")


def _tokenizer_files(backbone: Path) -> Iterator[Path]:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model"):
        if (backbone / name).is_file():
            yield backbone / name


def load_head(study: Study, config: Any, saved: Path) -> nn.Module:
    """The head that `MadX.save_task` wrote beside the adapter."""
    state = load_file(saved / "head.safetensors")
    head = make_task(study).head(hidden_size=config.hidden_size, model_type=config.model_type, pooler=None, dropout=0.0)
    head.load_state_dict(state)
    return head.eval()


def _add_head(model: Any, name: str, study: Study, head: nn.Module) -> None:
    """The library's prediction head with the same layers, and the same numbers in them."""
    ours = layers(head)
    options: dict[str, Any] = {"layers": len(ours), "activation_function": getattr(head, "activation", None)}
    match make_task(study).form:
        case "qa":
            model.add_qa_head(name, num_labels=2, **options)
        case "choice":
            model.add_multiple_choice_head(name, num_choices=2, use_pooler=False, **options)
        case "nli":
            labels = dict(enumerate(("entailment", "neutral", "contradiction")))
            model.add_classification_head(name, num_labels=3, use_pooler=False, id2label=labels, **options)
        case form:
            raise StudyError(f"rows of the form {form!r} have no head in the adapters library", key="task")
    with torch.no_grad():
        for (weight, bias), (their_weight, their_bias) in zip(ours, layers(model.heads[name]), strict=True):
            their_weight.copy_(weight)
            their_bias.copy_(bias)


def read_head(folder: Path, head: nn.Module) -> None:
    """Fill `head` with the prediction head in a folder of AdapterHub layout.

    Raises:
        MissingError: the folder has no head in safetensors.
        StudyError: its layers are of another number or shape.
    """
    path = folder / "model_head.safetensors"
    if not path.is_file():
        raise MissingError(f"no model_head.safetensors in {folder}", hint="only adapters saved with a head are scored")
    state = load_file(path)
    places = sorted({key.rpartition(".")[0] for key in state}, key=lambda place: int(place.rpartition(".")[2]))
    theirs = [(state[f"{place}.weight"], state[f"{place}.bias"]) for place in places]
    ours = layers(head)
    shapes = [tuple(weight.shape) for weight, _ in theirs]
    if shapes != [tuple(weight.shape) for weight, _ in ours]:
        raise StudyError(
            f"the head in {folder} has layers of shapes {shapes}, this task and backbone want "
            f"{[tuple(weight.shape) for weight, _ in ours]}",
            key="--task",
            hint="take the task, backbone and width that it was trained for",
        )
    with torch.no_grad():
        for (weight, bias), (their_weight, their_bias) in zip(ours, theirs, strict=True):
            weight.copy_(their_weight)
            bias.copy_(their_bias)
