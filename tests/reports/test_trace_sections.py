"""The report's sections on traces and orders, from sweeps on disk: whole, half finished, several, damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from raysched.records.history import Row, SegmentWriter
from raysched.records.record import Record
from raysched.reports.asked import Asked
from raysched.reports.document import Picture, Section
from raysched.reports.figures import canvas
from raysched.reports.sweep import read_sweep
from raysched.reports.traces.gathering import traced, transfer
from raysched.reports.traces.section import orders, traces
from raysched.study.identity import RunSpec
from raysched.study.space import Point
from tests.reports.conftest import MadeUp, study

STEPS = (20, 40, 60, 80, 100)


def log(made: MadeUp, spec: RunSpec, traces_: Mapping[int, float], scores: Mapping[int, float], metric: str) -> Any:
    """A sealed segment: every adapter is awake and has the same trace."""
    writer = SegmentWriter(made.layout.run(spec.run_id).attempt(made.ledger.epoch, 1).create().segments)
    for step, value in traces_.items():
        data = {"purpose": "log", "traces": [value] * 4, "se": [0.1] * 4, "awake": [0, 1, 2, 3], "labels": "noise"}
        writer.append(Row(kind="fisher", step=step, time_ms=1, data=data))
    for step, score in scores.items():
        data = {"language": "en", "scores": {metric: score}, "best": True}
        writer.append(Row(kind="evaluated", step=step, time_ms=1, data=data))
    return writer.seal(200, 300)


def finish(made: MadeUp, spec: RunSpec, transfer_: float, metric: str = "f1", **changes: Any) -> Record:
    """tr(F) rises to the seed's 10 or 20 at step 60 and falls again; the validation score rises to 50."""
    of = dict(zip(STEPS, [0.0, 5.0, 10.0 + 10 * spec.seed, 5.0, 0.0], strict=True))
    segment = log(made, spec, of, {50: 30.0 + spec.seed, 100: 50.0}, metric)
    scores = {language: {metric: transfer_} for language in ("en", "de", "th")}
    tests = dict.fromkeys(spec.evaluation_ids.values(), scores)
    values = {"segments": (segment,), "tests": tests, "source_dev": {metric: 50.0}}
    return made.finish(spec, **{**values, **changes})


def asked(*made: MadeUp, by: tuple[str, ...] = ()) -> Asked:
    return Asked(sweeps=tuple(read_sweep(one.layout) for one in made), by=by)


def pictures(section: Section | None) -> dict[str, Picture]:
    """By name; each is drawn, and says what there is to see."""
    assert section is not None
    for picture in section.pictures:
        assert canvas.png(picture.draw())[:4] == b"\x89PNG"
        assert picture.alt.endswith(".")
        assert picture.caption.endswith(".")
        assert "<" not in picture.alt + picture.caption
    return {picture.name: picture for picture in section.pictures}


@pytest.fixture
def graded(made_up: Callable[..., MadeUp]) -> MadeUp:
    """Target averages by hand: gu 61.0, lpft 60.2, fun 60.0 | standard 59.9, rand 58.95 (two seeds each)."""
    transfers = {"standard": 59.9, "gu": 61.0, "lpft": 60.2, "rand": 58.95, "fun": 60.0}
    made = made_up(schedules=tuple(transfers))
    for number, (schedule, value) in enumerate(transfers.items()):
        k = {} if schedule == "standard" else {"k": 25}
        for spec in made.take(number, Point(schedule=schedule, lr=1e-3, **k)):
            order = ((0, (3,)), (25, (0,)), (50, (1 + spec.seed,)), (75, (2 - spec.seed,)))
            finish(made, spec, value, **({"unfreeze_order": order} if schedule in ("rand", "fun") else {}))
    return made


def test_figure_3_says_what_its_lines_and_bands_are(graded: MadeUp) -> None:
    picture = pictures(traces(asked(graded)))["fisher-standard-gu"]
    assert "Figure 3" in picture.caption
    assert "n = 2 seeds, centred moving average over 3 measurements, one every 20 steps" in picture.caption
    assert "band: lowest to highest seed, both after smoothing" in picture.caption
    # smoothed: seed 0 0, 5, 20/3, 5, 0; seed 1 0, 25/3, 10, 25/3, 0
    assert picture.alt == (
        "2 lines of tr(F) from step 20 to 100; standard peaks at step 60 with 8.33 nats² and ends at 0; "
        "gu peaks at step 60 with 8.33 nats² and ends at 0; gu is above standard at 0 of 5 common steps."
    )


