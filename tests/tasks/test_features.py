from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysched.errors import StudyError
from raysched.tasks import feature_store
from raysched.tasks import features as windows
from raysched.tasks.feature_store import store, tokenizer_digest
from raysched.tasks.features import Features, build, label
from tests.tasks.tiny_qa import make_row, make_tokenizer

COLUMNS = ("bounds", "context_bounds", *Features.FLAT, *Features.SINGLE)


def cached(folder: Path, make: Callable[[], Features], **options: float) -> Features:
    return feature_store.cached(folder, "k", Features, make, **options)


def load(path: Path, key: str = "k") -> Features | None:
    return feature_store.load(path, key, Features)


def same(one: Features, other: Features) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS) and all(
        getattr(one, name) == getattr(other, name) for name in ("role", "pad_token_id", "token_types")
    )


def window_text(features: Features, rows: list[dict[str, Any]], window: int, first: int, last: int) -> str:
    """Characters of the original context under tokens `first` to `last` (positions in the window)."""
    offset = features.context_bounds[window] - features.context_start[window]
    context = rows[features.example[window]]["context"]
    return context[features.char_start[offset + first] : features.char_end[offset + last]]


def test_one_window(rows: list[dict[str, Any]], tokenizer: Any) -> None:
    features = build(rows[:1], tokenizer, role="train", max_length=24, doc_stride=4)
    assert (len(features), features.lengths.tolist(), features.example.tolist()) == (1, [19], [0])
    words = [
        "<s>",
        "Where",
        "was",
        "Bob",
        "?",
        "</s>",
        "</s>",
        "Ada",
        "met",
        "Bob",
        "in",
        "Rome",
        ",",
        "and",
        "Eve",
        "in",
        "Oslo",
        ".",
        "</s>",
    ]
    assert tokenizer.convert_ids_to_tokens(features.input_ids.tolist()) == words
    assert words[features.context_start[0]] == "Ada"
    assert words[features.start[0]] == words[features.end[0]] == "Rome"
    assert not features.token_types
    assert features.pad_token_id == 1


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_overlap_and_cover_the_context(rows: list[dict[str, Any]], tokenizer: Any, stride: int) -> None:
    features = build(rows[2:], tokenizer, role="eval", max_length=11, doc_stride=stride)
    shown = []
    for n in range(len(features)):
        a, b = features.context_bounds[n : n + 2]
        shown.append(
            [rows[2]["context"][s:e] for s, e in zip(features.char_start[a:b], features.char_end[a:b], strict=True)]
        )
        held = {"nine", "ten"} <= set(shown[-1])
        if held:
            assert window_text(features, rows[2:], n, features.start[n], features.end[n]) == "nine ten"
        else:
            assert (features.start[n], features.end[n]) == (0, 0)
    assert max(features.lengths) <= 11
    for one, following in pairwise(shown):
        assert one[-stride:] == following[:stride]
    assert [word for n, one in enumerate(shown) for word in one[stride if n else 0 :]] == rows[2]["context"].split()


@pytest.mark.parametrize(
    ("offsets", "start", "answer", "expected"),
    [
        ([(0, 3), (4, 7), (8, 11)], 4, "met", (1, 1)),
        ([(0, 3), (4, 7), (8, 11)], 0, "Ada met Bob", (0, 2)),
        ([(0, 3), (4, 7), (8, 11)], 5, "e", (1, 1)),  # inside a token: the whole token
        ([(0, 3), (4, 7), (8, 11)], 2, "a m", (0, 1)),
        ([(4, 7), (8, 11)], 0, "Ada met", None),  # begins before the window
        ([(0, 3), (4, 7)], 4, "met Bob", None),  # ends after it
        ([(0, 1), (0, 1), (1, 3)], 0, "中", (1, 1)),  # a word-begin mark on the first character
        ([(0, 1), (0, 2), (2, 3)], 0, "中国", (1, 1)),
        ([], 0, "x", None),
    ],
)
def test_label(offsets: list[tuple[int, int]], start: int, answer: str, expected: tuple[int, int] | None) -> None:
    assert label(np.array(offsets, dtype=np.int32).reshape(-1, 2), start, answer) == expected


def test_long_question_is_cut_and_the_context_is_still_covered(tokenizer: Any) -> None:
    row = make_row(0, "one two three four five six seven eight nine ten", "Which " * 200 + "?", "ten")
    features = build([row], tokenizer, role="train", max_length=16, doc_stride=4)
    assert max(features.lengths) <= 16
    assert features.context_start[0] == 3 + (16 - 4 - 4 - 1)
    assert features.char_end.max() == len(row["context"])
    assert (features.start > 0).any()


def test_no_room_for_a_question(rows: list[dict[str, Any]], tokenizer: Any) -> None:
    with pytest.raises(
        StudyError, match=r"data\.max_length: max_length must leave room .* max_length=16, doc_stride=11"
    ):
        build(rows, tokenizer, role="train", max_length=16, doc_stride=11)


