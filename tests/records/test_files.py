"""Files are whole or absent, private, and checked."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysched.errors import DamageError, StudyError
from raysched.records import files
from raysched.records.layout import SweepLayout, check_name, storage_folder, sweeps


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = files.make_folder(tmp_path / "a" / "b")
        files.write_atomic(folder / "file", "x")
    finally:
        os.umask(before)
    assert [mode(tmp_path / "a"), mode(folder), mode(folder / "file")] == [
        0o700,
        0o700,
        0o600,
    ]


def test_a_failed_write_leaves_the_old_content_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_a_line_reads_back_exactly(value: object) -> None:
    line = files.crc_line(value)
    assert line.count(b"\n") == 1
    assert files.parse_crc_line(line[:-1]) == value


@pytest.mark.parametrize(("value", "text"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_non_finite_floats_are_strings(value: float, text: str) -> None:
    assert files.plain({"a": [value, (value,)]}) == {"a": [text, [text]]}


def test_a_flipped_bit_anywhere_in_a_line_is_seen() -> None:
    line = files.crc_line({"lr": 0.1, "k": 25})[:-1]
    for at in range(len(line)):
        for bit in range(8):
            broken = line[:at] + bytes([line[at] ^ (1 << bit)]) + line[at + 1 :]
            with pytest.raises(ValueError, match="checksum"):
                files.parse_crc_line(broken)


def test_a_checked_object_notices_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_checked(path, {"f1": 81.25, "loss": math.nan})
    assert files.read_checked(path) == {"f1": 81.25, "loss": "nan"}
    path.write_text(path.read_text().replace("81.25", "91.25"))
    with pytest.raises(DamageError, match="checksum"):
        files.read_checked(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", json.dumps({"sha256": 1})])
def test_what_is_no_checked_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DamageError, match=r"a\.json"):
        files.read_checked(path)


@pytest.mark.parametrize("name", ["xquad-mini", "a", "0.1_b-c", "a" * 63])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../../evil",
        "/abs/evil",
        "a/b",
        "a..b",
        "-a",
        "A",
        "a" * 64,
        "a\n",
        "a b",
        "ä",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(StudyError, match="--name"):
        check_name(name)


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "A", "x" * 65])
def test_bad_run_ids(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(StudyError, match="run_id"):
        SweepLayout(tmp_path, "a").run(run_id)


def test_storage_is_a_folder_a_file_uri_or_where_a_store_is_copied_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage_folder(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert storage_folder(tmp_path) == tmp_path
    monkeypatch.setenv("RAYSCHED_CACHE", str(tmp_path / "cache"))
    copy = storage_folder("s3://bucket/folder")
    assert copy.parent == tmp_path / "cache" / "storage"
    assert storage_folder("s3://bucket/folder/") == copy != storage_folder("s3://bucket/folder2")
    assert not copy.exists()
    with pytest.raises(StudyError, match="names the host"):
        storage_folder("file://host/folder")


def test_attempts_are_listed_oldest_first(tmp_path: Path) -> None:
    run = SweepLayout(tmp_path, "a").create().run("0123456789abcdef")
    assert run.attempts() == []
    for epoch, n in [(10, 0), (2, 1), (2, 0)]:
        run.attempt(epoch, n).create()
    (run.root / "attempt-x").mkdir()
    assert [(epoch, n) for epoch, n, _ in run.attempts()] == [(2, 0), (2, 1), (10, 0)]
    assert run.attempt(2, 0).checkpoint(25).name == "step-00000025"


def test_sweeps_of_a_storage(tmp_path: Path) -> None:
    assert sweeps(tmp_path / "none") == []
    SweepLayout(tmp_path, "empty").create()
    SweepLayout(tmp_path, "b").create().ledger.touch()
    assert [layout.name for layout in sweeps(tmp_path)] == ["b"]
