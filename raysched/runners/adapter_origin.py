"""Which backbone a language adapter was trained on, as far as its folder tells, compared with that of the study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from raysched.errors import StudyError
from raysched.hub import COMMIT
from raysched.study.identity import Content

ABOUT = "training.json"
"""What `raysched pretrain language` writes beside its adapter."""
HUB_NAME = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")


def check_origin(language: str, folder: Path, backbone: Content, key: str) -> None:
    """Refuse an adapter that was trained on another backbone of the same shape: it would load, and mean nothing.

    An adapter that was trained here says the content of its backbone. Others say a name at most, which is compared by
    its last part, since owners change; a name may also be a folder of somebody else's, so a local backbone takes all.

    Raises:
        StudyError: it was trained on another backbone. `key` is the study's key of the adapter.
    """
    here = f"{backbone.where} ({backbone.revision[:12]})"
    trained = _read(folder / ABOUT)
    try:
        name, revision = str(trained["names"]["backbone"]), str(trained["settings"]["backbone"])
    except (KeyError, TypeError):
        name, revision = str(_read(folder / "adapter_config.json").get("model_name") or ""), ""
    if revision:
        # A commit of the hub and the hash of a folder cannot be compared: they may be the same files.
        comparable = bool(COMMIT.fullmatch(revision)) == bool(COMMIT.fullmatch(backbone.revision))
        other = comparable and revision != backbone.revision
        there = f"{name} ({revision[:12]})"
    else:
        other = backbone.path is None and bool(HUB_NAME.fullmatch(name)) and _last(name) != _last(backbone.where)
        there = name
    if other:
        raise StudyError(
            f"the adapter in {folder} (language {language}) was trained on the backbone {there}, but the study's is "
            f"{here}",
            key=key,
            hint="set model.backbone to the one it was trained on (of the hub: a folder with that commit), or train "
            f"one: raysched pretrain language --backbone {backbone.where} --language {language} --text FILE --to DIR",
        )


def _last(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _read(path: Path) -> dict[str, Any]:
    """Nothing where there is no such file, or none of ours: what must be there is checked elsewhere."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