def test_all_methods_are_a_second_picture_only_where_there_are_more(graded: MadeUp, tmp_path: Path) -> None:
    assert "5 lines" in pictures(traces(asked(graded)))["fisher-methods"].alt
    pair = MadeUp(tmp_path / "pair", study(schedules=("standard", "gu")))
    pair.all()
    assert set(pictures(traces(asked(pair)))) == {"fisher-standard-gu", "fisher-layers"}
    other = MadeUp(tmp_path / "other", study(schedules=("lpft",)))
    other.all()
    assert set(pictures(traces(asked(other)))) == {"fisher-methods", "fisher-layers"}


def test_figure_4_groups_methods_by_footnote_9(graded: MadeUp) -> None:
    """fun is exactly 1 point from gu, the best; standard is 1.1 from it and begins a group, which rand joins."""
    picture = pictures(traces(asked(graded)))["fisher-groups"]
    figure = picture.draw()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["gu 61.00, lpft 60.20, fun 60.00", "standard 59.90, rand 58.95"]
    upper, lower = figure.axes
    for line in upper.get_lines():  # of the mean 0, 20/3, 25/3, 20/3, 0
        assert list(line.get_ydata()) == pytest.approx([0.0, 0.8, 1.0, 0.8, 0.0])
    for line in lower.get_lines():
        assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == {50: 30.5, 100: 50.0}
    assert "dev F1 goes from 30.5 at step 50 to 50.0 at step 100" in picture.alt
    assert "footnote 9" in picture.caption


def test_the_transfer_is_the_mean_over_the_test_sets(made_up: Callable[..., MadeUp]) -> None:
    also = {"mlqa": {"test": "mini", "languages": ("en", "de")}}
    made = made_up(schedules=("standard",), evaluation={"also": also})
    for spec in made.take(0, Point(schedule="standard", lr=1e-3)):
        scores = {"test": {"de": {"f1": 40.0}, "th": {"f1": 60.0}}, "mlqa": {"de": {"f1": 70.0}}}
        made.finish(spec, tests={spec.evaluation_ids[name]: of for name, of in scores.items()})
    (method,) = asked(made).methods
    assert transfer(method) == 60.0


def test_what_was_not_tested_is_in_no_group(made_up: Callable[..., MadeUp]) -> None:
    made = made_up(schedules=("standard", "gu"))
    for number, point in enumerate([Point(schedule="standard", lr=1e-3), Point(schedule="gu", lr=1e-3, k=25)]):
        for spec in made.take(number, point):
            finish(made, spec, 50.0, **({"tests": {}} if number else {}))
    figure = pictures(traces(asked(made)))["fisher-groups"].draw()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["standard 50.00"]


def test_heat_maps_show_layers_and_when_they_woke(made_up: Callable[..., MadeUp]) -> None:
    made = made_up(schedules=("standard", "gu"))
    made.all()
    picture = pictures(traces(asked(made)))["fisher-layers"]
    assert picture.alt == (
        "Heat maps of tr(F), layer by step. "
        "standard: highest in layer 3 at step 200 (800 nats²), no layer wakes during training; "
        "gu: highest in layer 3 at step 200 (800 nats²), layers wake from step 50 to 100."
    )


def test_half_finished(made_up: Callable[..., MadeUp]) -> None:
    made = made_up(schedules=("standard", "gu", "fun"))
    first, second = made.take(0, Point(schedule="standard", lr=1e-3))
    finish(made, first, 50.0)
    made.fail(second)
    made.take(1, Point(schedule="gu", lr=1e-3, k=25))
    found = pictures(traces(asked(made)))
    assert set(found) == {"fisher-standard-gu", "fisher-groups", "fisher-layers"}
    assert "n: standard 1 of 2 †" in found["fisher-standard-gu"].caption
    assert found["fisher-groups"].draw().legends[0].get_texts()[0].get_text() == "standard 50.00 †"
    section = orders(asked(made))
    assert section is not None
    assert [table.name for table in section.tables] == ["unfreeze-orders"]
    assert not section.pictures


@pytest.mark.parametrize("build", [traces, orders])
def test_nothing_to_say(build: Callable[[Asked], Section | None], made_up: Callable[..., MadeUp]) -> None:
    made = made_up()
    assert build(asked(made)) is None
    first, _ = made.take(0, Point(schedule="gu", lr=1e-3, k=25))
    made.fail(first)
    assert build(asked(made)) is None


def test_runs_without_a_log_have_no_traces_but_orders(made_up: Callable[..., MadeUp]) -> None:
    made = made_up(schedules=("gu",))
    for spec in made.take(0, Point(schedule="gu", lr=1e-3, k=25)):
        made.finish(spec, segments=())
    assert traces(asked(made)) is None
    assert orders(asked(made)) is not None


def test_damage_is_named_and_left_out(graded: MadeUp) -> None:
    report = asked(graded)
    method = next(one for one in report.methods if one.label == "gu")
    record = method.records[1]
    run = graded.layout.run(record.run_id).root / record.attempt_folder / "segments" / record.segments[0].name
    run.write_bytes(run.read_bytes()[:-1])
    (gu,) = (one for one in traced(report, method.sweep) if one.label == "gu")
    assert list(gu.logs) == [0]
    assert len(report.damaged) == 1
    assert record.segments[0].name in report.damaged[0]
    assert "\n" not in report.damaged[0]
    assert pictures(traces(report))


