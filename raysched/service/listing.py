"""The sweeps of a storage, one line each, from their ledgers alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raysched.errors import RayschedError
from raysched.records import ledger as ledgers
from raysched.records.entries import AnyEntry
from raysched.records.layout import SweepLayout, sweeps
from raysched.records.state import SweepState
from raysched.service.presence import presence, word
from raysched.study.model import Study
from raysched.study.space import n_points
from raysched.study.stored import stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One sweep. `runs` is None, and `problem` says why, where the ledger or the study in it cannot be read.

    `state` is one of running, pausing, paused, stopping, stopped, finished, failed and damaged. Times are in
    milliseconds since 1970; `driver` is set while one lives.
    """

    name: str
    what: str = ""
    done: int = 0
    failed: int = 0
    runs: int | None = None
    state: str = "damaged"
    driver: dict[str, Any] | None = None
    started_ms: int = 0
    active_ms: int = 0
    problem: str | None = None


def listed(storage: str) -> list[Listed]:
    """Every sweep of the storage, the one that was active last first; a damaged one with its damage."""
    found = [_listed(layout) for layout in sweeps(storage)]
    return sorted(found, key=lambda one: (-one.active_ms, one.name))


def _listed(layout: SweepLayout) -> Listed:
    try:
        layout.pull(layout.ledger)
        entries = ledgers.read(layout.ledger)
    except RayschedError as error:
        return Listed(name=layout.name, active_ms=_touched_ms(layout), problem=str(error))
    state, now = SweepState.of(entries), presence(layout)
    study, problem = _study(state)
    finished = sum(recorded.status == "finished" for recorded in state.recorded.values())
    return Listed(
        name=layout.name,
        what=_what(study) if study else "",
        done=finished,
        failed=len(state.recorded) - finished,
        runs=n_points(study.search) * len(study.seeds) if study else None,
        state=word(now, state),
        driver=now.driver,
        started_ms=state.opened_ms or _first_ms(entries),
        active_ms=max((entry.time_ms for entry in entries), default=0),
        problem=problem,
    )


def _study(state: SweepState) -> tuple[Study | None, str | None]:
    """The study, or why it cannot be told; none of both where the sweep was not opened yet."""
    try:
        return (stored(state.opened.study) if state.opened else None), None
    except RayschedError as error:
        return None, str(error)


def _what(study: Study) -> str:
    return study.description or f"{study.task} on {study.data.train}, {study.model.backbone}"


def _first_ms(entries: Iterable[AnyEntry]) -> int:
    return next((entry.time_ms for entry in entries), 0)


def _touched_ms(layout: SweepLayout) -> int:
    """When a ledger that cannot be read was written last."""
    try:
        return layout.ledger.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0
