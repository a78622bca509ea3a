"""Two processes that tell the same cells at the same time: one is believed, the other one hears of it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from typing import Any

import pytest

from raysched.errors import DamageError
from raysched.search.optuna_study import OptunaStudy
from raysched.study.search import Search
from tests.search.conftest import NewStorage, Opened

CELLS = 150
MANY = Search(schedule=("standard",), lr=tuple(n * 1e-5 for n in range(1, CELLS + 1)), sampler="grid")


def teller(storage: str, mean: float, together: Any, wins: Any) -> None:
    study = OptunaStudy(storage, "one", MANY)
    try:
        for number in range(CELLS):
            together.wait(60)
            try:
                study.tell(number, mean, {"n": 1})
                wins.put((number, mean))
            except DamageError:
                wins.put((number, None))
    finally:
        study.close()


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_exactly_one_of_two_tellers_wins(new_storage: NewStorage, opened_at: Opened) -> None:
    where, context = new_storage(), multiprocessing.get_context("spawn")
    study = opened_at(where, MANY)
    while study.ask() is not None:
        pass
    together, wins = context.Barrier(2), context.Queue()
    processes = [context.Process(target=teller, args=(where, mean, together, wins)) for mean in (1.0, 2.0)]
    for process in processes:
        process.start()
    said = [wins.get(timeout=120) for _ in range(2 * CELLS)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    won = {number: mean for number, mean in said if mean is not None}
    assert Counter(number for number, mean in said if mean is not None) == dict.fromkeys(range(CELLS), 1)
    assert {one.number: one.mean for one in opened_at(where, MANY).asked()} == won
