"""Scoring the model as it stands on one language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from raysched.tasks.predictions import Prediction
from raysched.training.bench import Bench, Scored


def evaluate(bench: Bench, scored: Scored, batch_size: int) -> tuple[Mapping[str, float], list[Prediction]]:
    """(scores 0-100, one prediction per row) of the current task adapter under the rows' language's adapter.

    The model is left in training mode under the source language, as the training loop expects it. Uses no random
    numbers, so a run does the same steps whether or not it is evaluated.
    """
    model, task = bench.model, bench.task
    order = np.argsort(scored.features.lengths, kind="stable")  # like lengths share a batch: least padding
    logits: list[Any] = [None] * len(order)
    model.eval()
    model.use_language(scored.language)
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                indices = order[start : start + batch_size]
                batch = {name: value.to(model.device) for name, value in task.batch(scored.features, indices).items()}
                hidden = model(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
                groups = [group.float().cpu().numpy() for group in task.groups(model.head, hidden, batch)]
                for row, feature in enumerate(indices):
                    logits[feature] = tuple(group[row] for group in groups)
    finally:
        model.use_language(bench.study.model.source_language)
        model.train()
    predictions = task.predict(scored.rows, scored.features, logits, scored.language, scored.rules)
    return task.score(predictions), predictions
