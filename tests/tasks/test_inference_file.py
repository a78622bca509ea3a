"""XNLI and MultiNLI: reading, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysched.errors import StudyError
from raysched.mini import world
from raysched.tasks import forms, inference
from raysched.tasks.stored import Row
from tests.tasks.written import MULTINLI, json_lines, multinli, multinli_txt, put, tsv, xnli

NLI = forms.FORMS["nli"]


def read(path: Path, language: str = "en") -> list[Row]:
    return forms.read(path, NLI, language).rows


def csv(*rows: str) -> str:
    return "\r\n".join(("pairID,sentence1,sentence2,label", *rows)) + "\r\n"


SPOKE = "He spoke, loudly.\u2028"
ROWS = [
    {"id": "0", "premise": 'He said "0', "hypothesis": "He spoke, loudly.\u2028", "label": 0},
    {"id": "1", "premise": 'He said "1', "hypothesis": "He spoke, loudly.\u2028", "label": 1},
    {"id": "2", "premise": 'He said "2', "hypothesis": "He spoke, loudly.\u2028", "label": 2},
]


def as_tsv(row: Row) -> str:
    return tsv([row["premise"], row["hypothesis"], inference.LABELS[row["label"]]])


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.jsonl", json_lines(*map(multinli, range(3)))),
        ("train.txt", multinli_txt(3)),
        (
            "train.csv",
            csv(
                '1e,"He said ""0",\u0022He spoke, loudly.\u2028",entailment',
                '1n,"He said ""1","He spoke, loudly.\u2028",neutral',
                '1c,"He said ""2","He spoke, loudly.\u2028",contradiction',
            ),
        ),
        ("ours.jsonl", json_lines(*({key: row[key] for key in ("premise", "hypothesis", "label")} for row in ROWS))),
        ("numbers.tsv", "".join(tsv([row["premise"], row["hypothesis"], str(row["label"])]) for row in ROWS)),
        ("numbers.csv", "premise,hypothesis,label\n" + "".join(f'"He said ""{n}","{SPOKE}",{n}\n' for n in range(3))),
        ("ours.tsv", "\ufeff" + tsv(["premise", "hypothesis", "label"]) + "".join(map(as_tsv, ROWS))),
    ],
)  # fmt: skip
def test_reads_multinli(tmp_path: Path, name: str, text: str, packed: str) -> None:
    assert read(put(tmp_path / (name + packed), text)) == ROWS, "pairID repeats, and is no id"


@pytest.mark.parametrize("name", ["dev-sw.tsv", "dev-sw.tsv.gz", "mine.txt"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_reads_xnli(tmp_path: Path, name: str, end: str) -> None:
    rows = read(put(tmp_path / name, xnli(4, "sw").rstrip("\n") + end), "sw")
    assert [row["label"] for row in rows] == [0, 1, 2, 0]
    assert rows[3] == {"id": "3", "premise": '"sw 3', "hypothesis": "so, what?\u0085", "label": 0}


@pytest.mark.parametrize("name", ["xnli.test.tsv", "xnli.test.jsonl"])
def test_reads_the_original_xnli_by_language(tmp_path: Path, name: str) -> None:
    columns = ["language", "gold_label", "sentence1", "sentence2", "label1", "match"]
    labels = ("neutral", "contradiction")
    found = [[one, labels[n], f"{one} {n}", "h", "neutral", "True"] for n in (0, 1) for one in ("sw", "th")]
    objects = [dict(zip(columns, row, strict=True)) for row in found]
    path = put(tmp_path / name, tsv(columns, *found) if name.endswith("tsv") else json_lines(*objects))
    thai = [(row["id"], row["premise"], row["label"]) for row in read(path, "th")]
    assert thai == [("0", "th 0", 1), ("1", "th 1", 2)]
    with pytest.raises(StudyError, match=r"no rows in language 'ur'\n  valid: sw, th"):
        read(path, "ur")


def test_rows_without_a_majority_are_left_out_and_counted(tmp_path: Path) -> None:
    labels = ("neutral", "-", "contradiction", "-")
    path = put(tmp_path / "dev.jsonl", json_lines(*(multinli(gold_label=label) for label in labels)))
    rows, _, dropped = forms.read(path, NLI, "en")
    assert dropped == 2
    assert [(row["id"], row["label"]) for row in rows] == [("0", 1), ("2", 2)]
    table = put(tmp_path / "dev.tsv", tsv(["a", "b", "1"], ["a", "b", "-1"], ["a", "b", "2"]))
    assert [row["label"] for row in forms.read(table, NLI, "en").rows] == [1, 2]
    put(path, json_lines(*(multinli(gold_label="-") for _ in range(3))))
    with pytest.raises(StudyError, match=r"holds no row with a label: all 3 are marked as without one"):
        read(path)


def test_mini_rows_have_the_published_form() -> None:
    rows, dropped = forms.published_rows(world.nli_rows(world.SOURCE, "dev", 20), NLI, "mini")
    assert len(rows) == 20
    assert dropped == 0
    assert set(rows[0]) == {"id", "premise", "hypothesis", "label"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"gold_label": "hidden"}, r"line 2: label is 'hidden'\n  valid: entailment, neutral, contradiction, 0, 1, 2"),
        ({"gold_label": 3}, r"line 2: label is 3"),
        ({"gold_label": -2}, r"line 2: label is -2"),
        ({"gold_label": True}, r"line 2: label is True"),
        ({"gold_label": None}, r"line 2: label is None"),
        ({"sentence1": 3}, r"line 2: premise is 3, but must be text"),
        ({"sentence2": None}, r"line 2: hypothesis is None"),
        ("sentence2", r"line 2: has no 'hypothesis' or 'sentence2'"),
        ("gold_label", r"line 2: has no 'gold_label' or 'label'"),
    ],
)
def test_refuses_rows(tmp_path: Path, second: Any, message: str) -> None:
    row = multinli() | second if isinstance(second, dict) else {k: v for k, v in multinli().items() if k != second}
    path = put(tmp_path / "train.jsonl", json_lines(multinli(), row))
    with pytest.raises(StudyError, match=message) as caught:
        read(path)
    assert caught.value.key == str(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", xnli(2) + "a\tb\n", r"line 3: has 2 columns, but must have 3: premise TAB hypothesis TAB label"),
        ("a.tsv", xnli(2) + "\n\na\tb\tneutral\t\n", r"line 5: has 4 columns"),
        ("a.tsv", xnli(1) + "alone\n", r"line 2: has 1 column, but"),
        ("a.tsv", xnli(1) + "a\tb\t3\n", r"line 2: label is '3'"),
        ("a.tsv", xnli(1) + "a\tb\tNeutral\n", r"line 2: label is 'Neutral'"),
        ("a.txt", multinli_txt(1) + tsv(["x"] * 6), r"line 3: has 6 columns, but must have 12: gold_label TAB"),
        ("a.txt", multinli_txt(1) + tsv(["x"] * 13), r"line 3: has 13 columns"),
        ("a.txt", tsv(MULTINLI[1:]) + tsv(["x"] * 11), r"line 2: has no 'gold_label' or 'label'"),
        ("a.csv", csv("1e,a,b,neutral", "1e,a,b"), r"line 3: has 3 columns, but must have 4: pairID, sentence1"),
        ("a.csv", csv('1e,a,"b"c,neutral'), r"line 2: not CSV"),
        ("a.csv", csv('1e,a,"b'), r"line 2: not CSV"),
        ("a.csv", csv(), r"holds no row"),
        ("a.csv", "a,b,neutral\n", r"line 1: has 1 column, but must have 3: premise TAB"),
        ("a.jsonl", json_lines(multinli()) + "{", r"line 2: not JSON"),
        ("a.tsv", "", r"holds no row"),
    ],
)
def test_refuses_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=rf"{name}: {message}"):
        read(put(tmp_path / name, text))


def test_refuses_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(csv("1e,ä,b,neutral").encode("latin-1"))
    with pytest.raises(StudyError, match=r"not UTF-8 text"):
        read(tmp_path / "a.csv")
