"""Means and standard deviations over seeds."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest

from raysched.reports.stats import Summary, groups, summarise


@pytest.mark.parametrize(
    ("values", "expected", "text"),
    [
        ([], None, "None"),
        ([71.5], Summary(mean=71.5, std=None, n=1), "71.50"),
        ([70.0, 72.0], Summary(mean=71.0, std=math.sqrt(2), n=2), "71.00 ± 1.41"),
        ([1.0, 2.0, 3.0, 4.0], Summary(mean=2.5, std=math.sqrt(5 / 3), n=4), "2.50 ± 1.29"),
    ],
)
def test_summary(values: list[float], expected: Summary | None, text: str) -> None:
    assert summarise(values) == expected
    assert str(summarise(values)) == text


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ({}, []),
        ({"gu": 60.0}, [["gu"]]),
        ({"a": 58.5, "gu": 60.0, "b": 59.0, "c": 57.9}, [["gu", "b"], ["a", "c"]]),  # exactly one point is within
        ({"a": 58.0, "b": 59.0, "c": 60.0}, [["c", "b"], ["a"]]),  # one point of the best, not of the neighbour
    ],
)
def test_groups(means: dict[str, float], expected: list[list[str]]) -> None:
    assert groups(means) == expected


def test_the_order_of_seeds_does_not_matter() -> None:
    values = [0.1, 0.2, 0.3, 0.7]
    assert len({summarise(order) for order in itertools.permutations(values)}) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="values must be finite"):
        summarise([1.0, bad])


def test_pure() -> None:
    code = "import raysched.reports.stats, sys; print(*{'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
