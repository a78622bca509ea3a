"""The contract of every sampler: each point once, nothing lost by a restart, each cell told once."""

from __future__ import annotations

import json
import math
import os
import pickle
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from raysched.errors import DamageError, MissingError, StoppedError, StudyError
from raysched.search import optuna_study
from raysched.search.optuna_study import Asked, OptunaStudy, study_name
from raysched.study.search import Search
from raysched.study.space import Point, points

ALL = ("tpe", "random", "grid")
SPACE = {"schedule": ("standard", "gu"), "lr": (1e-4, 2e-4), "k": (25, 50)}  # 2 + 4 points


def search(sampler: str, **changes: object) -> Search:
    return Search(**{**SPACE, "sampler": sampler, "objective": "source_dev/f1", **changes})  # type: ignore[arg-type]


def value(point: Point) -> float:
    return zlib.crc32(str(point).encode()) % 1000 / 10


class Opened:
    """Opens studies on one file and closes them all at the end of a test."""

    def __init__(self, folder: Path) -> None:
        self.path, self._open = folder / "optuna.db", list[OptunaStudy]()

    def __call__(self, of: Search, name: str | None = None, path: Path | None = None, **kwargs: float) -> OptunaStudy:
        self._open.append(OptunaStudy(path or self.path, name or study_name("sweep", of), of, **kwargs))
        return self._open[-1]

    def close(self) -> None:
        for study in self._open:
            study.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path)
    yield opened
    opened.close()


def one_by_one(study: OptunaStudy, again: Callable[[], OptunaStudy] | None = None) -> list[Asked]:
    """Ask and tell until nothing is left; with `again`, a new object does every single call."""
    asked = []
    while (one := (again() if again else study).ask()) is not None:
        asked.append(one)
        told = again() if again else study
        told.tell(one.number, value(one.point), {"n": 4, "std": 0.5})
    return asked


@pytest.mark.parametrize("sampler", ALL)
def test_every_point_of_a_small_space_once(sampler: str, opened: Opened) -> None:
    study = opened(search(sampler))
    asked = one_by_one(study)
    assert sorted(str(one.point) for one in asked) == sorted(str(point) for point in points(search(sampler)))
    assert study.target == 6
    assert study.ask() is None
    assert all(one.point.k is None for one in asked if one.point.schedule == "standard")


@pytest.mark.parametrize("sampler", ALL)
def test_a_restart_after_any_call_changes_nothing(sampler: str, opened: Opened, tmp_path: Path) -> None:
    undisturbed = opened(search(sampler))
    one_by_one(undisturbed)
    path = tmp_path / "other.db"

    def restarted() -> OptunaStudy:
        return opened(search(sampler), path=path)

    one_by_one(restarted(), restarted)
    assert restarted().asked() == undisturbed.asked()


ARMS = (
    {"schedule": "standard", "lr": 1e-4, "epochs": 500},
    {"schedule": "standard", "lr": 1e-5, "epochs": 5000},
    {"schedule": "standard", "lr": 1e-5, "steps": 7},
    {"schedule": "gu", "lr": 1e-5, "k": "even", "epochs": 5000},
    {"schedule": "gu", "lr": 1e-5, "k": 1000, "epochs": 5000},
    {"schedule": "fun", "lr": 1e-5, "k": "early"},
    {"schedule": "standard", "lr": 2e-5, "method": "full"},
)
SPACES: list[tuple[str, dict[str, Any], int]] = [
    *((sampler, {"method": ("adapters", "full")}, 6) for sampler in ALL),
    *((sampler, {"method": ("full",)}, 3) for sampler in ALL),
    *((sampler, {"k": (25, "even", "early")}, 4) for sampler in ALL),
    ("grid", {"arms": ARMS}, 3 + 7),
    ("grid", {"arms": ({"schedule": "gu", "lr": 1e-4, "k": 25},)}, 3),  # a point of the product, once
    ("grid", {"schedule": (), "lr": (), "k": (), "arms": ARMS}, 7),
]


