"""How much of a sweep MLflow holds, as the uploader wrote it down; the store itself is not asked."""

from __future__ import annotations

from dataclasses import dataclass

from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.tracking.cursor import Cursors
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.target import target


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Of the `done` runs of a sweep, MLflow at `uri` (without credentials) holds `held` wholly."""

    uri: str
    done: int
    held: int


def tracked(layout: SweepLayout, state: SweepState) -> Tracked | None:
    """None where it is not known here: nothing was uploaded yet, or another machine's uploader did it."""
    if not layout.uploads.is_dir():
        return None
    uri = target(layout)
    cursors = Cursors(layout.uploads, Store(uri, layout.name).identity)
    if not cursors.folder.is_dir():
        return None
    held = sum(bool(cursors.get(f"run:{run_id}").settled) for run_id in state.recorded)
    return Tracked(uri=mask(uri), done=len(state.recorded), held=held)
