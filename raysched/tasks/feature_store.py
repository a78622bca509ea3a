"""Tokenised rows: made once per (data, tokenizer, lengths), kept in one Arrow file each, shared by all runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysched.study.identity import digest

Ints = NDArray[np.int32]

CHUNK = 1000
"""Rows tokenised at a time: bounds the memory that the tokenizer's own objects take."""
LOCK_TIMEOUT_S = 900.0
META = b"raysched.features"


class Storable(Protocol):
    """Features of N rows of a file: a dataclass made of the fields named here, and of the bounds in `FLAT`."""

    VERSION: ClassVar[int]
    """Grows whenever the same rows would give other features, or the file another form."""
    FLAT: ClassVar[Mapping[str, str]]
    """Ragged int32 columns, lying flat -> the field with their N + 1 bounds: row i is `[bounds[i], bounds[i + 1])`."""
    SINGLE: ClassVar[tuple[str, ...]]
    """int32 columns (N,)."""
    PLAIN: ClassVar[tuple[str, ...]]
    """One number, truth value or text each."""


F = TypeVar("F", bound=Storable)


def bounds(lengths: Ints) -> Ints:
    """N + 1 bounds of N ragged rows."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32)


def joined(parts: Mapping[str, list[Ints]]) -> dict[str, Ints]:
    """Each column in one piece."""
    return {name: np.concatenate(values) if values else np.empty(0, np.int32) for name, values in parts.items()}


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over all that decides what a fast tokenizer gives; the settings of its last call left out."""
    # The last call's settings stand before the vocabulary, which is large: only what is before it is parsed.
    head, mark, tail = tokenizer.backend_tokenizer.to_str().partition('"added_tokens":')
    settings = json.loads(head + '"end":0}')
    kept = {name: value for name, value in settings.items() if name not in ("truncation", "padding")}
    content = [kept, hashlib.sha256((mark + tail).encode()).hexdigest()]
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "unk")}
    return digest([content, special, list(tokenizer.model_input_names)], length=64)


def cached(
    folder: Path, key: str, kind: type[F], make: Callable[[], F], *, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> F:
    """The features stored under `key`, memory-mapped; made, and stored, where there are none or they are damaged.

    Of several processes one makes them while the others wait; one that has waited `lock_timeout_s` makes its own.
    """
    path = folder / f"{key}.arrow"
    found = load(path, key, kind)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{key}.lock", lock_timeout_s):
        found = load(path, key, kind)
        if found is None:
            store(path, key, make())
            found = load(path, key, kind)
    if found is None:
        raise OSError(f"features stored in {path} cannot be read back")
    return found


def store(path: Path, key: str, features: Storable) -> None:
    """Writes beside, then renames: whoever looks sees a whole file or none."""
    columns: dict[str, pa.Array] = {name: pa.array(getattr(features, name)) for name in features.SINGLE}
    for name, edges in features.FLAT.items():
        columns[name] = pa.ListArray.from_arrays(pa.array(getattr(features, edges)), pa.array(getattr(features, name)))
    meta = {"version": features.VERSION, "key": key}
    meta |= {name: getattr(features, name) for name in features.PLAIN}
    batch = pa.RecordBatch.from_pydict(columns)
    batch = batch.replace_schema_metadata({META: json.dumps(meta | {"crc32": _checksums(features)}).encode()})
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


def load(path: Path, key: str, kind: type[F]) -> F | None:
    """What `store` wrote under `key`, memory-mapped; None where it is absent, damaged or of another version."""
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        meta = json.loads((batch.schema.metadata or {})[META])
        if (meta["version"], meta["key"]) != (kind.VERSION, key):
            return None
        fields: dict[str, Any] = {name: meta[name] for name in kind.PLAIN}
        fields |= {name: batch.column(name).to_numpy() for name in kind.SINGLE}
        for name, edges in kind.FLAT.items():
            fields |= {name: batch.column(name).values.to_numpy(), edges: batch.column(name).offsets.to_numpy()}
        features = kind(**fields)
        return features if _checksums(features) == meta["crc32"] else None
    except (OSError, pa.ArrowException, KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def _checksums(features: Storable) -> dict[str, int]:
    names = (*dict.fromkeys(features.FLAT.values()), *features.FLAT, *features.SINGLE)
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
