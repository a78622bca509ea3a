"""Where a training with one writer can be continued: a folder per step, whole or not there, the newest two kept.

    step-00000500/
        tensors.safetensors     whatever has to come back bit by bit
        manifest.json           its own SHA-256, that of the tensors, and the state

The checkpoints of adapter runs (`checkpoint.py`) also seal a history; these stand alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from raysched.errors import DamageError
from raysched.records import files

KEEP = 2
TENSORS, MANIFEST = "tensors.safetensors", "manifest.json"


def save(folder: Path, step: int, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write `step-…` beside and rename it; then drop all but the newest `KEEP`."""
    target, beside = folder / f"step-{step:08d}", folder / f".step-{step:08d}"
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale)
    files.make_folder(beside)
    save_file({name: value.contiguous() for name, value in tensors.items()}, beside / TENSORS)
    files.sync_file(beside / TENSORS)
    files.write_checked(beside / MANIFEST, {"state": dict(state), "tensors": files.sha256_file(beside / TENSORS)})
    shutil.rmtree(target, ignore_errors=True)
    os.rename(beside, target)
    files.sync_folder(folder)
    for old in _newest_first(folder)[KEEP:]:
        shutil.rmtree(old)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def newest(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """State and tensors' file of the newest snapshot that is what was written; None where none ever was.

    Raises:
        DamageError: there are snapshots, and none is whole.
    """
    there = _newest_first(folder)
    for path in there:
        try:
            manifest = files.read_checked(path / MANIFEST)
            if files.sha256_file(path / TENSORS) == manifest["tensors"]:
                return manifest["state"], path / TENSORS
        except (DamageError, OSError, KeyError):
            continue
    if there:
        raise DamageError("no snapshot is what was written", key=str(folder), hint="delete the folder to begin anew")
    return None