@pytest.mark.parametrize(("sampler", "changes", "n"), SPACES, ids=[f"{row[0]}-{','.join(row[1])}" for row in SPACES])
def test_methods_arms_and_shares_of_the_run(
    sampler: str, changes: dict[str, Any], n: int, opened: Opened, tmp_path: Path
) -> None:
    """Each point once, under the same numbers whether or not every call is made by a new process."""
    of = Search.model_validate_json(json.dumps({**SPACE, "lr": (1e-4,), **changes, "sampler": sampler}))
    undisturbed = opened(of)
    asked = one_by_one(undisturbed)
    assert {one.point for one in asked} == set(points(of))
    assert len(asked) == undisturbed.target == n
    path = tmp_path / "other.db"
    one_by_one(opened(of, path=path), lambda: opened(of, path=path))
    assert opened(of, path=path).asked() == undisturbed.asked()


@pytest.mark.parametrize(("sampler", "method"), [("tpe", ("adapters", "full")), ("grid", ("adapters",))])
def test_open_points_with_a_method_or_a_length_are_adopted(
    sampler: str, method: tuple[str, ...], opened: Opened
) -> None:
    arms = ARMS if sampler == "grid" else ()
    of = Search.model_validate_json(json.dumps({**SPACE, "sampler": sampler, "method": method, "arms": arms}))
    study = opened(of)
    asked = [study.ask() for _ in range(9)]
    again = opened(of)
    assert [again.ask() for _ in range(9)] == asked


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_sampler_seed_decides(sampler: str, opened: Opened) -> None:
    wide = {"lr": tuple(n * 1e-5 for n in range(1, 60)), "points": 3}
    sequences = [[one.point for one in one_by_one(opened(search(sampler, seed=seed, **wide)))] for seed in (0, 1)]
    assert sequences[0] != sequences[1]


def test_tpe_learns(opened: Opened) -> None:
    """Beyond its random start, TPE proposes what was told to be good more often than chance would."""
    lr = tuple(n * 1e-4 for n in range(1, 11))
    study = opened(search("tpe", schedule=("gu", "lpft", "rand", "reverse"), lr=lr, k=(25,), points=24))
    while (one := study.ask()) is not None:
        study.tell(one.number, 100.0 if one.point.schedule == "gu" else 0.0)
    late = [one.point.schedule == "gu" for one in study.asked() if one.number >= 10]
    assert sum(late) / len(late) > 0.5  # 0.25 by chance


@pytest.mark.parametrize(("sampler", "asked"), [("tpe", 3), ("random", 3), ("grid", 6)])
def test_budget(sampler: str, asked: int, opened: Opened) -> None:
    """Open, told and failed points all count; a grid takes all; extending the budget continues the same study."""
    few = search(sampler, points=3)
    study = opened(few)
    first = study.ask()
    assert first is not None
    study.tell(first.number, None)
    while study.ask() is not None:
        pass
    assert len({one.point for one in study.asked()}) == asked
    more = opened(search(sampler, points=5))
    assert more.name == study.name
    while more.ask() is not None:
        pass
    assert len({one.point for one in more.asked()}) == max(asked, 5)


@pytest.mark.parametrize("sampler", ALL)
def test_open_points_are_adopted_under_their_number(sampler: str, opened: Opened) -> None:
    study = opened(search(sampler))
    asked = [study.ask() for _ in range(3)]
    restarted = opened(search(sampler))
    assert [restarted.ask() for _ in range(3)] == asked
    fourth = restarted.ask()
    assert fourth is not None
    assert fourth not in asked


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("suggested", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 2])
def test_killed_between_two_suggestions(
    sampler: str, suggested: int, at: int, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = search(sampler, schedule=("gu", "fun"), points=4)
    undisturbed = one_by_one(opened(of))
    path = tmp_path / "killed.db"
    study = opened(of, path=path)
    for _ in range(at):
        one = study.ask()
        assert one is not None
        study.tell(one.number, value(one.point))

    real: Any = optuna.trial.Trial.suggest_categorical
    calls: list[str] = []

    def killed(trial: optuna.trial.Trial, name: str, choices: object) -> object:
        if len(calls) == suggested:
            raise KeyboardInterrupt
        calls.append(name)
        return real(trial, name, choices)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.trial.Trial, "suggest_categorical", killed)
        with pytest.raises(KeyboardInterrupt):
            study.ask()
    assert [(one.number, one.point) for one in one_by_one(opened(of, path=path))] == [
        (one.number, one.point) for one in undisturbed[at:]
    ]


