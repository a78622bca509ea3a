"""The written report: whole, half-finished, empty, damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.reports.figures.canvas import order_figure, trace_figure
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
        "raysched 0.1.0 abcdef012345",
        "0.50 h from the start to the last record; 1.50 h of training",
        "train `c0ffeec0ffee`",
        "### F1 on test (mini): every point",
        "### EM on test (mini): every point",
        "### Alike in transfer",
        "| 70.00 | lpft 70.00 |\n| 60.00 | gu 60.00 |\n| 50.00 | standard 50.00 |",
        "| lpft | 0.001 | 25 | 2 | **91.00 ± 1.41** |",
        "| test | mini | F1, EM (squad) | 3 each | `c0ffeec0ffee` |",
        "selected by source_dev/f1 on mini (en, dev split)",
        "The target average is over de, th (test).",
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


MLQA = {"test": "facebook/mlqa", "languages": ("en", "de"), "scoring": "mlqa", "chinese_metric": "mlqa"}


def test_a_table_per_metric_and_test_set_and_a_late_one_is_not_tested_yet(
    made_up: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = made_up(schedules=("gu",), evaluation={"also": {"mlqa": MLQA}})
    for spec in sweep.take(0, GU):
        record = sweep.finish(spec)
        late = spec.evaluation_ids["mlqa"]
        sweep.finish(spec, tests={key: value for key, value in record.tests.items() if key != late})
    text = write_report(sweep.layout, tmp_path).read_text()
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    places = ("test (mini)", "mlqa (facebook/mlqa)")
    assert titles == [f"### {metric} on {place}: every point" for metric in ("F1", "EM") for place in places]
    assert "| mlqa | facebook/mlqa | F1, EM (mlqa, Chinese mlqa) | - each | `c0ffeec0ffee` |" in text
    assert "| gu | 0.001 | 25 | 2 | **81.00 ± 1.41** | - | - | - | - |" in text
    assert "over de, th (test); de (mlqa)" in text
    for spec in sweep.specs(GU).values():  # the runs are tested on it later: their records grow
        sweep.finish(spec)
    text = write_report(sweep.layout, tmp_path).read_text()
    assert "| **81.00 ± 1.41** | **80.00 ± 1.41** | **70.00 ± 1.41** | **70.00 ± 1.41** | de 70.00 |" in text


def test_any_tasks_metrics_and_arms_with_settings_of_their_own(made_up: Callable[..., Any], tmp_path: Path) -> None:
    arms = [
        {"schedule": "standard", "lr": 1e-4, "epochs": 500},
        {"schedule": "standard", "lr": 1e-4, "epochs": 5000},
        {"schedule": "standard", "lr": 1e-5, "method": "full"},
        {"schedule": "schedule-7", "lr": 1e-4, "k": "even"},
    ]
    search = {"schedule": (), "lr": (), "k": (), "arms": arms, "objective": "source_dev/accuracy"}
    sweep = made_up(task="choice", search=search)
    for number, arm in enumerate(arms):
        for spec in sweep.take(number, Point(**arm)):
            tests = {spec.evaluation_ids["test"]: {name: {"accuracy": 50.0 + number} for name in ("en", "de", "th")}}
            sweep.finish(spec, source_dev={"accuracy": 60.0 + spec.seed}, tests=tests)
    text = write_report(sweep.layout, tmp_path).read_text()
    assert "### Accuracy on test (mini): every point" in text
    assert "each schedule's point" not in text  # all four are compared, none is chosen among the others
    for line in [
        "| schedule | method | lr | k | epochs | n | source dev | en | de | th | target average | lowest target |",
        "| standard | adapters | 0.0001 |  | 500 | 2 | **60.50 ± 0.71** | 50.00 ± 0.00 |",
        "| standard | full | 1e-05 |  |  | 2 |",
        "| schedule-7 | adapters | 0.0001 | even |  | 2 | **60.50 ± 0.71** | **53.00 ± 0.00** |",
    ]:
        assert line in text


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
    assert "### F1 on test (mini): each schedule's point, selected on source dev" in text
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
