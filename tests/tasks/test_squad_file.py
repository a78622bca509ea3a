from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError, StudyError
from raysched.tasks import forms, stored
from raysched.tasks.stored import Row

CONTEXT = "Zürich 🌍 lies in Switzerland."


def read(path: Path) -> list[Row]:
    return forms.read(path, forms.FORMS["qa"], "en").rows


def question(**changes: Any) -> dict[str, Any]:
    start = CONTEXT.index("Switzerland")
    return {"id": "1", "question": "Where?", "answers": [{"text": "Switzerland", "answer_start": start}]} | changes


def document(*questions: Any, **paragraph: Any) -> Any:
    return {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": list(questions)} | paragraph]}],
    }


@pytest.mark.parametrize("name", ["dev.json", "dev.json.gz"])
def test_reads_rows_and_hash(tmp_path: Path, name: str) -> None:
    content = json.dumps(
        document(question(), question(id="2", answers=[{"text": "🌍", "answer_start": 7}] * 2))
    ).encode()
    content = gzip.compress(content) if name.endswith("gz") else content
    (tmp_path / name).write_bytes(content)
    rows, sha256, dropped = forms.read(tmp_path / name, forms.FORMS["qa"], "en")
    assert sha256 == hashlib.sha256(content).hexdigest() == stored.sha256(tmp_path / name)
    assert dropped == 0
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[1] == {
        "id": "2",
        "context": CONTEXT,
        "question": "Where?",
        "answers": {"text": ["🌍", "🌍"], "answer_start": [7, 7]},
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the file has no 'data'"),
        ({"data": {}}, r"the file\.data must be list, but is dict"),
        ({"data": [3]}, r"data\[0\] has no 'paragraphs'"),
        ({"data": []}, "holds no row"),
        (document(question(id=3)), r"qas\[0\]\.id must be str, but is int"),
        (document({"id": "1"}), r"data\[0\]\.paragraphs\[0\]\.qas\[0\] has no 'answers'"),
        (document(question(), context=None), "context must be str, but is NoneType"),
        (document(question(answers=[{"text": "x"}])), r"answers\[0\] has no 'answer_start'"),
        (document(question(answers=[{"text": "x", "answer_start": True}])), "answer_start must be int, but is bool"),
        (document(question(), question()), "id '1' occurs twice"),
        (document(question(answers=[])), r"question '1' must have at least one answer(.|\n)*SQuAD v2"),
        (
            document(question(answers=[{"text": "Switzerland", "answer_start": 16}])),
            "answer of question '1' is not in its context: answer 'Switzerland' at answer_start=16, .* ' Switzerlan'",
        ),
        (document(question(answers=[{"text": "Zürich", "answer_start": -30}])), "answer_start=-30, .* ''"),
        (document(question(answers=[{"text": "Bern", "answer_start": 900}])), "the context has ''"),
        (document(question(answers=[{"text": " ", "answer_start": 6}])), "is not in its context"),
        (document(question(answers=[{"text": "x" * 500, "answer_start": 0}])), "'x{60}…'"),
    ],
)
def test_refuses_what_is_not_squad(tmp_path: Path, value: Any, message: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(value))
    with pytest.raises(StudyError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 700


WHOLE = gzip.compress(json.dumps(document(question())).encode())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "not JSON"),
        ("a.json", b'{"data": [', "not JSON"),
        ("a.json", b"[" * 200_000, "not JSON"),
        ("a.json", b'{"data": "\xff\xfe"}', "not UTF-8"),
        ("a.json.gz", b"", "not JSON"),
        ("a.json.gz", b"{}", "not a whole gzip"),
        ("a.json.gz", WHOLE[:-9], "not a whole gzip"),
        ("a.json.gz", WHOLE[:40] + bytes([WHOLE[40] ^ 255]) + WHOLE[41:], "not a whole gzip"),
    ],
)
def test_refuses_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(("name", "message"), [("none.json", "no such file"), ("", "cannot be read")])
def test_missing_file(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(MissingError, match=message) as caught:
        read(tmp_path / name)
    assert caught.value.exit_code == 3
