"""Cursors: when MLflow's rows are the beginning of an attempt's history."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raysched.records.history import Sealed
from raysched.tracking.cursor import Cursor, Cursors


def sealed(text: str) -> list[Sealed]:
    """One segment a letter: upper and lower case are two contents of one name."""
    return [Sealed(name=f"{ord(letter.lower()):08d}-00000000.jsonl", sha256=f"{ord(letter):064x}") for letter in text]


@pytest.mark.parametrize(
    ("sent", "sending", "target", "growing", "final"),
    [
        ("", "", "", True, True),
        ("", "", "ab", True, True),
        ("ab", "", "ab", True, True),
        ("a", "b", "ab", True, True),
        ("ab", "", "abc", True, True),
        ("ab", "", "a", True, False),  # the newest manifest cannot be read just now, or the attempt ended earlier
        ("aB", "", "ab", False, False),
        ("a", "B", "abc", False, False),
        ("a", "b", "a", True, False),
        ("ab", "", "A", False, False),
    ],
)
def test_fits(sent: str, sending: str, target: str, growing: bool, final: bool) -> None:
    cursor = Cursor(key="run:a", segments=sealed(sent), sending=next(iter(sealed(sending)), None))
    assert cursor.fits(sealed(target), final=False) is growing
    assert cursor.fits(sealed(target), final=True) is final


def test_cursors_are_kept_per_store_and_a_damaged_one_starts_over(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path / "uploads", "store one")
    cursor = cursors.get("run:a")
    cursor.mlflow_id = "x"
    cursors.save(cursor)
    assert Cursors(tmp_path / "uploads", "store one").get("run:a") == cursor
    assert Cursors(tmp_path / "uploads", "store two").get("run:a") == Cursor(key="run:a")
    (path,) = (tmp_path / "uploads").rglob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(path.read_text().replace('"x"', '"y"'))
    assert Cursors(tmp_path / "uploads", "store one").get("run:a").mlflow_id is None
    cursors.clear()
    assert not path.exists()
    assert cursors.get("run:a").mlflow_id is None
