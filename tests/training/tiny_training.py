"""A random MAD-X of four layers, small studies on the mini world, and runs reduced to what must be equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raysched.mini.tokenizer import build_tokenizer
from raysched.records.history import Sealed, read_segments
from raysched.records.layout import AttemptLayout
from raysched.records.record import read_result
from raysched.runners import preflight
from raysched.study.identity import Resolved, RunSpec
from raysched.study.load import load_study
from raysched.study.model import Study
from raysched.study.space import Point, uses_k
from raysched.tasks.predictions import read
from raysched.training.attempt import Attempt
from raysched.training.bench import Bench
from raysched.training.checkpoint import newest_first
from raysched.training.events import TrainingEvent
from raysched.training.loop import TrainingRun
from raysched.training.random_madx import make

LANGUAGES = ("vel", "orl", "xim")
LAYERS, WIDTH, STEPS, K = 4, 16, 10, 2
PERMUTATION = [2, 0, 1]
SURGICAL = [0, 2]
REPLAY = [[2, []], [3, [1]], [7, [2, 0]]]
SCHEDULES = ("standard", "gu", "gu-prose", "lpft", "rand", "fun", "reverse", "permutation", "replay", "surgical")
SETTINGS: dict[str, Any] = {
    "model.source_language": "vel",
    "model.task_adapter.reduction": 4,
    "training.steps": STEPS,
    "training.batch_size": 8,
    "training.checkpoint_every_steps": 7,
    "data.train_examples": 50,
    "fisher.select.batches": 2,
    "fisher.log.every_steps": 4,
    "evaluation.languages": list(LANGUAGES),
    "evaluation.dev_limit": 20,
    "evaluation.test_limit": 10,
    "evaluation.dev_points": 4,
    "tracking.log_every_steps": 3,
    "search.lr": [1e-2],
    "search.k": [K],
}


@dataclass(frozen=True)
class Tiny:
    """Where the random MAD-X lies; studies and runs on it."""

    folder: Path
    cache: Path
    resolved: dict[str, Resolved] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, languages: Iterable[str] = LANGUAGES, **options: Any) -> Tiny:
        """`options` are those of `random_madx.make`; BERT's tokenizer tells segments apart, as mBERT's does."""
        tokenizer = build_tokenizer()
        if options.get("architecture") == "bert":
            tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        sizes: dict[str, Any] = {"layers": LAYERS, "width": WIDTH, "heads": 2, "max_length": 64}
        make(folder, tokenizer, tuple(languages), **sizes | options)
        (folder / "replay.json").write_text(json.dumps({"order": REPLAY}))
        return cls(folder, folder / "features")

    def adapter(self, language: str) -> Path:
        return self.folder / "adapters" / language

    def study(self, schedule: str = "gu", **settings: Any) -> Study:
        """Keys are dotted study keys, with `__` for each dot."""
        values = SETTINGS | {
            "model.backbone": str(self.folder / "backbone"),
            "model.language_adapters": f"{self.folder}/adapters/{{language}}",
            "search.schedule": [schedule.removesuffix("-prose")],
        }
        if schedule == "gu-prose":
            values["training.gu_phase"] = "prose"
        if schedule == "permutation":
            values["training.permutation"] = PERMUTATION
        if schedule == "surgical":
            values["training.surgical"] = SURGICAL
        if schedule == "replay":
            values["training.replay"] = str(self.folder / "replay.json")
        values |= {key.replace("__", "."): value for key, value in settings.items()}
        return load_study("xquad-mini", [f"{key}={json.dumps(value)}" for key, value in values.items()]).study

    def resolve(self, study: Study) -> Resolved:
        parts = (study.task, study.data, study.model, study.test_sets, study.search, study.training.replay)
        key = repr(parts)  # the mini world's rows are made and hashed once for all runs with the same inputs
        if key not in self.resolved:
            self.resolved[key] = preflight.resolve(study, device="cpu")
        return self.resolved[key]

    def spec(
        self, schedule: str = "gu", seed: int = 0, *, resolved: Resolved | None = None, **settings: Any
    ) -> RunSpec:
        """`resolved` saves resolving inputs that are known already."""
        study = self.study(schedule, **settings)
        (name,) = study.search.schedule
        point = Point(schedule=name, lr=study.search.lr[0], k=study.search.k[0] if uses_k(name) else None)
        return RunSpec.make(study, resolved or self.resolve(study), point, seed)

    def bench(self, spec: RunSpec | None = None) -> Bench:
        spec = spec or self.spec()
        return Bench(spec.study, spec.resolved, self.cache)


def sha(tensors: Mapping[str, Tensor]) -> str:
    """Of every bit of every tensor, names and shapes included."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def history(layout: AttemptLayout, sealed: Iterable[Sealed]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(row.kind, row.step, row.data) for row in read_segments(layout.segments, sealed)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a finished run left, reduced to what does not depend on when and where it ran."""

    weights: str
    optimizer: str
    best: str
    selected_step: int | None
    order: tuple[tuple[int, tuple[int, ...]], ...]
    source_dev: dict[str, float]
    tests: dict[str, dict[str, dict[str, float]]]
    adapter: dict[str, str]
    predictions: dict[str, str]
    rows: list[tuple[str, int, dict[str, Any]]]

    @classmethod
    def of(cls, layout: AttemptLayout, run: TrainingRun, earlier: list[Path]) -> Outcome:
        """Of the finished `run`; its last weights lie in its last checkpoint, here or in an earlier attempt."""
        result = read_result(layout.result)
        last = newest_first([layout.checkpoints, *(AttemptLayout(path).checkpoints for path in earlier)])[0]
        return cls(
            weights=_file(last / "weights.safetensors"),
            optimizer=_file(last / "optimizer.safetensors"),
            best=sha(run.best_tensors),
            selected_step=result.selected_step,
            order=result.unfreeze_order,
            source_dev=result.source_dev,
            tests=result.tests,
            adapter={name: digest for name, digest in result.files.items() if name.startswith("adapter/")},
            predictions={path.stem: repr(read(path)) for path in sorted(layout.predictions.glob("*.parquet"))},
            rows=history(layout, result.segments),
        )


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def execute(
    bench: Bench,
    spec: RunSpec,
    folder: Path,
    earlier: list[Path] | None = None,
    *,
    leave: Callable[[TrainingEvent], bool] = lambda _: False,
) -> Outcome | None:
    """One attempt, to its end (its outcome), or left and saved after the first event that `leave` picks (None)."""
    layout = AttemptLayout(folder)
    attempt = Attempt(bench, spec, layout, [AttemptLayout(path) for path in earlier or []])
    for event in attempt.events():
        if leave(event):
            attempt.save()
            return None
    return Outcome.of(layout, attempt.run, earlier or [])


def same(first: Outcome | None, second: Outcome | None) -> None:
    """Field by field, so that a failure names what differs."""
    assert first is not None
    assert second is not None
    for name in Outcome.__dataclass_fields__:
        assert getattr(first, name) == getattr(second, name), name
