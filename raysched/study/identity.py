"""What makes two runs the same run: content hashes over everything that changes a result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from raysched.study import plugins
from raysched.study.fisher import FisherSelect
from raysched.study.inputs import Strict, TaskAdapter
from raysched.study.model import MAIN, Study
from raysched.study.space import Point
from raysched.study.stored import stored
from raysched.study.values import SCHEDULES, TASKS, form

RESULT_SCHEMA = 1
"""Grows whenever raysched itself starts to give other numbers for the same settings."""


class Content(Strict):
    """One resolved input: where it was asked for, and what it held.

    `revision` is a 40-hex commit of the hub or the SHA-256 of local content; `path` the local file or folder
    that holds it on this machine (not part of any identity), null for a hub repository.
    """

    where: str
    revision: str
    path: str | None = None


class Resolved(Strict):
    """Every input of a study, resolved once at preflight and kept in the ledger."""

    train: Content
    dev: Content
    test: dict[str, Content]
    backbone: Content
    language_adapters: dict[str, Content]
    also: dict[str, dict[str, Content]] = Field(default={})
    replay: Content | None = None
    device: Literal["cpu", "cuda"]

    def tests(self, test_set: str) -> dict[str, Content]:
        """Rows of a test set, by language."""
        return self.test if test_set == MAIN else self.also[test_set]


def digest(value: Any, length: int = 16) -> str:
    """Hex SHA-256 of the canonical JSON of `value`, cut to `length` characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def cell_identity(study: Study, resolved: Resolved, point: Point) -> dict[str, Any]:
    """Everything that decides the results of a point's runs, the seed left out (decision 15).

    What a task, method or schedule does not use is left out, and so are settings of later versions at their
    defaults: runs keep the ids they had.
    """
    training = study.training.model_dump(
        mode="json", exclude={"checkpoint_every_steps", "gu_phase", "permutation", "surgical", "replay"}
    )
    if point.epochs is not None or point.steps is not None:
        training |= {"epochs": point.epochs, "steps": point.steps}
    qa = form(study.task) == "qa"
    data = {"max_length", "doc_stride", "qa_padding"} if qa else {"max_length"}
    if study.data.train_examples is not None:
        data |= {"train_examples", "subset"}
    rules = {"dev_limit", "dev_points"} | ({"n_best", "max_answer_length"} if qa else set())
    identity = {
        "result_schema": RESULT_SCHEMA,
        "task": study.task,
        "train": resolved.train.revision,
        "dev": resolved.dev.revision,
        "data": study.data.model_dump(mode="json", include=data),
        "backbone": resolved.backbone.revision,
        "lr": point.lr,
        "training": training,
        "schedule": _schedule(study, resolved, point),
        "selection": {"metric": study.search.objective, **study.evaluation.model_dump(mode="json", include=rules)},
        "device": resolved.device,
    }
    if study.task not in TASKS:
        identity["task_of"] = plugins.origin("task", study.task)
    if point.method == "full":
        # No source adapter tells which language's rows of a data set with several were trained on.
        return {**identity, "method": "full", "source_language": study.model.source_language}
    source = resolved.language_adapters[study.model.source_language]
    return {**identity, "source_adapter": source.revision, "task_adapter": _task_adapter(study.model.task_adapter)}


def _schedule(study: Study, resolved: Resolved, point: Point) -> dict[str, Any]:
    schedule: dict[str, Any] = {"name": point.schedule}
    if point.schedule not in SCHEDULES:
        schedule["of"] = plugins.origin("schedule", point.schedule)
    if point.k is not None:
        schedule["k"] = point.k
    if point.schedule == "gu":
        schedule["gu_phase"] = study.training.gu_phase
    if point.schedule in ("permutation", "surgical"):
        schedule[point.schedule] = list(getattr(study.training, point.schedule) or ())
    if point.schedule == "replay" and resolved.replay is not None:
        schedule["replay"] = resolved.replay.revision
    if _steered(point.schedule):
        select = study.fisher.select
        later = {name for name in ("preset", "draws", "adaptive") if getattr(select, name) == _default(name)}
        schedule["fisher"] = select.model_dump(mode="json", exclude=later)
    return schedule


def _steered(schedule: str) -> bool:
    """Whether measurements of tr(F) choose the layers."""
    return schedule == "fun" or (schedule not in SCHEDULES and plugins.load("schedule", schedule).needs_traces)


def _default(name: str) -> Any:
    return FisherSelect.model_fields[name].default


def _task_adapter(adapter: TaskAdapter) -> dict[str, Any]:
    names = {"kind", "rank", "alpha"} if adapter.kind == "lora" else {"placement", "reduction", "activation"}
    return adapter.model_dump(mode="json", include=names)


def cell_id(study: Study, resolved: Resolved, point: Point) -> str:
    return digest(cell_identity(study, resolved, point))


def run_id(study: Study, resolved: Resolved, point: Point, seed: int) -> str:
    return digest({**cell_identity(study, resolved, point), "seed": seed})


def evaluation_id(study: Study, resolved: Resolved, run: str, test_set: str = MAIN, method: str = "adapters") -> str:
    """One run's selected checkpoint on one set of test languages: adding a test set retrains nothing."""
    chosen, tests = study.test_sets[test_set], resolved.tests(test_set)
    languages = {
        language: [tests[language].revision]
        + ([resolved.language_adapters[language].revision] if method == "adapters" else [])
        for language in chosen.languages
    }
    names = {"test_limit"} | ({"n_best", "max_answer_length"} if form(study.task) == "qa" else set())
    rules = study.evaluation.model_dump(mode="json", include=names)
    if (chosen.scoring, chosen.chinese_metric) != ("squad", None):
        rules |= {"scoring": chosen.scoring, "chinese_metric": chosen.chinese_metric}
    return digest({"run": run, "languages": languages, **rules})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run, complete: all that a worker needs to know, and no secret."""

    run_id: str
    cell_id: str
    evaluation_ids: dict[str, str]
    study: Study
    resolved: Resolved
    point: Point
    seed: int

    @classmethod
    def make(cls, study: Study, resolved: Resolved, point: Point, seed: int) -> RunSpec:
        run = run_id(study, resolved, point, seed)
        return cls(
            run_id=run,
            cell_id=cell_id(study, resolved, point),
            evaluation_ids={name: evaluation_id(study, resolved, run, name, point.method) for name in study.test_sets},
            study=study,
            resolved=resolved,
            point=point,
            seed=seed,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study.model_dump(mode="json"),
            "resolved": self.resolved.model_dump(mode="json"),
            "point": self.point.params(),
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunSpec:
        return cls.make(
            stored(value["study"]),
            Resolved.model_validate_json(json.dumps(value["resolved"])),
            Point(**value["point"]),
            value["seed"],
        )
