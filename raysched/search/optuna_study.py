"""The search's memory: which points were asked, and what each was told. The only file that knows Optuna.

One Optuna trial per cell. Importing this file takes about a second: import it where a sweep starts, not at a
command's top. Whatever is interrupted, between any two writes, is continued under its number by a new object on the
same database; an answer that was lost is asked for again and comes out the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from raysched.errors import DamageError, MissingError, StudyError
from raysched.search.database import Address, patiently
from raysched.study.identity import digest
from raysched.study.search import Search
from raysched.study.space import Point, points, uses_k

DUPLICATES_IN_A_ROW = 5
"""After so many duplicate proposals on end a point is drawn uniformly from those not tried yet."""
SPACE, DUPLICATE_OF = "raysched.space", "duplicate_of"
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # Joint over the parameters that every point has (schedule, lr); k, which only some have, is sampled by itself.
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # never asked: every point of a grid is enqueued
}
Result = TypeVar("Result")
_OPEN = (TrialState.RUNNING, TrialState.WAITING)

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One proposed point. `mean` is set where it was told; `duplicate_of` where an earlier number has the point."""

    number: int
    point: Point
    state: Literal["open", "told", "failed"] = "open"
    mean: float | None = None
    duplicate_of: int | None = None


def space(search: Search) -> dict[str, Any]:
    """What an Optuna study is bound to: everything of the search but its budget, which may be extended."""
    later = {name for name in ("method", "arms") if getattr(search, name) == Search.model_fields[name].default}
    return search.model_dump(mode="json", exclude={"points", *later})


def _choices(of: Sequence[Point]) -> dict[str, tuple[Any, ...]]:
    """Every value that a parameter takes in any point: an Optuna study has one set of choices per parameter."""
    found: dict[str, list[Any]] = {"method": [point.method for point in of]}
    for point in of:
        for name, value in point.params().items():
            found.setdefault(name, []).append(value)
    return {name: tuple(dict.fromkeys(values)) for name, values in found.items()}


def study_name(sweep: str, search: Search, identity: str = "") -> str:
    """A name that no other sweep has, in a database that many share.

    `identity` is whatever else tells two sweeps of one name apart there (the storage, the study's digest).
    """
    return f"{sweep}-{digest([space(search), identity], 12)}"


def balanced(of: Sequence[Point]) -> list[Point]:
    """The points in turns, one of each schedule: a grid that is cut short has treated its schedules alike."""
    turn = {point: sum(other.schedule == point.schedule for other in of[:i]) for i, point in enumerate(of)}
    return sorted(of, key=turn.__getitem__)


