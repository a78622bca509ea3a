"""What a person sees in MLflow's own page: the tree with its columns, curves side by side, tables and figures."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.reports.document import Cell, Row, Table
from raysched.reports.stats import Summary
from raysched.service.publishing import publish
from raysched.tracking.mlflow_store import Store
from raysched.tracking.target import remember
from raysched.tracking.uploader import Uploader
from raysched.tracking.view import runs_page
from tests import browser, mlflow_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING)),
]
WIDTH, HEIGHT = 60, 40
PLOTS = """
return [...document.querySelectorAll('.js-plotly-plot')].map(
    plot => plot.data.map(trace => [trace.name, trace.metricKey || '', [...trace.y]]));
"""


@pytest.fixture
def shown(server: str, disk: Any) -> Iterator[tuple[Store, Uploader]]:
    """A finished sweep of two seeds on a server."""
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")
    remember(disk.layout, server)
    store = Store(server, "demo")
    uploader = Uploader(disk.layout, store)
    assert uploader.drain(60)
    yield store, uploader
    client, experiment = store._open()
    for run in client.search_runs([experiment]):
        client.delete_run(run.info.run_id)


def run_of(shown: tuple[Store, Uploader], key: str) -> str:
    found = shown[0].held(key, shown[1]._tree.ledger.uid)
    assert found is not None
    return found


def png() -> bytes:
    """A grey picture of `WIDTH` x `HEIGHT`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    rows = zlib.compress(HEIGHT * (b"\0" + WIDTH * b"\x80"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def artifact(shown: tuple[Store, Uploader], key: str, name: str) -> str:
    """Address of a page that previews an artifact."""
    store = shown[0]
    return f"{store.uri}/#/experiments/{store.experiment_id}/runs/{run_of(shown, key)}/artifacts/{name}"


def test_the_page_shows_the_tree_with_its_columns(shown: tuple[Store, Uploader], tmp_path: Path) -> None:
    store, _ = shown
    with browser.page(tmp_path) as page:
        page.open(store.uri + runs_page(store.experiment_id))
        page.wait("return document.body.innerText.includes('demo') && document.body.innerText.includes('Parameters')")
        mlflow_page.expand_all(page)
        text = page.text()
    for name in ("gu lr=0.001 k=2", "gu lr=0.001 k=2 seed=0", "gu lr=0.001 k=2 seed=1"):
        assert name in text
    for column in ("schedule", "lr", "k", "seed", "val/selected/f1", "test/average/f1"):
        assert column in text.split()
    for column in ("test/average/accuracy", "method", "epochs"):
        assert column not in text.split()  # no run has it
    assert "40.5" in text  # (60 + 20) / 2 of seed 0, and 1 more of seed 1: the source is no target


def test_two_runs_are_compared_by_their_curves(shown: tuple[Store, Uploader], tmp_path: Path) -> None:
    store, _ = shown
    runs = [run_of(shown, f"run:{letter * 16}") for letter in "ab"]
    with browser.page(tmp_path) as page:
        mlflow_page.compare(page, f"{store.uri}/#/experiments/{store.experiment_id}/runs", runs, "^fisher/mean$")
        drawn = page.wait(
            f"const plots = (() => {{{PLOTS}}})(); return plots.length === 1 && plots[0].length > 1 && plots"
        )
    (plot,) = drawn
    curves = {name: values for name, _, values in plot if "seed=" in name}
    assert {name.partition(" (")[0] for name in curves} == {"gu lr=0.001 k=2 seed=0", "gu lr=0.001 k=2 seed=1"}
    assert all(values == [2, 2, 2, 2] for values in curves.values()), curves


def test_a_table_of_a_run_is_previewed(shown: tuple[Store, Uploader], tmp_path: Path) -> None:
    with browser.page(tmp_path) as page:
        page.open(artifact(shown, "run:" + "b" * 16, "tables/scores.json"))
        page.wait("return document.body.innerText.includes('test set')")
        text = page.text().split()
    assert {"en", "de", "th", "source", "target", "91", "61", "21"} <= set(text)
    assert '"columns"' not in " ".join(text), "it is a table, not JSON"


def test_a_report_is_previewed(shown: tuple[Store, Uploader], disk: Any, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "curve.png").write_bytes(png())
    cell = Cell(scores=(Summary(mean=81.25, std=1.5, n=2),))
    table = Table(
        name="results",
        title="",
        stub=("method",),
        columns=("average",),
        blocks=((Row(labels=("gu",), cells=(cell,)),),),
    )
    told: list[str] = []
    publish(disk.layout, folder, [folder / "figures" / "curve.png"], [table], warn=told.append)
    assert not told
    with browser.page(tmp_path / "profile") as page:
        page.open(artifact(shown, "sweep:demo", "report/figures/curve.png"))
        page.wait(
            "return [...document.images].some(one => one.src.startsWith('blob:') && "
            f"one.naturalWidth == {WIDTH} && one.naturalHeight == {HEIGHT})"
        )
        page.open("about:blank")  # the page shows one file of a run until it is opened anew
        page.open(artifact(shown, "sweep:demo", "tables/results.json"))
        page.wait("return document.body.innerText.includes('81.25 ± 1.50')")
