"""How scores spread: cost of steps by hand, scores at equal compute, pictures and tables of whole and half sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from raysched.records.history import Row, SegmentWriter
from raysched.reports.asked import Asked
from raysched.reports.document import Picture, Section, Table
from raysched.reports.figures.canvas import png
from raysched.reports.spread import relative
from raysched.reports.spread.compute import Progress, progress, spent, step_cost
from raysched.reports.spread.section import spread
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point, points
from tests.reports.conftest import LANGUAGES, MadeUp, study

STANDARD, GU = Point(schedule="standard", lr=1e-3), Point(schedule="gu", lr=1e-3, k=25)


def asked(*sweeps: MadeUp, **kwargs: Any) -> Asked:
    return Asked(sweeps=tuple(read_sweep(sweep.layout) for sweep in sweeps), **kwargs)


def finish(sweep: MadeUp, spec: Any, scores: Sequence[tuple[int, float]], *, measured: int = 0, **changes: Any) -> None:
    """A run that was evaluated on source dev at these steps, a tenth of a second per step after its start.

    `measured` examples were taken at step 50 to choose a layer.
    """
    writer = SegmentWriter(sweep.layout.run(spec.run_id).attempt(sweep.ledger.epoch, 1).create().segments)
    if measured:
        data = {"purpose": "select", "traces": [1.0] * 4, "se": [0.0] * 4, "awake": [3], "n_examples": measured}
        writer.append(Row(kind="fisher", step=50, time_ms=0, data=data))
    for step, score in scores:
        data = {"language": "en", "scores": {"f1": score, "em": 0.0}, "best": False}
        writer.append(Row(kind="evaluated", step=step, time_ms=1_000_000 + 100 * step, data=data))
    sweep.finish(spec, segments=(writer.seal(0, 200),), **changes)


CURVES = {
    "standard": [(50, 40.0), (100, 60.0), (200, 71.0)],
    "gu": [(50, 50.0), (100, 48.0), (200, 81.0)],
    "lpft": [(100, 80.0), (200, 91.0)],
}


def whole(sweep: MadeUp) -> MadeUp:
    for number, point in enumerate(points(sweep.study.search)):
        for spec in sweep.take(number, point):
            finish(sweep, spec, [(step, score + spec.seed) for step, score in CURVES[point.schedule]])
    return sweep


@pytest.mark.parametrize(
    ("lowest", "cost"),
    list(zip(range(11, -1, -1), (0.49, 0.54, 0.59, 0.63, 0.68, 0.72, 0.77, 0.82, 0.86, 0.91, 0.95, 1.00), strict=True)),
)
def test_a_step_costs_what_its_lowest_awake_layer_makes_it(lowest: int, cost: float) -> None:
    awake = set(range(lowest, 12))
    assert step_cost(awake, 12) == pytest.approx(cost, abs=0.0071)
    assert step_cost({lowest, 11}, 12) == pytest.approx(step_cost(awake, 12), abs=0.005)


def test_linear_probing_full_training_and_standard_steps() -> None:
    assert step_cost((), 12) == pytest.approx(0.495, abs=0.001)
    assert step_cost(range(12), 12) == 1.0
    assert step_cost(range(4), 4) == 1.0
    assert step_cost(range(12), 12, full=True) == pytest.approx(600 / 404, abs=0.01)


def gu(k: int) -> list[tuple[int, tuple[int, ...]]]:
    return [(0, (11,)), *((k * (12 - layer), (layer,)) for layer in range(10, -1, -1))]


@pytest.mark.parametrize(("k", "steps", "share"), [(800, 13_800, 0.80), (800, 41_500, 0.93), (1000, 35_000, 0.90)])
def test_whole_runs_of_the_paper_cost_what_was_worked_out_for_them(k: int, steps: int, share: float) -> None:
    (total,) = spent(gu(k), [steps], 12)
    assert total / steps == pytest.approx(share, abs=0.012)


def test_compute_adds_up_step_by_step() -> None:
    top, both = step_cost({3}, 4), step_cost({2, 3}, 4)
    order = [(0, (3,)), (10, (2,))]  # steps 1 to 9 with the top layer, from the 10th on with two
    assert spent(order, [0, 1, 9, 10, 20], 4) == pytest.approx([0, top, 9 * top, 9 * top + both, 9 * top + 11 * both])
    assert spent([(0, ()), (3, (0, 1, 2, 3))], [2, 5], 4) == pytest.approx(
        [2 * step_cost((), 4), 2 * step_cost((), 4) + 3]
    )


def test_the_best_score_within_a_budget() -> None:
    run = Progress(steps=(10, 20, 30), scores=(50.0, 40.0, 60.0), compute=(5.0, 10.0, 20.0), seconds=None, total=20.0)
    assert [run.within(budget) for budget in (4.9, 5.0, 19.0, 20.0)] == [None, 50.0, 50.0, 60.0]


def test_progress_of_a_run(made_up: Callable[..., MadeUp]) -> None:
    sweep = made_up(schedules=("gu",))
    one, two = sweep.take(0, GU)
    finish(sweep, one, [(40, 10.0), (60, 20.0)], measured=64)
    finish(sweep, two, [(40, 10.0)], attempt=2, attempt_folder="attempt-1-1")
    read = read_sweep(sweep.layout)
    first, second = (progress(read, record, list(read.history(record)), "f1") for record in read.cell(0))
    assert first is not None
    assert second is not None
    assert (first.steps, first.scores, first.seconds) == ((40, 60), (10.0, 20.0), (4.0, 6.0))
    top, both = step_cost({3}, 4), step_cost({2, 3}, 4)
    chosen = 2 * 0.85  # two batches of 32
    assert first.compute == pytest.approx((40 * top, 49 * top + 11 * both + chosen))
    assert second.seconds is None  # it was interrupted: time passed without training
    record = read.cell(0)[0]
    assert progress(read, record, list(read.history(record)), "accuracy") is None


def named(section: Section | None) -> dict[str, Any]:
    assert section is not None
    everything = {one.name: one for one in (*section.tables, *section.pictures)}
    assert len(everything) == len(section.tables) + len(section.pictures)
    return everything


def texts(table: Table) -> dict[str, tuple[str, ...]]:
    return {
        row.labels[0]: tuple(
            cell.text or "/".join("-" if s is None else str(s) for s in cell.scores) for cell in row.cells
        )
        for block in table.blocks
        for row in block
    }


def test_a_whole_sweep(made_up: Callable[..., MadeUp]) -> None:
    of = named(spread(asked(whole(made_up()))))
    assert set(of) == {
        "seeds-test",
        "languages-test",
        "languages-less-standard-test",
        "progress",
        "relative-to-standard",
        "equal-compute",
    }
    table = texts(of["equal-compute"])
    gu_total = 49 * step_cost({3}, 4) + 25 * step_cost({2, 3}, 4) + 25 * step_cost({1, 2, 3}, 4) + 101
    assert table["standard"][:2] == ("200.0", "900.0")
    assert table["gu"][0] == f"{gu_total:.1f}"
    assert table["standard"][2:] == ("-", "40.50 ± 0.71", "60.50 ± 0.71", "60.50 ± 0.71", "50.00 ± 1.41")
    assert table["gu"][2:6] == ("50.50 ± 0.71", "50.50 ± 0.71", "50.50 ± 0.71", "81.50 ± 0.71")
    alts = {name: one.alt for name, one in of.items() if isinstance(one, Picture)}
    assert "lpft 70.0 (69.0 to 71.0); gu 60.0 (59.0 to 61.0); standard 50.0" in alts["seeds-test"]
    assert "Lowest and highest: 40.0 (standard, th) and 90.0 (lpft, en)" in alts["languages-test"]
    assert "Lowest and highest: +10.0 (gu, " in alts["languages-less-standard-test"]
    assert "the cheapest method: gu 81.5, lpft 80.5, standard 60.5" in alts["progress"]
    assert "2 of 2 are above zero. The largest is +20.00 points for lpft" in alts["relative-to-standard"]
    assert "No sweep has full fine-tuning" in of["relative-to-standard"].caption
    for picture in (one for one in of.values() if isinstance(one, Picture)):
        assert png(picture.draw())


def test_progress_is_drawn_against_steps_compute_and_comparable_seconds(made_up: Callable[..., MadeUp]) -> None:
    sweep = whole(made_up())
    picture = named(spread(asked(sweep)))["progress"]
    assert len(picture.draw().axes) == 3
    elsewhere = {"host": "another machine"}
    spec = sweep.specs(STANDARD)[0]
    finish(sweep, spec, CURVES["standard"], provenance=elsewhere)
    of = named(spread(asked(sweep)))
    labels = [axes.get_xlabel() for axes in of["progress"].draw().axes]
    assert labels == ["step (completed\noptimizer steps)", "compute\n(standard steps)"]
    assert "different machines" in of["progress"].caption
    assert {row[1] for row in texts(of["equal-compute"]).values()} == {"-"}


def test_lines_end_where_their_runs_end(made_up: Callable[..., MadeUp]) -> None:
    figure = named(spread(asked(whole(made_up()))))["progress"].draw()
    standard = figure.axes[1].lines[0]
    assert standard.get_xdata().tolist() == [50.0, 100.0, 200.0]
    assert standard.get_ydata().tolist() == [40.5, 60.5, 71.5]


def test_half_finished_sweeps(made_up: Callable[..., MadeUp]) -> None:
    sweep = made_up()
    assert spread(asked(sweep)) is None
    (first, second), (third, _) = sweep.take(0, STANDARD), sweep.take(1, GU)
    sweep.fail(second)
    assert spread(asked(sweep)) is None
    sweep.finish(first, tests={}, segments=())
    assert spread(asked(sweep)) is None
    finish(sweep, first, CURVES["standard"])
    assert set(named(spread(asked(sweep)))) == {"seeds-test", "languages-test", "progress", "equal-compute"}
    finish(sweep, third, CURVES["gu"])
    of = named(spread(asked(sweep)))
    bars = of["relative-to-standard"]
    assert "†: fewer seeds than planned" in bars.caption
    assert [text.get_text() for text in bars.draw().axes[0].texts] == ["†"]
    rows = [tick.get_text() for tick in of["languages-test"].draw().axes[0].get_yticklabels()]
    assert rows == ["standard †", "gu †"]
    assert "standard 1 of 2 †" in of["seeds-test"].caption
    (row,) = [row for row in of["equal-compute"].blocks[0] if row.labels == ("gu",)]
    assert row.cells[-1].short


def test_another_reference_and_several_test_sets(made_up: Callable[..., MadeUp]) -> None:
    also = {"mlqa": {"test": "facebook/mlqa", "languages": ("en", "de")}}
    sweep = whole(made_up(evaluation={"also": also}))
    of = named(spread(asked(sweep, reference="gu")))
    assert {"seeds-mlqa", "languages-mlqa", "languages-less-gu-mlqa", "relative-to-gu"} <= set(of)
    assert of["seeds-mlqa"].draw().axes[0].get_title() == "target average (mlqa)"
    assert of["equal-compute"].columns[-2:] == (
        "target average (test), at the end",
        "target average (mlqa), at the end",
    )
    groups = [tick.get_text() for tick in of["relative-to-gu"].draw().axes[0].get_xticklabels()]
    assert groups == ["made-up", "MLQA"]
    assert not any("less" in name for name in named(spread(asked(sweep, reference="nobody"))))


def test_sweeps_stand_apart(made_up: Callable[..., MadeUp], tmp_path: Path) -> None:
    one = whole(made_up())
    two = whole(MadeUp(tmp_path / "storage", one.study, name="other"))
    of = named(spread(asked(one, two)))
    assert {"progress-made-up", "progress-other", "equal-compute-other", "seeds-test-other"} <= set(of)
    assert of["seeds-test-other"].title.startswith("other (mini): ")


def test_a_damaged_history_is_named_and_left_out(made_up: Callable[..., MadeUp]) -> None:
    sweep = whole(made_up())
    spec = sweep.specs(GU)[0]
    (sweep.layout.run(spec.run_id).attempt(sweep.ledger.epoch, 1).segments / "00000000-00000200.jsonl").write_bytes(
        b"x"
    )
    given = asked(sweep)
    of = named(spread(given))
    assert len(given.damaged) == 1
    assert texts(of["equal-compute"])["gu"][5] == "82.00"
    (row,) = [row for row in of["equal-compute"].blocks[0] if row.labels == ("gu",)]
    assert row.cells[5].short


@pytest.mark.parametrize("task", ["choice", "nli"])
def test_accuracy_and_a_test_set_of_the_source_alone(tmp_path: Path, task: str) -> None:
    made = study(
        schedules=("standard",),
        task=task,
        search={"objective": "source_dev/accuracy"},
        evaluation={"languages": ("en",)},
    )
    sweep = MadeUp(tmp_path, made)
    for spec in sweep.take(0, STANDARD):
        tests = {spec.evaluation_ids["test"]: {"en": {"accuracy": 90.0}}}
        sweep.finish(spec, source_dev={"accuracy": 91.0}, tests=tests, segments=())
    of = named(spread(asked(sweep)))
    assert set(of) == {"languages-test"}
    assert of["languages-test"].caption.startswith("Accuracy (0-100)")


def full_too(sweep: MadeUp, number: int = 9) -> MadeUp:
    """Full fine-tuning beside the rest, with F1 of 45 and 47 on every language."""
    for spec in sweep.take(number, Point(schedule="standard", lr=1e-3, method="full")):
        score = {"f1": 45.0 + 2 * spec.seed, "em": 1.0}
        tests = {spec.evaluation_ids["test"]: dict.fromkeys(LANGUAGES, score)}
        sweep.finish(spec, tests=tests, segments=(), train_seconds=1.0)
    return sweep


@pytest.mark.parametrize("apart", [False, True])
def test_figure_2_is_relative_to_full_fine_tuning_wherever_it_was_run(tmp_path: Path, apart: bool) -> None:
    made = study(search={"method": ("adapters",)})
    sweep = whole(MadeUp(tmp_path / "a", made))
    sweeps = (sweep, full_too(MadeUp(tmp_path / "b", made, name="full"))) if apart else (full_too(sweep),)
    given = asked(*sweeps)
    found = relative.differences(given)
    assert [(one.method, one.base, round(one.points, 2)) for one in found] == [
        ("standard", "full fine-tuning", 4.0),
        ("gu", "full fine-tuning", 14.0),
        ("lpft", "full fine-tuning", 24.0),
    ]
    (picture,) = relative.pictures(given)
    assert picture.name == "relative-to-full"
    assert "No sweep has" not in picture.caption
    assert picture.draw().axes[0].get_ylabel() == "target average less\nfull fine-tuning (points)"


def test_the_interval_of_a_difference_is_paired_by_seed(made_up: Callable[..., MadeUp]) -> None:
    sweep = made_up(schedules=("standard", "gu"), seeds=(0, 1, 2))
    moved = {0: 1.0, 1: 2.0, 2: 3.0}
    for number, point in enumerate((STANDARD, GU)):
        for spec in sweep.take(number, point):
            score = 50.0 + 10 * spec.seed + (moved[spec.seed] if point is GU else 0.0)
            tests = {spec.evaluation_ids["test"]: {language: {"f1": score, "em": 1.0} for language in LANGUAGES}}
            sweep.finish(spec, tests=tests, segments=())
    (found,) = relative.differences(asked(sweep))
    assert found.points == pytest.approx(2.0)
    half = 4.302652730 / 3**0.5  # t of 2 degrees of freedom, standard deviation 1
    assert found.interval == pytest.approx((2 - half, 2 + half))


PUBLISHED = {
    "mBERT": {"MLQA": (-1.45, 0.52), "XQuAD": (-2.70, 0.15), "XCOPA": (0.60, 0.90), "XNLI": (-5.82, -1.93)},
    "XLM-R": {"MLQA": (-1.28, 0.88), "XQuAD": (-1.89, 1.06), "XCOPA": (0.94, 3.25), "XNLI": (-0.12, 0.01)},
}
"""Standard and GU less full fine-tuning, worked out from the paper's tables."""