def test_a_duplicate_is_told_at_once_and_costs_nothing(opened: Opened) -> None:
    study = opened(search("random", points=5))
    one_by_one(study)
    asked = study.asked()
    duplicates = [one for one in asked if one.duplicate_of is not None]
    assert duplicates
    assert len(asked) - len(duplicates) == 5
    for one in duplicates:
        first = asked[one.duplicate_of or 0]
        assert (one.point, one.state, one.mean) == (first.point, "told", value(first.point))
        assert first.duplicate_of is None


@pytest.mark.parametrize("mean", [71.5, None])
def test_a_duplicate_of_an_open_point_waits_for_it(mean: float | None, opened: Opened) -> None:
    study = opened(search("random"))
    while study.ask() is not None:
        pass
    duplicate = next(one for one in study.asked() if one.duplicate_of is not None)
    assert duplicate.state == "open"
    study.tell(duplicate.duplicate_of or 0, mean)
    after = study.asked()[duplicate.number]
    assert (after.state, after.mean) == ("failed" if mean is None else "told", mean)


def test_a_waiting_duplicate_survives_a_kill_before_it_was_told(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(search("random"))
    while study.ask() is not None:
        pass
    duplicate = next(one for one in study.asked() if one.duplicate_of is not None)
    monkeypatch.setattr(study, "_settle", lambda: None)
    study.tell(duplicate.duplicate_of or 0, 50.0)
    assert study.asked()[duplicate.number].state == "open"
    assert opened(search("random")).asked()[duplicate.number].mean == 50.0


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_duplicates_in_a_row_are_bounded(sampler: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler in love with one point still leaves it, for a point drawn from those not tried."""
    monkeypatch.setattr(optuna_study, "DUPLICATES_IN_A_ROW", 2)
    monkeypatch.setitem(optuna_study.SAMPLERS, sampler, lambda seed: _Stuck())
    study = opened(search(sampler))
    assert len(one_by_one(study)) == 6
    assert [one.duplicate_of for one in study.asked()] == [None, *[0, 0, None] * 5]


class _Stuck(optuna.samplers.BaseSampler):
    def infer_relative_search_space(self, study: object, trial: object) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: object, trial: object, search_space: object) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: object, trial: object, param_name: str, param_distribution: Any) -> Any:
        return param_distribution.choices[0]


def test_grid_is_enqueued_once_its_schedules_in_turns(opened: Opened) -> None:
    for _ in range(3):
        study = opened(search("grid"))
    asked = one_by_one(study)
    assert [one.point.schedule for one in asked] == ["standard", "gu", "standard", "gu", "gu", "gu"]
    assert {one.point for one in asked} == set(points(search("grid")))
    assert [one.number for one in asked] == list(range(6))
    assert opened(search("grid")).ask() is None


@pytest.mark.parametrize("mean", [81.25, 0.1 + 0.2, 0.0])
def test_told_once(mean: float, opened: Opened) -> None:
    study = opened(search("grid"))
    study.ask()
    attrs = {"seed_scores": {"0": mean}, "std": None, "n": 1, "n_failed": 0}
    study.tell(0, mean, attrs)
    study.tell(0, mean, attrs)
    opened(search("grid")).tell(0, mean, attrs)
    assert study.asked()[0].mean == mean
    for other in (math.nextafter(mean, 100), None):
        with pytest.raises(DamageError, match=r"cell 0 was told .*, now it would be"):
            study.tell(0, other)
    stored = optuna.load_study(study_name=study.name, storage=f"sqlite:///{opened.path}").trials[0]
    assert stored.value == mean
    assert stored.user_attrs == attrs


@pytest.mark.parametrize("mean", [None, math.nan, math.inf, -math.inf])
def test_no_mean_is_fail_and_never_running(mean: float | None, opened: Opened) -> None:
    study = opened(search("grid"))
    study.ask()
    study.tell(0, mean, {"n": 3, "n_failed": 1})
    study.tell(0, mean)
    assert (study.asked()[0].state, study.asked()[0].mean) == ("failed", None)
    with pytest.raises(DamageError, match=r"cell 0 was told FAIL, now it would be 5\.0"):
        study.tell(0, 5.0)


@pytest.mark.parametrize("number", [1, 99])
def test_a_cell_never_asked_for_cannot_be_told(number: int, opened: Opened) -> None:
    study = opened(search("grid"))
    study.ask()
    with pytest.raises(DamageError, match=f"cell {number} was never asked for"):
        study.tell(number, 1.0)


def test_two_objects_cannot_tell_one_cell_differently(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second learns only inside its own tell that the first was there in between."""
    one, two = opened(search("grid")), opened(search("grid"))
    one.ask()
    real = two._study.tell

    def late(*args: object, **kwargs: object) -> object:
        one.tell(0, 1.0)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(two._study, "tell", late)
    with pytest.raises(DamageError, match=r"cell 0 was told 1\.0, now it would be 2\.0"):
        two.tell(0, 2.0)
    assert one.asked()[0].mean == 1.0


def test_two_sweeps_never_merge(opened: Opened) -> None:
    a, b = search("tpe"), search("tpe", lr=(1e-4,))
    names = {study_name("one", a), study_name("two", a), study_name("one", b), study_name("one", a, "elsewhere")}
    assert len(names) == 4
    assert study_name("one", a) == study_name("one", search("tpe", points=4))
    opened(a, name="same")
    with pytest.raises(StudyError, match=r"holds same over another space(.|\n)*--name"):
        opened(b, name="same")


def test_the_file_is_private(opened: Opened) -> None:
    opened.path.touch(mode=0o644)
    opened(search("grid")).ask()
    assert stat.S_IMODE(opened.path.stat().st_mode) == 0o600


def test_every_transaction_takes_the_write_lock_when_it_begins(opened: Opened) -> None:
    study = opened(search("grid"), lock_timeout_s=0.01, patience_s=0.05)
    other = sqlite3.connect(opened.path, timeout=0)
    with study._storage.engine.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_locked_database_is_waited_for(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(search("grid"), lock_timeout_s=0.01, patience_s=5)
    study.ask()
    other = sqlite3.connect(opened.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            other.execute("COMMIT")

    monkeypatch.setattr("raysched.search.database.time.sleep", pause)
    study.tell(0, 3.0)
    other.close()
    assert pauses == [0.1, 0.2]
    assert study.asked()[0].mean == 3.0


def test_who_is_asked_to_end_does_not_wait_for_the_database(opened: Opened) -> None:
    study = opened(search("grid"), lock_timeout_s=0.01, patience_s=300)
    study.ask()
    other = sqlite3.connect(opened.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    looks = iter([False, False, True, True])
    study.hurried = lambda: next(looks)
    with pytest.raises(StoppedError, match=r"did not answer for \d s: database is locked"):
        study.tell(0, 3.0)
    other.close()
    study.hurried = lambda: False
    study.tell(0, 3.0)


def test_a_grid_of_thousands_waits_in_no_database(opened: Opened) -> None:
    """What waits is read anew at every call."""
    study = opened(search("grid"))
    for number in range(3):
        assert study.ask() is not None
        assert len(study._trials()) == number + 1


def test_a_database_locked_for_too_long_stops_the_sweep(opened: Opened) -> None:
    study = opened(search("grid"), lock_timeout_s=0.01, patience_s=0.2)
    study.ask()
    other = sqlite3.connect(opened.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoppedError, match=r"did not answer for 0\.2 s: database is locked(.|\n)*same command"):
        study.tell(0, 3.0)
    other.close()


def test_bad_databases(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "not.db").write_bytes(b"hello, this is no database file at all" * 40)
    with pytest.raises(DamageError, match="cannot be read: file is not a database"):
        opened(search("grid"), path=tmp_path / "not.db")
    with pytest.raises(MissingError, match=r"cannot be opened: No such file"):
        opened(search("grid"), path=tmp_path / "nowhere" / "optuna.db")
    for url in ("nothing://x:y:z", "://"):
        with pytest.raises(StudyError, match="not a database URL"):
            OptunaStudy(url, "name", search("grid"))


def test_braces_in_a_path(opened: Opened, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "a{b}%20c")
    path = tmp_path / "a{b}%20c" / "optuna.db"
    assert opened(search("grid"), path=path).ask() is not None
    assert path.is_file()


def test_never_pickled(opened: Opened) -> None:
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(opened(search("grid")))
