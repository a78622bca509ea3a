"""Plain text for masked-language-model training: lines read, turned into tokens once, and cut into blocks.

A line is a sentence or a paragraph. Lines are joined by the tokenizer's separator and cut into blocks of equal length,
each opened and closed as the tokenizer opens and closes a text. Which lines are held out depends on the lines
themselves and the seed: lines that are equal are held out together, so no held-out line is trained on.
"""

from __future__ import annotations

import array
import gzip
import hashlib
import itertools
import math
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from raysched import hub
from raysched.errors import MissingError, RayschedError, StudyError
from raysched.records.files import sha256_file
from raysched.study.identity import Content
from raysched.tasks.hosted import CONVERTED
from raysched.training.mlm import MaskedRow, random_mask
from raysched.training.seeding import stream

KEY = "--text"
HELD_OUT = 0.01
MIN_HELD_OUT, MAX_HELD_OUT = 500, 200_000
"""Tokens that are held out at least, and at most, where a share is asked for."""
LINES_AT_ONCE = 2000
WAYS = "give a .txt or .gz file with a sentence or a paragraph per line, or a data set of the hub, owner/name[:part]"
Tokens = np.ndarray[Any, np.dtype[np.int32]]


def find(where: str, known: Content | None = None) -> tuple[Content, str | None]:
    """A file with its SHA-256, or a data set of the hub with its commit and the part that `where` names.

    A data set keeps the commit of `known`.

    Raises:
        MissingError: there is no such file, or the hub does not have it or cannot be reached.
    """
    path = Path(where).expanduser()
    if path.is_file():
        return Content(where=where, revision=sha256_file(path), path=str(path.resolve())), None
    name, _, part = where.partition(":")
    local = path.is_dir() or where.startswith(("./", "../", "/", "~")) or where.endswith((".txt", ".gz"))
    if local or not hub.REPOSITORY.fullmatch(name):
        raise MissingError(f"{where} is a folder" if path.is_dir() else f"there is no file {where}", key=KEY, hint=WAYS)
    if known is not None and known.where == name:
        return known, part or None
    try:
        commit = hub.resolve(name, "dataset")
        if not hub.parquet_files(hub.files(name, "dataset", commit)):
            commit = hub.resolve(name, "dataset", CONVERTED)
    except RayschedError as error:
        raise type(error)(error.what, key=KEY, choices=error.choices, hint=WAYS) from error
    return Content(where=name, revision=commit), part or None


def read(text: Content, part: str | None, column: str) -> Iterator[str]:
    """The lines of a file or of a data set that are not empty, without white space around them.

    `part` is the configuration of a data set, of which the column `column` of the split `train` is read.

    Raises:
        StudyError: a file is not UTF-8 text or not a whole gzip file; a data set has no such configuration or column.
        MissingError: the hub does not give it.
    """
    lines = _file_lines(Path(text.path)) if text.path is not None else _hub_lines(text, part, column)
    return filter(None, (line.strip("\ufeff \t\r\n") for line in lines))


