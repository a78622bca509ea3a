"""Free rows and the oracle, of scores that can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched.records import derived
from raysched.records.derived import Derived, Kind
from raysched.reports.asked import Asked
from raysched.reports.derived.section import free_rows, oracle
from raysched.reports.document import Section, Table
from raysched.reports.source import Source
from raysched.reports.sweep import read_sweep
from raysched.study.identity import RunSpec, evaluation_id
from raysched.study.model import MAIN
from raysched.study.space import Point, points
from tests.reports.conftest import MadeUp, study

STEPS = (160, 200)
"""Of the candidates; 200 is the selected one."""


class Sweep:
    """A made-up sweep whose runs kept two candidates, and what is derived of them."""

    def __init__(self, storage: Path, name: str = "made-up", kept: tuple[int, ...] = STEPS, **changes: Any) -> None:
        self.made = MadeUp(storage, study(**changes), name)
        files = {f"candidates/step-{step:08d}/{one}": "0" * 64 for step in kept for one in ("a.safetensors", "b.json")}
        self.specs: dict[Point, list[RunSpec]] = {}
        for number, point in enumerate(points(self.made.study.search)):
            self.specs[point] = self.made.take(number, point)
            for spec in self.specs[point]:
                self.made.finish(spec, files=files)

    def evaluations(self, point: Point) -> dict[str, str]:
        of = self.made
        return {name: evaluation_id(of.study, of.resolved, "", name, point.method) for name in of.study.test_sets}

    def derive(
        self, kind: Kind, specs: list[RunSpec], steps: tuple[int, ...], f1: dict[str, float], **changes: Any
    ) -> Derived:
        """`f1` by language, and of `source_dev`; exact match is 10 lower."""
        each = {language: {"f1": value, "em": value - 10} for language, value in f1.items()}
        values: dict[str, Any] = {
            "kind": kind,
            "cell_id": specs[0].cell_id,
            "run_ids": tuple(spec.run_id for spec in specs),
            "seed": specs[0].seed if len(specs) == 1 else None,
            "steps": steps,
            "evaluations": self.evaluations(specs[0].point),
            "source_dev": each.pop("source_dev", {}),
            "tests": {MAIN: each},
        }
        entry = Derived(**values | changes)
        derived.write(self.made.layout, entry)
        return entry

    def asked(self, **options: Any) -> Asked:
        return Asked(sweeps=(read_sweep(self.made.layout),), **options)

    def point(self, schedule: str) -> list[RunSpec]:
        return next(specs for point, specs in self.specs.items() if point.schedule == schedule)


@pytest.fixture
def new(tmp_path: Path) -> Callable[..., Sweep]:
    return lambda **options: Sweep(tmp_path / "storage", **options)


def rows(table: Table) -> dict[tuple[str, ...], list[str]]:
    """Labels -> cells as `f1` or `f1 / em`."""
    return {
        row.labels: [" / ".join("-" if one is None else str(one) for one in cell.scores) for cell in row.cells]
        for block in table.blocks
        for row in block
    }


def marks(section: Section) -> set[str]:
    return {cell.mark for table in section.tables for block in table.blocks for row in block for cell in row.cells}


def words(section: Section | None) -> str:
    assert section is not None
    return " ".join(section.text)


# gu, by seed: source dev 80 82, en 79 81, de 69 71, th 49 51, so a target average of 59 61 (tests/reports/conftest.py).


def test_averages_stand_beside_the_plain_mean(new: Callable[..., Sweep]) -> None:
    made = new(schedules=("standard", "gu"))
    gu = made.point("gu")
    for spec, shift in zip(gu, (0, 4), strict=True):
        of = {"source_dev": 81, "en": 80, "de": 70 + shift, "th": 50 + shift}
        made.derive("checkpoint_average", [spec], STEPS, {name: float(value) for name, value in of.items()})
    made.derive("seed_average", gu, (200, 200), {"source_dev": 20.0, "en": 10.0, "de": 30.0, "th": 40.0})
    section = free_rows(made.asked())
    assert section is not None
    (table,) = section.tables
    assert table.columns == ("source dev", "target average", "en", "de", "th")
    assert table.metrics == ("f1", "em")  # of data files, for averages have no source
    assert rows(table) == {
        ("gu", "selected checkpoint"): [
            "81.00 ± 1.41 / 71.00 ± 1.41",
            "60.00 ± 1.41 / 50.00 ± 1.41",
            "80.00 ± 1.41 / 70.00 ± 1.41",
            "70.00 ± 1.41 / 60.00 ± 1.41",
            "50.00 ± 1.41 / 40.00 ± 1.41",
        ],
        ("gu", "average of 2 checkpoints, derived"): [
            "81.00 ± 0.00 / 71.00 ± 0.00",
            "62.00 ± 2.83 / 52.00 ± 2.83",
            "80.00 ± 0.00 / 70.00 ± 0.00",
            "72.00 ± 2.83 / 62.00 ± 2.83",
            "52.00 ± 2.83 / 42.00 ± 2.83",
        ],
        ("gu", "average of 2 seeds, derived"): [
            "20.00 / 10.00",
            "35.00 / 25.00",
            "10.00 / 0.00",
            "30.00 / 20.00",
            "40.00 / 30.00",
        ],
    }
    assert marks(section) == {""}
    assert "mixes different initialisations" in words(section)
    assert "no run was trained or selected for them" in words(section)
    ((selected, averaged, seeds),) = table.blocks
    assert Source.parse(selected.cells[1].source).cell_id == gu[0].cell_id
    assert {cell.source for cell in (*averaged.cells, *seeds.cells)} == {""}
    assert not any(cell.short for row in table.blocks[0] for cell in row.cells)


def test_an_average_of_some_seeds_is_marked(new: Callable[..., Sweep]) -> None:
    made = new(schedules=("gu",))
    made.derive("checkpoint_average", made.point("gu")[:1], STEPS, {"en": 80.0, "de": 70.0, "th": 50.0})
    section = free_rows(made.asked())
    assert section is not None
    (row,) = [row for block in section.tables[0].blocks for row in block if "derived" in row.labels[1]]
    assert [cell.short for cell in row.cells] == [False, True, True, True, True]  # source dev has none at all


def test_of_other_candidates_other_seeds_or_other_tests_nothing_is_shown(new: Callable[..., Sweep]) -> None:
    made = new(schedules=("gu",))
    gu, f1 = made.point("gu"), {"en": 80.0, "de": 70.0, "th": 50.0}
    made.derive("checkpoint_average", gu[:1], (120, 160), f1)
    made.derive("seed_average", [gu[0]], (200,), f1)
    made.derive("seed_average", gu, (200, 160), f1)
    section = free_rows(made.asked())
    assert section is not None
    assert section.tables == ()
    other = {MAIN: "of another test set"}
    made.derive("seed_average", gu, (200, 200), f1, evaluations=other)
    section = free_rows(made.asked())
    assert section is not None
    assert rows(section.tables[0])["gu", "average of 2 seeds, derived"][1:] == ["- / -"] * 4


def test_the_command_is_named_until_something_is_derived(new: Callable[..., Sweep]) -> None:
    made = new(schedules=("gu",))
    assert f"raysched derive {made.made.layout.name}" in words(free_rows(made.asked()))
    assert f"raysched derive {made.made.layout.name} --what oracle" in words(oracle_of(made))


def oracle_of(made: Sweep) -> Section:
    """With one run's candidates scored, so that there is a section."""
    gu = made.point("gu")[0]
    made.derive("candidate", [gu], (160,), {"en": 1.0, "de": 1.0, "th": 1.0})
    section = oracle(made.asked())
    assert section is not None
    return section


