"""Names of a sweep's objects: within the operator's limits, readable, and never shared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysched.service.kubernetes.names import LONGEST, rayjob_name, sweep_label

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
STORAGES = st.sampled_from(["/storage/sweeps", "/storage/other", "s3://bucket/sweeps", "gs://b"]) | st.text(min_size=1)
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@given(NAMES | st.text(min_size=1), STORAGES, st.integers(1, 999))
def test_every_name_is_one_that_the_operator_takes(sweep: str, storage: str, number: int) -> None:
    name = rayjob_name(sweep, storage, number)
    assert DNS_1035.fullmatch(name)
    assert len(name) <= LONGEST == 47
    assert len(f"{name}-abcde") <= 53  # the cluster
    assert len(sweep_label(sweep, storage)) <= 63
    assert name == rayjob_name(sweep, storage, number)


@given(st.lists(st.tuples(NAMES, STORAGES, st.integers(1, 999)), min_size=2, max_size=30))
def test_two_sweeps_never_share_a_name(sweeps: list[tuple[str, str, int]]) -> None:
    different = {(name, storage.rstrip("/") or storage, number) for name, storage, number in sweeps}
    assert len({rayjob_name(*one) for one in different}) == len(different)


@pytest.mark.parametrize(
    ("sweep", "begins"),
    [
        ("xquad-mini", "xquad-mini-"),
        ("paper-table1.low", "paper-table1-low-"),
        ("2024.run_a", "s-2024-run-a-"),
        ("a" * 63, "a" * 32 + "-"),
        ("a" * 31 + ".b", "a" * 31 + "-"),
        ("___", "s-"),
    ],
)
def test_a_name_can_be_read(sweep: str, begins: str) -> None:
    name = rayjob_name(sweep, "/storage/sweeps")
    assert name.startswith(begins)
    assert re.fullmatch(r"[a-z2-7]{10}", name.removeprefix(begins))


def test_names_stay_what_they_are() -> None:
    """A sweep that is submitted again after an upgrade has the same name."""
    assert rayjob_name("xquad-mini", "/storage/sweeps") == "xquad-mini-d4snl7wck4"
    assert rayjob_name("xquad-mini", "/storage/sweeps/") == "xquad-mini-d4snl7wck4"
    assert rayjob_name("xquad-mini", "/storage/sweeps", 12) == "xquad-mini-d4snl7wck4-12"
    assert rayjob_name("xquad_mini", "/storage/sweeps") != "xquad-mini-d4snl7wck4"


@pytest.mark.parametrize("number", [0, 1000])
def test_a_number_beyond_the_limit(number: int) -> None:
    with pytest.raises(ValueError, match="1 <= number <= 999 must hold"):
        rayjob_name("a", "/s", number)
