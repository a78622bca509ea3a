"""A sweep as pandas frames, one row per run, cell, score, measurement, woken layer or example.

Scores are 0-100. Steps are completed optimizer steps. Every frame begins with the columns that say which point or run
a row is of: `sweep`, `cell` (its id), `point` (its parameters as text), `schedule`, `method` (adapters or full), `lr`,
`k` (missing where the schedule has none; text where it is `early` or `even`), and for runs `seed` and `run_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from raysched.errors import DamageError, MissingError
from raysched.records.record import Record
from raysched.reports.methods import objective
from raysched.reports.stats import Summary
from raysched.reports.sweep import Sweep
from raysched.reports.tables import average, cell_rows, order_text, selected
from raysched.study.identity import evaluation_id
from raysched.study.model import MAIN
from raysched.study.values import metrics

if TYPE_CHECKING:  # pandas takes half a second
    from pandas import DataFrame

NOT_DONE = "not done"
AVERAGE = "average"
"""In the place of a language: the mean over the target languages."""
POINT = {
    "sweep": "text",
    "cell": "text",
    "point": "text",
    "schedule": "text",
    "method": "text",
    "lr": "float",
    "k": "k",
}
RUN = {**POINT, "seed": "Int64", "run_id": "text"}
Row = dict[str, Any]


def score_name(place: str, metric: str, language: str = "") -> str:
    """`source_dev/f1`, `test/de/f1`, `test/average/f1`: a test set's name, a language or `average`, a metric."""
    return f"{place}/{language}/{metric}" if language else f"{place}/{metric}"


def run_frame(sweep: Sweep) -> DataFrame:
    """One row per planned run, done or not.

    | column | meaning |
    |---|---|
    | arm_epochs, arm_steps | length of a point that has one of its own |
    | status | finished, failed, diverged, or `not done` |
    | finished | whether it has scores |
    | cause | of a failure, in one word |
    | steps, selected_step | steps trained; the step of the checkpoint that source dev selected |
    | source_dev/METRIC | the selected checkpoint on the source language's dev set |
    | SET/LANGUAGE/METRIC | the same checkpoint on a test set (`test` is the main one); missing until it is tested |
    | SET/average/METRIC | mean over the target languages, of runs tested on all of them |
    | train_seconds | of training, in the attempt that counts |
    | unfreeze_order | step: layers woken, as in the report |
    """
    columns = {
        **RUN,
        "arm_epochs": "Int64",
        "arm_steps": "Int64",
        "status": "text",
        "finished": "bool",
        "cause": "text",
        "steps": "Int64",
        "selected_step": "Int64",
        **dict.fromkeys(score_names(sweep), "float"),
        "train_seconds": "float",
        "unfreeze_order": "text",
    }
    rows = []
    for number, taken in sweep.state.points.items():
        for seed, run_id in sorted(taken.run_ids.items()):
            row = _point(sweep, number) | {"seed": seed, "run_id": run_id, "status": NOT_DONE, "finished": False}
            if (record := sweep.records.get(run_id)) is not None:
                row |= _ended(sweep, record)
            rows.append(row)
    return _frame(rows, columns)


def score_frame(sweep: Sweep) -> DataFrame:
    """One row per finished run, test set (or `source_dev`), language and metric: test_set, language, target, metric,
    score. `target` tells the languages that were never trained on."""
    columns = {**RUN, "test_set": "text", "language": "text", "target": "bool", "metric": "text", "score": "float"}
    source = sweep.study.model.source_language
    rows = []
    for number, record in _finished(sweep):
        of = _run(sweep, number, record)
        places = {("source_dev", source): record.source_dev}
        for test_set in sweep.study.test_sets:
            places |= {(test_set, language): scores for language, scores in sweep.tests(record, test_set).items()}
        for (place, language), scores in places.items():
            where = {"test_set": place, "language": language, "target": language != source}
            rows += [of | where | {"metric": metric, "score": score} for metric, score in sorted(scores.items())]
    return _frame(rows, columns)


