"""The report of a sweep: Markdown and two figures, from whatever is recorded by now."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import raysched
from raysched.errors import DamageError
from raysched.records.files import make_folder, write_atomic
from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.reports.stats import summarise
from raysched.reports.sweep import Sweep, read_sweep
from raysched.reports.tables import DAGGER, CellRow, cell_rows, order_table, score_table, selected
from raysched.study.space import Point

TRACES, ORDERS = "fisher_trace.png", "unfreeze_order.png"


def write_report(layout: SweepLayout, to: Path) -> Path:
    """Write `report.md` and its figures below the folder `to`; the path of `report.md`.

    Works on a half-finished sweep. Raises MissingError where there is no sweep, DamageError where its ledger is
    damaged; damaged records and histories are named in the report, and left out of it.
    """
    sweep = read_sweep(layout)
    make_folder(to)
    damaged = list(sweep.damaged)
    metric = sweep.study.search.objective.partition("/")[2]
    best = selected(cell_rows(sweep, metric))
    parts = [
        f"# {layout.name}\n",
        *([sweep.study.description + "\n"] if sweep.study.description else []),
        _header(sweep),
        _scores(sweep, metric),
        _orders(sweep, best, to),
        _traces(sweep, best, to, damaged),
        _problems(sweep, damaged),
    ]
    path = to / "report.md"
    write_atomic(path, "\n".join(part for part in parts if part))
    return path


def _header(sweep: Sweep) -> str:
    study, state, records = sweep.study, sweep.state, sweep.records.values()
    source = study.model.source_language
    planned = sum(len(taken.run_ids) for taken in state.points.values())
    finished = [record for record in records if record.status == "finished"]
    complete = sum(row.complete for row in cell_rows(sweep, ""))
    last_ms = max((record.ended_ms for record in records), default=state.opened_ms)
    revisions = {
        "train": sweep.resolved.train.revision,
        "dev": sweep.resolved.dev.revision,
        **{f"test {language}": content.revision for language, content in sorted(sweep.resolved.test.items())},
        "backbone": sweep.resolved.backbone.revision,
    }
    facts = {
        "sweep": f"{sweep.layout.name} ({state.opened.uid if state.opened else ''})",
        "study": f"{study.task}, {study.model.backbone}, trained on {study.data.train} ({source})",
        "seeds": f"{len(study.seeds)} per point ({', '.join(map(str, study.seeds))})",
        "cells": f"{complete} complete of {len(state.points)} taken so far",
        "runs": f"{len(finished)} finished, {len(records) - len(finished)} failed, "
        f"{planned - len(records)} not done, of {planned}",
        "selection": f"checkpoints and points are selected by {study.search.objective} ({source}); "
        "target languages steer nothing, their scores are zero-shot",
        "code": _versions(records),
        "time": f"{_hours(last_ms - state.opened_ms)} from the start to the last record; "
        f"{_hours(1000 * sum(record.train_seconds for record in finished))} of training in the attempts that finished",
        "data": ", ".join(f"{name} `{revision[:12]}`" for name, revision in revisions.items()),
    }
    return "".join(f"- **{name}**: {fact}\n" for name, fact in facts.items())


def _hours(milliseconds: float) -> str:
    return f"{max(0.0, milliseconds) / 3_600_000:.2f} h"


def _versions(records: Iterable[Record]) -> str:
    """Every code version that made a record: a table over two of them should say so."""
    versions = set()
    for record in records:
        git = record.provenance.get("git") or {}
        version = (record.provenance.get("packages") or {}).get("raysched", "?")
        commit = (
            f" {git['commit'][:12]}{' with local changes' if git.get('dirty') else ''}" if git.get("commit") else ""
        )
        versions.add(f"raysched {version}{commit}")
    return "; ".join(sorted(versions)) or f"raysched {raysched.__version__}"


def _scores(sweep: Sweep, objective: str) -> str:
    """One table per metric, the objective's first."""
    found = {metric for record in sweep.records.values() for metric in record.source_dev}
    parts = ["## Scores\n"]
    if not found:
        return parts[0] + "\nNo run is finished yet.\n"
    for metric in sorted(found, key=lambda metric: (metric != objective, metric)):
        rows = cell_rows(sweep, metric)
        chosen = {row.number for row in selected(cell_rows(sweep, objective))}
        name = metric.upper()
        if len(chosen) < len(rows):
            parts.append(f"### {name}: each schedule's point, selected on source dev\n")
            parts.append(score_table([row for row in rows if row.number in chosen], sweep.study.evaluation.languages))
        parts.append(f"### {name}: every point\n")
        parts.append(score_table(rows, sweep.study.evaluation.languages))
    parts.append(
        "Mean ± standard deviation (ddof 1) over n seeds, 0-100. The target average is over "
        f"{', '.join(sweep.targets()) or 'no language'}. **Bold**: the best mean of a column among complete cells. "
        f"{DAGGER}: fewer seeds than planned.\n"
    )
    return "\n".join(parts)