def test_one_seed_without_candidates_has_nothing_to_say(tmp_path: Path) -> None:
    made = Sweep(tmp_path, kept=(), schedules=("gu",), seeds=(0,))
    assert free_rows(made.asked()) is None
    assert oracle(made.asked()) is None


def test_an_empty_sweep_has_nothing_to_say(tmp_path: Path) -> None:
    asked = Asked(sweeps=(read_sweep(MadeUp(tmp_path, study()).layout),))
    assert free_rows(asked) is None
    assert oracle(asked) is None


def test_the_oracle_of_checkpoints_by_hand(new: Callable[..., Sweep]) -> None:
    """Seed 0 selected de 69, th 49 and could have had 75, 45 (average 60); seed 1 selected 71, 51, and had 60, 61."""
    made = new(schedules=("standard", "gu"))
    for spec, de, th in zip(made.point("gu"), (75.0, 60.0), (45.0, 61.0), strict=True):
        made.derive("candidate", [spec], (160,), {"source_dev": 1.0, "en": 1.0, "de": de, "th": th})
    section = oracle(made.asked())
    assert section is not None
    averages, languages = section.tables
    gu = next(point for point in made.specs if point.schedule == "gu")
    assert rows(averages)["gu", str(gu), "-"] == [
        "60.00 ± 1.41",  # 59, 61
        *("-", "-"),
        "60.50 ± 0.71",  # 60, 61 (of 59 and 60; of 61 and 60.5)
        "0.50 ± 0.71",
        "64.00 ± 2.83",  # (75 + 49) / 2, (71 + 61) / 2
        "4.00 ± 1.41",  # 3, 5
    ]
    found = rows(languages)
    assert found["gu", "source dev (zero-shot)"] == ["70.00 ± 1.41", "50.00 ± 1.41"]
    assert found["gu", "oracle: checkpoint by target average"] == ["73.00 ± 2.83", "48.00 ± 4.24"]
    assert found["gu", "oracle: checkpoint per language"] == ["73.00 ± 2.83", "55.00 ± 8.49"]
    assert [labels for labels in found if labels[0] == "standard"] == [("standard", "source dev (zero-shot)")]
    assert marks(section) == {""}
    assert "upper bound" in words(section)
    assert "2 of 4 runs of `made-up` have candidates that were not scored" in words(section)
    assert "among the candidates that were kept, the last 2 of 20 source-dev evaluations" in words(section)


