"""tr(F) as a proxy: features by hand, correlations against scipy, intervals over cells, choices, the section."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from raysched.records.history import Row, SegmentWriter
from raysched.reports.asked import Asked
from raysched.reports.document import Section, Table
from raysched.reports.figures.canvas import png
from raysched.reports.stats import Summary
from raysched.reports.sweep import read_sweep
from raysched.reports.traces import signals
from raysched.reports.traces.features import Hill, area, hill
from raysched.reports.traces.observed import SIGNALS, complete, features, run_signals
from raysched.reports.traces.proxy import proxy
from raysched.reports.traces.proxy_tables import short
from raysched.reports.traces.signals import MIN_CELLS, Run, choose, coverage, ordered, rank, target_means
from raysched.study.space import Point, points
from tests.reports.conftest import MadeUp


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        # rises through 4 half-way from 10 to 20, falls through it half-way from 40 to 50
        ({10: 2, 20: 6, 30: 8, 40: 6, 50: 2}, Hill(peak=8, peak_step=30, width=30, area=220, fall=45)),
        # above half from its first measurement on: the width counts from there
        ({10: 5, 20: 8, 30: 0}, Hill(peak=8, peak_step=20, width=15, area=105, fall=25)),
        # still above half at the end: no fall, no width
        ({10: 1, 20: 8, 30: 5}, Hill(peak=8, peak_step=20, width=None, area=110, fall=None)),
        # exactly half is not below half
        ({10: 8, 20: 4}, Hill(peak=8, peak_step=10, width=None, area=60, fall=None)),
        # the peak is the last measurement
        ({10: 1, 20: 2, 30: 3}, Hill(peak=3, peak_step=30, width=None, area=40, fall=None)),
        # falls, and rises again: the first fall counts
        ({10: 8, 20: 0, 30: 7, 40: 0}, Hill(peak=8, peak_step=10, width=5, area=110, fall=15)),
        # equal peaks: the first one
        ({10: 4, 20: 4, 30: 0}, Hill(peak=4, peak_step=10, width=15, area=60, fall=25)),
        # uneven steps
        ({0: 0, 100: 8, 110: 0}, Hill(peak=8, peak_step=100, width=55, area=440, fall=105)),
        ({10: 3}, Hill(peak=3, peak_step=10, width=None, area=None, fall=None)),
        ({10: 0, 20: 0}, Hill(peak=0, peak_step=10, width=None, area=0, fall=None)),
    ],
)
def test_features_by_hand(curve: Mapping[int, float], expected: Hill) -> None:
    assert hill(curve, curve) == expected


def test_the_area_is_that_of_the_measured_curve_and_the_rest_of_the_smoothed() -> None:
    found = hill({10: 0, 20: 9, 30: 0}, {10: 0, 20: 3, 30: 0})
    assert found == Hill(peak=3, peak_step=20, width=10, area=90, fall=25)


def test_nothing_measured_has_no_features() -> None:
    assert hill({}, {}) is None
    assert area({}) is None


def runs_of(values: Mapping[str, Sequence[tuple[float | None, float]]], signal: str = "s") -> list[Run]:
    """cell -> (signal, target) of seeds 0, 1, ..."""
    return [
        Run(cell=cell, seed=seed, signals={signal: value}, target=target)
        for cell, of in values.items()
        for seed, (value, target) in enumerate(of)
    ]


def drawn(seed: int, n_cells: int, n_seeds: int = 4, ties: bool = False) -> list[Run]:
    rng = random.Random(seed)
    value = (lambda: float(rng.randrange(5))) if ties else rng.random
    return runs_of({f"c{cell}": [(value(), value()) for _ in range(n_seeds)] for cell in range(n_cells)})


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed: int, ties: bool) -> None:
    runs = drawn(seed, n_cells=6, ties=ties)
    found = rank(runs, "s")
    assert found is not None
    x, y = [run.signals["s"] for run in runs], [run.target for run in runs]
    assert found.spearman == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert found.kendall == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)
    assert (found.n_runs, found.n_cells) == (24, 6)


def test_a_resample_has_the_correlation_of_its_runs() -> None:
    """The formulas on weights against scipy on the drawn runs, written out; with ties, and cells of unequal size."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 6, 12), rng.integers(0, 6, 12)
    member = np.array([np.arange(12) < 5, np.arange(12) == 5, np.arange(12) > 5], dtype=float)
    draws = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 2], [1, 2, 0], [3, 0, 0]])
    spearman, kendall = signals._spearman(x, y, draws @ member), signals._kendall(x, y, member, draws)
    for place, times in enumerate((draws @ member).astype(int)):
        written_out = np.repeat(x, times), np.repeat(y, times)
        assert spearman[place] == pytest.approx(spearmanr(*written_out).statistic, abs=1e-12)
        assert kendall[place] == pytest.approx(kendalltau(*written_out).statistic, abs=1e-12)


