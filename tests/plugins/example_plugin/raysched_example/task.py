"""Question answering with a lenient score: does the prediction contain an answer?"""

from __future__ import annotations

from collections.abc import Sequence

from raysched.tasks.predictions import Prediction
from raysched.tasks.qa import QATask


class ContainsQA(QATask):
    """Rows, features, head and loss are those of `qa`; `form` says so, and with it which readers and settings apply."""

    metrics = ("contains",)

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        found = [any(answer in p.prediction for answer in p.gold) for p in predictions]
        return {"contains": 100 * sum(found) / len(found)}
