"""The report of a sweep: Markdown and two figures, from whatever is recorded by now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import raysched
from raysched.errors import DamageError
from raysched.records.files import make_folder, write_atomic
from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.reports.stats import groups, summarise
from raysched.reports.sweep import Sweep, read_sweep
from raysched.reports.tables import (
    DAGGER,
    CellRow,
    cell_rows,
    contender,
    markdown,
    metric_name,
    order_table,
    score_table,
    selected,
)
from raysched.study.model import TestSet
from raysched.study.space import Point
from raysched.study.values import metrics
from raysched.tasks.sources import notes

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
        _test_sets(sweep),
        _scores(sweep, metric),
        _groups(sweep, metric, best),
        _orders(sweep, best, to),
        _traces(sweep, best, to, damaged),
        _problems(sweep, damaged),
    ]
    path = to / "report.md"
    write_atomic(path, "\n".join(part for part in parts if part))
    if to == layout.reports:
        layout.push(to)
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
        "backbone": sweep.resolved.backbone.revision,
    }
    facts = {
        "sweep": f"{sweep.layout.name} ({state.opened.uid if state.opened else ''})",
        "study": f"{study.task}, {study.model.backbone}, trained on {sweep.training_rows} ({source})",
        "seeds": f"{len(study.seeds)} per point ({', '.join(map(str, study.seeds))})",
        "cells": f"{complete} complete of {len(state.points)} taken so far",
        "runs": f"{len(finished)} finished, {len(records) - len(finished)} failed, "
        f"{planned - len(records)} not done, of {planned}",
        "selection": f"checkpoints and points are selected by {study.search.objective} on {study.data.dev} ({source}, "
        "dev split); target languages steer nothing, their scores are zero-shot",
        "code": _versions(records),
        "time": f"{_hours(last_ms - state.opened_ms)} from the start to the last record; "
        f"{_hours(1000 * sum(record.train_seconds for record in finished))} of training in the attempts that finished",
        "data": ", ".join(f"{name} `{revision[:12]}`" for name, revision in revisions.items()),
    }
    return "".join(f"- **{name}**: {fact}\n" for name, fact in facts.items())


def _test_sets(sweep: Sweep) -> str:
    """Where the rows of every test set are from, and how many of each language were scored."""
    lines = []
    for name, test_set in sweep.study.test_sets.items():
        counts, contents = sweep.n_tested(name), sweep.resolved.tests(name)
        counted = [(language, str(counts.get(language, "-"))) for language in test_set.languages]
        revisions = [(language, f"`{contents[language].revision[:12]}`") for language in test_set.languages]
        lines.append([name, test_set.test, _scoring(sweep, test_set), _each(counted, " each"), _each(revisions)])
    table = markdown(["name", "data", "scored as", "rows scored", "revision"], lines, left=5)
    return "\n".join(["## Test sets\n", table, *(f"{note}.\n" for note in notes(sweep.study))])


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
        return values[0][1] + shared
    return ", ".join(f"{language} {value}" for language, value in values)


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
    """One table per metric and test set, the objective's metric first."""
    found = {metric for record in sweep.records.values() for metric in record.source_dev}
    parts = ["## Scores\n"]
    if not found:
        return parts[0] + "\nNo run is finished yet.\n"
    chosen = {row.number for row in selected(cell_rows(sweep, objective))}
    for metric in sorted(found, key=lambda metric: (metric != objective, metric)):
        for name, test_set in sweep.study.test_sets.items():
            rows = cell_rows(sweep, metric, name)
            title = f"{metric_name(metric)} on {name} ({test_set.test})"
            if len(chosen) < len(rows):
                parts.append(f"### {title}: each schedule's point, selected on source dev\n")
                parts.append(score_table([row for row in rows if row.number in chosen], test_set.languages))
            parts.append(f"### {title}: every point\n")
            parts.append(score_table(rows, test_set.languages))
    targets = {name: ", ".join(sweep.targets(name)) or "no language" for name in sweep.study.test_sets}
    averaged = "; ".join(f"{languages} ({name})" for name, languages in targets.items())
    parts.append(
        "Mean ± standard deviation (ddof 1) over n seeds, 0-100. "
        f"The target average is over {averaged}. **Bold**: the best mean of a column among complete cells. "
        f"{DAGGER}: fewer seeds than planned. -: not tested yet.\n"
    )
    return "\n".join(parts)


def _groups(sweep: Sweep, metric: str, best: list[CellRow]) -> str:
    """Which of three and more methods transfer alike, by the mean of their target averages over the test sets."""
    rows = {name: {row.number: row for row in cell_rows(sweep, metric, name)} for name in sweep.study.test_sets}
    means = {}
    for chosen in best:
        averages = [of[chosen.number].average for of in rows.values()]
        transfer = [summary.mean for summary in averages if summary is not None]
        if chosen.complete and len(transfer) == len(rows):
            means[contender(chosen.point)] = sum(transfer) / len(transfer)
    if len(means) < 3:
        return ""
    lines = [
        [f"{means[group[0]]:.2f}", ", ".join(f"{name} {means[name]:.2f}" for name in group)] for group in groups(means)
    ]
    title = f"Within one point of the best that is not in a group yet, by the mean {metric_name(metric)} over targets"
    return f"### Alike in transfer\n\n{title}:\n\n" + markdown(["best", "points"], lines)


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
                orders.setdefault(contender(row.point), []).append([one[0] for one in woken])
    parts = ["## Unfreeze orders\n", table]
    if orders:
        from raysched.reports.figures.canvas import order_figure  # matplotlib takes a second

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
                curves.setdefault(contender(row.point), []).append(curve)
    if not curves:
        return ""
    from raysched.reports.figures.canvas import trace_figure  # matplotlib takes a second

    write_atomic(to / TRACES, trace_figure(curves))
    points = "; ".join(str(row.point) for row in best if contender(row.point) in curves)
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