def test_intervals_resample_cells_not_runs() -> None:
    """Seeds that only repeat their cell are no further evidence: the interval stays, where runs would narrow it."""
    cells = {f"c{cell}": (float(cell % 4), float(cell)) for cell in range(8)}
    few, many = (rank(runs_of({cell: [pair] * n for cell, pair in cells.items()}), "s") for n in (1, 16))
    assert few is not None
    assert many is not None
    assert few.spearman_interval is not None
    assert many.spearman_interval == pytest.approx(few.spearman_interval)
    assert few.spearman_interval[0] < few.spearman < few.spearman_interval[1]


def test_intervals_do_not_depend_on_the_order_of_runs_or_on_earlier_draws() -> None:
    runs = drawn(1, n_cells=7)
    shuffled = random.Random(0).sample(runs, len(runs))
    first = rank(runs, "s")
    assert first is not None
    assert first.kendall_interval is not None
    assert first == rank(shuffled, "s") == rank(runs, "s")


def test_too_few_cells_have_no_interval() -> None:
    few, enough = rank(drawn(1, MIN_CELLS - 1), "s"), rank(drawn(1, MIN_CELLS), "s")
    assert few is not None
    assert enough is not None
    assert (few.spearman_interval, few.kendall_interval) == (None, None)
    assert enough.spearman_interval is not None
    assert [coverage(n) for n in (4, 5, 7, 8, 12, 99)] == [None, 88, 88, 90, 91, 91]


def test_mostly_constant_resamples_have_no_interval() -> None:
    """All but one cell are alike: a resample without that one has no correlation, and there are too many of those."""
    alike = {f"c{cell}": [(1.0, 1.0)] for cell in range(5)}
    found = rank(runs_of({**alike, "other": [(2.0, 2.0)]}), "s")
    assert found is not None
    assert found.spearman_interval == pytest.approx((1.0, 1.0))  # a third of the resamples is without it
    lonely = signals._percentiles(np.array([0.5, np.nan, np.nan]))
    assert lonely is None


@pytest.mark.parametrize(
    "values",
    [
        {"a": [(1, 1), (2, 2)]},
        {"a": [(1, 1), (1, 2), (1, 3)]},
        {"a": [(1, 5), (2, 5), (3, 5)]},
        {"a": [(None, 1), (2, 2), (3, 3)]},
        {},
    ],
)
def test_too_few_or_constant_values_have_no_correlation(values: Any) -> None:
    assert rank(runs_of(values), "s") is None


def test_coverage_of_the_interval_is_what_the_report_says() -> None:
    """Cells and seeds with a shared part, 5 cells of 4 seeds: the worst of the conditions that were simulated."""
    rng = np.random.default_rng(0)
    r, shared, truth, repeats = 0.8, 0.8, 0.62, 400  # truth: Spearman's rho over 20,000 such cells
    held = 0
    for _ in range(repeats):
        cell = rng.standard_normal((5, 1))
        other = r * cell + np.sqrt(1 - r * r) * rng.standard_normal((5, 1))
        x = np.sqrt(shared) * cell + np.sqrt(1 - shared) * rng.standard_normal((5, 4))
        y = np.sqrt(shared) * other + np.sqrt(1 - shared) * rng.standard_normal((5, 4))
        made = {str(c): list(zip(x[c].tolist(), y[c].tolist(), strict=True)) for c in range(5)}
        found = rank(runs_of(made), "s")
        assert found is not None
        assert found.spearman_interval is not None
        held += found.spearman_interval[0] <= truth <= found.spearman_interval[1]
    said = coverage(5)
    assert said is not None
    assert abs(100 * held / repeats - said) < 5  # three standard errors


CHOICE = runs_of({"a": [(3, 50), (3, 52)], "b": [(1, 60), (2, 62)], "c": [(2, 40), (None, 42)]})


