"""The encoder below everything: BERT (mBERT), XLM-R or DeBERTa-v2 (mDeBERTa), from a folder of Hugging Face files."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig

from raysched.errors import MissingError, StudyError
from raysched.madx.quiet import quiet

Pooler = Mapping[str, Tensor]
"""`weight` (H, H) and `bias` (H,) of the layer over the first token that some checkpoints end with."""
POOLER = "pooler.dense."
_SDPA = frozenset({"bert", "roberta", "xlm-roberta"})


def load_backbone(folder: Path) -> tuple[nn.Module, Pooler | None]:
    """The encoder in a local folder (safetensors, or `.bin` read with `weights_only`), and its pooler.

    The encoder runs without pooler: a head that wants one gets its weights. None where the checkpoint has none; the
    library would make one of random numbers.

    Raises:
        MissingError: a folder or file is not there.
        StudyError: the folder holds no encoder.
    """
    if not (folder / "config.json").is_file():
        raise MissingError(f"no config.json in the backbone's folder {folder}", key="model.backbone")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise MissingError(f"no model.safetensors or pytorch_model.bin in {folder}", key="model.backbone")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, **options)
            architecture: Any = MODEL_MAPPING[type(config)]
            poolable = "add_pooling_layer" in inspect.signature(architecture).parameters
            if poolable:
                options["add_pooling_layer"] = True
            encoder, info = architecture.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise StudyError(f"{folder} cannot be loaded as a backbone: {error}", key="model.backbone") from error
    # The library fills what is missing with random numbers and goes on.
    missing = set(info["missing_keys"])
    no_pooler = {POOLER + name for name in ("weight", "bias")} if poolable else set()
    if lacking := sorted(missing if missing & no_pooler != no_pooler else missing - no_pooler):
        raise StudyError(f"the weights in {folder} lack {', '.join(lacking[:3])}", key="model.backbone")
    if config.is_encoder_decoder or not hasattr(encoder, "encoder"):
        raise StudyError(f"{folder} holds a {config.model_type}, which is no encoder", key="model.backbone")
    pooler = None
    if poolable:
        if not missing:
            pooler = {name: value.detach().clone() for name, value in encoder.pooler.dense.state_dict().items()}
        encoder.pooler = None
    return encoder, pooler


def mask_for(model_type: str, mask: Tensor) -> Tensor:
    """The form of a 0/1 mask (B, T) that the encoder is given.

    (B, 1, T) gives the same bits as (B, T) without the host-side all-ones test at each forward (method.md 6.4). Models
    that use the mask at their embeddings too (DeBERTa) take (B, T) only.
    """
    return mask[:, None, :] if model_type in _SDPA else mask


def dropouts(encoder: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    """(module, attribute, probability) of every dropout; attention through SDPA has a number of its own."""
    for module in encoder.modules():
        name = "p" if isinstance(module, nn.Dropout) else "dropout_prob"
        if isinstance(getattr(module, name, None), float):
            yield module, name, getattr(module, name)
