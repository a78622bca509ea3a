"""Checkpoints of one attempt: a folder per step, its manifest written last, checked before anything is loaded.

    checkpoints/step-00000500/
        weights.safetensors     what is trained: task adapter (or the backbone itself) and head
        optimizer.safetensors   AdamW's state of every parameter that has one
        best.safetensors        the same at the best source-dev score
        candidates.safetensors  the same at the last evaluations, as <step>/<name>; absent where none is kept
        state.json              step, the last event told after it, schedule log, best scores
        manifest.json           its own SHA-256; run, attempt and step; names, sizes and SHA-256 of the files above,
                                names and SHA-256 of the history segments it seals

A folder is made under a temporary name and renamed when complete: a half-written one is never seen. On an object store
the manifest is uploaded last and deleted first: a folder without one is no checkpoint there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from raysched.errors import DamageError
from raysched.records import files, mirror
from raysched.records.history import Sealed
from raysched.records.layout import AttemptLayout
from raysched.training.loop import State, TrainingRun
from raysched.unfreezing.schedule import Event

KEEP = 2
"""So many checkpoints are kept: the newest, and one to fall back to if it is damaged."""

_TENSORS = ("weights", "optimizer", "best")
_FILES = {"state.json", *(f"{name}.safetensors" for name in _TENSORS)}
_CANDIDATES = "candidates.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint as its manifest describes it."""

    folder: Path
    step: int
    segments: tuple[Sealed, ...]
    hashes: dict[str, str]
    run_id: str | None
    """None in those of older versions, which do not say."""


def _name(step: int) -> str:
    return f"step-{step:08d}"


def save(folder: Path, run: TrainingRun, segments: Sequence[Sealed]) -> Checkpoint:
    """Save `run` under `folder/step-…`, sealing `segments`; then drop all but the newest `KEEP`."""
    step = run.state.step
    target = folder / _name(step)
    beside = folder / f".{target.name}.{os.getpid()}"
    for stale in folder.glob(".step-*"):  # of a process that was killed: an attempt has one writer
        shutil.rmtree(stale, ignore_errors=True)
    files.make_folder(beside)
    tensors = (run.weights(), run.optimizer_tensors(), run.best_tensors)
    for name, values in zip(_TENSORS, tensors, strict=True):
        save_file({key: value.contiguous() for key, value in values.items()}, beside / f"{name}.safetensors")
    if run.candidates:
        named = {f"{at}/{key}": value for at, values in run.candidates.items() for key, value in values.items()}
        save_file({key: value.contiguous() for key, value in named.items()}, beside / _CANDIDATES)
    state = {
        "step": step,
        "told": run.state.told,
        "log": [event.to_json() for event in run.state.log],
        "best_step": run.state.best_step,
        "best_scores": run.state.best_scores,
    }
    (beside / "state.json").write_text(json.dumps(state, sort_keys=True))
    paths = sorted(beside.iterdir())
    for path in paths:
        files.sync_file(path)
    hashes = {path.name: files.sha256_file(path) for path in paths}
    manifest = {
        "run_id": run.spec.run_id,
        "attempt": folder.parent.name,
        "step": step,
        "files": hashes,
        "sizes": {path.name: path.stat().st_size for path in paths},
        "segments": [segment.model_dump() for segment in segments],
    }
    files.write_checked(beside / "manifest.json", manifest)
    files.sync_folder(beside)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(beside, target)
    files.sync_folder(folder)
    for old in newest_first([folder])[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return Checkpoint(folder=target, step=step, segments=tuple(segments), hashes=hashes, run_id=run.spec.run_id)


def fetch(attempts: Sequence[AttemptLayout]) -> None:
    """Bring the furthest `KEEP` whole checkpoints of a run's attempts here, from an object store, with what they seal.

    One that is not whole here, though its manifest is stored, is fetched anew. Nothing to do for a folder storage.

    Raises:
        MissingError, StoppedError: the store does not answer.
    """
    if not attempts or mirror.of(attempts[0].root) is None:
        return
    stored = [(step, attempt) for attempt in attempts for step in attempt.saved_steps()]
    stored.sort(key=lambda one: one[0], reverse=True)
    whole = 0
    for step, attempt in stored:
        if whole == KEEP:
            break
        folder = attempt.checkpoint(step)
        attempt.pull(folder)
        try:
            segments = read(folder).segments
        except DamageError:
            shutil.rmtree(folder, ignore_errors=True)
            attempt.pull(folder)
            try:
                segments = read(folder).segments
            except DamageError:
                continue  # damaged there as well: passed over, with a note, by whoever resumes
        attempt.pull(*(attempt.segments / segment.name for segment in segments))
        whole += 1


def newest_first(folders: Iterable[Path]) -> list[Path]:
    """The checkpoints in several attempts' folders, whole or damaged, the furthest first."""
    return sorted((path for folder in folders for path in folder.glob("step-*")), key=lambda p: p.name, reverse=True)


def read(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, every file of it compared with its hash.

    Raises:
        DamageError: a file is missing or is not what was written.
    """
    path = folder / "manifest.json"
    try:
        manifest = files.read_checked(path)
        segments = tuple(Sealed.model_validate(value) for value in manifest["segments"])
        found = Checkpoint(
            folder=folder,
            step=manifest["step"],
            segments=segments,
            hashes=manifest["files"],
            run_id=manifest.get("run_id"),
        )
    except FileNotFoundError as error:
        raise DamageError("is missing", key=str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError("is not a manifest of this version", key=str(path)) from error
    if found.hashes.keys() - {_CANDIDATES} != _FILES or folder.name != _name(found.step):
        raise DamageError("is not the manifest of this checkpoint", key=str(path))
    for name, expected in found.hashes.items():
        if not (folder / name).is_file() or files.sha256_file(folder / name) != expected:
            raise DamageError("is missing or is not what was written", key=str(folder / name))
    return found


def load(checkpoint: Checkpoint, run: TrainingRun) -> None:
    """Restore `run` from a checkpoint that was read.

    Raises:
        DamageError: it is of another run, of another model, or of another version.
    """
    folder = checkpoint.folder
    if checkpoint.run_id not in (None, run.spec.run_id):
        raise DamageError(f"is of another model, or of another run ({checkpoint.run_id})", key=str(folder))
    try:
        weights, optimizer, best = (load_file(folder / f"{name}.safetensors") for name in _TENSORS)
        value = json.loads((folder / "state.json").read_text())
        state = State(
            step=value["step"],
            told=value["told"],
            log=tuple(Event.from_json(event) for event in value["log"]),
            best_step=value["best_step"],
            best_scores=value["best_scores"],
        )
        run.restore(state, weights, optimizer, best, _candidates(checkpoint))
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"is of another model or version: {error}", key=str(folder)) from error


def _candidates(checkpoint: Checkpoint) -> dict[int, dict[str, Tensor]]:
    """Step -> tensors; none in checkpoints that older versions wrote. Raises ValueError for names of another kind."""
    found: dict[int, dict[str, Tensor]] = {}
    if _CANDIDATES in checkpoint.hashes:
        for key, value in load_file(checkpoint.folder / _CANDIDATES).items():
            step, _, name = key.partition("/")
            found.setdefault(int(step), {})[name] = value
    return found
