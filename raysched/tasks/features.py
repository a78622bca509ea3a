"""Tokenised questions.

A *window* is one tokenised pair of a question and as much of its context as `max_length` allows; neighbouring windows
of a question overlap by `doc_stride` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raysched.errors import StudyError
from raysched.tasks import feature_store
from raysched.tasks.feature_store import CHUNK, Ints
from raysched.tasks.stored import Row

if TYPE_CHECKING:  # importing it takes seconds, which a process that only loads features need not wait for
    from raysched.tasks.task import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """N windows. Ragged columns lie flat, with N + 1 bounds: window i of `input_ids` is `[bounds[i], bounds[i + 1])`.

    `char_start`, `char_end` (one per context token, bounds `context_bounds`): characters of the original context.
    `example` (N,): index of the question's row. `context_start` (N,): position of the first context token.
    `start`, `end` (N,): positions of the first and last token of the first gold answer; both are the position of the
    opening special token where the window does not hold the answer whole.
    """

    VERSION: ClassVar[int] = 1
    FLAT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"input_ids": "bounds", "char_start": "context_bounds", "char_end": "context_bounds"}
    )
    SINGLE: ClassVar[tuple[str, ...]] = ("example", "context_start", "start", "end")
    PLAIN: ClassVar[tuple[str, ...]] = ("role", "pad_token_id", "token_types")

    role: Role
    pad_token_id: int
    token_types: bool
    bounds: Ints
    context_bounds: Ints
    input_ids: Ints
    char_start: Ints
    char_end: Ints
    example: Ints
    context_start: Ints
    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.example)

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each window, special tokens included."""
        return np.diff(self.bounds)


_COLUMNS = (*Features.FLAT, *Features.SINGLE, "length", "context_length")


def build(rows: Sequence[Row], tokenizer: Any, *, role: Role, max_length: int, doc_stride: int) -> Features:
    """Features of `rows` by a fast Hugging Face tokenizer.

    A question that leaves a window fewer than `doc_stride` + 1 context tokens is cut at the end until it does not.
    Raises `StudyError` where `max_length` has room for no question at all.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - doc_stride - 1
    if room < 1:
        raise StudyError(
            f"max_length must leave room for a question beside doc_stride and special tokens, but got "
            f"max_length={max_length}, doc_stride={doc_stride}",
            key="data.max_length",
            hint="raise data.max_length or lower data.doc_stride",
        )
    parts: dict[str, list[Ints]] = {name: [] for name in _COLUMNS}
    for first in range(0, len(rows), CHUNK):
        for name, values in _chunk(rows[first : first + CHUNK], first, tokenizer, room, max_length, doc_stride).items():
            parts[name].append(values)
    columns = feature_store.joined(parts)
    return Features(
        role=role,
        pad_token_id=int(tokenizer.pad_token_id),
        token_types="token_type_ids" in tokenizer.model_input_names,
        bounds=feature_store.bounds(columns.pop("length")),
        context_bounds=feature_store.bounds(columns.pop("context_length")),
        **columns,
    )


def _chunk(
    rows: Sequence[Row], first: int, tokenizer: Any, room: int, max_length: int, doc_stride: int
) -> dict[str, Ints]:
    encoded = tokenizer(
        _questions(rows, tokenizer, room),
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=max_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        padding=False,
        verbose=False,
    )
    flat: dict[str, list[Ints]] = {name: [] for name in Features.FLAT}
    single: dict[str, list[int]] = {name: [] for name in _COLUMNS if name not in flat}
    for encoding, sample in zip(encoded.encodings, encoded["overflow_to_sample_mapping"], strict=True):
        ids, sequences = encoding.ids, encoding.sequence_ids
        n_context = sequences.count(1)
        begin = sequences.index(1) if n_context else len(ids)
        offsets = np.array(encoding.offsets[begin : begin + n_context], dtype=np.int32).reshape(n_context, 2)
        nothing = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
        answers = rows[sample]["answers"]
        start, end = label(offsets, answers["answer_start"][0], answers["text"][0]) or (
            nothing - begin,
            nothing - begin,
        )
        flat["input_ids"].append(np.array(ids, dtype=np.int32))
        flat["char_start"].append(offsets[:, 0])
        flat["char_end"].append(offsets[:, 1])
        values = (first + sample, begin, begin + start, begin + end, len(ids), n_context)
        for name, value in zip(single, values, strict=True):
            single[name].append(value)
    return {name: np.concatenate(values) for name, values in flat.items()} | {
        name: np.array(values, dtype=np.int32) for name, values in single.items()
    }


def _questions(rows: Sequence[Row], tokenizer: Any, room: int) -> list[str]:
    """The questions, without leading space, each at most `room` tokens long."""
    questions = [row["question"].lstrip() for row in rows]
    encodings = tokenizer(questions, add_special_tokens=False, verbose=False).encodings
    for n, encoding in enumerate(encodings):
        kept = room
        while len(encoding.ids) > room:
            # A cut text may be tokenised otherwise than the whole: look again, and cut shorter if need be.
            questions[n] = questions[n][: encoding.offsets[kept - 1][1]]
            encoding = tokenizer([questions[n]], add_special_tokens=False, verbose=False).encodings[0]
            kept = min(kept - 1, len(encoding.ids)) or 1
    return questions


def label(offsets: Ints, answer_start: int, answer: str) -> tuple[int, int] | None:
    """First and last of the context tokens (n, 2) that cover the answer; None where they do not hold it whole."""
    answer_end = answer_start + len(answer)
    if len(offsets) == 0 or offsets[0, 0] > answer_start or offsets[-1, 1] < answer_end:
        return None
    later, earlier = np.flatnonzero(offsets[:, 0] > answer_start), np.flatnonzero(offsets[:, 1] < answer_end)
    start = int(later[0]) - 1 if len(later) else len(offsets) - 1
    end = int(earlier[-1]) + 1 if len(earlier) else 0
    # A lone word-begin mark shares its character with the next token: the answer may seem to end before it starts.
    return start, max(start, end)
