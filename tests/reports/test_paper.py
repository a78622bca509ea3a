"""The published numbers, what an audit found in them, and the gate they are judged by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from statistics import mean

import pytest

from raysched.reports.paper import gate
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.numbers import AVERAGE, LOWEST, TARGETS, Cell, Published, by_cell, gap, published
from raysched.reports.stats import Summary

FULL = paper.FULL_SIZE


def cell(model: str, method: str, dataset: str, language: str = AVERAGE, metric: str | None = None) -> Cell:
    metric = metric or ("F1" if dataset in ("XQuAD", "MLQA") else "Accuracy")
    return Cell(model=model, method=method, dataset=dataset, language=language, metric=metric, train_size=FULL[dataset])


def columns() -> Iterator[tuple[str, str]]:
    """Model and dataset of the eight columns of Table 2."""
    return ((model, dataset) for model in ("mBERT", "XLM-R") for dataset in TARGETS)


def test_every_number_loads() -> None:
    numbers = published()
    assert len(numbers) == 732
    assert Counter(number.table for number in numbers) == {
        1: 24, 2: 144, 7: 8, 8: 192, 9: 104, 10: 104, 11: 24, 12: 36, 13: 44, 14: 26, 15: 26,
    }  # fmt: skip
    assert all(0 < number.mean < 100 and (number.std is None or number.std > 0) for number in numbers)
    assert {number.cell.model for number in numbers} == set(paper.MODELS)
    assert {number.cell.method for number in numbers} == set(paper.METHODS)
    assert {(number.cell.dataset, number.n) for number in numbers} == {
        *((dataset, 5 if dataset == "XCOPA" else 4) for dataset in TARGETS),
        *((dataset, 2) for dataset in ("XQuAD", "MLQA", "XNLI")),  # reverse GU
    }


def test_numbers_printed_twice_agree_and_stand_once() -> None:
    assert len(by_cell()) == 600
    assert all(by_cell()[number.cell].mean == number.mean for number in published())
    printed = {number.cell for number in published() if number.std is not None}
    assert all(by_cell()[one].std is not None for one in printed)
    assert by_cell()[cell("mBERT", "gu", "XNLI")].table == 2  # not Table 11, which has no std


def test_the_target_languages_are_those_of_the_tables() -> None:
    found: dict[str, set[str]] = {dataset: set() for dataset in TARGETS}
    for number in published():
        language = number.cell.language
        if language not in ("en", AVERAGE) and not language.startswith(LOWEST):
            found[number.cell.dataset].add(language)
    assert found == {dataset: set(languages) for dataset, languages in TARGETS.items()}


def noted(text: str) -> set[tuple[str, str, str, str, str]]:
    return {
        (one.cell.model, one.cell.method, one.cell.dataset, one.cell.language, one.cell.metric)
        for one in published()
        if any(text in note for note in one.notes)
    }


def test_averages_are_means_of_their_columns_but_for_two() -> None:
    wrong = set()
    for one, number in by_cell().items():
        columns = [by_cell().get(replaced(one, language)) for language in TARGETS[one.dataset]]
        if one.language == AVERAGE and None not in columns:
            value = mean(column.mean for column in columns if column is not None)
            if abs(value - number.mean) > 0.0101:
                wrong.add((one.model, one.method, one.dataset, AVERAGE, one.metric))
                assert f"{value:.2f}" in " ".join(number.notes)
    assert wrong == noted("mean of")
    assert len(wrong) == 2


def replaced(one: Cell, language: str, metric: str | None = None) -> Cell:
    return Cell(
        model=one.model,
        method=one.method,
        dataset=one.dataset,
        language=language,
        metric=metric or one.metric,
        train_size=one.train_size,
    )


def test_exact_match_above_f1_is_noted() -> None:
    wrong = set()
    for one, number in by_cell().items():
        f1 = by_cell().get(replaced(one, one.language, "F1"))
        if one.metric == "EM" and f1 is not None and number.mean > f1.mean:
            wrong |= {(one.model, one.method, one.dataset, one.language, metric) for metric in ("F1", "EM")}
            wrong.add((one.model, one.method, one.dataset, one.language.removeprefix(LOWEST), "F1"))
    assert wrong == noted("above F1")
    assert len(wrong) == 6


def test_xcopa_has_five_runs_and_its_english_is_validation() -> None:
    """Five runs of 500 questions give multiples of 0.04, of 100 questions multiples of 0.2 (GRIM)."""
    cells = [number for number in by_cell().values() if number.cell.dataset == "XCOPA"]
    targets = [number.mean for number in cells if number.cell.language in TARGETS["XCOPA"]]
    english = [n for n in cells if n.cell.language == "en"]
    assert len(targets) == 110
    assert all(math.isclose(value / 0.04, round(value / 0.04)) for value in targets)
    assert all(math.isclose(n.mean / 0.2, round(n.mean / 0.2)) for n in english if n.cell.model != "mDeBERTa")
    assert all("validation" in " ".join(n.notes) for n in english)


def test_lowest_is_the_language_that_is_lowest_under_standard_training() -> None:
    own = set()
    for one, number in by_cell().items():
        if one.language.startswith(LOWEST) and one.metric != "EM":
            each = {language: by_cell()[replaced(one, language)].mean for language in TARGETS[one.dataset]}
            assert number.mean == each[one.language.removeprefix(LOWEST)]
            if one.method == "standard":
                assert number.mean == min(each.values())
            elif number.mean > (lowest := min(each.values())):
                own.add((one.model, one.method, one.dataset, one.language, one.metric))
                assert f"{lowest:.2f}" in number.notes[0]
    assert len(own) == 5
    assert own == noted("lowest under standard training")


@pytest.mark.parametrize(
    ("ours", "gap", "expected"),
    [
        (Summary(mean=50.0, std=1.0, n=4), 3.0, "reproduced"),
        (Summary(mean=50.0 + math.sqrt(2), std=1.0, n=4), 3.0, "reproduced"),  # on the band itself
        (Summary(mean=50.0 - math.sqrt(2), std=1.0, n=4), 3.0, "reproduced"),
        (Summary(mean=50.01 + math.sqrt(2), std=1.0, n=4), 3.0, "not reproduced"),
        (Summary(mean=50.0, std=1.0, n=4), math.sqrt(2), "reproduced"),
        (Summary(mean=50.0, std=1.0, n=4), 1.4, "underpowered"),  # the band is wider than the gap
        (Summary(mean=60.0, std=1.0, n=4), 1.4, "not reproduced"),  # but this is outside even so
        (Summary(mean=50.0, std=1.0, n=4), None, "reproduced"),
        (Summary(mean=90.0, std=None, n=1), 3.0, "underpowered"),
    ],
)
def test_verdicts(ours: Summary, gap: float | None, expected: gate.Verdict) -> None:
    """The paper's 50 ± 1 over 4 runs and ours over 4: the band is 2 * sqrt(1/4 + 1/4)."""
    assert gate.verdict(Summary(mean=50.0, std=1.0, n=4), ours, gap) == expected


