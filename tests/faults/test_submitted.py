"""A submitted sweep that is stopped and submitted again: one sweep, complete, each run once."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysched.errors import DONE
from raysched.records.layout import SweepLayout
from tests.processes import wait
from tests.runners.world import NAME, check_exactly_once, check_no_step_twice, overrides, segments
from tests.service.head import head
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]


def test_stopped_and_submitted_again(tiny: Tiny, tmp_path: Path) -> None:
    with head(tmp_path) as cluster:
        layout = SweepLayout(tmp_path / "storage", NAME)
        at = ["--address", cluster.address]
        settings = overrides(tiny, seeds=2, search__schedule=["gu"], training__steps=2000)
        command = ["submit", NAME, "--storage", str(layout.storage), *at, *settings]
        assert cluster.user.run(*command)[0] == DONE
        wait(lambda: segments(layout) > 1)
        code, text = cluster.user.run("stop", *at)
        assert (code, "everything is saved" in text) == (DONE, True)
        code, text = cluster.user.run(*command, "--follow", timeout_s=400)
        assert code == DONE, text
        assert "submitted as job xquad-mini-2" in text
        assert text.rstrip().endswith(f"{NAME}: done")
        check_exactly_once(layout, runs=2, points=1)
        check_no_step_twice(layout)