def cell_frame(sweep: Sweep) -> DataFrame:
    """One row per point, in the study's order.

    | column | meaning |
    |---|---|
    | planned, n, n_failed | seeds asked for, finished, failed |
    | complete | whether no seed is missing |
    | selected | whether source dev selects it for its method, as in the report's tables |
    | SCORE/mean, SCORE/std, SCORE/n | over the seeds that have this score (`run_frame`); std with ddof 1, missing \
below two seeds |
    """
    names = score_names(sweep)
    counts = {"planned": "int64", "n": "int64", "n_failed": "int64", "complete": "bool", "selected": "bool"}
    over = {f"{name}/{what}": "Int64" if what == "n" else "float" for name in names for what in ("mean", "std", "n")}
    chosen = {row.number for row in selected(cell_rows(sweep, objective(sweep)))}
    rows = {number: _point(sweep, number) for number in sweep.points}
    for metric in metrics(sweep.study.task):
        for test_set in sweep.study.test_sets:
            for row in cell_rows(sweep, metric, test_set):
                cell = rows[row.number]
                cell |= {"planned": row.planned, "n": row.n, "n_failed": row.n_failed, "complete": row.complete}
                cell |= {"selected": row.number in chosen}
                cell |= _summary(score_name("source_dev", metric), row.source_dev)
                for language, summary in {**row.tests, AVERAGE: row.average}.items():
                    cell |= _summary(score_name(test_set, metric, language), summary)
    return _frame(rows.values(), {**POINT, "arm_epochs": "Int64", "arm_steps": "Int64", **counts, **over})


def order_frame(sweep: Sweep) -> DataFrame:
    """One row per layer that woke: event (0 is before the first step), step, position within the event, layer.

    Events that woke nothing have no row; layer 0 is nearest the embeddings.
    """
    columns = {**RUN, "event": "int64", "step": "int64", "position": "int64", "layer": "int64"}
    rows = [
        _run(sweep, number, record) | {"event": event, "step": step, "position": position, "layer": layer}
        for number, record in _recorded(sweep)
        for event, (step, layers) in enumerate(record.unfreeze_order)
        for position, layer in enumerate(layers)
    ]
    return _frame(rows, columns)


def history_frames(sweep: Sweep, damaged: list[str]) -> tuple[DataFrame, DataFrame]:
    """What ended runs measured on their way: traces and evaluations. Runs whose history is damaged are left out of
    both, and told in `damaged`.

    Traces have one row per measurement and layer: step, purpose (`log`, or `select` where FUN chose by it), layer,
    trace (tr(F) of the layer's task adapter), se (its standard error), awake (whether it was being trained).
    Evaluations have one row per look at source dev: step, language, best (of this run so far), and a column per metric.
    """
    of_task = metrics(sweep.study.task)
    traces: list[Row] = []
    evaluations: list[Row] = []
    for number, record in _recorded(sweep):
        of = _run(sweep, number, record)
        try:
            rows = list(sweep.history(record))
        except DamageError as error:
            damaged.append(str(error).replace("\n", " "))
            continue
        for row in rows:
            if row.kind == "fisher":
                traces += [
                    of | {"step": row.step, "purpose": row.data["purpose"], **each} for each in _layers(row.data)
                ]
            elif row.kind == "evaluated":
                where = {"step": row.step, "language": row.data["language"], "best": row.data["best"]}
                evaluations.append(of | where | row.data["scores"])
    measured = {"step": "int64", "purpose": "text", "layer": "int64", "trace": "float", "se": "float", "awake": "bool"}
    looked = {"step": "int64", "language": "text", "best": "bool", **dict.fromkeys(of_task, "float")}
    return _frame(traces, {**RUN, **measured}), _frame(evaluations, {**RUN, **looked})


