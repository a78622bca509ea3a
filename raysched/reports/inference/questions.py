"""Scores per question, from the predictions that every run stored, as arrays that line up over runs and languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysched.errors import DamageError, MissingError, RayschedError
from raysched.records.layout import AttemptLayout
from raysched.records.record import Record
from raysched.reports.methods import Method
from raysched.reports.sweep import Sweep
from raysched.study.model import MAIN

RIGHT = 100.0
"""Exact match, or the right label."""
PER_QUESTION = {"f1": "f1", "em": "em", "accuracy": "em"}
"""Metric -> column of the predictions whose mean it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One run on one language: `scores[column][i]` (0-100) is of question `ids[i]`; ids are sorted."""

    ids: NDArray[np.str_]
    scores: Mapping[str, NDArray[np.float64]]


Run = Mapping[str, Answers]
"""Language -> the answers of one run."""


def column_of(metric: str) -> str:
    """The column that a metric is the mean of; exact match for a metric that is no mean over questions."""
    return PER_QUESTION.get(metric, "em")


def read_method(method: Method, test_set: str, damaged: list[str]) -> dict[int, Run]:
    """Seed -> answers in every language of a test set that the run was tested on and whose file is whole.

    What is gone or damaged is told in `damaged`, and left out.
    """
    found: dict[int, Run] = {}
    for record in method.records:
        run = {}
        for language in method.sweep.tests(record, test_set):
            try:
                run[language] = _read(method.sweep, record, test_set, language)
            except RayschedError as error:
                damaged.append(str(error).replace("\n", " "))
        if run:
            found[record.seed] = run
    return found


def _read(sweep: Sweep, record: Record, test_set: str, language: str) -> Answers:
    """Raises MissingError where the file is gone, or its store does not answer; DamageError where it is not whole."""
    attempt = AttemptLayout(sweep.layout.run(record.run_id).root / record.attempt_folder)
    name = f"{language}.parquet" if test_set == MAIN else f"{test_set}/{language}.parquet"
    path = attempt.predictions / name
    try:
        attempt.pull(path)
        sha256 = record.files.get(f"{attempt.predictions.name}/{name}")
        if sha256 is not None and path.exists() and not attempt.has(f"{attempt.predictions.name}/{name}", sha256):
            raise DamageError("predictions are not what was written", key=str(path))
        table = pq.read_table(pa.BufferReader(path.read_bytes()), columns=["example_id", "f1", "em"])
    except FileNotFoundError:
        raise MissingError("no such file of predictions", key=str(path)) from None
    except (pa.ArrowException, OSError) as error:
        raise DamageError(f"predictions cannot be read: {error}", key=str(path)) from error
    return _answers(table, language)


def _answers(table: pa.Table, language: str) -> Answers:
    """A parallel test set may tell its languages apart in the ids (`q17-th`): what is after the number goes."""
    ids = np.array([text.removesuffix(f"-{language}") for text in table["example_id"].to_pylist()], dtype=np.str_)
    order = np.argsort(ids, kind="stable")
    columns = {name: table[name].to_numpy().astype(np.float64)[order] for name in ("f1", "em")}
    if np.isnan(columns["f1"]).any():  # a task that classifies
        columns["f1"] = columns["em"]
    return Answers(ids=ids[order], scores=columns)


def lined_up(runs: Iterable[Run], languages: Sequence[str], column: str) -> NDArray[np.float64] | None:
    """(runs, questions, languages): scores, with NaN where a language has no such question.

    Questions of a language that one of the runs lacks are left out. None where a run lacks a language, or nothing is
    left of one.
    """
    found = list(runs)
    if not found or not languages or any(language not in run for run in found for language in languages):
        return None
    ids = {language: _shared([run[language].ids for run in found]) for language in languages}
    every = np.unique(np.concatenate(list(ids.values())))
    scores = np.full((len(found), len(every), len(languages)), np.nan)
    for place, language in enumerate(languages):
        if not len(ids[language]):
            return None
        rows = np.searchsorted(every, ids[language])
        for index, run in enumerate(found):
            taken = np.searchsorted(run[language].ids, ids[language])
            scores[index, rows, place] = run[language].scores[column][taken]
    return scores


def _shared(ids: Sequence[NDArray[np.str_]]) -> NDArray[np.str_]:
    found = ids[0]
    for other in ids[1:]:
        found = found if np.array_equal(found, other) else np.intersect1d(found, other)
    return found
