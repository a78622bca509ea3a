"""A suite on real Ray: Ctrl-C in its first sweep, continued to its end, and nothing left to do after that."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from raysched.errors import CTRL_C, DONE
from raysched.records.layout import SweepLayout
from tests.processes import shell, wait
from tests.runners.world import check_exactly_once, overrides, segments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
SUITE = """\
parts:
  one: {extends: xquad-mini, search: {schedule: [gu]}}
  two:
    extends: both.one
    search:
      schedule: []
      lr: []
      arms: [{schedule: standard, lr: 1e-2, steps: 20}]
"""


def test_a_suite_is_interrupted_continued_and_done(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(SUITE)
    of_parts = {"--set", *(one for one in overrides(tiny) if one.startswith(("search.schedule=", "search.lr=")))}
    settings = [one for one in overrides(tiny, training__steps=40, seeds=1) if one not in of_parts]
    options = [part for one in settings for part in ("--set", one)]
    one, two = (SweepLayout(tmp_path / "storage", f"both.{part}") for part in ("one", "two"))
    with shell(tmp_path) as commands:
        line = ["sweep", "both", "--storage", tmp_path / "storage", *options]
        command = commands.raysched(*line)
        wait(lambda: segments(one) or not command.running, 200)
        commands.alive()
        os.killpg(command.pid, signal.SIGINT)
        assert command.end() == CTRL_C, command.text
        assert "the same command continues the sweep" in command.text
        assert "[1/2] both.one" in command.text
        assert "[2/2]" not in command.text
        assert not two.root.exists()

        code, output = commands.run(*line)
        assert code == DONE, output
        assert "2 of 2 sweeps came to their end." in output
        check_exactly_once(one, 1, 1)
        check_exactly_once(two, 1, 1)

        before = [layout.ledger.read_bytes() for layout in (one, two)]
        code, output = commands.run(*line)
        assert code == DONE, output
        assert len(re.findall("nothing was left to do", output)) == 2
        assert "Ray" not in output
        assert [layout.ledger.read_bytes() for layout in (one, two)] == before
        code, output = commands.run("report", "both", "--storage", tmp_path / "storage")
        folder = tmp_path / "storage" / "reports" / "both"
        assert output.splitlines() == [str(folder / "report.html"), str(folder / "report.md")]
        assert all((layout.reports / "report.html").is_file() for layout in (one, two))
        assert commands.settle() == []
