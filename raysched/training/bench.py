"""What a worker process loads once and keeps for all its runs: backbone, language adapters, tokenizer, features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from raysched import hub
from raysched.errors import MissingError, StudyError
from raysched.madx import MadX
from raysched.madx.quiet import quiet
from raysched.study.identity import Content, Resolved, RunSpec, digest
from raysched.study.model import MAIN, Study, TestSet
from raysched.tasks import sources
from raysched.tasks.feature_store import tokenizer_digest
from raysched.tasks.local import Role
from raysched.tasks.registry import make_task
from raysched.tasks.task import Role as TaskRole
from raysched.tasks.task import Row
from raysched.training.seeding import global_rng, stream


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of one language with their evaluation features; `rules` say how answers are compared, None on dev."""

    rows: list[Row]
    features: Any
    language: str
    rules: TestSet | None = None


class Bench:
    """Everything that runs of one study share; nothing of one run."""

    def __init__(self, study: Study, resolved: Resolved, cache: Path) -> None:
        """`cache` is the folder for tokenised features, shared by all runs and processes.

        Raises:
            MissingError, StudyError: an input is not there, or does not fit.
        """
        torch.set_num_threads(study.training.threads)
        self.study, self.resolved, self.cache = study, resolved, cache
        self.task = make_task(study)
        folder = hub.local_folder(resolved.backbone)
        adapters = {language: hub.local_folder(content) for language, content in resolved.language_adapters.items()}
        model = MadX.load(folder, adapters, study.model.language_adapter_config)
        # Goes into the configuration of saved adapters, which is the same wherever the folder lies.
        model.backbone.config.name_or_path = resolved.backbone.where
        self.model = model.to(torch.device(resolved.device))
        self.tokenizer = _tokenizer(folder)
        self._tokenizer_digest = tokenizer_digest(self.tokenizer)
        self._tests: dict[tuple[str, str], Scored] = {}

    @staticmethod
    def key(study: Study, resolved: Resolved) -> str:
        """Two studies with equal keys can use one bench."""
        return digest(
            {
                "resolved": resolved.model_dump(mode="json"),
                "study": study.model_dump(mode="json", exclude={"search", "seeds", "description", "resources"}),
            }
        )

    def _features(self, content: Content, role: Role, language: str, rows: Callable[[], list[Row]]) -> Any:
        kind: TaskRole = "train" if role == "train" else "eval"
        source = sources.identity(content, self.study, role, language)
        key = self.task.features_key(source, kind, self._tokenizer_digest)
        return self.task.load_features(self.cache, key, lambda: self.task.features(rows(), self.tokenizer, kind))

    def _scored(self, content: Content, role: Role, language: str, rules: TestSet | None = None) -> Scored:
        rows = sources.rows(content, self.study, role, language)
        return Scored(rows, self._features(content, role, language, lambda: rows), language, rules)

    @cached_property
    def train(self) -> Any:
        content, language = self.resolved.train, self.study.model.source_language
        # The rows themselves are read only where their features are not there yet.
        return self._features(content, "train", language, lambda: sources.rows(content, self.study, "train", language))

    @cached_property
    def dev(self) -> Scored:
        return self._scored(self.resolved.dev, "dev", self.study.model.source_language)

    def test(self, language: str, test_set: str = MAIN) -> Scored:
        key = (test_set, language)
        if key not in self._tests:
            content = self.resolved.tests(test_set)[language]
            self._tests[key] = self._scored(content, "test", language, self.study.test_sets[test_set])
        return self._tests[key]

    def start(self, spec: RunSpec) -> None:
        """Make the model new for one run: fresh task adapter and head from the run's init stream.

        A full run trains the backbone instead of an adapter; whatever ran before, it starts from the checkpoint.
        """
        dropout = spec.study.training.dropout
        with global_rng(stream(spec.seed, "init"), self.model.device):
            if spec.point.method == "full":
                self.model.new_full(self.task.head, dropout)
            else:
                self.model.new_task(spec.study.model.task_adapter, self.task.head, dropout)
        self.model.use_language(spec.study.model.source_language)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer in a backbone's folder. Raises MissingError, StudyError."""
    try:
        with quiet():  # it calls every large tokenizer of a local folder a broken one of Mistral's
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
    except (OSError, ValueError) as error:
        raise MissingError(f"no tokenizer in {folder}: {error}", key="model.backbone") from error
    if not tokenizer.is_fast:
        raise StudyError(f"{folder} has no fast tokenizer; answers need character offsets", key="model.backbone")
    return tokenizer
