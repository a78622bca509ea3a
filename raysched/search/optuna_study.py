"""The search's memory: which points were asked, and what each was told.

With `optuna_storage`, the only door to Optuna. One Optuna trial per cell. Importing this file takes about a second:
import it where a sweep starts, not at a command's top. Whatever is interrupted, between any two writes, is continued
under its number by a new object on the same database; an answer that was lost is asked for again and comes out the
same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from raysched.errors import DamageError, StudyError
from raysched.search.database import Address, patiently
from raysched.search.optuna_storage import (
    REPLACES,
    SAMPLERS,
    check_numbers,
    connect,
    emptied,
    newest,
    open_study,
)
from raysched.search.proposals import Asked, balanced, choices, seed_of, space, study_name
from raysched.study.search import Search
from raysched.study.space import Point, points, uses_k

__all__ = ["SAMPLERS", "Asked", "OptunaStudy", "study_name"]

DUPLICATES_IN_A_ROW = 5
"""After so many duplicate proposals on end a point is drawn uniformly from those not tried yet."""
SPACE, DUPLICATE_OF, GAP = "raysched.space", "duplicate_of", "raysched.gap"
NOT_ASKED = {DUPLICATE_OF, REPLACES, GAP}
"""Marks of trials that are no points of their own: proposed twice, told anew, or lost with an earlier database."""
Result = TypeVar("Result")
_OPEN = (TrialState.RUNNING, TrialState.WAITING)
CONNECT_PATIENCE_S = 30.0


class OptunaStudy:
    """Ask for points, tell cells. `storage` is the path of an SQLite file, or an `Address`'s URL.

    One process at a time may hold it for writing (the sweep's lock sees to that). Database trouble is waited out for
    `patience_s`, then StoppedError; a database that is no database, or that says something else than the caller,
    is a DamageError; one that cannot be opened at all a MissingError.
    """

    def __init__(
        self,
        storage: str | Path,
        study_name: str,
        search: Search,
        *,
        earlier: Sequence[str] = (),
        saved: Callable[[], None] = lambda: None,
        patience_s: float = 300,
        lock_timeout_s: float = 60,
    ) -> None:
        """`earlier` names this sweep's studies over smaller spaces in the same database, the newest first.

        `saved` is called after every write.
        """
        self._search, self._patience_s, self._handed = search, patience_s, set[int]()
        self._saved = saved
        self.hurried: Callable[[], bool] = lambda: False
        """Whether database trouble is not waited out any more: the process was asked to end."""
        self._all = points(search)
        self._grid = balanced(self._all) if search.sampler == "grid" else []
        self._choices = choices(self._all)
        self._target = len(self._all) if search.sampler == "grid" or search.points is None else search.points
        self._target = min(self._target, len(self._all))
        self._address = Address(storage, lock_timeout_s)
        self._address.make()
        self._storage = patiently(lambda: connect(self._address), self._address, min(patience_s, CONNECT_PATIENCE_S))
        self._study = self._patiently(lambda: self._load(study_name, earlier))
        self._written(self._settle)

    @property
    def name(self) -> str:
        return self._study.study_name

    @property
    def place(self) -> str:
        """Where the database is, without its password."""
        return str(self._address)

    @property
    def is_file(self) -> bool:
        """Whether moving a file away leaves an empty database."""
        return self._address.journal is not None or self._address.backend == "sqlite"

    @property
    def target(self) -> int:
        """How many distinct points will be asked in all."""
        return self._target

    @property
    def _draws_method(self) -> bool:
        """Whether the sampler decides between adapters and full fine-tuning; studies of adapters alone have no such
        parameter, as they had none before there was a choice."""
        return self._search.sampler != "grid" and self._search.method != ("adapters",)

    def ask(self) -> Asked | None:
        """The next point, None once the budget or the space is used up.

        Points that were asked for earlier and neither told nor handed out by this object come first, under their
        number: that is how a restarted driver gets its open cells back.
        """
        return self._written(self._ask)

    def tell(self, number: int, mean: float | None, attrs: Mapping[str, Any] | None = None) -> None:
        """Tell a complete cell's mean, or FAIL where it has none (None, or not a finite number).

        `attrs` (JSON values) are kept beside it. Telling the same again is harmless; anything else a DamageError.
        """
        value = float(mean) if mean is not None and math.isfinite(mean) else None
        self._written(lambda: self._tell(number, value, dict(attrs or {})))

    def amend(self, number: int, mean: float | None, attrs: Mapping[str, Any] | None = None) -> None:
        """Tell a cell that got more seeds, or another try of a failed one: what it was told before is replaced.

        A finished trial of Optuna cannot be changed, so a further one of the same point says which it replaces.
        Telling the same again is harmless.
        """
        value = float(mean) if mean is not None and math.isfinite(mean) else None
        self._written(lambda: self._amend(number, value, dict(attrs or {})))

    def rebuild(self, known: Mapping[int, Point]) -> None:
        """Take these points, which an earlier database knew by these numbers, as asked for and not told yet.

        Only for a database that knows no point; duplicates, which nobody else knows, stay forgotten.
        """
        if self.asked():
            raise ValueError("only an empty search database can be rebuilt")
        self._written(lambda: self._rebuild(known))

    def asked(self) -> tuple[Asked, ...]:
        """Every point proposed so far, by number, duplicates included; each as it was told last."""
        trials = self._patiently(self._trials)
        last_of = newest(trials)
        found = []
        for trial in trials:
            point = self._point(trial)
            if trial.state == TrialState.WAITING or REPLACES in trial.user_attrs or point is None:
                continue
            first = trial.user_attrs.get(DUPLICATE_OF)
            last = trial if trial.state in _OPEN else last_of[trial.number if first is None else first]
            found.append(
                Asked(
                    number=trial.number,
                    point=point,
                    state="open" if last.state in _OPEN else "told" if last.state == TrialState.COMPLETE else "failed",
                    mean=last.value,
                    duplicate_of=first,
                )
            )
        return tuple(found)

    def close(self) -> None:
        self._storage.remove_session()
        if isinstance(self._storage, optuna.storages.RDBStorage):
            self._storage.engine.dispose()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an OptunaStudy holds a database handle and is never pickled")

    def _load(self, name: str, earlier: Sequence[str]) -> optuna.Study:
        """The study; a new one of a sweep that has grown starts with what the one before it knew.

        The space is written last: a study without it was interrupted while it was made, and is made anew.
        """
        study = open_study(self._storage, name, self._search)
        known = study.user_attrs.get(SPACE)
        if known is None:
            if study.get_trials(deepcopy=False):
                study = emptied(self._storage, name, self._search)
            there = set(optuna.get_all_study_names(self._storage))
            for other in (one for one in earlier if one in there and one != name):
                before = optuna.load_study(study_name=other, storage=self._storage)
                if SPACE in before.user_attrs:
                    self._copy(before, study)
                    break
            study.set_user_attr(SPACE, space(self._search))
        elif known != space(self._search):
            raise StudyError(
                f"the search database {self._address} holds {name} over another space, {known}",
                key="search",
                hint="give the changed study a name of its own with --name",
            )
        return study

    def _copy(self, before: optuna.Study, study: optuna.Study) -> None:
        """Every trial under its number, whatever its state, over this study's choices."""
        trials = before.get_trials(deepcopy=False)
        for trial in map(copy.deepcopy, trials):
            if self._draws_method:  # where there was no choice, everything was adapters
                if trial.params:
                    trial.params = {"method": "adapters", **trial.params}
                if fixed := trial.system_attrs.get("fixed_params"):
                    trial.system_attrs = {**trial.system_attrs, "fixed_params": {"method": "adapters", **fixed}}
            trial.distributions = self._distributions(trial.params)
            study.add_trial(trial)
        check_numbers(study, len(trials), self._address)

    def _rebuild(self, known: Mapping[int, Point]) -> None:
        study = emptied(self._storage, self.name, self._search)
        for number in range(max(known) + 1):
            if number in known:
                values = self._values(known[number])
                study.add_trial(
                    create_trial(
                        state=TrialState.RUNNING,
                        params=values,
                        distributions=self._distributions(values),
                        system_attrs={"fixed_params": values},
                    )
                )
            else:
                study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={GAP: True}))
        check_numbers(study, max(known) + 1, self._address)
        study.set_user_attr(SPACE, space(self._search))
        self._study = study

    def _distributions(self, values: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        return {name: CategoricalDistribution(self._choices[name]) for name in values}

    def _values(self, point: Point) -> dict[str, Any]:
        return {**point.params(), **({"method": point.method} if self._draws_method else {})}

    def _ask(self) -> Asked | None:
        while True:
            trials = self._settle()
            own = [trial for trial in trials if not NOT_ASKED & trial.user_attrs.keys()]
            lost = [one for one in own if one.state == TrialState.RUNNING and one.number not in self._handed]
            if lost:
                trial = Trial(self._study, lost[0]._trial_id)
            else:
                if not any(one.state == TrialState.WAITING for one in trials):
                    if len(own) >= self._target:
                        return None
                    last = own[-1].number if own else -1
                    if self._grid:  # one at a time: what waits is read anew at every call, which is slow for thousands
                        tried = {self._point(one) for one in trials}
                        self._enqueue(next(point for point in self._grid if point not in tried))
                    elif sum(DUPLICATE_OF in one.user_attrs for one in trials[last + 1 :]) >= DUPLICATES_IN_A_ROW:
                        self._enqueue_untried(trials)
                trial = self._study.ask()
            point = self._suggest(trial)
            first = self._first(point, trials, trial.number)
            if first is None:
                self._handed.add(trial.number)
                return Asked(number=trial.number, point=point)
            trial.set_user_attr(DUPLICATE_OF, first.number)

    def _suggest(self, trial: Trial) -> Point:
        """Stored values where the trial has them, else drawn: parameters a schedule does not use are never made."""
        fixed = self._storage.get_trial(trial._trial_id).system_attrs.get("fixed_params", {})
        schedule = trial.suggest_categorical("schedule", self._choices["schedule"])
        names = ["lr", *(["k"] if uses_k(schedule) else []), *(["method"] if self._draws_method else [])]
        # What only arms have is in the points of a grid, which were enqueued whole.
        names += [name for name in ("method", "epochs", "steps") if name in fixed and name not in names]
        drawn = {name: trial.suggest_categorical(name, self._choices[name]) for name in names}
        return Point(schedule=schedule, **drawn)

    def _enqueue_untried(self, trials: Sequence[FrozenTrial]) -> None:
        tried = {self._point(trial) for trial in trials}
        untried = [point for point in self._all if point not in tried]
        choice = seed_of(self._search.seed, len(trials), "untried") % len(untried)
        self._enqueue(untried[choice])

    def _enqueue(self, point: Point) -> None:
        self._study.enqueue_trial(self._values(point))

    def _first(self, point: Point, trials: Sequence[FrozenTrial], number: int) -> FrozenTrial | None:
        return next((trial for trial in trials if trial.number < number and self._point(trial) == point), None)

    def _tell(self, number: int, value: float | None, attrs: dict[str, Any]) -> None:
        trials = self._trials()
        trial = self._cell(trials, number)
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if not trial.state.is_finished():
            try:
                attached = Trial(self._study, trial._trial_id)
                for name, attr in attrs.items():
                    attached.set_user_attr(name, attr)
                self._study.tell(number, value, state=state)
            except (UpdateFinishedTrialError, ValueError):  # told in between by another process: compare below
                pass
            trials = self._trials()
        last = newest(trials)[number]
        if (last.state, last.value) != (state, value):
            raise DamageError(
                f"cell {number} was told {_said(last.state, last.value)}, now it would be {_said(state, value)}",
                key=str(self._address),
                hint="the records and the search database are not of the same sweep",
            )
        self._settle()

    def _amend(self, number: int, value: float | None, attrs: dict[str, Any]) -> None:
        trials = self._trials()
        trial = self._cell(trials, number)
        if not trial.state.is_finished():
            return self._tell(number, value, attrs)
        state, last = TrialState.FAIL if value is None else TrialState.COMPLETE, newest(trials)[number]
        if (last.state, last.value) != (state, value) or not attrs.items() <= last.user_attrs.items():
            self._study.add_trial(
                create_trial(
                    state=state,
                    value=value,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={**attrs, REPLACES: number},
                )
            )
        self._settle()
        return None

    def _cell(self, trials: Sequence[FrozenTrial], number: int) -> FrozenTrial:
        trial = next((trial for trial in trials if trial.number == number), None)
        if trial is None or self._point(trial) is None or trial.state == TrialState.WAITING:
            raise DamageError(f"cell {number} was never asked for in the search database {self._address}")
        return trial

    def _settle(self) -> list[FrozenTrial]:
        """Tell open duplicates what the first trial of their point was told last; all trials after that."""
        trials = self._trials()
        open_ones = [one for one in trials if one.state == TrialState.RUNNING and DUPLICATE_OF in one.user_attrs]
        last_of = newest(trials) if open_ones else {}
        told = [(one, last_of[one.user_attrs[DUPLICATE_OF]]) for one in open_ones]
        told = [(one, first) for one, first in told if first.state.is_finished()]
        for one, first in told:
            self._study.tell(one.number, first.value, state=first.state)
        return self._trials() if told else trials

    def _trials(self) -> list[FrozenTrial]:
        """By number, which Optuna counts from 0 without gaps."""
        return self._study.get_trials(deepcopy=False)

    def _point(self, trial: FrozenTrial) -> Point | None:
        """None while some of its values were not drawn yet."""
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if "schedule" not in params or "lr" not in params or (uses_k(params["schedule"]) and "k" not in params):
            return None
        if self._draws_method and "method" not in params:
            return None
        return Point(**params)

    def _written(self, call: Callable[[], Result]) -> Result:
        result = self._patiently(call)
        self._saved()
        return result

    def _patiently(self, call: Callable[[], Result]) -> Result:
        return patiently(call, self._address, self._patience_s, self.hurried)


def _said(state: TrialState, value: float | None) -> str:
    return f"{value!r}" if state == TrialState.COMPLETE else state.name