def _orders(sweep: Sweep, best: list[CellRow], to: Path) -> str:
    table = order_table(sweep)
    if not table:
        return ""
    orders: dict[str, list[list[int]]] = {}
    layers: set[int] = set()
    for row in best:
        for record in sweep.cell(row.number):
            layers.update(layer for _, woken in record.unfreeze_order for layer in woken)
            woken = [woken for step, woken in record.unfreeze_order if step and woken]
            if woken and all(len(one) == 1 for one in woken):  # one layer at a time; lpft wakes all at once
                orders.setdefault(row.point.schedule, []).append([one[0] for one in woken])
    parts = ["## Unfreeze orders\n", table]
    if orders:
        from raysched.reports.figures import order_figure  # matplotlib takes a second

        write_atomic(to / ORDERS, order_figure(orders, max(layers) + 1))
        parts.append(f"![Layer woken at each event, per schedule]({ORDERS})\n")
    return "\n".join(parts)


def _traces(sweep: Sweep, best: list[CellRow], to: Path, damaged: list[str]) -> str:
    curves: dict[str, list[dict[int, float]]] = {}
    for row in best:
        for record in sweep.cell(row.number):
            try:
                curve = _curve(sweep, record)
            except DamageError as error:
                damaged.append(str(error).replace("\n", " "))
                continue
            if curve:
                curves.setdefault(row.point.schedule, []).append(curve)
    if not curves:
        return ""
    from raysched.reports.figures import trace_figure  # matplotlib takes a second

    write_atomic(to / TRACES, trace_figure(curves))
    points = "; ".join(str(row.point) for row in best if row.point.schedule in curves)
    return f"## Fisher trace\n\n![tr(F) per awake adapter against the step]({TRACES})\n\nPoints shown: {points}.\n"


def _curve(sweep: Sweep, record: Record) -> dict[int, float]:
    """Step -> mean tr(F) over the awake adapters, of the measurements made for the log."""
    curve = {}
    for row in sweep.history(record):
        if row.kind == "fisher" and row.data["purpose"] == "log" and row.data["awake"]:
            traces = [row.data["traces"][layer] for layer in row.data["awake"]]
            summary = summarise(traces) if all(map(math.isfinite, traces)) else None
            if summary is not None:
                curve[row.step] = summary.mean
    return curve


def _problems(sweep: Sweep, damaged: list[str]) -> str:
    failed = [record for record in sweep.records.values() if record.status != "finished"]
    lines = [
        f"- {record.status} ({record.cause}): {Point(**record.params)} "
        f"seed {record.seed}, run `{record.run_id}`: {' '.join(record.message.split())[:300]}"
        for record in sorted(failed, key=lambda record: (record.cell_id, record.seed))
    ]
    lines += [f"- unreadable, left out: {problem}" for problem in sorted(set(damaged))]
    return "## Problems\n\n" + "".join(f"{line}\n" for line in lines) if lines else ""
