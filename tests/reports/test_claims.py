"""Methods against the reference, on made-up sweeps whose differences a test can compute by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from scipy import stats

from raysched.reports.asked import Asked
from raysched.reports.document import Section, Table
from raysched.reports.inference.claims import claims
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point, points

GU, STANDARD = Point(schedule="gu", lr=1e-3, k=25), Point(schedule="standard", lr=1e-3)
NOISE = (0.0, 0.5, -0.5, 1.0)
"""What `gu` gains by seed, beside its ten points."""


def asked(*made: Any, **changes: Any) -> Asked:
    return Asked(sweeps=tuple(read_sweep(one.layout) for one in made), **changes)


def noisy(made_up: Callable[..., Any], schedules: tuple[str, ...] = ("standard", "gu"), **changes: Any) -> Any:
    """Scores that differ between methods by what differs between seeds; all runs are done."""
    sweep = made_up(schedules=schedules, seeds=tuple(range(4)), **changes)
    for number, point in enumerate(points(sweep.study.search)):
        for spec in sweep.take(number, point):
            gain = {"standard": 0.0, "gu": 10.0 + NOISE[spec.seed], "lpft": NOISE[spec.seed] / 100}[point.schedule]
            scores = {name: {"f1": 40.0 + gain + spec.seed, "em": 30.0} for name in ("en", "de", "th")}
            scores["th"]["f1"] += 2 * gain
            tests = dict.fromkeys(spec.evaluation_ids.values(), scores)
            sweep.finish(spec, tests=tests, source_dev={"f1": 70.0 + gain / 10, "em": 60.0})
    return sweep


def rows(table: Table) -> dict[tuple[str, ...], list[str]]:
    return {row.labels: [cell.text for cell in row.cells] for block in table.blocks for row in block}


def section(of: Asked) -> Section:
    found = claims(of)
    assert found is not None
    return found


def test_target_average_and_source_dev(made_up: Callable[..., Any]) -> None:
    averages, languages = section(asked(noisy(made_up))).tables
    found = rows(averages)
    assert list(found) == [("targets (test)", "gu"), ("source dev", "gu")]
    # Differences on de are 10 + noise, on th three times that, so 2 (10 + noise) on their average.
    differences = [2 * (10 + one) for one in NOISE]
    mean, std = 20.5, math.sqrt(sum((d - 20.5) ** 2 for d in differences) / 3)
    half = stats.t.ppf(0.975, 3) * std / 2
    p = stats.ttest_1samp(differences, 0).pvalue
    g = mean / std * math.sqrt(2 / 3) * math.gamma(1.5) / math.gamma(1)
    assert found["targets (test)", "gu"] == [
        "4", "+20.50", f"[{mean - half:+.2f}, {mean + half:+.2f}]", "< 0.001" if p < 0.001 else f"{p:.3f}",
        "< 0.001" if p < 0.001 else f"{p:.3f}", f"{mean / std:+.2f}", f"{g:+.2f}", "different (higher)",
    ]  # fmt: skip
    assert found["source dev", "gu"][1] == "+1.02"
    assert averages.columns[-1] == "verdict"
    assert languages.columns == ("en", "de", "th")
    assert rows(languages) == {("gu",): ["+10.25* (< 0.001)", "+10.25* (< 0.001)", "+30.75* (< 0.001)"]}
    assert "Holm-adjusted over all 3 tests" in languages.notes[0]
    assert not any("†" in note for table in (averages, languages) for note in table.notes)


def test_text_says_what_the_unit_is_and_what_n_allows(made_up: Callable[..., Any]) -> None:
    text = " ".join(section(asked(noisy(made_up))).text)
    for part in ["unit of every test is a seed", "not pooled", "4 pairs", "0.125", "from 6 pairs on", "raysched power"]:
        assert part in text


def test_the_family_is_all_methods_and_test_sets(made_up: Callable[..., Any]) -> None:
    also = {"mlqa": {"test": "facebook/mlqa", "languages": ("en", "de")}}
    sweep = noisy(made_up, ("standard", "gu", "lpft"), evaluation={"also": also})
    averages, main, mlqa = section(asked(sweep)).tables
    assert list(rows(averages)) == [
        (place, method) for place in ("targets (test)", "targets (mlqa)", "source dev") for method in ("gu", "lpft")
    ]
    assert "on target averages (4), and over those on source dev (2)" in averages.notes[0]
    assert "over all 10 tests" in main.notes[0]
    assert "over all 10 tests" in mlqa.notes[0]
    assert len({table.name for table in (averages, main, mlqa)}) == 3
    plain = rows(averages)["targets (mlqa)", "lpft"]
    assert float(plain[4]) >= float(plain[3])
    assert plain[-1] == "equivalent within 1 point"


def test_a_reference_of_ones_own(made_up: Callable[..., Any]) -> None:
    averages = section(asked(noisy(made_up), reference="gu", margin=0.5)).tables[0]
    assert rows(averages)["targets (test)", "standard"][1] == "-20.50"
    assert rows(averages)["targets (test)", "standard"][-1] == "different (lower)"
    assert averages.title == "F1 against gu, made-up"
    assert "within 0.5" in averages.notes[2]


def test_methods_that_differ_by_the_same_with_every_seed_are_not_tested(made_up: Callable[..., Any]) -> None:
    sweep = made_up()
    sweep.all()
    averages, languages = section(asked(sweep)).tables
    assert rows(averages)["targets (test)", "gu"] == [
        "2", "+10.00", "-", "-", "-", "-", "-", "not testable with 2 seeds: all differ by the same",
    ]  # fmt: skip
    assert rows(languages)["gu",] == ["+10.00"] * 3
    assert "over all 0 tests" in languages.notes[0]


def test_half_finished(made_up: Callable[..., Any]) -> None:
    """One pair and a run alone; of a third method nothing yet."""
    sweep = made_up()
    gu, standard = sweep.take(0, GU), sweep.take(1, STANDARD)
    sweep.take(2, Point(schedule="lpft", lr=1e-3, k=25))
    assert claims(asked(sweep)) is None  # no run is done
    sweep.finish(gu[0])
    assert claims(asked(sweep)) is None  # nothing to compare it with
    sweep.finish(gu[1])
    sweep.finish(standard[1])
    averages, languages = section(asked(sweep)).tables
    assert rows(averages)["targets (test)", "gu"] == [
        "1 of 2 †", "+10.00", *["-"] * 5, "not testable with 1 shared seed",
    ]  # fmt: skip
    assert rows(averages)["targets (test)", "lpft"][:2] == ["0 of 2 †", "-"]
    assert rows(languages)["gu",] == ["+10.00 †"] * 3
    assert rows(languages)["lpft",] == ["-"] * 3
    assert averages.notes[-1] == languages.notes[-1] == "†: fewer pairs than planned."


def test_seeds_that_are_not_shared_are_labelled_unpaired(made_up: Callable[..., Any]) -> None:
    sweep = made_up(seeds=(0, 1, 2, 3))
    gu, standard = sweep.take(0, GU), sweep.take(1, STANDARD)
    for spec in (*gu[:2], *standard[2:]):
        sweep.finish(spec)
    averages = section(asked(sweep)).tables[0]
    row = rows(averages)["targets (test)", "gu"]
    assert row[0] == "2 and 2, unpaired"
    assert row[1] == "+6.00"  # seeds are 2 apart: 10 - 4
    assert float(row[3]) == pytest.approx(2 * stats.t.sf(6 / math.sqrt(2), 1), abs=1e-3)
    assert any("Welch's" in note for note in averages.notes)


@pytest.mark.parametrize("schedules", [("gu",), ("standard",)])
def test_nothing_to_compare(made_up: Callable[..., Any], schedules: tuple[str, ...]) -> None:
    sweep = made_up(schedules=schedules)
    sweep.all()
    assert claims(asked(sweep)) is None


def test_a_sweep_without_the_reference_says_what_to_choose(made_up: Callable[..., Any]) -> None:
    sweep = made_up(schedules=("gu", "lpft"))
    for spec in sweep.take(0, GU):
        sweep.finish(spec)
    lpft = sweep.take(1, Point(schedule="lpft", lr=1e-3, k=25))
    assert claims(asked(sweep)) is None  # one method with results
    sweep.finish(lpft[0])
    found = claims(asked(sweep))
    assert found is not None
    assert found.tables == ()
    assert found.text == (
        "Nothing was tested in `made-up`, for it has no `standard` to compare with: choose with `--reference` among "
        "`gu`, `lpft`.",
    )


def test_one_metric_of_any_task(made_up: Callable[..., Any]) -> None:
    search = {"objective": "source_dev/accuracy", "schedule": ("standard", "gu")}
    sweep = made_up(task="nli", search=search, seeds=(0, 1, 2))
    for number, point in enumerate(points(sweep.study.search)):
        for spec in sweep.take(number, point):
            value = {"accuracy": 50.0 + spec.seed + (point.schedule == "gu") * (5 + spec.seed**2)}
            tests = {spec.evaluation_ids["test"]: dict.fromkeys(("en", "de", "th"), value)}
            sweep.finish(spec, source_dev=value, tests=tests)
    averages = section(asked(sweep)).tables[0]
    assert averages.title == "Accuracy against standard, made-up"
    assert rows(averages)["targets (test)", "gu"][1] == f"{5 + 5 / 3:+.2f}"