def test_chunks_change_nothing(rows: list[dict[str, Any]], tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build(rows, tokenizer, role="train", max_length=13, doc_stride=3)
    monkeypatch.setattr(windows, "CHUNK", 1)
    assert same(whole, build(rows, tokenizer, role="train", max_length=13, doc_stride=3))


def test_tokenizer_without_opening_token(rows: list[dict[str, Any]]) -> None:
    texts = [row[name] for row in rows for name in ("context", "question")]
    tokenizer = make_tokenizer(texts, pair="$A </s> $B </s>", cls_token=None)
    features = build(rows[2:], tokenizer, role="train", max_length=9, doc_stride=2)
    assert (features.start[0], features.end[0]) == (0, 0)


def test_tokenizer_digest_sees_content_not_use(rows: list[dict[str, Any]], tokenizer: Any) -> None:
    before = tokenizer_digest(tokenizer)
    tokenizer(["one two three"], truncation=True, max_length=2, padding="max_length")
    assert tokenizer_digest(tokenizer) == before
    assert tokenizer_digest(make_tokenizer(["other words"])) != before


def test_stored_features_are_the_same_and_mapped(rows: list[dict[str, Any]], tokenizer: Any, tmp_path: Path) -> None:
    made = build(rows, tokenizer, role="train", max_length=13, doc_stride=3)
    calls: list[int] = []
    first = cached(tmp_path / "features", lambda: calls.append(1) or made)  # type: ignore[func-returns-value]
    again = cached(tmp_path / "features", lambda: calls.append(1) or made)  # type: ignore[func-returns-value]
    assert calls == [1]
    assert same(first, made)
    assert same(again, made)
    assert not again.input_ids.flags.owndata
    assert not again.input_ids.flags.writeable
    assert sorted(file.name for file in (tmp_path / "features").iterdir()) == ["k.arrow", "k.lock"]


@pytest.fixture
def stored(rows: list[dict[str, Any]], tokenizer: Any, tmp_path: Path) -> tuple[Path, Features]:
    features = build(rows, tokenizer, role="train", max_length=13, doc_stride=3)
    store(tmp_path / "k.arrow", "k", features)
    return tmp_path / "k.arrow", features


def test_damage_is_found_and_repaired(stored: tuple[Path, Features]) -> None:
    path, features = stored
    whole = path.read_bytes()
    damaged = [b"", b"x", whole[: len(whole) // 2], whole[:-1], whole.replace(b'"version": 1', b'"version": 9')]
    for name in ("input_ids", "char_start", "start"):  # one flipped bit in the stored numbers
        at = whole.index(getattr(features, name).tobytes())
        damaged.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for content in damaged:
        assert content != whole
        path.write_bytes(content)
        assert load(path) is None
        assert same(cached(path.parent, lambda: features), features)
        assert path.read_bytes() == whole


def test_another_key_is_not_believed(stored: tuple[Path, Features]) -> None:
    path, _ = stored
    assert load(path, "other") is None
    assert load(path.with_name("none.arrow")) is None


def test_failed_making_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        cached(tmp_path, lambda: (_ for _ in ()).throw(RuntimeError("interrupted")))
    assert [file.name for file in tmp_path.iterdir()] == ["k.lock"]


CHILD = """
import sys, time
from pathlib import Path
from raysched.tasks.feature_store import cached, load
from raysched.tasks.features import Features

folder = Path(sys.argv[1])

def make():
    with (folder / "log").open("a") as file:
        file.write("made\\n")
    time.sleep(0.5)
    return load(folder / "k.arrow", "k", Features)

assert len(cached(folder / "shared", "k", Features, make)) > 0
"""


def test_many_processes_make_them_once(stored: tuple[Path, Features]) -> None:
    path, features = stored
    others = [subprocess.Popen([sys.executable, "-c", CHILD, str(path.parent)]) for _ in range(3)]
    assert [other.wait(60) for other in others] == [0, 0, 0]
    assert (path.parent / "log").read_text() == "made\n"
    found = load(path.parent / "shared" / "k.arrow")
    assert found is not None
    assert same(found, features)


def test_a_stuck_holder_is_not_waited_for_for_good(stored: tuple[Path, Features], tmp_path: Path) -> None:
    import fcntl

    _, features = stored
    folder = tmp_path / "stuck"
    folder.mkdir()
    with (folder / "k.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert same(cached(folder, lambda: features, lock_timeout_s=0.2), features)


def test_no_windows(tokenizer: Any, tmp_path: Path) -> None:
    empty = build([], tokenizer, role="eval", max_length=13, doc_stride=3)
    assert len(empty) == 0
    assert len(cached(tmp_path, lambda: dataclasses.replace(empty))) == 0
