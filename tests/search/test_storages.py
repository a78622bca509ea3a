"""The same contract over SQLite, a journal file and PostgreSQL: growth, retries, and no kill that matters."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import optuna
import pytest

from raysched.errors import DamageError
from raysched.search.optuna_study import Asked, OptunaStudy
from raysched.study.search import Arm, Search
from raysched.study.space import Point, points
from tests.search.conftest import NewStorage, Opened

SPACE: dict[str, Any] = {"schedule": ("standard", "gu"), "lr": (1e-4, 2e-4), "k": (25, 50)}  # 2 + 4 points
LARGER: dict[str, Any] = {"schedule": ("gu", "standard"), "lr": (1e-4, 2e-4, 3e-4), "k": (25, 50)}  # 3 + 6 points


def search(sampler: str = "grid", **changes: Any) -> Search:
    return Search(**{**SPACE, "sampler": sampler, "objective": "source_dev/f1", **changes})


def value(point: Point) -> float:
    return zlib.crc32(str(point).encode()) % 1000 / 10


def finish(study: OptunaStudy) -> list[Asked]:
    asked = []
    while (one := study.ask()) is not None:
        asked.append(one)
        study.tell(one.number, value(one.point), {"n": 2})
    return asked


def told(study: OptunaStudy) -> dict[Point, tuple[str, float | None]]:
    return {one.point: (one.state, one.mean) for one in study.asked() if one.duplicate_of is None}


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_ask_tell_and_adopt(sampler: str, new_storage: NewStorage, opened_at: Opened) -> None:
    where, of = new_storage(), search(sampler)
    first = opened_at(where, of)
    one, two = first.ask(), first.ask()
    assert one is not None
    assert two is not None
    first.tell(one.number, 81.25, {"n": 2})
    again = opened_at(where, of)
    assert again.ask() == two
    again.tell(one.number, 81.25, {"n": 2})
    with pytest.raises(DamageError, match=r"was told 81\.25, now it would be 5\.0"):
        again.tell(one.number, 5.0)
    again.tell(two.number, None)
    assert {one.point, two.point} | {other.point for other in finish(again)} == set(points(of))
    states = told(opened_at(where, of))
    assert states[one.point] == ("told", 81.25)
    assert states[two.point] == ("failed", None)
    assert opened_at(where, of).ask() is None


def test_every_write_is_followed_by_saving(new_storage: NewStorage, opened_at: Opened) -> None:
    calls: list[int] = []
    study = opened_at(new_storage(), search(), saved=lambda: calls.append(1))
    seen = [len(calls)]
    one = study.ask()
    assert one is not None
    seen.append(len(calls))
    study.tell(one.number, 1.0)
    seen.append(len(calls))
    study.amend(one.number, 2.0)
    seen.append(len(calls))
    study.asked()
    assert seen == sorted(set(seen))
    assert len(calls) == seen[-1]


@pytest.mark.parametrize("before", [None, 40.0])
def test_a_told_cell_is_told_anew(before: float | None, new_storage: NewStorage, opened_at: Opened) -> None:
    """A failed seed that was retried, or more seeds: the point keeps its number, the budget its size."""
    where, of = new_storage(), search("tpe", points=3)
    study = opened_at(where, of)
    one = study.ask()
    assert one is not None
    study.tell(one.number, before, {"n": 2})
    for _ in range(2):
        study.amend(one.number, 60.0, {"n": 4})
        study = opened_at(where, of)
    assert study.asked() == (Asked(number=one.number, point=one.point, state="told", mean=60.0),)
    study.tell(one.number, 60.0)
    with pytest.raises(DamageError, match=r"was told 60\.0, now it would be"):
        study.tell(one.number, before)
    study.amend(one.number, 60.0, {"n": 5})  # the same mean of more seeds
    study.amend(one.number, None, {"n": 5})
    assert [(asked.state, asked.mean) for asked in study.asked()] == [("failed", None)]
    trials = study._study.get_trials()
    assert [trial.user_attrs.get("raysched.replaces") for trial in trials] == [None, 0, 0, 0]
    assert [trial.user_attrs["n"] for trial in trials] == [2, 4, 5, 5]
    assert all(trial.params == trials[0].params for trial in trials)
    assert len({asked.point for asked in finish(study)}) == 2  # of three points, one was taken
    assert study.ask() is None


def test_an_open_cell_is_simply_told(new_storage: NewStorage, opened_at: Opened) -> None:
    study = opened_at(new_storage(), search())
    study.ask()
    study.amend(0, 7.0, {"n": 1})
    assert len([trial for trial in study._study.get_trials() if trial.state.is_finished()]) == 1
    with pytest.raises(DamageError, match="cell 5 was never asked for"):
        study.amend(5, 7.0)


def test_duplicates_get_what_was_told_last(opened_at: Opened, tmp_path: Path) -> None:
    where, of = f"journal://{tmp_path}/a.journal", search("random")
    study = opened_at(where, of)
    while study.ask() is not None:
        pass
    first = next(one.duplicate_of for one in study.asked() if one.duplicate_of is not None)
    study.tell(first, 10.0)
    study.amend(first, 20.0)
    same = [one for one in opened_at(where, of).asked() if first in (one.number, one.duplicate_of)]
    assert len(same) > 1
    assert {(one.state, one.mean) for one in same} == {("told", 20.0)}


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_larger_space_takes_along_what_was_known(sampler: str, new_storage: NewStorage, opened_at: Opened) -> None:
    where, small, large = new_storage(), search(sampler), search(sampler, **LARGER)
    study = opened_at(where, small, "small")
    asked = [study.ask() for _ in range(3)]
    a, b, c = [one for one in asked if one is not None]
    study.tell(a.number, 50.0, {"n": 2})
    study.tell(b.number, None)
    study.amend(b.number, 55.0, {"n": 2})
    known = study.asked()
    for _ in range(2):
        grown = opened_at(where, large, "large", earlier=("small", "never made"))
        assert grown.asked() == known
    assert grown.ask() == c  # open ones stay open, under their number
    grown.tell(c.number, 3.0)
    finish(grown)
    assert set(told(grown)) == set(points(large))
    assert grown.target == 9
    assert (told(grown)[a.point], told(grown)[b.point]) == (("told", 50.0), ("told", 55.0))
    assert opened_at(where, small, "small").asked() == known


def test_a_method_that_comes_later(opened_at: Opened, tmp_path: Path) -> None:
    where = f"journal://{tmp_path}/a.journal"
    study = opened_at(where, search("tpe", points=2), "small")
    finish(study)
    large = search("tpe", method=("adapters", "full"), points=12)
    grown = opened_at(where, large, "large", earlier=("small",))
    assert [one.point for one in grown.asked()] == [one.point for one in study.asked()]
    finish(grown)
    assert set(told(grown)) == set(points(large))


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_lost_database_is_rebuilt(sampler: str, new_storage: NewStorage, opened_at: Opened) -> None:
    arms = {"arms": (Arm(schedule="standard", lr=5e-4, epochs=7),)} if sampler == "grid" else {}
    of = search(sampler, **arms)
    lost = opened_at(new_storage(), of)
    asked = [lost.ask() for _ in range(4)]
    known = {one.number: one.point for one in asked if one is not None and one.number != 1}  # as if 1 was a duplicate
    where = new_storage()
    study = opened_at(where, of)
    study.rebuild(known)
    assert {one.number: (one.point, one.state) for one in study.asked()} == {
        number: (point, "open") for number, point in known.items()
    }
    again = opened_at(where, of)
    assert {one.number: one.point for one in finish(again)}.items() >= known.items()
    assert set(told(again)) == set(points(of))
    with pytest.raises(ValueError, match="only an empty search database"):
        again.rebuild(known)


# -- kills ------------------------------------------------------------------------------------------------------

WRITES = {
    optuna.storages.RDBStorage: (
        "create_new_study",
        "delete_study",
        "set_study_user_attr",
        "_create_new_trial",
        "set_trial_param",
        "set_trial_state_values",
        "set_trial_user_attr",
        "set_trial_system_attr",
    ),
    optuna.storages.JournalStorage: ("_write_log",),
}


class Killed(BaseException):
    """The process ended here."""


class Mortal:
    """Ends the process at the n-th write of Optuna, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n, self.die_at, self.before = 0, 0, False
        for kind, names in WRITES.items():
            for name in names:
                monkeypatch.setattr(kind, name, self._wrapped(getattr(kind, name)))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            self.n += 1
            if self.n == self.die_at and self.before:
                raise Killed
            answer = real(*args, **kwargs)
            if self.n == self.die_at:
                raise Killed
            return answer

        return write