def test_several_sweeps_of_other_tasks(graded: MadeUp, tmp_path: Path) -> None:
    choice = study(task="choice", schedules=("gu", "fun"), search={"objective": "source_dev/accuracy"})
    other = MadeUp(tmp_path / "storage", choice, name="choosing")
    for number, schedule in enumerate(("gu", "fun")):
        for spec in other.take(number, Point(schedule=schedule, lr=1e-3, k=25)):
            finish(other, spec, 70.0, metric="accuracy")
    report = asked(graded, other)
    found = pictures(traces(report))
    assert set(found) == {
        "fisher-standard-gu",
        "fisher-methods",
        *(f"fisher-{kind}-{name}" for kind in ("groups", "layers") for name in ("made-up", "choosing")),
    }
    assert "made-up (mini): n = 2 seeds" in found["fisher-standard-gu"].caption
    assert "mean accuracy over the targets" in found["fisher-groups-choosing"].caption
    section = orders(report)
    assert set(pictures(section)) == {"unfreeze-events-made-up", "unfreeze-events-choosing", "unfreeze-agreement"}
    assert section is not None
    names = ["unfreeze-agreement", "unfreeze-orders-made-up", "unfreeze-orders-choosing"]
    assert [table.name for table in section.tables] == names
    assert section.tables[0].columns[0] == "made-up: gu"


def test_figure_5_leaves_out_gu_and_what_wakes_layers_together(graded: MadeUp) -> None:
    picture = pictures(orders(asked(graded)))["unfreeze-events"]
    assert [axes.get_title() for axes in picture.draw().axes if axes.get_visible()] == ["rand (n = 2)", "fun (n = 2)"]
    # 0, 1, 2 and 0, 2, 1 against 2, 1, 0: -1 and -1/3
    assert picture.alt == (
        "The layer woken at each event. rand begins with layer 0 and ends with layers 1, 2, mean tau against top-down "
        "-0.67; fun begins with layer 0 and ends with layers 1, 2, mean tau against top-down -0.67."
    )


def test_agreement_and_the_table_of_its_numbers(graded: MadeUp) -> None:
    """gu 2, 1, 0; rand and fun 0, 1, 2 (seed 0) and 0, 2, 1 (seed 1), so 1/3 for two seeds that differ."""
    section = orders(asked(graded))
    assert section is not None
    table = section.tables[0]
    assert table.columns == ("gu", "rand", "fun")
    assert [[cell.text for cell in row.cells] for row in table.blocks[0]] == [
        ["1.00", "-0.67 (-1.00 to -0.33)", "-0.67 (-1.00 to -0.33)"],
        ["-0.67 (-1.00 to -0.33)", "0.33", "0.33"],
        ["-0.67 (-1.00 to -0.33)", "0.33", "0.33"],
    ]
    picture = pictures(section)["unfreeze-agreement"]
    assert "Without an order to compare: standard, lpft." in picture.caption
    assert "Between seeds: gu 1.00, rand 0.33, fun 0.33." in picture.alt


def test_every_order_is_a_row_that_seeds_share(graded: MadeUp) -> None:
    section = orders(asked(graded))
    assert section is not None
    rows = {row.labels: row.cells[0].text for block in section.tables[1].blocks for row in block}
    assert rows["schedule=standard lr=0.001", "0, 1"] == "start: 0-3"
    assert rows["schedule=gu lr=0.001 k=25", "0, 1"] == "start: 3 · 50: 2 · 75: 1 · 100: 0"
    assert rows["schedule=fun lr=0.001 k=25", "0"] == "start: 3 · 25: 0 · 50: 1 · 75: 2"
    assert rows["schedule=fun lr=0.001 k=25", "1"] == "start: 3 · 25: 0 · 50: 2 · 75: 1"


def test_groups_of_other_parameters_are_drawn_by_their_schedule(made_up: Callable[..., MadeUp]) -> None:
    made = made_up(schedules=("gu",), lr=(1e-3, 2e-3))
    for number, lr in enumerate((1e-3, 2e-3)):
        for spec in made.take(number, Point(schedule="gu", lr=lr, k=25)):
            finish(made, spec, 50.0)
    alt = pictures(traces(asked(made, by=("lr",))))["fisher-standard-gu"].alt
    assert "lr=0.001 peaks" in alt
    assert "lr=0.002 peaks" in alt


def test_a_report_is_made_without_matplotlib_until_it_is_drawn() -> None:
    code = (
        "import sys, raysched.reports.traces.section as _; sys.exit(bool({'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
