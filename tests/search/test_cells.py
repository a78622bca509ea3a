"""The cell book: order of launches, verdicts, and that a replay gives the same book."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysched.errors import DamageError, StudyError
from raysched.search.cells import CellBook, SourceDevScore
from raysched.study.space import Point

GU = Point(schedule="gu", lr=1e-4, k=25)
STANDARD = Point(schedule="standard", lr=1e-4)


def runs(number: int, seeds: int = 4) -> dict[int, str]:
    return {seed: f"{number}-{seed}" for seed in range(seeds)}


def score(value: float) -> SourceDevScore:
    return SourceDevScore(value=value)


def drain(book: CellBook) -> list[str]:
    """Launch and finish one run after the other; the order of launches."""
    order = []
    while (run := book.next_run()) is not None:
        book.launched(run.run_id)
        book.finished(run.run_id, score(1.0))
        order.append(run.run_id)
    return order


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "80", None, True])
def test_a_score_is_a_finite_number(value: object) -> None:
    with pytest.raises(ValueError, match="must be a finite number, but got"):
        SourceDevScore(value=value)  # type: ignore[arg-type]


def test_a_score_holds_nothing_else() -> None:
    assert SourceDevScore.__slots__ == ("value",)
    assert SourceDevScore.of({"f1": 80.5, "em": 70.0}, "source_dev/em") == score(70.0)


@pytest.mark.parametrize("objective", ["test/de/f1", "test/average", "source_dev/accuracy", "f1", ""])
def test_no_other_role_can_steer(objective: str) -> None:
    with pytest.raises(StudyError, match=r"search\.objective(.|\n)*valid: source_dev/em, source_dev/f1"):
        SourceDevScore.of({"f1": 80.5, "em": 70.0}, objective)


def test_a_bare_number_cannot_enter() -> None:
    book = CellBook()
    book.open(0, GU, runs(0))
    with pytest.raises(TypeError, match="only a SourceDevScore enters the book, but got float"):
        book.finished("0-0", 80.0)  # type: ignore[arg-type]


def test_mean_over_all_seeds() -> None:
    book = CellBook()
    assert book.open(7, GU, runs(7)) is None
    values = [0.1, 0.2, 0.3, 0.7]
    verdicts = [book.finished(f"7-{seed}", score(values[seed])) for seed in (2, 0, 3, 1)]
    assert verdicts[:3] == [None, None, None]
    verdict = verdicts[3]
    assert verdict is not None
    assert (verdict.mean, verdict.n, verdict.n_failed) == (math.fsum(values) / 4, 4, 0)
    assert verdict.std == pytest.approx(0.2629955639676583, abs=1e-15)
    assert verdict.attrs() == {
        "seed_scores": {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.7},
        "seed_failures": {},
        "std": verdict.std,
        "n": 4,
        "n_failed": 0,
    }


def test_a_short_cell_has_no_mean() -> None:
    """Three good seeds do not make a cell; and the other seeds still run, for the table."""
    book = CellBook()
    book.open(0, GU, runs(0))
    book.failed("0-1", "nan")
    assert drain(book) == ["0-0", "0-2", "0-3"]
    verdict = book.cell(0).verdict
    assert verdict is not None
    assert verdict.mean is None
    assert (verdict.n, verdict.n_failed, verdict.causes, verdict.std) == (3, 1, {1: "nan"}, 0.0)


def test_one_seed_has_no_std_and_no_seed_no_mean() -> None:
    book = CellBook()
    book.open(0, GU, runs(0, 1))
    book.open(1, STANDARD, runs(1, 1))
    one, none = book.finished("0-0", score(3)), book.failed("1-0", "oom")
    assert one is not None
    assert none is not None
    assert (one.mean, one.std) == (3.0, None)
    assert (none.mean, none.std, none.n) == (None, None, 0)


def test_cell_major_then_balanced_over_schedules() -> None:
    """A grid is schedule-major; launches finish cells and rotate over the schedules."""
    book = CellBook()
    schedules = ["standard", "standard", "standard", "gu", "gu", "fun"]
    for number, schedule in enumerate(schedules):
        book.open(number, Point(schedule=schedule, lr=1e-4), runs(number, 2))
    order = drain(book)
    assert [run_id[0] for run_id in order[::2]] == ["0", "3", "5", "1", "4", "2"]
    assert order[:4] == ["0-0", "0-1", "3-0", "3-1"]


def test_the_cell_nearest_to_completion_goes_first() -> None:
    book = CellBook()
    book.open(0, GU, runs(0))
    book.open(1, STANDARD, runs(1))
    book.launched("0-0")
    for seed in range(4):
        book.launched(f"1-{seed}")
    book.finished("1-0", score(1))
    book.requeue("1-3")
    run = book.next_run()
    assert run is not None
    assert (run.run_id, run.seed, run.number, run.attempts) == ("1-3", 3, 1, 1)
    book.launched("1-3")
    assert book.run("1-3").attempts == 2
    assert book.next_run() == book.run("0-1")


def test_nothing_pending() -> None:
    book = CellBook()
    assert book.next_run() is None
    book.open(0, GU, runs(0, 1))
    book.launched("0-0")
    assert book.next_run() is None


def test_a_run_recorded_before_its_cell_is_never_launched() -> None:
    book = CellBook()
    assert book.finished("0-0", score(2)) is None
    assert book.failed("0-1", "hang") is None
    assert book.finished("0-0", score(2)) is None
    assert book.open(0, GU, runs(0, 3)) is None
    assert drain(book) == ["0-2"]
    book.finished("1-0", score(5))
    verdict = book.open(1, STANDARD, runs(1, 1))
    assert verdict is not None
    assert verdict.mean == 5.0


def test_a_retried_failure_reopens_its_cell() -> None:
    book = CellBook()
    book.open(0, GU, runs(0, 1))
    book.failed("0-0", "oom")
    book.requeue("0-0")
    assert book.cell(0).verdict is None
    verdict = book.finished("0-0", score(1))
    assert verdict is not None
    assert (verdict.mean, verdict.n_failed) == (1.0, 0)


def test_repeated_calls_are_harmless() -> None:
    book = CellBook()
    book.open(0, GU, runs(0, 1))
    assert book.open(0, GU, runs(0, 1)) is None
    first = book.finished("0-0", score(1))
    assert book.finished("0-0", score(1)) == first == book.open(0, GU, runs(0, 1))


def test_contradictions_are_damage() -> None:
    book = CellBook()
    book.open(0, GU, runs(0, 2))
    book.finished("0-0", score(1))
    book.failed("0-1", "oom")
    book.finished("early", score(1))
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: book.open(0, STANDARD, runs(0, 2)), "cell 0 was opened as schedule=gu"),
        (lambda: book.open(0, GU, runs(0, 3)), "cell 0 was opened as"),
        (lambda: book.open(1, STANDARD, {0: "0-0"}), "run 0-0 of cell 1 belongs to cell 0 already"),
        (lambda: book.finished("0-0", score(2)), "run 0-0 ended with"),
        (lambda: book.failed("0-0", "oom"), "run 0-0 ended with"),
        (lambda: book.finished("0-1", score(2)), "run 0-1 ended with oom"),
        (lambda: book.finished("early", score(2)), "run early ended with"),
    ]
    for call, message in calls:
        with pytest.raises(DamageError, match=message):
            call()


def test_calls_out_of_order_are_refused() -> None:
    book = CellBook()
    book.open(0, GU, runs(0, 2))
    book.finished("0-0", score(1))
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: book.launched("0-0"), "run 0-0 must be pending, but is finished"),
        (lambda: book.requeue("0-0"), "must be running or failed, but is finished"),
        (lambda: book.requeue("0-1"), "must be running or failed, but is pending"),
        (lambda: book.run("x"), "run x belongs to no open cell"),
        (lambda: book.open(1, GU, {}), "a cell must have runs"),
        (lambda: book.open(1, GU, {0: "a", 1: "a"}), "each its own"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()


@settings(max_examples=60, deadline=None)
@given(st.permutations([f"{number}-{seed}" for number in range(3) for seed in range(3)]), st.integers(0, 9), st.data())
def test_any_order_of_ends_gives_the_same_book(order: list[str], cut: int, data: st.DataObject) -> None:
    """Records may be replayed before, between and after the cells: the verdicts and the next run are the same."""
    ends = order[:cut]
    failing = set(data.draw(st.lists(st.sampled_from(order), max_size=2)))
    points = [GU, STANDARD, Point(schedule="fun", lr=1e-4, k=25)]

    def end(book: CellBook, run_id: str) -> None:
        if run_id in failing:
            book.failed(run_id, "nan")
        else:
            book.finished(run_id, score(float(run_id.replace("-", ""))))

    live, replayed = CellBook(), CellBook()
    for number, point in enumerate(points):
        live.open(number, point, runs(number, 3))
    for run_id in ends:
        end(live, run_id)
    for run_id in sorted(ends):
        end(replayed, run_id)
    for number, point in reversed(list(enumerate(points))):
        replayed.open(number, point, runs(number, 3))
    assert live.cells == replayed.cells
    assert live.next_run() == replayed.next_run()


def test_pure() -> None:
    code = (
        "import raysched.search.cells, sys; print(*{'torch', 'optuna', 'pydantic', 'numpy', 'ray'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