def test_choosing_by_a_signal() -> None:
    high, low = choose(CHOICE, "s"), choose(CHOICE, "s", highest=False)
    assert high is not None
    assert low is not None
    assert (high.cell, high.target, high.regret, high.n_ranked) == ("a", 51, 10, 2)
    assert (low.cell, low.target, low.regret) == ("b", 61, 0)
    assert target_means(CHOICE) == {"a": 51, "b": 61, "c": 41}


def test_the_better_of_two_per_seed() -> None:
    # seed 0: a>b wrong, a>c right, b<c wrong; seed 1: a>b wrong, c is not defined
    assert ordered(CHOICE, "s") == (1, 4)
    assert ordered(runs_of({"a": [(1, 5)], "b": [(1, 6)], "c": [(2, 6)]}), "s") == (1.5, 2)  # a tie counts half
    assert ordered([], "s") == (0, 0)


def test_nothing_to_choose_from_fewer_than_two_cells() -> None:
    assert choose(runs_of({"a": [(1, 1), (2, 2)], "b": [(None, 1)]}), "s") is None


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (Summary(mean=1.6234, std=0.312, n=4), "1.62 ± 0.31"),
        (Summary(mean=1234.5, std=98.7, n=4), "1234 ± 99"),
        (Summary(mean=1234567.0, std=1234.5, n=4), "1234567 ± 1234"),
        (Summary(mean=0.000123456, std=0.0, n=4), "0.000123 ± 0"),
        (Summary(mean=12.0, std=None, n=1), "12"),
    ],
)
def test_features_are_printed_with_three_digits(summary: Summary, text: str) -> None:
    assert short(summary) == text


CURVES = {
    "standard": {20: 2.0, 40: 8.0, 60: 2.0, 80: 1.0},
    "gu": {20: 1.0, 40: 4.0, 60: 3.0, 80: 1.0},
    "lpft": {20: 1.0, 40: 2.0, 60: 3.0, 80: 3.5},
}


def finish(sweep: MadeUp, spec: Any, **changes: Any) -> None:
    """A run whose logged tr(F) is that of `CURVES` and its seed more, the same in all awake layers."""
    writer = SegmentWriter(sweep.layout.run(spec.run_id).attempt(sweep.ledger.epoch, 1).create().segments)
    for step, value in CURVES[spec.point.schedule].items():
        data = {"purpose": "log", "traces": [value + spec.seed] * 4, "se": [0.0] * 4, "awake": [2, 3]}
        writer.append(Row(kind="fisher", step=step, time_ms=step, data=data))
    sweep.finish(spec, segments=(writer.seal(0, 80),), **changes)


def asked(*sweeps: MadeUp, **kwargs: Any) -> Asked:
    return Asked(sweeps=tuple(read_sweep(sweep.layout) for sweep in sweeps), **kwargs)


def texts(table: Table) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {row.labels: tuple(cell.text for cell in row.cells) for block in table.blocks for row in block}


def whole(sweep: MadeUp) -> MadeUp:
    for number, point in enumerate(points(sweep.study.search)):
        for spec in sweep.take(number, point):
            finish(sweep, spec)
    return sweep


def test_section_of_a_whole_sweep(made_up: Callable[..., MadeUp]) -> None:
    given = asked(whole(made_up()))
    section = proxy(given)
    assert isinstance(section, Section)
    assert given.damaged == []
    of = {table.name: texts(table) for table in section.tables}
    assert list(of) == ["proxy-features", "proxy-correlation-test", "proxy-choice-test"]
    # standard: peaks 8 and 9; half of them is met at 26.67 and 53.33, and at 25 and 55
    assert of["proxy-features"]["standard", "2"] == ("8.5 ± 0.71", "40 ± 0", "28.3 ± 2.4", "260 ± 42", "54.2 ± 1.2")
    assert of["proxy-features"]["lpft", "2"] == ("4 ± 0.71", "80 ± 0", "-", "175 ± 42", "-")
    correlation = of["proxy-correlation-test"]
    assert correlation["source dev",][:2] == ("+1.00", "too few cells")
    assert correlation["peak of tr(F)",][0].startswith("-0.")
    assert correlation["source dev",][4:] == ("6", "3")
    choice = of["proxy-choice-test"]
    best = "schedule=lpft lr=0.001 k=25"
    assert choice["source dev", "highest"] == (best, "70.00", "0.00", "100 % of 6", "3")
    assert choice["peak of tr(F)", "lowest"] == (best, "70.00", "0.00", "100 % of 6", "3")
    assert choice["peak of tr(F)", "highest"] == ("schedule=standard lr=0.001", "50.00", "20.00", "0 % of 6", "3")
    assert choice["step of the fall", "lowest"][0] == "schedule=standard lr=0.001"
    assert choice["step of the fall", "lowest"][4] == "2"  # lpft never falls
    assert choice["none: taken at random", ""] == ("any of 3", "60.00", "10.00", "50 %", "-")
    assert choice["target labels (oracle)", ""][:3] == (best, "70.00", "0.00")
    assert any("not smoothed" in text for text in section.text)
    (picture,) = section.pictures
    assert "6 runs" in picture.alt
    assert "source dev +1.00" in picture.alt
    labels = [axes.get_xlabel() for axes in picture.draw().axes if axes.get_visible()]
    assert labels[:2] == ["source dev, F1\n(0-100)", "peak of tr(F)\n(nats²)"]
    assert png(picture.draw()) == png(picture.draw())


