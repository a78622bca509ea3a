"""The written report: whole, half-finished, empty, damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.reports.figures import order_figure, trace_figure
from raysched.reports.report import _curve, write_report
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point

GU = Point(schedule="gu", lr=1e-3, k=25)


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_whole_sweep(made_up: Callable[..., Any], tmp_path: Path) -> None:
    sweep = made_up()
    sweep.all()
    path = write_report(sweep.layout, tmp_path / "out")
    assert path == tmp_path / "out" / "report.md"
    text = path.read_text()
    for part in [
        "# made-up\n\nA made-up sweep.",
        "3 complete of 3 taken so far",
        "6 finished, 0 failed, 0 not done, of 6",
        "selected by source_dev/f1 (en)",
        "raysched 0.1.0 abcdef012345",
        "0.50 h from the start to the last record; 1.50 h of training",
        "train `c0ffeec0ffee`",
        "### F1: every point",
        "### EM: every point",
        "| lpft | 0.001 | 25 | 2 | **91.00 ± 1.41** |",
        "The target average is over de, th.",
        "| schedule=gu lr=0.001 k=25 | 0, 1 | start: 3 · 50: 2 · 75: 1 · 100: 0 |",
        "(unfreeze_order.png)",
        "(fisher_trace.png)",
    ]:
        assert part in text
    assert "each schedule's point" not in text
    assert "Problems" not in text
    assert "†:" in text
    assert "± 1.41 †" not in text
    assert min(png_size(path.with_name("fisher_trace.png"))) > 500
    assert min(png_size(path.with_name("unfreeze_order.png"))) > 500


def test_half_finished_sweep(made_up: Callable[..., Any], tmp_path: Path) -> None:
    sweep = made_up(lr=(1e-3, 2e-3))
    sweep.take(0, Point(schedule="standard", lr=1e-3))
    first, second = sweep.take(1, GU)
    sweep.finish(first)
    sweep.fail(second)
    sweep.take(2, Point(schedule="gu", lr=2e-3, k=25))
    text = write_report(sweep.layout, tmp_path).read_text()
    assert "0 complete of 3 taken so far" in text
    assert "1 finished, 1 failed, 4 not done, of 6" in text
    assert "### F1: each schedule's point, selected on source dev" in text
    assert "1 of 2 | 80.00 † | 79.00 †" in text
    assert (
        f"- diverged (nan): schedule=gu lr=0.001 k=25 seed 1, run `{second.run_id}`: loss is nan | at step 17" in text
    )


def test_empty_sweep(made_up: Callable[..., Any], tmp_path: Path) -> None:
    text = write_report(made_up().layout, tmp_path).read_text()
    assert "No run is finished yet." in text
    assert not list(tmp_path.glob("*.png"))


def test_damage_is_named_and_left_out(made_up: Callable[..., Any], tmp_path: Path) -> None:
    sweep = made_up()
    first, second = sweep.take(0, GU)
    sweep.finish(first)
    record = sweep.finish(second)
    segment = sweep.layout.run(second.run_id).root / record.attempt_folder / "segments" / record.segments[0].name
    segment.write_bytes(segment.read_bytes()[:-1])
    first_record = sweep.layout.run(first.run_id).record
    first_record.write_text(first_record.read_text().replace("80.0", "90.0"))
    text = write_report(sweep.layout, tmp_path).read_text()
    assert "1 finished, 0 failed, 1 not done, of 2" in text
    assert text.count("unreadable, left out:") == 2
    assert "Fisher trace" not in text


def test_the_curve_is_the_mean_over_awake_adapters_of_logged_measurements(made_up: Callable[..., Any]) -> None:
    """gu at step 100: all four awake, traces 100, 200, 300, 400 plus the seed; never FUN's own measurements."""
    sweep = made_up()
    sweep.take(0, GU)
    record = sweep.finish(sweep.specs(GU)[1])
    assert _curve(read_sweep(sweep.layout), record) == {100: 251.0, 200: 501.0}


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_trace_figure_takes_ragged_seeds(scale: float) -> None:
    curves = {"gu": [{100: 1.0, 200: 2.0 * scale}, {100: 1.5}], "standard": [{100: 0.5}]}
    assert trace_figure(curves) == trace_figure(curves)
    assert trace_figure(curves) != trace_figure({"gu": curves["gu"]})


def test_order_figure_takes_runs_of_different_length() -> None:
    assert order_figure({"fun": [[0, 1, 2], [2, 1]], "gu": [[2, 1, 0]]}, 4)[:4] == b"\x89PNG"