def test_without_a_published_std_nothing_is_told() -> None:
    ours = Summary(mean=50.0, std=1.0, n=4)
    assert gate.band(Summary(mean=50.0, std=None, n=4), ours) is None
    assert gate.verdict(Summary(mean=50.0, std=None, n=4), ours, 9.0) == "underpowered"


def within(one: Published, other: Published) -> bool:
    band = gate.band(one.summary, other.summary)
    assert band is not None
    return abs(one.mean - other.mean) <= band


def test_what_the_papers_own_deviations_support() -> None:
    """7 of 8 GU-FUN gaps lie inside the band, 6 of 8 standard-GU gaps outside (Table 2's averages)."""
    gu_fun, standard_gu = (
        {column for column in columns() if within(*(by_cell()[cell(column[0], way, column[1])] for way in pair))}
        for pair in (("gu", "fun"), ("standard", "gu"))
    )
    assert set(columns()) - gu_fun == {("XLM-R", "XQuAD")}
    assert standard_gu == {("mBERT", "XCOPA"), ("XLM-R", "XNLI")}


def test_the_paper_beside_itself() -> None:
    """Its own numbers lie in the band everywhere; where that band is wider than its gaps, nothing is told."""
    verdicts: dict[str, list[Cell]] = {"reproduced": [], "underpowered": []}
    for one, number in by_cell().items():
        verdict = gate.verdict(number.summary, number.summary, gap(one))
        if number.std is None:
            assert verdict == "underpowered"
        else:
            assert gate.verdict(number.summary, number.summary, None) == "reproduced"
            verdicts[verdict].append(one)
    assert {verdict: len(cells) for verdict, cells in verdicts.items()} == {"reproduced": 69, "underpowered": 27}
    of_table_2 = {
        (one.model, one.method, one.dataset)
        for one in verdicts["underpowered"]
        if one.train_size == FULL[one.dataset] and one.model != "mDeBERTa"
    }
    assert of_table_2 == {
        *(("mBERT", method, "XCOPA") for method in paper.COMPARED),
        *(("XLM-R", "rand", dataset) for dataset in ("MLQA", "XNLI")),
    }


def test_the_gap_is_between_adapter_methods_alone() -> None:
    assert gap(cell("XLM-R", "gu", "XQuAD")) == pytest.approx(73.04 - 69.99)
    assert gap(cell("XLM-R", "gu_rev", "XQuAD")) == gap(cell("XLM-R", "standard", "XQuAD"))
    assert gap(cell("XLM-R", "gu_rev", "XNLI", "fr")) is None
