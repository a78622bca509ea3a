"""How Optuna is opened: its storages, its samplers, and studies that are filled with trials of another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from raysched.errors import MissingError, StoppedError
from raysched.search.database import Address
from raysched.search.proposals import seed_of
from raysched.study.search import Search

LOCK_LEFT_S = 5
"""A journal's lock file older than this was left by a driver that was killed."""
REPLACES = "raysched.replaces"
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # Joint over the parameters that every point has (schedule, lr); k, which only some have, is sampled by itself.
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # never asked: every point of a grid is enqueued
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


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
        return self._make(seed_of(self._base, trial.number, *name))


def connect(address: Address) -> RDBStorage | JournalStorage:
    """Raises MissingError where the database's driver is not installed."""
    if address.journal is not None:
        path = str(address.journal)
        lock = JournalFileOpenLock(path, grace_period=LOCK_LEFT_S)
        return JournalStorage(JournalFileBackend(path, lock_obj=lock))
    url = address.url.replace("{", "{{").replace("}", "}}")  # braces would be Optuna's own template
    try:
        database = RDBStorage(url, engine_kwargs=address.engine_kwargs)
    except ImportError as error:
        raise MissingError(
            f"no driver for {address}: {error}", key="storage", hint="pip install 'raysched[postgres]'"
        ) from error
    address.prepare(database.engine)
    return database


def open_study(storage: RDBStorage | JournalStorage, name: str, search: Search) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=Stateless(SAMPLERS[search.sampler], search.seed),
        pruner=optuna.pruners.NopPruner(),
        direction="maximize",
        load_if_exists=True,
    )


def emptied(storage: RDBStorage | JournalStorage, name: str, search: Search) -> optuna.Study:
    """The same study without a trial."""
    optuna.delete_study(study_name=name, storage=storage)
    return open_study(storage, name, search)


def check_numbers(study: optuna.Study, expected: int, address: Address) -> None:
    """An answer of the database that was lost may have left a trial twice, and all others under other numbers."""
    if len(study.get_trials(deepcopy=False)) != expected:
        raise StoppedError(
            "the search database was interrupted while points were copied",
            key=str(address),
            hint="the same command does it again, from the beginning",
        )


def newest(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """By number: the trial itself, or the newest of those that replace it."""
    return {
        **{trial.number: trial for trial in trials},
        **{trial.user_attrs[REPLACES]: trial for trial in trials if REPLACES in trial.user_attrs},
    }
