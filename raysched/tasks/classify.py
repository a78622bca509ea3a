"""What tasks share that name one of C classes of one or more pairs of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysched.errors import Diverged
from raysched.study.identity import digest
from raysched.study.model import Study, TestSet
from raysched.tasks import feature_store, metrics, pairs
from raysched.tasks.pairs import Pair, PairFeatures
from raysched.tasks.predictions import Prediction
from raysched.tasks.task import Logits, Role, Row


class PairTask:
    """Holds settings only, no model and no data. B examples of a batch, C classes, T tokens, H hidden values.

    The head makes C logits of an example, all from its only pair or one from each of its `rows_per_example` pairs.
    """

    metrics: tuple[str, ...] = ("accuracy",)
    form: str
    rows_per_example: int
    labels: ClassVar[tuple[str, ...]]
    """Names of the classes, by number."""

    def __init__(self, study: Study) -> None:
        self.name, self.max_length = study.task, study.data.max_length

    @staticmethod
    def pairs(row: Row) -> Sequence[Pair]:
        """The `rows_per_example` pairs of texts that the model reads of a row."""
        raise NotImplementedError

    def features_key(self, source: dict[str, Any], role: Role, tokenizer_digest: str) -> str:
        """Name of the cached features, the same for both roles; `source` is `sources.identity(...)` of the rows."""
        # By the task's own name too: a plug-in may ask the same rows otherwise.
        made_by = [self.name, self.form, PairFeatures.VERSION]
        return digest([made_by, source, tokenizer_digest, self.max_length], length=32)

    def features(self, rows: Sequence[Row], tokenizer: Any, role: Role) -> PairFeatures:
        return pairs.build(rows, tokenizer, self.pairs, per_example=self.rows_per_example, max_length=self.max_length)

    def load_features(self, folder: Path, key: str, make: Callable[[], PairFeatures]) -> PairFeatures:
        return feature_store.cached(folder, key, PairFeatures, make)

    def batch(self, features: PairFeatures, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """As `pairs.batch`: padded to the longest pair, which changes neither logits nor tr(F) (method.md 6.4)."""
        return pairs.batch(features, indices)

    def groups(self, head: nn.Module, hidden: Tensor, batch: dict[str, Tensor]) -> list[Tensor]:
        """Hidden states (B * rows_per_example, T, H) to the logits (B, C), in float32 or better."""
        logits = head(hidden)
        return [logits.to(torch.promote_types(logits.dtype, torch.float32)).view(-1, len(self.labels))]

    def targets(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """True classes (B,)."""
        return [batch["labels"]]

    def loss(self, groups: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(groups[0], targets[0])

    def predict(
        self, rows: Sequence[Row], features: PairFeatures, logits: Logits, language: str, rules: TestSet | None
    ) -> list[Prediction]:
        """One prediction per row, in order: the class with the highest of the C `logits[i]`, the first of equals.

        Raises `Diverged` for a logit that is not a number.
        """
        return [self._prediction(row, *scores) for row, scores in zip(rows, logits, strict=True)]

    def _prediction(self, row: Row, scores: NDArray[np.floating]) -> Prediction:
        if np.isnan(scores).any():
            raise Diverged("the model's logits are not numbers (NaN)")
        best = int(np.argmax(scores))
        name, gold = self.labels[best], (self.labels[row["label"]],)
        return Prediction(
            example_id=row["id"],
            prediction=name,
            score=float(scores[best]),
            start=None,
            end=None,
            gold=gold,
            f1=None,
            em=metrics.accuracy(name, gold),
        )

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """`{"accuracy"}`: percent of the examples that were named rightly."""
        return {"accuracy": metrics.mean(p.em for p in predictions)}
