"""Language adapters: what a study says they are, compared with what their folders hold, then loaded and kept frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters import AdapterConfig
from safetensors import SafetensorError

from raysched.errors import MissingError, StudyError
from raysched.madx.quiet import quiet
from raysched.study.inputs import LanguageAdapterConfig

KEY = "model.language_adapters"
PREFIX = "language_"
"""Inside the model an adapter is named `language_<code>`, so that no language's code can clash with another name."""
HINT = "a language adapter must be trained on this very backbone"


def check_language_adapter(
    language: str,
    folder: Path,
    expected: LanguageAdapterConfig | None,
    backbone: Mapping[str, Any] | None = None,
) -> None:
    """Compare a language adapter's adapter_config.json with what the study says it is, and with its backbone.

    `backbone` holds `model_type` and `hidden_size` of the backbone's config.json.

    Raises:
        MissingError: there is no such file.
        StudyError: it is malformed, says something else, or was made for a backbone of another kind or width.
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
            raise StudyError(
                f"the adapter in {folder} (language {language}) does not fit this backbone: it was made for {what} "
                f"{made} ({written.get('model_name') or 'no model named'}), the backbone has {given}",
                key=KEY,
                hint=HINT,
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
        raise StudyError(
            f"the adapter in {folder} (language {language}) does not fit this backbone: {error}", key=KEY, hint=HINT
        ) from error
