"""More work for a sweep that is there: failed runs again, more seeds, more points. What is done stays done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from raysched.errors import StudyError
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.runners.changes import previous, refuse_changes
from raysched.service.loaded import stored_study
from raysched.study.load import LoadedStudy, check, diff
from raysched.study.overrides import apply_overrides
from raysched.study.yaml_text import parse, to_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Failed runs of one sweep that get another try; `begun` got one before, and have not ended since."""

    loaded: LoadedStudy
    run_ids: frozenset[str]
    begun: frozenset[str] = frozenset()


def failed_runs(layout: SweepLayout, runs: Sequence[str] = ()) -> Retry:
    """The failed and diverged runs of a sweep, all or those named (by their id or its beginning).

    Raises:
        MissingError: there is no such sweep.
        StudyError: a named run is none of this sweep, or did not fail.
    """
    loaded = stored_study(layout)
    state = previous(layout)
    assert state is not None
    failed = frozenset(run_id for run_id, end in state.recorded.items() if end.status != "finished")
    begun = frozenset(state.reopened.keys() - state.recorded.keys())
    if not runs:
        return Retry(loaded=loaded, run_ids=failed, begun=begun)
    chosen = frozenset(_named(run, state, failed | begun) for run in runs)
    return Retry(loaded=loaded, run_ids=chosen & failed, begun=chosen & begun)


def _named(text: str, state: SweepState, may: frozenset[str]) -> str:
    there = [run_id for taken in state.points.values() for run_id in taken.run_ids.values()]
    found = [run_id for run_id in there if run_id.startswith(text)] if text else []
    if len(found) != 1:
        raise StudyError(
            f"{text!r} is {'the beginning of several runs' if found else 'no run of this sweep'}",
            key="--run",
            choices=sorted(found or may)[:8] or ["none: no run failed"],
            hint="raysched status --json shows every run's id",
        )
    if found[0] not in may:
        ended = state.recorded.get(found[0])
        raise StudyError(
            f"run {found[0]} has not failed: it {'is finished' if ended else 'has not ended yet'}",
            key="--run",
            choices=sorted(may)[:8] or ["none: no run failed"],
            hint="only failed runs are tried again; what is unfinished goes on with raysched resume",
        )
    return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """A sweep's study as it was, with what is added; `differences` are lines `key: old -> new`."""

    loaded: LoadedStudy
    differences: tuple[str, ...]
    n_new_runs: int


def extension(
    layout: SweepLayout, *, seeds: str | None = None, points: int | None = None, overrides: Sequence[str] = ()
) -> Extension:
    """The sweep's study with more seeds, more points or more searched values.

    Raises:
        MissingError: there is no such sweep.
        StudyError: a value is malformed, or something would change that is no growth.
    """
    before = stored_study(layout)
    search = before.study.search
    texts = list(overrides)
    if seeds is not None:
        texts.append(f"seeds={_seeds(seeds)}")
    if points is not None:
        if search.sampler == "grid":
            raise StudyError(
                "means nothing for a grid, which takes every point of its space",
                key="--points",
                choices=["--set search.lr=[...]", "--set search.k=[...]", "--set search.schedule=[...]"],
                hint="add to what is searched; the new points are run, and no other",
            )
        if search.points is None:
            raise StudyError(
                f"this sweep takes every point of its space already, but got {points}",
                key="--points",
                choices=["--set search.lr=[...]", "--set search.k=[...]", "--set search.schedule=[...]"],
                hint="add to what is searched, or leave --points out",
            )
        texts.append(f"search.points={points}")
    study = check(apply_overrides(parse(before.text, f"the study of {layout.name}"), tuple(texts)))
    loaded = LoadedStudy(
        study=study, name=before.name, source=before.source, text=to_yaml(study.model_dump(mode="json"))
    )
    refuse_changes(loaded, previous(layout), extend=True)
    return Extension(
        loaded=loaded,
        differences=tuple(diff(before.study, study)),
        n_new_runs=loaded.n_runs - before.n_runs,
    )


def _seeds(text: str) -> str:
    """`6` stands for 0 ... 5, `0,1,7` for these three."""
    if re.fullmatch(r"\s*\d+\s*", text):
        return text
    if re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)+", text):
        return f"[{text}]"
    raise StudyError(
        f"must be a number or a list, but got {text!r}",
        key="--seeds",
        choices=["6 (for 0 ... 5)", "0,1,2,7"],
        hint="the seeds that are there must be among them",
    )
