"""Language adapters: what a study says they are, compared with what their folders hold, then loaded and kept frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters import AdapterConfig
from safetensors import SafetensorError, safe_open

from raysched.errors import MissingError, StudyError
from raysched.madx.quiet import quiet
from raysched.study.inputs import LanguageAdapterConfig

KEY = "model.language_adapters"
PREFIX = "language_"
"""Inside the model an adapter is named `language_<code>`, so that no language's code can clash with another name."""
HINT = "a language adapter must be trained on this very backbone"
LAYER = re.compile(r"\blayer\.(\d+)\.")
"""The number of an encoder layer in a tensor's name."""


def check_language_adapter(
    language: str,
    folder: Path,
    expected: LanguageAdapterConfig | None,
    backbone: Mapping[str, Any] | None = None,
) -> None:
    """Compare a language adapter's adapter_config.json with what the study says it is, and with its backbone.

    `backbone` holds `model_type`, `hidden_size` and `num_hidden_layers` of the backbone's config.json.

    Raises:
        MissingError: there is no such file.
        StudyError: it is malformed, says something else, or was made for a backbone of another kind, width or depth.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise MissingError(f"no adapter_config.json in the adapter's folder {folder} (language {language})", key=KEY)
    try:
        written = json.loads(path.read_text())
        # The library's own reading of names ("pfeiffer"), and of the keys that older versions wrote.
        with quiet():
            config = AdapterConfig.load(written["config"])
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
            f"{path} is not the configuration of a bottleneck adapter: {type(error).__name__}: {error}", key=KEY
        ) from error
    if backbone is not None:
        _check_backbone(language, folder, written, backbone)
        _check_tensors(language, folder, set(config.leave_out), backbone)
    for key, wanted in (expected.model_dump() if expected is not None else {}).items():
        found, name = made[key]
        if found != wanted:
            raise StudyError(
                f"must be what {path} says ({name} of language {language}), but expected {wanted} and found {found}",
                key=f"model.language_adapter_config.{key}",
                hint=f"--set model.language_adapter_config.{key}=VALUE where all adapters are so, or take others",
            )


def _check_backbone(language: str, folder: Path, written: Mapping[str, Any], backbone: Mapping[str, Any]) -> None:
    """Files of older versions may leave out what they were made for: then its weights will tell, when loaded."""
    for name, what in (("model_type", "architecture"), ("hidden_size", "hidden size")):
        made, given = written.get(name), backbone.get(name)
        if made is not None and made != given:
            named = written.get("model_name") or "no model named"
            raise _misfit(language, folder, f"it was made for {what} {made} ({named}), the backbone has {given}")


def _check_tensors(language: str, folder: Path, left_out: set[int], backbone: Mapping[str, Any]) -> None:
    """What the header of adapter.safetensors tells, without its weights; a `.bin` is not opened before it is loaded."""
    path = folder / "adapter.safetensors"
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="np") as tensors:
            names = list(tensors.keys())
            widths = {tensors.get_slice(name).get_shape()[0] for name in names if name.endswith(".adapter_up.weight")}
    except (OSError, SafetensorError) as error:
        raise _misfit(language, folder, f"{path.name} cannot be read: {error}") from error
    layers = {int(found[1]) for found in map(LAYER.search, names) if found}
    depth, width = backbone.get("num_hidden_layers"), backbone.get("hidden_size")
    if layers and depth is not None and layers | left_out != set(range(depth)):
        raise _misfit(language, folder, f"it has tensors of {len(layers)} layers, the backbone has {depth} layers")
    if widths and width is not None and widths != {width}:
        made = ", ".join(map(str, sorted(widths)))
        raise _misfit(language, folder, f"its tensors are of hidden size {made}, the backbone has {width}")


def _misfit(language: str, folder: Path, why: str) -> StudyError:
    return StudyError(
        f"the adapter in {folder} (language {language}) does not fit this backbone: {why}", key=KEY, hint=HINT
    )


def load_language_adapter(encoder: Any, language: str, folder: Path) -> None:
    """Add the adapter in `folder` to an encoder that `adapters.init` prepared.

    Raises:
        MissingError: there are no weights.
        StudyError: the weights do not fit the encoder.
    """
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_adapter*.bin")):
        raise MissingError(f"no adapter.safetensors or pytorch_adapter.bin in {folder} (language {language})", key=KEY)
    info = dict[str, list[str]]()
    try:
        with quiet():
            encoder.load_adapter(
                str(folder), load_as=PREFIX + language, use_safetensors=True, with_head=False, loading_info=info
            )
        # The library leaves what is missing random and passes over what does not belong, and goes on.
        for what in ("missing_keys", "unexpected_keys"):
            if info.get(what):
                raise ValueError(f"{what.replace('_keys', '')} tensors {', '.join(sorted(info[what])[:3])}")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _misfit(language, folder, str(error)) from error