def test_a_half_finished_sweep(made_up: Callable[..., MadeUp]) -> None:
    sweep = made_up()
    assert proxy(asked(sweep)) is None
    standard, gu, _ = points(sweep.study.search)
    (first, second), (third, _) = sweep.take(0, standard), sweep.take(1, gu)
    sweep.fail(second)
    assert proxy(asked(sweep)) is None  # nothing is finished
    finish(sweep, first, tests={})
    section = proxy(asked(sweep))
    assert section is not None
    assert [table.name for table in section.tables] == ["proxy-features"]  # nothing is tested
    assert ("standard", "1 of 2 †") in texts(section.tables[0])
    finish(sweep, first)
    finish(sweep, third)
    section = proxy(asked(sweep))
    assert section is not None
    choice = texts(section.tables[2])
    assert set(choice.values()) == {("-", "-", "-", "-", "-")}  # no configuration has all of its seeds
    assert section.pictures == ()  # two runs are no scatter
    assert "fewer than 5" in section.tables[1].notes[0]


def test_test_sets_and_sweeps_stand_apart(made_up: Callable[..., MadeUp], tmp_path: Any) -> None:
    also = {"mlqa": {"test": "facebook/mlqa", "languages": ("en", "de")}}
    one = whole(made_up(evaluation={"also": also}))
    two = whole(MadeUp(tmp_path / "storage", one.study, name="other"))
    section = proxy(asked(one, two))
    assert section is not None
    names = [each.name for each in (*section.tables, *section.pictures)]
    assert len(names) == len(set(names)) == 2 * (1 + 2 * 2) + 2 * 2
    assert "proxy-choice-mlqa-other" in names
    assert {table.title.partition(" (")[0] for table in section.tables} == {"made-up", "other"}


def test_source_only_test_sets_and_runs_without_traces_say_nothing(made_up: Callable[..., MadeUp]) -> None:
    sweep = made_up(schedules=("gu",), evaluation={"languages": ("en",)})
    (point,) = points(sweep.study.search)
    for spec in sweep.take(0, point):
        sweep.finish(spec, segments=())
    assert proxy(asked(sweep)) is None
    for spec in sweep.specs(point).values():
        finish(sweep, spec)
    section = proxy(asked(sweep))
    assert section is not None
    assert [table.name for table in section.tables] == ["proxy-features"]


def test_a_damaged_history_is_named_and_left_out(made_up: Callable[..., MadeUp]) -> None:
    sweep = whole(made_up())
    spec = sweep.specs(Point(schedule="gu", lr=1e-3, k=25))[0]
    segments = sweep.layout.run(spec.run_id).attempt(sweep.ledger.epoch, 1).segments
    (segments / "00000000-00000080.jsonl").write_bytes(b"gone")
    given = asked(sweep)
    section = proxy(given)
    assert section is not None
    assert len(given.damaged) == 1
    assert "sealed" in given.damaged[0]
    assert "(n=1)" in texts(section.tables[0])["gu", "2"][0]


def test_incomplete_cells_are_correlated_but_not_chosen(made_up: Callable[..., MadeUp]) -> None:
    sweep = whole(made_up(schedules=("standard", "gu")))
    read = read_sweep(sweep.layout)
    runs = run_signals(read, features(asked(sweep), read), "test")
    assert [set(run.signals) for run in runs] == [set(SIGNALS)] * 4
    assert complete(read, runs) == runs
    assert {run.cell for run in complete(read, runs[1:])} == {"schedule=gu lr=0.001 k=25"}
