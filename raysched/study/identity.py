"""What makes two runs the same run: content hashes over everything that changes a result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from raysched.study.model import Strict, Study
from raysched.study.space import Point

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
    replay: Content | None = None
    device: Literal["cpu", "cuda"]


def digest(value: Any, length: int = 16) -> str:
    """Hex SHA-256 of the canonical JSON of `value`, cut to `length` characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def cell_identity(study: Study, resolved: Resolved, point: Point) -> dict[str, Any]:
    """Everything that decides the results of a point's runs, the seed left out (decision 15)."""
    training = study.training.model_dump(
        mode="json", exclude={"checkpoint_every_steps", "gu_phase", "permutation", "replay"}
    )
    schedule: dict[str, Any] = {"name": point.schedule}
    if point.k is not None:
        schedule["k"] = point.k
    if point.schedule == "gu":
        schedule["gu_phase"] = study.training.gu_phase
    if point.schedule == "permutation":
        schedule["permutation"] = list(study.training.permutation or ())
    if point.schedule == "replay" and resolved.replay is not None:
        schedule["replay"] = resolved.replay.revision
    if point.schedule == "fun":
        schedule["fisher"] = study.fisher.select.model_dump(mode="json")
    data = {"max_length", "doc_stride", "qa_padding"}
    if study.data.train_examples is not None:
        data |= {"train_examples", "subset"}
    return {
        "result_schema": RESULT_SCHEMA,
        "task": study.task,
        "train": resolved.train.revision,
        "dev": resolved.dev.revision,
        "data": study.data.model_dump(mode="json", include=data),
        "backbone": resolved.backbone.revision,
        "source_adapter": resolved.language_adapters[study.model.source_language].revision,
        "task_adapter": study.model.task_adapter.model_dump(mode="json"),
        "lr": point.lr,
        "training": training,
        "schedule": schedule,
        "selection": {
            "metric": study.search.objective,
            **study.evaluation.model_dump(
                mode="json", include={"dev_limit", "dev_points", "n_best", "max_answer_length"}
            ),
        },
        "device": resolved.device,
    }


def cell_id(study: Study, resolved: Resolved, point: Point) -> str:
    return digest(cell_identity(study, resolved, point))


def run_id(study: Study, resolved: Resolved, point: Point, seed: int) -> str:
    return digest({**cell_identity(study, resolved, point), "seed": seed})


def evaluation_id(study: Study, resolved: Resolved, run: str) -> str:
    """One run's selected checkpoint on one set of test languages: adding a test set retrains nothing."""
    languages = {
        language: [resolved.test[language].revision, resolved.language_adapters[language].revision]
        for language in study.evaluation.languages
    }
    rules = study.evaluation.model_dump(mode="json", include={"test_limit", "n_best", "max_answer_length"})
    return digest({"run": run, "languages": languages, **rules})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run, complete: all that a worker needs to know, and no secret."""

    run_id: str
    cell_id: str
    evaluation_id: str
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
            evaluation_id=evaluation_id(study, resolved, run),
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
            Study.model_validate_json(json.dumps(value["study"])),
            Resolved.model_validate_json(json.dumps(value["resolved"])),
            Point(**value["point"]),
            value["seed"],
        )