def grow(storage: str, opened_at: Opened, sampler: str) -> tuple[Asked, ...]:
    """What a driver does that finds a sweep which has grown; all of it may be repeated."""
    study = opened_at(storage, search(sampler, **LARGER), "large", earlier=("small",))
    study.amend(0, 70.0, {"n": 4})
    study.amend(1, 30.0, {"n": 4})
    finish(study)
    return study.asked()


def small(storage: str, opened_at: Opened, sampler: str) -> None:
    study = opened_at(storage, search(sampler, points=4), "small")
    for mean in (50.0, None, 20.0):
        one = study.ask()
        assert one is not None
        study.tell(one.number, mean, {"n": 2})
    study.ask()


FAULTS = pytest.mark.faults
KILLED = [
    ("journal", "grid", False, 3),
    *(pytest.param("journal", sampler, before, 1, marks=FAULTS) for sampler in ("grid", "tpe") for before in (0, 1)),
    *(pytest.param("sqlite", "grid", before, 7, marks=FAULTS) for before in (0, 1)),
    *(pytest.param("postgres", "grid", before, 7, marks=[FAULTS, pytest.mark.postgres]) for before in (0, 1)),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("new_storage", "sampler", "before", "step"), KILLED, indirect=["new_storage"])
def test_growth_killed_at_every_write(
    sampler: str,
    before: bool,
    step: int,
    new_storage: NewStorage,
    opened_at: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first kill leaves nothing at all; every later one leaves what the next start completes or makes anew."""
    where = new_storage()
    small(where, opened_at, sampler)
    mortal = Mortal(monkeypatch)
    undisturbed = grow(where, opened_at, sampler)
    total, mortal.before = mortal.n, before
    assert total > 20  # writes to be killed at
    for die_at in range(1, total + 1, step):
        where, mortal.die_at = new_storage(), 0
        small(where, opened_at, sampler)
        mortal.n, mortal.die_at = 0, die_at
        with pytest.raises(Killed):
            grow(where, opened_at, sampler)
        opened_at.close()
        mortal.die_at = 0
        assert grow(where, opened_at, sampler) == undisturbed, die_at
        opened_at.close()


# -- journal files ----------------------------------------------------------------------------------------------


def journal_of(storage: str) -> Path:
    return Path(unquote(storage.removeprefix("journal://")))


def test_a_torn_journal_is_cut(opened_at: Opened, tmp_path: Path) -> None:
    """Every cut of its last line: an interrupted write never was, and what comes after it stays whole."""
    where, of = f"journal://{tmp_path}/a.journal", search()
    opened_at(where, of).ask()
    path = journal_of(where)
    whole = path.read_bytes()
    last = len(whole[:-1].rpartition(b"\n")[2])
    for cut in (1, 2, last // 2, last):
        path.write_bytes(whole[:-cut])
        assert len(finish(opened_at(where, of))) == 6
        assert len(told(opened_at(where, of))) == 6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_journal_is_refused(opened_at: Opened, tmp_path: Path) -> None:
    where = f"journal://{tmp_path}/a.journal"
    opened_at(where, search()).ask()
    path = journal_of(where)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"op_co\n', *lines[3:]]))
    with pytest.raises(DamageError, match=r"cannot be read(.|\n)*move the file away"):
        opened_at(where, search())


def test_a_lock_that_a_killed_driver_left(opened_at: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysched.search.optuna_storage.LOCK_LEFT_S", 3)
    where = f"journal://{tmp_path}/a.journal"
    opened_at(where, search()).ask()
    (tmp_path / "a.journal.lock").touch()
    assert len(finish(opened_at(where, search()))) == 6
    assert not (tmp_path / "a.journal.lock").exists()
