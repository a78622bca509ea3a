"""COPA and XCOPA: reading, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysched.errors import StudyError
from raysched.mini import world
from raysched.tasks import copa, forms
from raysched.tasks.stored import Row
from tests.tasks.written import copa as published
from tests.tasks.written import json_lines, put

CHOICE = forms.FORMS["choice"]


def read(path: Path) -> list[Row]:
    return forms.read(path, CHOICE, "et").rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_rows(tmp_path: Path, name: str, end: str) -> None:
    text = json_lines(published(7, changed=False), published(3, question="cause", premise="Jäi\u2028vihma"), end=end)
    rows = read(put(tmp_path / name, "\ufeff" + text + end))
    assert rows == [
        {
            "id": "7",
            "premise": "It rained 7 times.",
            "choices": ["It is wet.", "It is dry."],
            "question": "effect",
            "label": 1,
        },
        {
            "id": "3",
            "premise": "Jäi\u2028vihma",
            "choices": ["It is wet.", "It is dry."],
            "question": "cause",
            "label": 1,
        },
    ]


def test_rows_without_an_index_are_numbered(tmp_path: Path) -> None:
    rows = [{name: value for name, value in published(n).items() if name != "idx"} for n in (5, 6)]
    assert [row["id"] for row in read(put(tmp_path / "a.jsonl", json_lines(*rows)))] == ["0", "1"]


def test_mini_rows_have_the_published_form() -> None:
    rows, dropped = forms.published_rows(world.choice_rows(world.SOURCE, "dev", 20), CHOICE, "mini")
    assert len(rows) == 20
    assert dropped == 0
    assert rows[3]["id"] == "3"
    assert set(rows[0]) == {"id", "premise", "choices", "question", "label"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in published(1).items() if key != name}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (without("choice1"), r"line 2: choice1 is missing, but must be text"),
        (without("choice2"), r"line 2: choice2 is missing"),
        (published(1, choice2=" "), r"line 2: choice2 is empty"),
        (published(1, choice1=None), r"line 2: choice1 is None"),
        (without("premise"), r"line 2: premise is missing"),
        (published(1, question="why"), r"line 2: question is 'why'\n  valid: cause, effect"),
        (without("question"), r"line 2: question is None"),
        (published(1, label=2), r"line 2: label is 2\n  valid: 0, 1"),
        (published(1, label=-1), r"line 2: label is -1\n(.|\n)*hidden label"),
        (published(1, label=True), r"line 2: label is True"),
        (published(1, label="1"), r"line 2: label is '1'"),
        (without("label"), r"line 2: label is None"),
        (published(0), r"id '0' occurs twice"),
        ([1], r"line 2: must be a JSON object, but is list"),
    ],
)
def test_refuses(tmp_path: Path, second: Any, message: str) -> None:
    path = put(tmp_path / "test.et.jsonl", json_lines(published(0), second, published(2)))
    with pytest.raises(StudyError, match=message) as caught:
        read(path)
    assert caught.value.key == str(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json_lines(published()) + '{"premise": "broken', r"line 2: not JSON"),
        (json_lines(published()) + "\n\n[" + "[" * 200_000, r"line 4: not JSON"),
        ("", "holds no row"),
        ("\n\n", "holds no row"),
    ],
)
def test_refuses_broken_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=rf"a\.jsonl: {message}"):
        read(put(tmp_path / "a.jsonl", text))


def test_refuses_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(published(0)).encode() + '{"premise": "Jäi"}'.encode("latin-1"))
    with pytest.raises(StudyError, match=r"line 2: not UTF-8 text"):
        read(path)


def test_note() -> None:
    assert copa.note(("et", "zh")) is None
    assert "th 250" in str(copa.note(("et", "th")))
