"""Checkpoints of one attempt: a folder per step, its manifest written last, checked before anything is loaded.

    checkpoints/step-00000500/
        weights.safetensors     task adapter and head
        optimizer.safetensors   AdamW's state of every parameter that has one
        best.safetensors        task adapter and head at the best source-dev score
        state.json              step, schedule log, best scores
        manifest.json           step, name and SHA-256 of each file above, and of the history segments it seals

A folder is made under a temporary name and renamed when complete: a half-written one is never seen.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from raysched.errors import DamageError
from raysched.records import files
from raysched.records.history import Sealed
from raysched.training.loop import State, TrainingRun
from raysched.unfreezing.schedule import Event

KEEP = 2
"""So many checkpoints are kept: the newest, and one to fall back to if it is damaged."""

_TENSORS = ("weights", "optimizer", "best")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint as its manifest describes it; the files are not yet checked."""

    folder: Path
    step: int
    segments: tuple[Sealed, ...]
    hashes: dict[str, str]


def save(folder: Path, run: TrainingRun, segments: Sequence[Sealed]) -> Checkpoint:
    """Save `run` under `folder/step-…`, sealing `segments`; then drop all but the newest `KEEP`."""
    step = run.state.step
    target = folder / f"step-{step:08d}"
    beside = folder / f".{target.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    files.make_folder(beside)
    tensors = (run.model.task_state(), run.optimizer_tensors(), run.best_tensors)
    for name, values in zip(_TENSORS, tensors, strict=True):
        save_file({key: value.contiguous() for key, value in values.items()}, beside / f"{name}.safetensors")
    state = {
        "step": step,
        "log": [event.to_json() for event in run.state.log],
        "best_step": run.state.best_step,
        "best_scores": run.state.best_scores,
    }
    (beside / "state.json").write_text(json.dumps(state, sort_keys=True))
    hashes = {path.name: files.sha256_file(path) for path in sorted(beside.iterdir())}
    manifest = {"step": step, "files": hashes, "segments": [segment.model_dump() for segment in segments]}
    (beside / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
    for path in beside.iterdir():
        files.sync_file(path)
    files.sync_folder(beside)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(beside, target)
    files.sync_folder(folder)
    for old in list_checkpoints(folder)[KEEP:]:
        shutil.rmtree(old.folder, ignore_errors=True)
    return Checkpoint(folder=target, step=step, segments=tuple(segments), hashes=hashes)


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Every checkpoint with a readable manifest, the newest first."""
    found = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text())
            segments = tuple(Sealed.model_validate(value) for value in manifest["segments"])
            found.append(
                Checkpoint(folder=path, step=manifest["step"], segments=segments, hashes=dict(manifest["files"]))
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def verify(checkpoint: Checkpoint) -> None:
    """Compare every file with its hash.

    Raises:
        DamageError: a file is missing or is not what was written.
    """
    for name, expected in checkpoint.hashes.items():
        path = checkpoint.folder / name
        if not path.is_file() or files.sha256_file(path) != expected:
            raise DamageError(f"{path} is missing or is not what was written")


def load(checkpoint: Checkpoint, run: TrainingRun) -> None:
    """Restore `run` from a checkpoint, every file verified first.

    Raises:
        DamageError: a file is missing, damaged, or of another model.
    """
    verify(checkpoint)
    weights, optimizer, best = (load_file(checkpoint.folder / f"{name}.safetensors") for name in _TENSORS)
    value = json.loads((checkpoint.folder / "state.json").read_text())
    state = State(
        step=value["step"],
        log=tuple(Event.from_json(event) for event in value["log"]),
        best_step=value["best_step"],
        best_scores=value["best_scores"],
    )
    try:
        run.restore(state, weights, optimizer, best)
    except ValueError as error:
        raise DamageError(f"{checkpoint.folder} is of another model: {error}") from error


def newest_first(folders: Iterable[Path]) -> list[Checkpoint]:
    """The checkpoints of several attempts, the furthest first."""
    return sorted((c for folder in folders for c in list_checkpoints(folder)), key=lambda c: c.step, reverse=True)