def test_a_run_with_a_candidate_that_was_not_scored_has_no_oracle(tmp_path: Path) -> None:
    made = Sweep(tmp_path, kept=(120, 160, 200), schedules=("gu",))
    first, second = made.point("gu")
    f1 = {"en": 1.0, "de": 99.0, "th": 99.0}
    made.derive("candidate", [first], (160,), f1)
    made.derive("candidate", [second], (120,), f1)
    made.derive("candidate", [second], (160,), f1)
    section = oracle(made.asked())
    assert section is not None
    (cells,) = [row.cells for block in section.tables[0].blocks for row in block]
    assert [cell.short for cell in cells] == [False, False, False, True, True, True, True]
    assert [str(cells[place].scores[0]) for place in (3, 4)] == ["99.00", "38.00"]  # of seed 1, which selected 61


def test_the_oracle_of_points_by_hand(tmp_path: Path) -> None:
    """Source dev and targets both fall with the rate; then source dev is made up to be best at the high one."""
    made = Sweep(tmp_path, kept=(), schedules=("gu",), lr=(1e-3, 5e-3))
    section = oracle(made.asked())
    assert section is not None
    (row,) = section.tables[0].blocks[0]
    assert row.labels[1] == row.labels[2] == str(next(iter(made.specs)))
    assert [str(cell.scores[0]) for cell in row.cells[:3]] == ["60.00 ± 1.41", "60.00 ± 1.41", "0.00 ± 0.00"]

    other = MadeUp(tmp_path, study(schedules=("gu",), lr=(1e-3, 5e-3)), "other")
    for number, point in enumerate(points(other.study.search)):
        for spec in other.take(number, point):
            better = {"source_dev": {"f1": 99.0, "em": 1.0}} if point.lr == 5e-3 else {}
            other.finish(spec, **better)
    section = oracle(Asked(sweeps=(read_sweep(other.layout),)))
    assert section is not None
    (row,) = section.tables[0].blocks[0]
    low, high = points(other.study.search)
    assert row.labels == ("gu", str(high), str(low))
    assert [str(cell.scores[0]) for cell in row.cells[:3]] == ["56.00 ± 1.41", "60.00 ± 1.41", "4.00 ± 0.00"]
    assert "kept no candidates" in words(section)
    assert "`evaluation.candidates`" in words(section)


def test_points_that_are_grouped_apart_are_not_chosen_from(tmp_path: Path) -> None:
    made = Sweep(tmp_path, kept=(), schedules=("gu",), lr=(1e-3, 5e-3))
    assert oracle(made.asked(by=("schedule", "lr"))) is None


def test_an_unfinished_cell_is_no_oracle(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, study(schedules=("gu",), lr=(5e-3, 1e-3)))
    for number, point in enumerate(points(made.study.search)):
        specs = made.take(number, point)
        for spec in specs if number == 0 else specs[:1]:
            made.finish(spec)
    assert oracle(Asked(sweeps=(read_sweep(made.layout),))) is None


def test_damage_is_told_once_and_the_rest_is_shown(new: Callable[..., Sweep]) -> None:
    made = new(schedules=("gu",))
    gu, f1 = made.point("gu"), {"en": 80.0, "de": 70.0, "th": 50.0}
    made.derive("seed_average", gu, (200, 200), f1)
    lost = made.derive("checkpoint_average", gu[:1], STEPS, f1)
    path = made.made.layout.derived / lost.derived_id / "result.json"
    path.write_text(path.read_text().replace("80.0", "81.0"))
    asked = made.asked()
    section = free_rows(asked)
    oracle(asked)
    assert section is not None
    assert [labels[1] for labels in rows(section.tables[0])] == ["selected checkpoint", "average of 2 seeds, derived"]
    (text,) = asked.damaged
    assert str(path) in text
    assert "checksum" in text


def test_several_sweeps_and_test_sets_have_tables_of_their_own(tmp_path: Path) -> None:
    also = {"also": {"other": {"test": "mini", "languages": ("en", "de")}}}
    made = [Sweep(tmp_path, name, schedules=("gu",), evaluation=also) for name in ("one", "two")]
    for sweep in made:
        f1 = {"en": {"f1": 1.0, "em": 1.0}, "de": {"f1": 2.0, "em": 1.0}}
        sweep.derive("seed_average", sweep.point("gu"), (200, 200), {}, tests={MAIN: f1, "other": f1})
    section = free_rows(Asked(sweeps=tuple(read_sweep(sweep.made.layout) for sweep in made)))
    assert section is not None
    names = ["derived-one-test", "derived-one-other", "derived-two-test", "derived-two-other"]
    assert [table.name for table in section.tables] == names
    other = rows(section.tables[1])["gu", "average of 2 seeds, derived"]
    assert other == ["- / -", "2.00 / 1.00", "1.00 / 1.00", "2.00 / 1.00"]
