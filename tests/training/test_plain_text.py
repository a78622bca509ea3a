"""Text as lines, tokens, held-out lines and masked blocks; what is no text is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysched.errors import MissingError, StudyError
from raysched.mini.languages import lexicon
from raysched.mini.tokenizer import build_tokenizer
from raysched.training import plain_text
from raysched.training.mlm import MaskedRow
from raysched.training.plain_text import Blocks, Text

TOKENIZER = build_tokenizer()
WORDS = [word for class_ in lexicon("orl").values() for word in class_]
LINES = [" ".join(WORDS[(7 * n + i * i) % len(WORDS)] for i in range(9)) for n in range(150)]


def text(lines: list[str], held_out: float = 0.01, seed: int = 0) -> Text:
    return plain_text.tokenised(lines, TOKENIZER, held_out=held_out, seed=seed)


def sentences(tokens: np.ndarray) -> list[str]:  # type: ignore[type-arg]
    return [line.strip() for line in TOKENIZER.decode(tokens.tolist()).split("</s>")[:-1]]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.txt", lambda path, data: path.write_bytes(data)),
        ("a.gz", lambda path, data: path.write_bytes(gzip.compress(data))),
    ],
)
def test_lines_of_a_file(tmp_path: Path, name: str, write: Callable[[Path, bytes], object]) -> None:
    write(tmp_path / name, "\ufeffone two \r\n\n  \nthree\u2028four\nfive".encode())
    content, part = plain_text.find(str(tmp_path / name))
    assert part is None
    assert list(plain_text.read(content, part, "text")) == ["one two", "three\u2028four", "five"]


FILES = [
    ("a.txt", b"good\nw\xf6rter\n", StudyError, r"a.txt: line 2 is not UTF-8 text: byte 0xf6 at position 1"),
    ("a.gz", gzip.compress(b"good\n" * 99, mtime=0)[:-9], StudyError, r"a.gz: not a whole gzip file"),
    ("b.gz", b"good\n", StudyError, r"b.gz: not a whole gzip file"),
    ("a.txt", None, MissingError, r"--text: there is no file .*a.txt"),
    ("", None, MissingError, r"--text: .* is a folder"),
]


@pytest.mark.parametrize(("name", "content", "error", "message"), FILES)
def test_files_that_are_no_text(
    tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        list(plain_text.read(plain_text.find(str(tmp_path / name))[0], None, "text"))


def test_every_line_is_once_on_one_side() -> None:
    made = text(LINES, held_out=0.4)
    train, held_out = sentences(made.train), sentences(made.held_out)
    assert (len(train), len(held_out)) == (made.lines, made.held_out_lines) == (90, 60)
    assert sorted(train + held_out) == sorted(LINES)
    assert train == [line for line in LINES if line in train]  # in their order
    assert sentences(text(LINES, held_out=0.4, seed=1).held_out) != held_out
    assert np.array_equal(text(LINES, held_out=0.4).held_out, made.held_out)


@pytest.mark.parametrize(
    ("held_out", "lines"),
    [(0.4, 60), (7, 7), (1, 1), (0.01, 50)],  # a share holds out 500 tokens at least; a number what it says
)
def test_how_much_is_held_out(held_out: float, lines: int) -> None:
    assert text(LINES, held_out).held_out_lines == lines


def test_a_large_text_holds_out_no_more_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "MAX_HELD_OUT", 600)
    assert text(LINES, 0.45).held_out_lines == 60


def test_equal_lines_are_held_out_together() -> None:
    made = text([*LINES, *LINES, LINES[0]], held_out=20)
    assert not set(sentences(made.train)) & set(sentences(made.held_out))


@pytest.mark.parametrize(
    ("lines", "held_out", "message"),
    [
        ([], 0.01, "--text: the text is empty"),
        (["zzz qqq", "www"], 0.01, "--text: the tokenizer knows no word of the text"),
        (LINES, 150, "--held-out: must leave some of the text to train on, but 150 lines .* of 150"),
        (LINES, 1000, "--held-out: must leave some of the text to train on, but 1000 lines .* of 150"),
        (LINES, 0.6, "--held-out: must leave most of the text to train on, but 90 lines .* of 150"),
        (LINES[:60], 0.01, "--held-out: must leave most of the text to train on, but 50 lines .* of 60"),
        (LINES[:1] * 9, 3, "--held-out: must leave some"),
    ],
)
def test_texts_that_cannot_be_trained_on(lines: list[str], held_out: float, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        text(lines, held_out)


def restored(row: MaskedRow) -> list[int]:
    ids = list(row.input_ids)
    for position, token in zip(row.positions, row.targets, strict=True):
        ids[position] = token
    return ids


def test_blocks_hold_every_token_once_and_masks_depend_on_the_seed() -> None:
    made = text(LINES)
    blocks = Blocks(made.train, TOKENIZER, 32)
    rows = [blocks.masked(index, seed=index) for index in range(len(blocks))]
    assert {len(row.input_ids) for row in rows[:-1]} == {32}
    assert all(
        (row.input_ids[0], row.input_ids[-1]) == (TOKENIZER.cls_token_id, TOKENIZER.sep_token_id) for row in rows
    )
    assert [token for row in rows for token in restored(row)[1:-1]] == made.train.tolist()
    special = set(TOKENIZER.all_special_ids)
    assert not any(target in special for row in rows for target in row.targets)
    share = sum(len(row.positions) for row in rows) / len(made.train)
    assert 0.1 < share < 0.18  # 15 % of what is no separator
    assert blocks.masked(3, seed=3) == rows[3]
    assert blocks.masked(3, seed=4) != rows[3]


def test_a_block_with_nothing_to_mask_is_left_out() -> None:
    tokens = np.array([5, 6, 7, 8, 2, 2, 2, 2, 9], dtype=np.int32)
    blocks = Blocks(tokens, TOKENIZER, 6)
    assert [restored(blocks.masked(index, 0))[1:-1] for index in range(len(blocks))] == [[5, 6, 7, 8], [9]]


def test_unknown_tokens_are_counted() -> None:
    assert text([*LINES, "zzz"] * 2, held_out=30).unknown == pytest.approx(2 / (2 * 9 * 150 + 2))
