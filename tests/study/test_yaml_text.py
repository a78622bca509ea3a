"""The study's YAML: core schema of YAML 1.2, every value with its place, nothing that surprises."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysched.errors import StudyError
from raysched.study.yaml_text import MOST_BYTES, Node, parse, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+7", 7),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ('"1e-4"', "1e-4"),
        ("'no'", "no"),
        ("[1, [no, {a: 2}]]", [1, ["no", {"a": 2}]]),
        ("|\n  1e-4\n", "1e-4\n"),
        ('"\\u00e9"', "é"),
    ],
)
def test_values_follow_yaml_1_2(text: str, value: Any) -> None:
    read = parse(f"key: {text}", "f.yaml").plain()["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1", "a: must be given once, but stands at f.yaml:1:1 too"),
        ("s:\n  k: 1\n  k: 2\n", "f.yaml:3:3", "s.k: must be given once, but stands at f.yaml:2:3 too"),
        ("a: {b: 1, b: 2}", "f.yaml:1:11", "a.b: must be given once"),
        ("a: &x 1", "f.yaml:1:4", "anchors and aliases are not used"),
        ("a: &x [*x]", "f.yaml:1:4", "anchors and aliases are not used"),
        ("a: *x", "f.yaml:1:4", "anchors and aliases are not used"),
        ("a: !!python/object:os.system x", "f.yaml:1:4", "tags are not used"),
        ("a: !x 1", "f.yaml:1:4", "tags are not used"),
        ("a: ! x", "f.yaml:1:4", "tags are not used"),
        ("%TAG ! x:\n--- a", "f.yaml:2:1", "must be plain YAML 1.2"),
        ("%YAML 1.1\n--- a", "f.yaml:2:1", "must be plain YAML 1.2"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1", "must be one document"),
        ("a: .nan", "f.yaml:1:4", "must be finite, but got .nan"),
        ("a: [1, -.inf]", "f.yaml:1:8", "must be finite, but got -.inf"),
        ("a: 1e999", "f.yaml:1:4", "must be finite, but got 1e999"),
        ("a: " + "9" * 5000, "f.yaml:1:4", "less than 64 bits"),
        ("a: 0x" + "f" * 5000, "f.yaml:1:4", "less than 64 bits"),
        ("? [1]\n: 2", "f.yaml:1:3", "a key must be text"),
        (": 2", "f.yaml:1:1", "a key must have 1 to 200 characters"),
        ("a: 'x", "f.yaml:1:6", "must be valid YAML, but found unexpected end of stream"),
        ("a:\n\t- 1", "f.yaml:2:1", "must be valid YAML"),
        ("a: b: c", "f.yaml:1:5", "must be valid YAML"),
        ("ok: 1\na: \x07", "f.yaml:2:4", "holds the character '\\x07'"),
        ('a: "\\ud800"', "f.yaml:1:4", "control characters"),
        ('a: "\\0"', "f.yaml:1:4", "control characters"),
        ('"a\\0": 1', "f.yaml:1:1", "control characters"),
        ('a: "\\UFFFFFFFF"', "f.yaml", "OverflowError"),
        ("[" * 5000, "f.yaml:1:33", "nest at most 32 levels"),
        ("- " * 5000 + "a", "f.yaml:1:65", "nest at most 32 levels"),
        ("[" + "1," * 30_000, "f.yaml:1:40002", "at most 20000 values"),
        ("a: " + "x" * MOST_BYTES, "f.yaml", f"at most {MOST_BYTES} bytes"),
    ],
)
def test_refused_with_place(text: str, place: str, rule: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse(text, "f.yaml")
    message = str(caught.value)
    assert rule in message
    assert f"  at:    {place}\n" in message
    assert caught.value.hint


def test_the_limit_of_depth_is_the_last_that_is_read() -> None:
    assert parse("[" * 32 + "]" * 32, "f.yaml").value[0].value
    with pytest.raises(StudyError, match="nest at most"):
        parse("[" * 33 + "]" * 33, "f.yaml")


def test_entries_are_found_at_their_key() -> None:
    tree = parse("a:\n  b:\n    - 1\n    - 2\n", "f.yaml")
    b = tree.value["a"].value["b"]
    assert str(b.place) == "f.yaml:2:3"
    assert str(b.value[1].place) == "f.yaml:4:7"


def test_an_option_has_no_lines() -> None:
    assert str(parse("[1]", "--set a", option=True).value[0].place) == "--set a"
    with pytest.raises(StudyError, match=r"at:    --set a\n"):
        parse("[1", "--set a", option=True)


PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20) | st.sampled_from(
    ["null", "1e-4", "no", "0x1", "~", "a\nb"]
)
KEYS = st.text("abcdefgh_", min_size=1, max_size=5) | st.sampled_from(["null", "-", "1", "a: b", "zh-CN"])
VALUES = st.dictionaries(
    KEYS,
    st.recursive(PLAIN | TEXT, lambda v: st.dictionaries(KEYS, v, max_size=3) | st.lists(v, max_size=3), max_leaves=10),
)


@settings(deadline=None, max_examples=100)
@given(values=VALUES)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    assert (parse(to_yaml(values), "f.yaml").plain() or {}) == values


SNIPPETS = st.sampled_from([
    "a", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&x ", "*x", "!!str ", "'", '"', "\\", "|\n", ">", "? ",
    "%YAML 1.2\n", "---\n", "...\n", "#", "1e-4", ".nan", "<<", "\t", "\r", "\ufeff", "\x85", "\u2028", "\\ud800",
    "@", "`", "0x", "~", "é", "\x00",
])  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(text=st.text(max_size=60) | st.lists(SNIPPETS, max_size=40).map("".join))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(StudyError):
        assert isinstance(parse(text, "f.yaml"), Node)