def _file_lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise StudyError(
                        f"line {number} is not UTF-8 text: byte {line[error.start]:#04x} at position {error.start}",
                        key=str(path),
                        hint="convert the file, for example: iconv -f latin1 -t utf-8 FILE > NEW",
                    ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise StudyError(f"not a whole gzip file: {error}", key=str(path), hint="fetch the file again") from error


def _hub_lines(text: Content, part: str | None, column: str) -> Iterator[str]:
    found = hub.parquet_files(hub.files(text.where, "dataset", text.revision))
    configs = sorted({config for config, split in found if split == "train"})
    if part is None and len(configs) == 1:
        part = configs[0]
    if part not in configs:
        raise StudyError(
            f"must name a part of {text.where} with a split train, but got {part or 'none'}",
            key=KEY,
            choices=[f"{text.where}:{config}" for config in configs] or ["a data set with Parquet files"],
        )
    for path in hub.parquet_paths(text.where, part, "train", text.revision):
        try:
            table = pq.ParquetFile(path)
            types = {field.name: str(field.type) for field in table.schema_arrow}
            if types.get(column) not in ("string", "large_string", "string_view"):
                raise StudyError(
                    f"must be a column of text of {text.where}, but got {column!r}", key="--column", choices=types
                )
            for batch in table.iter_batches(columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield from (value or "").splitlines()
        except (pa.ArrowException, OSError) as error:
            raise StudyError(f"not a whole Parquet file: {error}", key=path, hint="delete it") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Token ids of the training lines and of the held-out ones, a separator after each line, and what they were."""

    train: Tokens
    held_out: Tokens
    lines: int
    held_out_lines: int
    unknown: float
    """Share of the tokens that the tokenizer does not know."""

    def counts(self) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "tokens": len(self.train),
            "held_out_lines": self.held_out_lines,
            "held_out_tokens": len(self.held_out),
            "unknown": self.unknown,
        }


def tokenised(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    held_out: float,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
) -> Text:
    """Each line as tokens; a share of the lines (`held_out` < 1), or so many of them, set apart.

    `progress` is called with the number of lines so far.

    Raises:
        StudyError: there is no text, none of it is known to the tokenizer, or too little is left to train on.
    """
    tokens, lengths, keys = array.array("i"), array.array("q"), array.array("Q")
    salt, separator = stream(seed, "subset").to_bytes(8, "big"), tokenizer.sep_token_id
    source = iter(lines)
    while some := list(itertools.islice(source, LINES_AT_ONCE)):
        encoded = tokenizer(
            some, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        for line, ids in zip(some, encoded["input_ids"], strict=True):
            tokens.extend(ids)
            tokens.append(separator)
            lengths.append(len(ids) + 1)
            digest = hashlib.blake2b(line.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).digest()
            keys.append(int.from_bytes(digest, "big"))
        progress(len(lengths))
    if not lengths:
        raise StudyError("the text is empty", key=KEY, hint=WAYS)
    flat = np.frombuffer(tokens, dtype=np.int32)
    words = flat[flat != separator]
    known = words[~np.isin(words, tokenizer.all_special_ids)]
    if not len(known):
        raise StudyError("the tokenizer knows no word of the text", key=KEY, hint="is it of the backbone's languages?")
    sizes = np.frombuffer(lengths, dtype=np.int64)
    out = _held_out(np.frombuffer(keys, dtype=np.uint64), sizes, held_out)
    mask = np.repeat(out, sizes)
    return Text(
        train=flat[~mask],
        held_out=flat[mask],
        lines=int(len(sizes) - out.sum()),
        held_out_lines=int(out.sum()),
        unknown=1 - len(known) / len(words),
    )


def _held_out(keys: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any], held_out: float) -> np.ndarray[Any, Any]:
    """Which lines are held out: those with the least keys, equal ones together."""
    order = np.argsort(keys, kind="stable")
    tokens = np.cumsum(sizes[order])
    n, most = int(held_out), int(tokens[-1]) - 1
    if held_out < 1:
        least = int(np.searchsorted(tokens, MIN_HELD_OUT)) + 1
        enough = int(np.searchsorted(tokens, MAX_HELD_OUT)) + 1
        n, most = max(min(math.ceil(held_out * len(order)), enough), least), most // 2
    out: np.ndarray[Any, Any] = keys <= keys[order[min(n, len(order)) - 1]]
    if n > len(order) or sizes[out].sum() > most:
        raise StudyError(
            f"must leave {'most' if held_out < 1 else 'some'} of the text to train on, but {n} lines were to be held "
            f"out of {len(order)} ({tokens[-1]} tokens)",
            key="--held-out",
            hint=f"give more text, or a share that holds out at least {MIN_HELD_OUT} tokens, or a number of lines",
        )
    return out


class Blocks:
    """Rows of `length` token ids, the last one possibly shorter, each with something that can be masked."""

    def __init__(self, tokens: Tokens, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        self._tokens, self._inner = tokens, length - 2
        self._opening, self._closing = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        self._special = frozenset(tokenizer.all_special_ids)
        self._mask_id, self._vocab_size = tokenizer.mask_token_id, len(tokenizer)
        starts = np.arange(0, len(tokens), self._inner)
        self._starts = starts[np.logical_or.reduceat(~np.isin(tokens, tokenizer.all_special_ids), starts)]

    def __len__(self) -> int:
        return len(self._starts)

    def masked(self, index: int, seed: int) -> MaskedRow:
        """Block `index` with the mask that `seed` draws."""
        start = self._starts[index]
        ids = [*self._opening, *self._tokens[start : start + self._inner].tolist(), *self._closing]
        return random_mask(
            ids,
            maskable=[position for position, token in enumerate(ids) if token not in self._special],
            mask_id=self._mask_id,
            vocab_size=self._vocab_size,
            rng=random.Random(seed),
        )
