"""An exported adapter that answers: questions, choices and hypotheses that nobody has to know the answer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from raysched import hub, mini
from raysched.errors import MissingError, StudyError
from raysched.records import files
from raysched.study.identity import Content, Resolved
from raysched.study.values import form
from raysched.tasks.copa import QUESTIONS
from raysched.tasks.predictions import Prediction
from raysched.tasks.task import Row
from raysched.training.bench import Bench, Scored
from raysched.training.evaluate import evaluate
from raysched.training.export import About, read_head

LANGUAGE = "language"
"""The column that names the language of a row; without it all are in the source language."""
NOWHERE = Content(where="not looked at", revision="")
MINI = "mini"

Asked = Mapping[str, Any]
"""One row of a question: column -> text."""


def _qa(row: Asked) -> Row:
    # Features are made of a first answer: an empty one at the beginning of the context stands for that.
    return {**row, "answers": {"text": [""], "answer_start": [0]}}


def _choice(row: Asked) -> Row:
    if row["question"] not in QUESTIONS:
        raise StudyError(f"must be cause or effect, but got {row['question']!r}", key="question", choices=QUESTIONS)
    return {"premise": row["premise"], "question": row["question"], "choices": [row["choice1"], row["choice2"]]}


FORMS: dict[str, tuple[tuple[str, ...], Callable[[Asked], Row]]] = {
    "qa": (("question", "context"), _qa),
    "choice": (("premise", "question", "choice1", "choice2"), _choice),
    "nli": (("premise", "hypothesis"), dict),
}
"""By form of a task: the columns that a row must have, and how it becomes a row of the task."""


class Answerer:
    """What `choosing.write` put into a folder, loaded once. Loads safetensors and JSON, never a pickle."""

    def __init__(self, folder: Path) -> None:
        """`folder` has the layout of `raysched export`.

        Raises:
            MissingError: the adapter, the backbone or a language adapter is not here.
            StudyError: they do not fit each other.
            DamageError: the folder is not what was exported.
        """
        about = About.read(folder)
        if about is None:
            raise MissingError(f"{folder} holds no adapter that raysched exported", key="MODEL")
        self.study, full = about.spec.study, about.spec.point.method == "full"
        self.form = form(self.study.task)
        self.columns, self._row = FORMS[self.form]
        # Features of questions are made for once, and never kept: there is no cache to name.
        self.bench = Bench(self.study, _inputs(about.spec.resolved, folder if full else None), folder)
        if full:
            self.bench.model.new_full(self.bench.task.head, None)
        else:
            self.bench.model.load_task(folder, self.bench.task.head)
        read_head(folder, self.bench.model.head)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that can be asked in: those of the study."""
        return self.study.languages

    def answer(self, asked: Sequence[Asked]) -> list[Prediction]:
        """One prediction per row, in order; `f1`, `em` and `gold` of them say nothing.

        Raises:
            StudyError: a row lacks a column, holds no text there, or is in a language that the model does not know.
        """
        found: dict[int, Prediction] = {}
        by_language: dict[str, list[int]] = {}
        for number, row in enumerate(asked):
            self._check(row, number)
            by_language.setdefault(row.get(LANGUAGE) or self.study.model.source_language, []).append(number)
        for language, numbers in by_language.items():
            rows = [{"label": 0, **self._row(asked[number]), "id": str(number)} for number in numbers]
            features = self.bench.task.features(rows, self.bench.tokenizer, "eval")
            scored = Scored(rows, features, language)
            _, predictions = evaluate(self.bench, scored, self.study.evaluation.batch_size)
            found |= {number: replace(one, gold=()) for number, one in zip(numbers, predictions, strict=True)}
        return [found[number] for number in range(len(asked))]

    def _check(self, row: Asked, number: int) -> None:
        for name in self.columns:
            if not isinstance(row.get(name), str) or not row[name].strip():
                wrong = f"is {row[name]!r}, but must be text" if name in row else "is missing"
                raise StudyError(f"row {number}: column {name!r} {wrong}", key="input", choices=self.columns)
        language = row.get(LANGUAGE)
        if language is not None and language not in self.languages:
            raise StudyError(
                f"row {number}: the model has no language {language!r}", key=LANGUAGE, choices=self.languages
            )


def _inputs(trained: Resolved, full: Path | None) -> Resolved:
    """The backbone and language adapters of the training, wherever this machine has them; no data.

    `full` is the folder of a backbone that was trained itself.
    """
    if full is None:
        backbone = _here(trained.backbone)
        adapters = {language: _here(content) for language, content in trained.language_adapters.items()}
    else:
        backbone, adapters = Content(where=trained.backbone.where, revision="", path=str(full)), {}
    return Resolved(
        train=NOWHERE,
        dev=NOWHERE,
        test={},
        backbone=backbone,
        language_adapters=adapters,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def _here(content: Content) -> Content:
    """The same content on this machine: shipped with raysched, of the hub at its commit, or in the folder it was in."""
    if content.path is None:
        hub.local_folder(content)  # fetched now, and not at the first question
        return content
    name, _, language = content.where.partition(":")
    shipped = name == MINI
    path = Path(content.path)
    if shipped:
        path = mini.adapter_path(language) if language else mini.backbone_path()
    if not path.is_dir() or files.sha256_tree(path) != content.revision:
        raise MissingError(
            f"{content.where} ({content.revision[:12]}), on which the adapter was trained, is not "
            + ("what this version of raysched ships" if shipped else f"in {path}"),
            key="MODEL",
            hint="install the version of raysched that trained it" if shipped else "put the folder there again",
        )
    return content.model_copy(update={"path": str(path)})
