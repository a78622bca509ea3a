"""What a person sees: the sweep as a tree in MLflow's own page, with the columns that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysched.tracking.mlflow_store import Store
from raysched.tracking.uploader import Uploader
from raysched.tracking.view import runs_page
from tests import browser, mlflow_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING)),
]


def test_the_page_shows_the_tree_with_its_columns(server: str, disk: Any, tmp_path: Path) -> None:
    disk.point()
    disk.whole_run(0)
    disk.whole_run(1)
    disk.told(81.0)
    disk.end("finished")
    store = Store(server, "demo")
    assert Uploader(disk.layout, store).drain(60)

    with browser.page(tmp_path) as page:
        page.open(server + runs_page(store.experiment_id))
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
