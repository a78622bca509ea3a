"""Natural-language inference: does the hypothesis follow from the premise? (MultiNLI, XNLI)"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raysched.tasks import inference
from raysched.tasks.classify import PairTask
from raysched.tasks.heads import FirstTokenHead, class_head
from raysched.tasks.pairs import Pair
from raysched.tasks.task import Row


class NLITask(PairTask):
    """Premise and hypothesis are one pair, which gives three logits."""

    form = "nli"
    rows_per_example = 1
    labels = inference.LABELS

    @staticmethod
    def pairs(row: Row) -> list[Pair]:
        return [(row["premise"], row["hypothesis"])]

    def head(
        self, *, hidden_size: int, model_type: str, pooler: Mapping[str, Tensor] | None, dropout: float
    ) -> FirstTokenHead:
        return class_head(hidden_size, model_type, pooler, dropout, len(self.labels))
