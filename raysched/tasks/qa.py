"""Extractive question answering: where in the context does the answer start and end? (SQuAD v1.1, XQuAD)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysched.errors import Diverged
from raysched.study.identity import digest
from raysched.study.model import Study, TestSet
from raysched.tasks import feature_store, metrics
from raysched.tasks import features as windows
from raysched.tasks.features import Features
from raysched.tasks.heads import new_linear
from raysched.tasks.predictions import Prediction
from raysched.tasks.task import Logits, Role, Row

PAD_TO_MULTIPLE = 8
Span = tuple[float, int, int]
"""Logit sum, first character, character after the last."""


class QATask:
    """What is learned and how it is scored; holds settings only, no model and no data.

    B windows of a batch, T tokens, H hidden values, N windows in all.
    """

    metrics: tuple[str, ...] = ("f1", "em")
    form = "qa"
    rows_per_example = 1

    def __init__(self, study: Study) -> None:
        self.data = study.data
        self.n_best = study.evaluation.n_best
        self.max_answer_length = study.evaluation.max_answer_length

    def features_key(self, source: dict[str, Any], role: Role, tokenizer_digest: str) -> str:
        """Name of the cached features; `source` is `sources.identity(...)` of the rows."""
        lengths = {"max_length": self.data.max_length, "doc_stride": self.data.doc_stride}
        return digest(["qa", Features.VERSION, source, role, tokenizer_digest, lengths], length=32)

    def features(self, rows: Sequence[Row], tokenizer: Any, role: Role) -> Features:
        lengths = {"max_length": self.data.max_length, "doc_stride": self.data.doc_stride}
        return windows.build(rows, tokenizer, role=role, **lengths)

    def load_features(self, folder: Path, key: str, make: Callable[[], Features]) -> Features:
        return feature_store.cached(folder, key, Features, make)

    def batch(self, features: Features, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, Tensor]:
        """int64 tensors: `input_ids`, `attention_mask` (B,T), `start_positions`, `end_positions` (B,).

        `token_type_ids` (B,T) too where the tokenizer knows them. Training windows are padded as `data.qa_padding`
        says, evaluation windows to the longest of the batch: their spans are ranked by logits of real tokens alone.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = features.lengths[chosen]
        width = self._width(features.role, int(lengths.max()))
        ids = np.full((len(chosen), width), features.pad_token_id, dtype=np.int64)
        types = np.zeros_like(ids)
        for row, (window, length) in enumerate(zip(chosen, lengths, strict=True)):
            begin = features.bounds[window]
            ids[row, :length] = features.input_ids[begin : begin + length]
            types[row, features.context_start[window] : length] = 1
        tensors = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64)),
            "start_positions": torch.from_numpy(features.start[chosen].astype(np.int64)),
            "end_positions": torch.from_numpy(features.end[chosen].astype(np.int64)),
        }
        return tensors | ({"token_type_ids": torch.from_numpy(types)} if features.token_types else {})

    def _width(self, role: Role, longest: int) -> int:
        if role == "eval":
            return longest
        if self.data.qa_padding == "max":
            return self.data.max_length
        return min(self.data.max_length, -(-longest // PAD_TO_MULTIPLE) * PAD_TO_MULTIPLE)

    def head(
        self, *, hidden_size: int, model_type: str, pooler: Mapping[str, Tensor] | None, dropout: float
    ) -> nn.Module:
        """Linear H -> 2 (start, end), drawn from the global generator; it reads every token, so no pooler."""
        return new_linear(hidden_size, 2)

    def groups(self, head: nn.Module, hidden: Tensor, batch: dict[str, Tensor]) -> list[Tensor]:
        """Hidden states (B,T,H) to start and end logits, each (B,T), in float32 or better.

        `dynamic_masked` gives padding the logit -inf, so that the loss does not depend on T; `max` does as the paper's
        code did: the softmax covers padding (method.md 6.4).
        """
        logits = head(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        start, end = logits.unbind(-1)
        if self.data.qa_padding == "dynamic_masked":
            padding = batch["attention_mask"] == 0
            start, end = start.masked_fill(padding, -torch.inf), end.masked_fill(padding, -torch.inf)
        return [start, end]

    def targets(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """True start and end positions, each (B,)."""
        return [batch["start_positions"], batch["end_positions"]]

    def loss(self, groups: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Mean of the two mean cross-entropies; positions beyond the window count for nothing."""
        width = groups[0].shape[1]
        losses = [
            functional.cross_entropy(logits, positions.clamp(0, width), ignore_index=width)
            for logits, positions in zip(groups, targets, strict=True)
        ]
        return torch.stack(losses).mean()

    def predict(
        self, rows: Sequence[Row], features: Features, logits: Logits, language: str, rules: TestSet | None
    ) -> list[Prediction]:
        """One prediction per row, in order: the best span of any of its windows.

        `logits[i]` are the start and end logits of window i, at least its length; what lies beyond is ignored. Where
        no window has an allowed span, the answer is empty. Raises `Diverged` for a logit that is not a number.
        """
        words = metrics.way(rules.scoring, rules.chinese_metric, language) if rules else metrics.squad_words
        best: list[Span | None] = [None] * len(rows)
        for window, (example, (starts, ends)) in enumerate(zip(features.example, logits, strict=True)):
            span = self._best_span(features, window, starts, ends)
            held = best[example]
            if span is not None and (held is None or span[0] > held[0]):
                best[example] = span
        return [_prediction(row, span, words) for row, span in zip(rows, best, strict=True)]

    def _best_span(
        self, features: Features, window: int, start_logits: NDArray[np.floating], end_logits: NDArray[np.floating]
    ) -> Span | None:
        """The allowed pair with the highest logit sum, of the `n_best` starts and `n_best` ends in the context."""
        offset, stop = features.context_bounds[window : window + 2]
        first = features.context_start[window]
        starts = np.asarray(start_logits[first : first + stop - offset], dtype=np.float64)
        ends = np.asarray(end_logits[first : first + stop - offset], dtype=np.float64)
        if np.isnan(starts).any() or np.isnan(ends).any():
            raise Diverged("the model's logits are not numbers (NaN)")
        s = np.argsort(-starts, kind="stable")[: self.n_best]
        e = np.argsort(-ends, kind="stable")[: self.n_best]
        length = e[None, :] - s[:, None] + 1
        sums = np.where((length >= 1) & (length <= self.max_answer_length), starts[s][:, None] + ends[e], -np.inf)
        if sums.size == 0 or sums.max() == -np.inf:
            return None
        row, column = np.unravel_index(int(sums.argmax()), sums.shape)
        return (
            float(sums[row, column]),
            int(features.char_start[offset + s[row]]),
            int(features.char_end[offset + e[column]]),
        )

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """`{"f1", "em"}`, 0 to 100: means over the questions."""
        return {
            "f1": metrics.mean(p.f1 for p in predictions if p.f1 is not None),
            "em": metrics.mean(p.em for p in predictions),
        }


def _prediction(row: Row, span: Span | None, words: metrics.Way) -> Prediction:
    gold = tuple(row["answers"]["text"])
    text, score, start, end = "", 0.0, None, None
    if span is not None:
        score, start, end = span
        text = row["context"][start:end]
        # Tokens may take the space before a word along.
        start, text = start + len(text) - len(text.lstrip()), text.strip()
        end = start + len(text)
    scores = metrics.answer(text, gold, words)
    return Prediction(example_id=row["id"], prediction=text, score=score, start=start, end=end, gold=gold, **scores)