def prediction_frame(sweep: Sweep, run_ids: Iterable[str], language: str, test_set: str = MAIN) -> DataFrame:
    """One row per run and test example, of the finished runs among `run_ids` that were tested on this language.

    Columns after the run's: evaluation_id, language, split, example_id, prediction, score (the model's logit), start,
    end (characters of the context), gold (list of answers), f1, em (0-100; of a task that classifies em is 0 or 100).

    Raises:
        MissingError: a file of predictions is gone.
        DamageError: it is not what was written.
    """
    from raysched.tasks import predictions

    wanted, rows = set(run_ids), []
    for number, record in _finished(sweep):
        if record.run_id not in wanted or language not in sweep.tests(record, test_set):
            continue
        name = f"{language}.parquet" if test_set == MAIN else f"{test_set}/{language}.parquet"
        path = sweep.layout.run(record.run_id).root / record.attempt_folder / "predictions" / name
        sweep.layout.pull(path)
        origin, found = predictions.read(path)
        asked = evaluation_id(
            sweep.study, sweep.resolved, record.run_id, test_set, record.params.get("method", "adapters")
        )
        if origin.evaluation_id != asked:
            raise MissingError("holds the predictions of another evaluation", key=str(path))
        of = _run(sweep, number, record) | asdict(origin)
        rows += [of | asdict(one) | {"gold": list(one.gold)} for one in found]
    kinds = {"score": "float", "start": "Int64", "end": "Int64", "f1": "float", "em": "float"}
    columns = (*predictions.ORIGIN, *predictions.ANSWER)
    return _frame(rows, {**RUN, **{name: kinds.get(name, "text") for name in columns if name != "run_id"}})


def score_names(sweep: Sweep) -> list[str]:
    """Every score that a run of the sweep can have, the first metric of the task first."""
    names = []
    for metric in metrics(sweep.study.task):
        names.append(score_name("source_dev", metric))
        for test_set, chosen in sweep.study.test_sets.items():
            names += [score_name(test_set, metric, language) for language in (*chosen.languages, AVERAGE)]
    return names


def _layers(data: Mapping[str, Any]) -> Iterable[Row]:
    errors: Sequence[float | None] = data["se"] or [None] * len(data["traces"])
    awake = set(data["awake"])
    for layer, (trace, se) in enumerate(zip(data["traces"], errors, strict=True)):
        yield {"layer": layer, "trace": trace, "se": se, "awake": layer in awake}


def _recorded(sweep: Sweep) -> Iterable[tuple[int, Record]]:
    return ((number, record) for number in sweep.points for record in sweep.cell(number))


def _finished(sweep: Sweep) -> Iterable[tuple[int, Record]]:
    return ((number, record) for number, record in _recorded(sweep) if record.status == "finished")


def _point(sweep: Sweep, number: int) -> Row:
    point = sweep.points[number]
    of: Row = {"sweep": sweep.layout.name, "cell": sweep.state.points[number].cell_id, "point": str(point)}
    of |= {"schedule": point.schedule, "method": point.method, "lr": point.lr, "k": point.k}
    return {**of, "arm_epochs": point.epochs, "arm_steps": point.steps}


def _run(sweep: Sweep, number: int, record: Record) -> Row:
    return _point(sweep, number) | {"seed": record.seed, "run_id": record.run_id}


def _ended(sweep: Sweep, record: Record) -> Row:
    row = {
        "status": record.status,
        "finished": record.status == "finished",
        "cause": record.cause,
        "steps": record.steps,
        "selected_step": record.selected_step,
        "train_seconds": record.train_seconds,
        "unfreeze_order": order_text(record),
    }
    if record.status != "finished":
        return row
    row |= {score_name("source_dev", metric): score for metric, score in record.source_dev.items()}
    for test_set in sweep.study.test_sets:
        tests = sweep.tests(record, test_set)
        for language, scores in tests.items():
            row |= {score_name(test_set, metric, language): score for metric, score in scores.items()}
        for metric in metrics(sweep.study.task):
            mean = average([tests], sweep.targets(test_set), metric)
            row[score_name(test_set, metric, AVERAGE)] = mean.mean if mean else None
    return row


def _summary(name: str, summary: Summary | None) -> Row:
    if summary is None:
        return {f"{name}/n": 0}
    return {f"{name}/mean": summary.mean, f"{name}/std": summary.std, f"{name}/n": summary.n}


def _frame(rows: Iterable[Row], columns: Mapping[str, str]) -> DataFrame:
    """Rows of the same keys, of which those that are no column are left out; the same types for no rows."""
    from pandas import DataFrame

    frame = DataFrame(list(rows), columns=list(columns))
    kinds = {
        name: "float64" if kind == "float" else kind for name, kind in columns.items() if kind not in ("text", "k")
    }
    if "k" in columns and not any(isinstance(value, str) for value in frame["k"]):
        kinds["k"] = "Int64"
    return frame.astype(kinds)
