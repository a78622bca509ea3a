"""Tokenised pairs of texts: a premise with each of its choices, or with its hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysched.tasks import feature_store
from raysched.tasks.feature_store import CHUNK, Ints
from raysched.tasks.task import Row

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFeatures:
    """N examples of R = `per_example` pairs each, one after another: pairs R * i to R * i + R - 1 are of example i.

    Pair j of `input_ids` is `[bounds[j], bounds[j + 1])`. `second` (N * R,): position of the second text's first token,
    its length where there is none. `label` (N * R,): class of the pair's example.
    """

    VERSION: ClassVar[int] = 1
    FLAT: ClassVar[Mapping[str, str]] = MappingProxyType({"input_ids": "bounds"})
    SINGLE: ClassVar[tuple[str, ...]] = ("second", "label")
    PLAIN: ClassVar[tuple[str, ...]] = ("per_example", "pad_token_id", "token_types")

    per_example: int
    pad_token_id: int
    token_types: bool
    bounds: Ints
    input_ids: Ints
    second: Ints
    label: Ints

    def __len__(self) -> int:
        return len(self.label) // self.per_example

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of the longest pair of each example, special tokens included."""
        longest: Ints = np.diff(self.bounds).reshape(-1, self.per_example).max(axis=1)
        return longest


def build(
    rows: Sequence[Row],
    tokenizer: Any,
    pairs_of: Callable[[Row], Sequence[Pair]],
    *,
    per_example: int,
    max_length: int,
) -> PairFeatures:
    """Features of `rows` by a fast Hugging Face tokenizer; `pairs_of` gives `per_example` pairs of a row.

    A pair that is longer than `max_length` loses tokens at the end of the longer of its texts, one at a time.
    """
    parts: dict[str, list[Ints]] = {name: [] for name in ("input_ids", "length", "second", "label")}
    for first in range(0, len(rows), CHUNK):
        chunk = rows[first : first + CHUNK]
        pairs = [pair for row in chunk for pair in pairs_of(row)]
        encodings = tokenizer(
            [one for one, _ in pairs],
            [other for _, other in pairs],
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            padding=False,
            verbose=False,
        ).encodings
        labels = np.repeat([row["label"] for row in chunk], per_example)
        parts["input_ids"] += [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        parts["length"].append(np.array([len(encoding.ids) for encoding in encodings], dtype=np.int32))
        parts["second"].append(np.array([_second(encoding) for encoding in encodings], dtype=np.int32))
        parts["label"].append(labels.astype(np.int32))
    columns = feature_store.joined(parts)
    return PairFeatures(
        per_example=per_example,
        pad_token_id=int(tokenizer.pad_token_id),
        token_types="token_type_ids" in tokenizer.model_input_names,
        bounds=feature_store.bounds(columns.pop("length")),
        **columns,
    )


def _second(encoding: Any) -> int:
    sequences = encoding.sequence_ids
    return sequences.index(1) if 1 in sequences else len(sequences)


def batch(features: PairFeatures, indices: Sequence[int] | NDArray[Any]) -> dict[str, Tensor]:
    """int64 tensors: `input_ids`, `attention_mask` (B * R, T), `labels` (B,), T the length of the longest pair.

    `token_type_ids` (B * R, T) too where the tokenizer knows them.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    pairs = (chosen[:, None] * features.per_example + np.arange(features.per_example)).reshape(-1)
    lengths = features.bounds[pairs + 1] - features.bounds[pairs]
    places = np.arange(int(lengths.max()))
    mask = places < lengths[:, None]
    ids = np.full(mask.shape, features.pad_token_id, dtype=np.int64)
    for row, pair in enumerate(pairs):
        ids[row, : lengths[row]] = features.input_ids[features.bounds[pair] : features.bounds[pair + 1]]
    tensors = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "labels": torch.from_numpy(features.label[chosen * features.per_example].astype(np.int64)),
    }
    if features.token_types:
        types = mask & (places >= features.second[pairs][:, None])
        tensors["token_type_ids"] = torch.from_numpy(types.astype(np.int64))
    return tensors