def test_figure_2_from_the_published_numbers() -> None:
    found = {(one.model, one.dataset, one.method): one for one in relative.published()}
    assert len(found) == 16
    for model, datasets in PUBLISHED.items():
        for dataset, deltas in datasets.items():
            for method, delta in zip(("standard", "gu"), deltas, strict=True):
                one = found[model, dataset, method]
                assert one.points == pytest.approx(delta, abs=0.006)
                assert one.interval is not None
                assert one.interval[0] < one.points < one.interval[1]


@pytest.mark.parametrize("backbone", ["FacebookAI/xlm-roberta-base", "somebody/else"])
def test_the_published_figure_stands_beside_sweeps_of_the_papers_models(tmp_path: Path, backbone: str) -> None:
    made = study(
        schedules=("standard", "gu"),
        data={"train": "rajpurkar/squad", "dev": "rajpurkar/squad", "test": "google/xquad"},
        model={"backbone": backbone, "language_adapters": "mini", "source_language": "en"},
    )
    sweep = MadeUp(tmp_path, made)
    sweep.all()
    of = named(spread(asked(sweep)))
    assert ("relative-published" in of) == backbone.startswith("FacebookAI")
    if "relative-published" in of:
        assert "LPFT is tabulated nowhere" in of["relative-published"].caption
        assert of["relative-to-standard"].draw().axes[0].get_title() == "XLM-R"
        assert png(of["relative-published"].draw())
