"""Tokenised questions: made once per (data, tokenizer, lengths), kept in one Arrow file, shared by all runs.

A *window* is one tokenised pair of a question and as much of its context as `max_length` allows; neighbouring windows
of a question overlap by `doc_stride` tokens.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysched.errors import StudyError
from raysched.study.identity import digest
from raysched.tasks.squad import Row

Role = Literal["train", "eval"]
Ints = NDArray[np.int32]

VERSION = 1
"""Grows whenever the same rows would give other features, or the file another form."""
CHUNK = 1000
"""Rows tokenised at a time: bounds the memory that the tokenizer's own objects take."""
LOCK_TIMEOUT_S = 900.0
META = b"raysched.features"
FLAT = ("input_ids", "char_start", "char_end")
PER_WINDOW = ("example", "context_start", "start", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """N windows. Ragged columns lie flat, with N + 1 bounds: window i of `input_ids` is `[bounds[i], bounds[i + 1])`.

    `char_start`, `char_end` (one per context token, bounds `context_bounds`): characters of the original context.
    `example` (N,): index of the question's row. `context_start` (N,): position of the first context token.
    `start`, `end` (N,): positions of the first and last token of the first gold answer; both are the position of the
    opening special token where the window does not hold the answer whole.
    """

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
    parts: dict[str, list[Ints]] = {name: [] for name in (*FLAT, *PER_WINDOW, "length", "context_length")}
    for first in range(0, len(rows), CHUNK):
        for name, values in _chunk(rows[first : first + CHUNK], first, tokenizer, room, max_length, doc_stride).items():
            parts[name].append(values)
    joined = {name: np.concatenate(values) if values else np.empty(0, np.int32) for name, values in parts.items()}
    return Features(
        role=role,
        pad_token_id=int(tokenizer.pad_token_id),
        token_types="token_type_ids" in tokenizer.model_input_names,
        bounds=_bounds(joined.pop("length")),
        context_bounds=_bounds(joined.pop("context_length")),
        **joined,
    )


def _bounds(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32)


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
    flat: dict[str, list[Ints]] = {name: [] for name in FLAT}
    single: dict[str, list[int]] = {name: [] for name in (*PER_WINDOW, "length", "context_length")}
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


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over all that decides what a fast tokenizer gives; the settings of its last call left out."""
    # The last call's settings stand before the vocabulary, which is large: only what is before it is parsed.
    head, mark, tail = tokenizer.backend_tokenizer.to_str().partition('"added_tokens":')
    settings = json.loads(head + '"end":0}')
    kept = {name: value for name, value in settings.items() if name not in ("truncation", "padding")}
    content = [kept, hashlib.sha256((mark + tail).encode()).hexdigest()]
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "unk")}
    return digest([content, special, list(tokenizer.model_input_names)], length=64)


def cached_features(
    folder: Path, key: str, make: Callable[[], Features], *, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> Features:
    """The features stored under `key`, memory-mapped; made, and stored, where there are none or they are damaged.

    Of several processes one makes them while the others wait; one that has waited `lock_timeout_s` makes its own.
    """
    path = folder / f"{key}.arrow"
    found = load(path, key)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{key}.lock", lock_timeout_s):
        found = load(path, key)
        if found is None:
            store(path, key, make())
            found = load(path, key)
    if found is None:
        raise OSError(f"features stored in {path} cannot be read back")
    return found


def store(path: Path, key: str, features: Features) -> None:
    """Writes beside, then renames: whoever looks sees a whole file or none."""
    bounds = {"input_ids": features.bounds, "char_start": features.context_bounds, "char_end": features.context_bounds}
    columns: dict[str, pa.Array] = {name: pa.array(getattr(features, name)) for name in PER_WINDOW}
    for name in FLAT:
        columns[name] = pa.ListArray.from_arrays(pa.array(bounds[name]), pa.array(getattr(features, name)))
    meta = {
        "version": VERSION,
        "key": key,
        "role": features.role,
        "pad_token_id": features.pad_token_id,
        "token_types": features.token_types,
        "crc32": _checksums(features),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    batch = batch.replace_schema_metadata({META: json.dumps(meta).encode()})
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as file:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: Path, key: str) -> Features | None:
    """What `store` wrote under `key`, memory-mapped; None where it is absent, damaged or of another version."""
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        meta = json.loads((batch.schema.metadata or {})[META])
        if (meta["version"], meta["key"]) != (VERSION, key):
            return None
        lists = {name: batch.column(name) for name in FLAT}
        features = Features(
            role=meta["role"],
            pad_token_id=meta["pad_token_id"],
            token_types=meta["token_types"],
            bounds=lists["input_ids"].offsets.to_numpy(),
            context_bounds=lists["char_start"].offsets.to_numpy(),
            **{name: column.values.to_numpy() for name, column in lists.items()},
            **{name: batch.column(name).to_numpy() for name in PER_WINDOW},
        )
        return features if _checksums(features) == meta["crc32"] else None
    except (OSError, pa.ArrowException, KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def _checksums(features: Features) -> dict[str, int]:
    names = ("bounds", "context_bounds", *FLAT, *PER_WINDOW)
    return {name: zlib.crc32(np.ascontiguousarray(getattr(features, name)).tobytes()) for name in names}


@contextmanager
def _lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Exclusive among processes, for at most `timeout_s`: a stopped holder must not stop the others for good."""
    with path.open("w") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:  # held by another, or a file system without locks
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.1)
        yield
