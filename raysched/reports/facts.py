"""What was run: the facts at the head of a report, its test sets, and at its end what went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import raysched
from raysched.records.record import Record
from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Section, Table
from raysched.reports.render.markdown import code, escape, paragraph
from raysched.reports.sweep import Sweep
from raysched.reports.tables import cell_rows, metric_name
from raysched.study.model import TestSet
from raysched.study.space import Point
from raysched.study.values import metrics
from raysched.tasks.sources import notes

LONGEST = 300
"""Characters of a failed run's message that are shown."""
NO_COUNT = "-"
"""Of a language that no run was tested on yet."""


def facts(asked: Asked) -> Section:
    """What, how often, selected by what, of which code and data, and up to when: a list for every sweep."""
    several = len(asked.sweeps) > 1
    text = []
    for sweep in asked.sweeps:
        if several:
            text.append(f"**{escape(sweep.layout.name)}**")
            text += [paragraph(sweep.study.description)] if sweep.study.description else []
        text.append("\n".join(f"- **{name}**: {fact}" for name, fact in _facts(sweep).items()))
        if asked.reference_of(sweep) is None and any(one.sweep is sweep for one in asked.methods):
            who = f"{escape(sweep.layout.name)} has" if several else "There is"
            text.append(f"{who} no method {code(asked.reference)}, so nothing of it is compared with a reference.")
    return Section(title="What was run", text=tuple(text))


def _facts(sweep: Sweep) -> dict[str, str]:
    study, state, records = sweep.study, sweep.state, sweep.records.values()
    source = study.model.source_language
    planned = sum(len(taken.run_ids) for taken in state.points.values())
    finished = [record for record in records if record.status == "finished"]
    complete = sum(row.complete for row in cell_rows(sweep, ""))
    last_ms = max((record.ended_ms for record in records), default=state.opened_ms)
    revisions = {
        "train": sweep.resolved.train.revision,
        "dev": sweep.resolved.dev.revision,
        "backbone": sweep.resolved.backbone.revision,
    }
    return {
        "sweep": f"{escape(sweep.layout.name)} ({state.uid})",
        "study": f"{study.task}, {escape(study.model.backbone)}, trained on {escape(sweep.training_rows)} ({source})",
        "seeds": f"{len(study.seeds)} per point ({', '.join(map(str, study.seeds))})",
        "cells": f"{complete} complete of {len(state.points)} taken so far",
        "runs": f"{len(finished)} finished, {len(records) - len(finished)} failed, "
        f"{planned - len(records)} not done, of {planned}",
        "selection": f"checkpoints and points are selected by {code(study.search.objective)} on "
        f"{escape(study.data.dev)} ({source}, dev split); target languages steer nothing, their scores are zero-shot",
        "code": _versions(records),
        "time": f"{_hours(last_ms - state.opened_ms)} from the start to the last record; "
        f"{_hours(1000 * sum(record.train_seconds for record in finished))} of training in the attempts that finished",
        "records": f"up to {_utc(last_ms)}" if records else "none yet",
        "data": ", ".join(f"{name} {code(revision[:12])}" for name, revision in revisions.items()),
    }


def _hours(milliseconds: float) -> str:
    return f"{max(0.0, milliseconds) / 3_600_000:.2f} h"


def _utc(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds // 1000))


def _versions(records: Iterable[Record]) -> str:
    """Every code version that made a record: a table over two of them should say so."""
    versions = set()
    for record in records:
        git = record.provenance.get("git") or {}
        version = (record.provenance.get("packages") or {}).get("raysched", "?")
        commit = (
            f" {git['commit'][:12]}{' with local changes' if git.get('dirty') else ''}" if git.get("commit") else ""
        )
        versions.add(escape(f"raysched {version}{commit}"))
    return "; ".join(sorted(versions)) or f"raysched {raysched.__version__}"


def test_sets(asked: Asked) -> Section:
    """Where the rows of every test set are from, and how many of each language were scored."""
    several = len(asked.sweeps) > 1
    rows = [
        Row(
            labels=(sweep.layout.name, name) if several else (name,),
            cells=tuple(Cell(text=text) for text in _test_set(sweep, name, test_set)),
        )
        for sweep in asked.sweeps
        for name, test_set in sweep.study.test_sets.items()
    ]
    table = Table(
        name="test-sets",
        title="Test sets",
        stub=("sweep", "name") if several else ("name",),
        columns=("data", "scored as", "rows scored", "revision"),
        blocks=(tuple(rows),),
        notes=tuple(dict.fromkeys(f"{note}." for sweep in asked.sweeps for note in notes(sweep.study))),
    )
    return Section(title="Test sets", tables=(table,))


def _test_set(sweep: Sweep, name: str, test_set: TestSet) -> tuple[str, ...]:
    counts, contents = sweep.n_tested(name), sweep.resolved.tests(name)
    counted = [(language, str(counts.get(language, NO_COUNT))) for language in test_set.languages]
    revisions = [(language, contents[language].revision[:12]) for language in test_set.languages]
    return test_set.test, _scoring(sweep, test_set), _each(counted, " each"), _each(revisions)


def _scoring(sweep: Sweep, test_set: TestSet) -> str:
    """The metrics, and for answers the rules by which they are compared."""
    names = ", ".join(map(metric_name, metrics(sweep.study.task)))
    if sweep.study.task != "qa":
        return names
    chinese = f", Chinese {test_set.chinese_metric}" if test_set.chinese_metric else ""
    return f"{names} ({test_set.scoring}{chinese})"


def _each(values: Sequence[tuple[str, str]], shared: str = "") -> str:
    """`en 1190, th 1190` shortened to `1190` and `shared` where all are equal."""
    if len({value for _, value in values}) == 1:
        only = values[0][1]
        return only if only == NO_COUNT else only + shared
    return ", ".join(f"{language} {value}" for language, value in values)


def problems(asked: Asked) -> Section | None:
    """Runs that failed, and what could not be read: the last section, for the others add to `asked.damaged`."""
    several = len(asked.sweeps) > 1
    lines = []
    for sweep in asked.sweeps:
        failed = [record for record in sweep.records.values() if record.status != "finished"]
        where = f"{sweep.layout.name}: " if several else ""
        lines += [
            f"- {escape(where)}{record.status} ({record.cause}): {escape(str(Point(**record.params)))} "
            f"seed {record.seed}, run {code(record.run_id)}: {escape(record.message[:LONGEST])}"
            for record in sorted(failed, key=lambda record: (record.cell_id, record.seed))
        ]
    damaged = {*asked.damaged, *(problem for sweep in asked.sweeps for problem in sweep.damaged)}
    lines += [f"- unreadable, left out: {escape(problem)}" for problem in sorted(damaged)]
    return Section(title="Problems", text=("\n".join(lines),)) if lines else None