def _seed(*parts: object) -> int:
    """32 bits out of SHA-256: the whole state of the sampler."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


class Stateless(BaseSampler):
    """Any sampler, without memory: what it draws is a function of (history, base seed, trial number, name)."""

    def __init__(self, make: Callable[[int], BaseSampler], base: int) -> None:
        self._make, self._base = make, base

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._fresh(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._fresh(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._fresh(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _fresh(self, trial: FrozenTrial, *name: str) -> BaseSampler:
        return self._make(_seed(self._base, trial.number, *name))


class OptunaStudy:
    """Ask for points, tell cells. `storage` is the path of an SQLite file or a database URL (PostgreSQL).

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
        patience_s: float = 300,
        lock_timeout_s: float = 60,
    ) -> None:
        self._search, self._patience_s, self._handed = search, patience_s, set[int]()
        self._all = points(search)
        self._choices = _choices(self._all)
        self._target = len(self._all) if search.sampler == "grid" or search.points is None else search.points
        self._target = min(self._target, len(self._all))
        self._address = Address(storage, lock_timeout_s)
        self._storage = self._patiently(self._connect)
        self._study = self._patiently(lambda: self._load(study_name))
        self._patiently(self._prepare)

    @property
    def name(self) -> str:
        return self._study.study_name

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
        return self._patiently(self._ask)

    def tell(self, number: int, mean: float | None, attrs: Mapping[str, Any] | None = None) -> None:
        """Tell a complete cell's mean, or FAIL where it has none (None, or not a finite number).

        `attrs` (JSON values) are kept beside it. Telling the same again is harmless; anything else a DamageError.
        """
        value = float(mean) if mean is not None and math.isfinite(mean) else None
        self._patiently(lambda: self._tell(number, value, dict(attrs or {})))

    def asked(self) -> tuple[Asked, ...]:
        """Every point proposed so far, by number, duplicates included."""
        seen = (
            (trial, self._point(trial)) for trial in self._patiently(self._trials) if trial.state != TrialState.WAITING
        )
        return tuple(
            Asked(
                number=trial.number,
                point=point,
                state="open" if trial.state in _OPEN else "told" if trial.state == TrialState.COMPLETE else "failed",
                mean=trial.value,
                duplicate_of=trial.user_attrs.get(DUPLICATE_OF),
            )
            for trial, point in seen
            if point is not None
        )

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an OptunaStudy holds a database handle and is never pickled")

    def _connect(self) -> optuna.storages.RDBStorage:
        url = self._address.url.replace("{", "{{").replace("}", "}}")  # braces would be Optuna's own template
        try:
            database = optuna.storages.RDBStorage(url, engine_kwargs=self._address.engine_kwargs)
        except ImportError as error:
            raise MissingError(f"no driver for {self._address}: {error}", key="storage") from error
        self._address.prepare(database.engine)
        return database

    def _load(self, name: str) -> optuna.Study:
        sampler = Stateless(SAMPLERS[self._search.sampler], self._search.seed)
        study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )
        known = study.user_attrs.get(SPACE)
        if known is None:
            study.set_user_attr(SPACE, space(self._search))
        elif known != space(self._search):
            raise StudyError(
                f"the search database {self._address} holds {name} over another space, {known}",
                key="search",
                hint="give the changed study a name of its own with --name",
            )
        return study

    def _prepare(self) -> None:
        self._settle()
        if self._search.sampler == "grid":
            there = {self._point(trial) for trial in self._trials()}
            for point in balanced(self._all):
                if point not in there:
                    self._enqueue(point)

    def _ask(self) -> Asked | None:
        while True:
            self._settle()
            trials = self._trials()
            first_asked = [trial for trial in trials if DUPLICATE_OF not in trial.user_attrs]
            lost = [one for one in first_asked if one.state == TrialState.RUNNING and one.number not in self._handed]
            if lost:
                trial = Trial(self._study, lost[0]._trial_id)
            else:
                if not any(one.state == TrialState.WAITING for one in trials):
                    if len(first_asked) >= self._target:
                        return None
                    if trials and trials[-1].number - first_asked[-1].number >= DUPLICATES_IN_A_ROW:
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
        choice = _seed(self._search.seed, len(trials), "untried") % len(untried)
        self._enqueue(untried[choice])

    def _enqueue(self, point: Point) -> None:
        method = {"method": point.method} if self._draws_method else {}
        self._study.enqueue_trial({**point.params(), **method})

    def _first(self, point: Point, trials: Sequence[FrozenTrial], number: int) -> FrozenTrial | None:
        return next((trial for trial in trials if trial.number < number and self._point(trial) == point), None)

    def _tell(self, number: int, value: float | None, attrs: dict[str, Any]) -> None:
        trial = next((trial for trial in self._trials() if trial.number == number), None)
        if trial is None or self._point(trial) is None or trial.state == TrialState.WAITING:
            raise DamageError(f"cell {number} was never asked for in the search database {self._address}")
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if not trial.state.is_finished():
            try:
                attached = Trial(self._study, trial._trial_id)
                for name, attr in attrs.items():
                    attached.set_user_attr(name, attr)
                self._study.tell(number, value, state=state)
            except (UpdateFinishedTrialError, ValueError):  # told in between by another process: compare below
                pass
            trial = self._trials()[number]
        if (trial.state, trial.value) != (state, value):
            raise DamageError(
                f"cell {number} was told {_said(trial.state, trial.value)}, now it would be {_said(state, value)}",
                key=str(self._address),
                hint="the records and the search database are not of the same sweep",
            )
        self._settle()

    def _settle(self) -> None:
        """Tell open duplicates what the first trial of their point was told."""
        trials = self._trials()
        for trial in trials:
            if trial.state == TrialState.RUNNING and DUPLICATE_OF in trial.user_attrs:
                first = trials[trial.user_attrs[DUPLICATE_OF]]
                if first.state.is_finished():
                    self._study.tell(trial.number, first.value, state=first.state)

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

    def _patiently(self, call: Callable[[], Result]) -> Result:
        return patiently(call, self._address, self._patience_s)


def _said(state: TrialState, value: float | None) -> str:
    return f"{value!r}" if state == TrialState.COMPLETE else state.name
