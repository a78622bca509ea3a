"""Multiple choice: which of two sentences is the cause, or the effect, of the premise? (COPA, XCOPA)"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raysched.tasks.classify import PairTask
from raysched.tasks.heads import FirstTokenHead, choice_head
from raysched.tasks.pairs import Pair
from raysched.tasks.task import Row

PROMPT = "{premise} What was the {question}?"
"""In English whatever the language, as the paper's code asks (method.md 1.3). The row's own `question` is put in as it
is, the known defects of XCOPA included (data.md, xcopa)."""


class ChoiceTask(PairTask):
    """The prompt is paired with each choice; each pair gives one logit."""

    form = "choice"
    rows_per_example = 2
    labels = ("choice1", "choice2")

    @staticmethod
    def pairs(row: Row) -> list[Pair]:
        prompt = PROMPT.format(premise=row["premise"], question=row["question"])
        return [(prompt, choice) for choice in row["choices"]]

    def head(
        self, *, hidden_size: int, model_type: str, pooler: Mapping[str, Tensor] | None, dropout: float
    ) -> FirstTokenHead:
        return choice_head(hidden_size, model_type, pooler, dropout)
