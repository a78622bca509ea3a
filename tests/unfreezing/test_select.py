"""SELECT rules, the table of the paper's permutations, and the generator of `rand`."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from raysched.study.values import SCHEDULES, WITHOUT_K
from raysched.unfreezing.select import PERMUTATIONS, RULES, event_rng

# Written out a second time, from the paper's appendix: schedule-0 to schedule-9.
PAPER = """
10 9 8 7 6 5 4 3 2 1 0 / 10 2 6 5 8 3 7 0 1 9 4 / 9 6 2 4 5 8 7 10 1 3 0 / 9 7 0 10 5 8 2 4 1 3 6 /
10 5 4 7 1 9 0 8 3 2 6 / 10 8 1 6 7 2 0 5 4 9 3 / 10 4 7 5 3 0 6 2 9 8 1 / 10 1 0 3 9 6 8 2 5 7 4 /
10 9 3 5 0 4 1 8 6 7 2 / 10 7 0 3 4 8 1 2 6 5 9
"""


def test_permutations_are_the_papers() -> None:
    assert tuple(tuple(map(int, row.split())) for row in PAPER.split("/")) == PERMUTATIONS
    for permutation in PERMUTATIONS:
        assert sorted(permutation) == list(range(11))
        assert permutation[0] in (9, 10)  # the sampling rule of the paper


def test_the_table_holds_every_schedule_of_a_study() -> None:
    assert set(RULES) == set(SCHEDULES)
    assert {name for name, rule in RULES.items() if not rule.needs_k} == WITHOUT_K
    assert [name for name, rule in RULES.items() if rule.needs_traces] == ["fun"]
    assert {name: rule.initial for name, rule in RULES.items() if rule.initial != "top"} == {
        "standard": "all",
        "lpft": "none",
        "surgical": "chosen",
    }
    assert {name: rule.order for name, rule in RULES.items() if rule.order is not None} == {
        f"schedule-{number}": order for number, order in enumerate(PERMUTATIONS)
    }


@pytest.mark.parametrize(
    ("rule", "frozen", "traces", "expected"),
    [
        ("standard", (0, 1, 2), None, ()),
        ("gu", (0, 3, 7), None, (7,)),
        ("lpft", (0, 1, 2), None, (0, 1, 2)),
        ("reverse", (2, 3, 7), None, (2,)),
        ("permutation", (5, 2, 9), None, (5,)),
        ("schedule-4", (5, 2, 9), None, (5,)),
        ("surgical", (5, 2, 9), None, ()),
        ("replay", (4, 1), None, (4, 1)),
        ("replay", (), None, ()),
        ("fun", (0, 1, 2), (1.0, 3.0, 2.0, 9.0), (1,)),  # layer 3 is awake: its trace is measured, not chosen
        ("fun", (0, 1, 2), (3.0, 3.0, 2.0, 9.0), (1,)),  # ties go to the higher layer
        ("fun", (0, 1, 2), (0.0, 0.0, 0.0, 0.0), (2,)),
        ("fun", (4,), None, (4,)),  # nothing to choose, nothing to measure
        ("rand", (4,), None, (4,)),
    ],
)
def test_rules(rule: str, frozen: tuple[int, ...], traces: tuple[float, ...] | None, expected: tuple[int, ...]) -> None:
    assert RULES[rule].select(frozen, traces, event_rng(0, 1)) == expected


def test_fun_without_traces_is_refused() -> None:
    with pytest.raises(ValueError, match=r"traces of all layers are needed .* \[0, 1\]"):
        RULES["fun"].select((0, 1), None, random.Random(0))


def test_rand_draws_each_layer_equally_often() -> None:
    frozen, n = tuple(range(11)), 5500
    counts = Counter(RULES["rand"].select(frozen, None, event_rng(seed, 1))[0] for seed in range(n))
    chi_square = sum((counts[layer] - n / 11) ** 2 / (n / 11) for layer in frozen)
    assert chi_square < 29.6  # 10 degrees of freedom, p = 0.001


def test_event_rng_is_keyed_by_seed_and_event_alone() -> None:
    state = random.getstate()
    draws = {(seed, event): event_rng(seed, event).random() for seed in range(20) for event in range(1, 13)}
    assert len(set(draws.values())) == len(draws)  # (1, 11) is not (11, 1), nor (1, 1) with a 1 beside it
    assert draws[3, 4] == event_rng(3, 4).random()
    assert random.getstate() == state
    code = "from raysched.unfreezing.select import event_rng; print(repr(event_rng(3, 4).random()))"
    for hash_seed in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True
        )
        assert run.stdout.strip() == repr(draws[3, 4]), run.stderr


def test_select_and_schedule_need_no_torch() -> None:
    code = "import sys, raysched.unfreezing.schedule; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
