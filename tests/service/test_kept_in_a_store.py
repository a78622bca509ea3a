"""Verbs on a sweep in an object store, from machines that share nothing else: a real S3 server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from raysched.records import ledger as ledgers
from raysched.records.layout import SweepLayout, sweeps
from raysched.reports import report
from raysched.reports.asked import Asked
from raysched.reports.sweep import read_sweep
from raysched.runners.control import Control
from raysched.runners.requests import FETCH_S, Requests, ask, begin, request_file, standing, withdraw
from raysched.service.archive import archive
from raysched.service.compare import compare
from raysched.service.listing import listed
from raysched.service.loaded import stored_study
from raysched.service.merge import merge
from tests.object_store import Store, store  # noqa: F401 - a fixture
from tests.service.kept import BOTH, Kept

pytestmark = [pytest.mark.usefixtures("no_fsync"), pytest.mark.timeout(180)]


def test_a_request_reaches_the_driver_of_another_machine(store: Store) -> None:  # noqa: F811
    driver, user = store.layout("a").create(), store.layout("b").create()
    clock = [0.0]
    seen = Requests(driver, lambda: clock[0])
    assert seen.standing() is None
    ask(user, "pause")
    assert seen.standing() is None  # asked at most every three seconds
    clock[0] += FETCH_S
    found = seen.standing()
    assert found is not None
    assert found.verb == "pause"
    assert Control(driver).paused()
    withdraw(user)
    assert standing(driver) is None
    ask(user, "stop")
    begin(driver, standing(driver))
    assert standing(user) is None
    assert standing(store.layout("c").create()) is None
    assert request_file(driver) != request_file(user)


def test_merged_into_a_store_listed_compared_and_archived_elsewhere(
    kept: Kept,
    store: Store,  # noqa: F811
    tmp_path: Path,
) -> None:
    here = store.layout("a", "both")
    done = merge(kept.one, kept.two, here)
    assert (done.finished, done.left, done.made) == (7, 2, True)
    assert not merge(kept.one, kept.two, here).made
    with store.machine("b"):
        (row,) = listed(store.uri)
        assert (row.name, row.done, row.runs, row.state, row.problem) == ("both", 7, 9, "stopped", None)
        there = SweepLayout(store.uri, "both")
        assert stored_study(there).study == kept.study(**BOTH)
        assert [pair.kind for pair in compare(kept.one, there).pairs] == ["equal"] * 4
        assert not merge(kept.one, kept.two, there).made
    with store.machine("c"):
        far = SweepLayout(store.uri, "both")
        before = read_sweep(far).records
        path = archive(far, tmp_path / "both.tar.gz", delete=True).path
        assert not far.root.exists()
        assert sweeps(store.uri) == []
    again = tmp_path / "again"
    again.mkdir()
    subprocess.run(["tar", "-xzf", str(path), "-C", str(again)], check=True, timeout=60)
    layout = SweepLayout(again, "both")
    assert read_sweep(layout).records == before
    kept.sweep(again, "both", **BOTH)
    assert len(read_sweep(layout).records) == 9
    assert [entry.epoch for entry in ledgers.read(layout.ledger)][-1] == 2


def test_a_report_in_a_store_loses_what_is_not_of_it_any_more(
    kept: Kept,
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Written by two machines, the second of which never had the files that go."""
    monkeypatch.setattr(report, "BUILDERS", (("facts", "test_sets"), ("spread.section", "spread")))  # quick to draw
    merge(kept.one, kept.two, store.layout("d", "reported"))

    def reported(machine: str, *, pdf: bool) -> set[str]:
        with store.machine(machine):
            layout = SweepLayout(store.uri, "reported")
            report.write_report(Asked(sweeps=(read_sweep(layout),)), layout.reports, pdf=pdf)
        with store.machine(f"{machine}, read"):
            layout = SweepLayout(store.uri, "reported")
            layout.pull(layout.reports)
            return {path.relative_to(layout.reports).as_posix() for path in layout.reports.rglob("*.*")}

    first, second = reported("d", pdf=True), reported("e", pdf=False)
    assert {"report.html", "report.md", "files.json", "tables/test-sets.csv"} <= second
    assert first - second == {name for name in first if name.endswith(".pdf")} != set()
