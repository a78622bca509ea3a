"""One sweep of two: what may be merged, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysched.errors import DamageError, StoppedError, StudyError
from raysched.records.entries import Opened
from raysched.records.layout import SweepLayout
from raysched.reports.sweep import Sweep, read_sweep
from raysched.runners.changes import previous
from raysched.service.compare import Comparison, compare
from raysched.service.merge_writer import Source, Writer
from raysched.service.presence import presence
from raysched.service.union import united, united_inputs
from raysched.study.identity import RunSpec
from raysched.study.space import Point, n_points

MERGED = "merged"
"""In the provenance of the opening of a merged sweep: of which two."""
SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """`left` runs of the merged study have no end yet; `made` is False where the merged sweep was there already."""

    layout: SweepLayout
    finished: int
    failed: int
    left: int
    made: bool


def merge(first: SweepLayout, second: SweepLayout, to: SweepLayout, optuna_uri: str | None = None) -> Merged:
    """Write the sweep `to` with the runs of both; a run that failed in one and finished in the other has finished.

    Nothing is written, and nothing of the two changes, where anything is wrong. `raysched sweep` or `resume` then
    does what is left, and `raysched sync` fills MLflow.

    Raises:
        StudyError: they are of different studies, a run finished in both with different results, or the name is taken.
        StoppedError: a driver runs one of them.
        DamageError: a file of theirs is not what was recorded.
        MissingError: one of them is not there.
    """
    _refuse_names(first, second, to)
    for layout in (first, second):
        if (now := presence(layout)).alive:
            raise StoppedError(f"runs now: {now}", key=layout.name, hint=f"raysched stop {layout.named}")
    found = compare(first, second)
    a, b = read_sweep(first), read_sweep(second)
    if a.damaged or b.damaged:
        raise DamageError((a.damaged or b.damaged)[0], hint="put the record back from a copy; nothing was written")
    taken = list(dict.fromkeys((*_in_turn(a), *_in_turn(b))))
    study = united(a.study, b.study, taken)
    resolved = united_inputs(a.resolved, b.resolved, (first.name, second.name))
    _refuse_different(found)
    sources = _sources(a, b)
    plan = [{seed: RunSpec.make(study, resolved, point, seed) for seed in study.seeds} for point in taken]
    known = {spec.run_id for specs in plan for spec in specs.values()}
    sources = {run_id: source for run_id, source in sources.items() if run_id in known}
    ends = [source[0].record.status == "finished" for source in sources.values()]
    merged = Merged(
        layout=to,
        finished=sum(ends),
        failed=len(ends) - sum(ends),
        left=n_points(study.search) * len(study.seeds) - len(ends),
        made=not _there(to, (a, b), sources),
    )
    if merged.made:
        opened = Opened(
            study=study.model_dump(mode="json"),
            resolved=resolved.model_dump(mode="json"),
            provenance={MERGED: {"names": [a.layout.name, b.layout.name], "uids": [a.state.uid, b.state.uid]}},
        )
        Writer(to, study, opened, sources, optuna_uri).write(
            taken, plan, f"merged from {_counted(a)} and {_counted(b)}"
        )
    return merged


def _counted(sweep: Sweep) -> str:
    return f"{sweep.layout.name} ({len(sweep.records)} runs)"


def _refuse_names(first: SweepLayout, second: SweepLayout, to: SweepLayout) -> None:
    places = [(layout.uri, layout.name) for layout in (first, second, to)]
    if places[0] == places[1]:
        raise StudyError(f"is the sweep {first.name!r} itself", key="OTHER", hint="name two sweeps")
    if places[2] in places[:2]:
        raise StudyError(
            f"is one of the two: {to.name!r}", key="--name", hint="give the merged sweep a name of its own"
        )


def _refuse_different(found: Comparison) -> None:
    different = found.of("different")
    if different:
        lines = [
            f"{pair}: {field}: {values[0]} -> {values[1]}"
            for pair in different[:SHOWN]
            for field, values in pair.fields.items()
        ]
        raise StudyError(
            f"{len(different)} runs finished in both with different results:\n    " + "\n    ".join(lines[:SHOWN]),
            key="SWEEP OTHER",
            hint=f"raysched diff {' '.join(found.names)} shows all of them; nothing was written",
        )


def _in_turn(sweep: Sweep) -> list[Point]:
    """The points in the order in which the search took them."""
    return [sweep.points[number] for number in sorted(sweep.points)]


def _sources(a: Sweep, b: Sweep) -> dict[str, list[Source]]:
    """run_id -> its records, the one to take first: a finished one, the one with more tests."""
    found: dict[str, list[Source]] = {}
    for sweep in (a, b):
        for run_id, record in sweep.records.items():
            found.setdefault(run_id, []).append(Source(record=record, sweep=sweep))
    for sources in found.values():
        sources.sort(key=lambda source: (source.record.status != "finished", -len(source.record.tests)))
    return found


def _there(to: SweepLayout, of: Sequence[Sweep], sources: dict[str, list[Source]]) -> bool:
    """Whether the merged sweep was written before, from these two as they are now.

    Raises StudyError where the name stands for anything else.
    """
    to.pull(to.ledger)
    state = previous(to)
    if state is None and (to.remote is not None or not to.root.exists()):  # a working copy may be a rest
        return False
    about = state.opened.provenance.get(MERGED, {}) if state and state.opened else {}
    if about.get("uids") != [sweep.state.uid for sweep in of]:
        raise StudyError("another sweep has this name already", key=f"--name {to.name}", hint="give another name")
    assert state is not None
    if new := sources.keys() - state.recorded.keys():
        raise StudyError(
            f"was merged from these two before, and they have {len(new)} runs more since",
            key=f"--name {to.name}",
            hint="merge them under another name",
        )
    return True
