"""The embedded default: made-up languages (`world`), their tokenizer, and a small backbone with language adapters.

The weights under `assets/` are made from nothing by `raysched.training.pretrain_mini`; `assets/recipe.json` says how.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from raysched.mini import languages

ASSETS = Path(__file__).parent / "assets"


def backbone_path() -> Path:
    """Folder of the backbone and its tokenizer: `AutoTokenizer` and `XLMRobertaModel` load it offline."""
    return ASSETS / "backbone"


def adapter_path(language: str) -> Path:
    """Folder of a language's adapter: `model.load_adapter(path, use_safetensors=True)` loads it.

    Raises `ValueError` for an unknown language.
    """
    return ASSETS / "adapters" / languages.language(language).code


@functools.cache
def content_hash() -> str:
    """sha256 over the weights, configurations and tokenizer that are shipped (not over the recipe's report)."""
    return hash_folder(ASSETS)


def hash_folder(assets: Path) -> str:
    """sha256 over the names and contents of the files in `backbone/` and `adapters/` of an assets folder."""
    digest = hashlib.sha256()
    files = sorted(
        (path.relative_to(assets).as_posix(), path)
        for folder in ("backbone", "adapters")
        for path in (assets / folder).rglob("*")
        if path.is_file()
    )
    for name, path in files:
        content = path.read_bytes()
        digest.update(f"{len(name)}:{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()
