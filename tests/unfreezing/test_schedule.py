"""Timelines against tables written out by hand and against the committed golden file; resume at every step."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import DamageError, Diverged, StudyError
from raysched.unfreezing.config import ScheduleConfig, replay_from_json
from raysched.unfreezing.schedule import Event, Unfreezing
from raysched.unfreezing.select import PERMUTATIONS, RULES

GOLDEN = json.loads((Path(__file__).parent / "golden_timelines.json").read_text())
INTERVALS = (1, 7, 25)
Timeline = list[tuple[int, tuple[int, ...]]]
Traces = Callable[[int], Sequence[float]]

# tr(F) of 12 layers that never changes; the top layer is awake, so its 99 must not matter.
# Order of the frozen: 5 (9.0), 7 (6.0), ties of 5.0 from above 10 8 4, 2 (4.0), 9 0 (3.0), 6 (2.0), 3 1 (1.0).
FIXED = (3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0, 99.0)

# What event 1, 2, ... wakes with 12 layers, by hand from the event table of the method.
EVENTS: dict[str, list[list[int]]] = {
    "standard": [],
    "gu/reference": [[], [10], [9], [8], [7], [6], [5], [4], [3], [2], [1], [0]],
    "gu/prose": [[10], [9], [8], [7], [6], [5], [4], [3], [2], [1], [0]],
    "lpft": [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    "reverse": [[0], [1], [2], [3], [4], [5], [6], [7], [8], [9], [10]],
    "fun": [[5], [7], [10], [8], [4], [2], [9], [0], [6], [3], [1]],
    "permutation/0": [[10], [9], [8], [7], [6], [5], [4], [3], [2], [1], [0]],
    "permutation/1": [[10], [2], [6], [5], [8], [3], [7], [0], [1], [9], [4]],
    "permutation/2": [[9], [6], [2], [4], [5], [8], [7], [10], [1], [3], [0]],
    "permutation/3": [[9], [7], [0], [10], [5], [8], [2], [4], [1], [3], [6]],
    "permutation/4": [[10], [5], [4], [7], [1], [9], [0], [8], [3], [2], [6]],
    "permutation/5": [[10], [8], [1], [6], [7], [2], [0], [5], [4], [9], [3]],
    "permutation/6": [[10], [4], [7], [5], [3], [0], [6], [2], [9], [8], [1]],
    "permutation/7": [[10], [1], [0], [3], [9], [6], [8], [2], [5], [7], [4]],
    "permutation/8": [[10], [9], [3], [5], [0], [4], [1], [8], [6], [7], [2]],
    "permutation/9": [[10], [7], [0], [3], [4], [8], [1], [2], [6], [5], [9]],
    "schedule-0": [[10], [9], [8], [7], [6], [5], [4], [3], [2], [1], [0]],
    "schedule-1": [[10], [2], [6], [5], [8], [3], [7], [0], [1], [9], [4]],
    "schedule-2": [[9], [6], [2], [4], [5], [8], [7], [10], [1], [3], [0]],
    "schedule-3": [[9], [7], [0], [10], [5], [8], [2], [4], [1], [3], [6]],
    "schedule-4": [[10], [5], [4], [7], [1], [9], [0], [8], [3], [2], [6]],
    "schedule-5": [[10], [8], [1], [6], [7], [2], [0], [5], [4], [9], [3]],
    "schedule-6": [[10], [4], [7], [5], [3], [0], [6], [2], [9], [8], [1]],
    "schedule-7": [[10], [1], [0], [3], [9], [6], [8], [2], [5], [7], [4]],
    "schedule-8": [[10], [9], [3], [5], [0], [4], [1], [8], [6], [7], [2]],
    "schedule-9": [[10], [7], [0], [3], [4], [8], [1], [2], [6], [5], [9]],
    "surgical/0": [],
    "surgical/2,5,11": [],
}
BEFORE_STEP_1 = {"standard": set(range(12)), "lpft": set(), "surgical/0": {0}, "surgical/2,5,11": {2, 5, 11}}
RAND = ["rand/0", "rand/1", "rand/2", "rand/3"]


def config(case: str, k: int | None, n_layers: int = 12) -> ScheduleConfig:
    """`case` is a schedule's name and, after a slash, its phase, permutation, layers or seed."""
    name, _, option = case.partition("/")
    extra: dict[str, Any] = {}
    if name == "gu":
        extra["gu_phase"] = option or "reference"
    elif name == "permutation":
        extra["permutation"] = PERMUTATIONS[int(option)]
    elif name == "surgical":
        extra["surgical"] = tuple(map(int, option.split(",")))
    elif name == "rand":
        extra["seed"] = int(option)
    return ScheduleConfig(name=name, n_layers=n_layers, k=k if RULES[name].needs_k else None, **extra)


def always(step: int) -> Sequence[float]:
    return FIXED


def run(state: Unfreezing, first: int, last: int, traces: Traces = always) -> Timeline:
    """Steps first..last as a training loop takes them."""
    seen: Timeline = []
    for step in range(first, last + 1):
        event = state.due(step)
        if event is not None:
            measured = traces(step) if state.needs_traces(step) else None
            fired = state.fire(step, measured)
            assert (fired.step, fired.event) == (step, event)
            seen.append((step, fired.layers))
    return seen


@pytest.mark.parametrize("k", INTERVALS)
@pytest.mark.parametrize("case", EVENTS)
def test_timeline_is_the_event_table(case: str, k: int) -> None:
    state = Unfreezing(config(case, k))
    before = BEFORE_STEP_1.get(case, {11})
    assert state.initial == state.awake() == before
    assert run(state, 1, 13 * k + 3) == [
        (event * k, tuple(layers)) for event, layers in enumerate(EVENTS[case], start=1)
    ]
    everything = before if case.startswith("surgical") else set(range(12))
    assert state.awake() == everything
    assert set(state.frozen()) == set(range(12)) - everything


@pytest.mark.parametrize("case", [*EVENTS, *RAND])
def test_between_events_nothing_changes(case: str) -> None:
    """Which layers are awake in the forward of each step, from the table alone: k-1 steps precede event 1."""
    k, state = 7, Unfreezing(config(case, 7))
    table = EVENTS.get(case) or [layers for _, layers in GOLDEN[f"{case}/12"][str(k)]]
    for step in range(1, 13 * k + 1):
        run(state, step, step)
        expected = set(BEFORE_STEP_1.get(case, {11})).union(*table[: step // k])
        assert state.awake() == expected, step
        assert state.frozen() == tuple(sorted(set(range(12)) - expected))


@pytest.mark.parametrize("k", INTERVALS)
@pytest.mark.parametrize("key", GOLDEN)
def test_golden_timelines(key: str, k: int) -> None:
    case, _, n_layers = key.rpartition("/")
    expected = [(step, tuple(layers)) for step, layers in GOLDEN[key][str(k)]]
    state = Unfreezing(config(case, k, int(n_layers)))
    assert run(state, 1, (int(n_layers) + 1) * k + 3, lambda step: FIXED[-int(n_layers) :]) == expected
    assert list(state.order) == expected


def test_golden_file_covers_every_schedule_and_agrees_with_the_tables() -> None:
    assert {key.rpartition("/")[0] for key in GOLDEN} == {*EVENTS, *RAND}
    assert {int(key.rpartition("/")[2]) for key in GOLDEN} == {1, 2, 6, 12}
    for case, events in EVENTS.items():
        for k in INTERVALS:
            assert GOLDEN[f"{case}/12"][str(k)] == [[e * k, layers] for e, layers in enumerate(events, start=1)]


@pytest.mark.parametrize("k", INTERVALS)
@pytest.mark.parametrize("seed", range(4))
def test_rand_is_a_hash_of_seed_and_event(seed: int, k: int) -> None:
    """Derived again from its definition, and the same for every interval."""
    frozen, expected = list(range(11)), []
    for event in range(1, 12):
        key = hashlib.sha256(f"raysched schedule seed={seed} event={event}".encode()).hexdigest()
        expected.append((event * k, (frozen.pop(int(random.Random(int(key, 16)).random() * len(frozen))),)))
    assert run(Unfreezing(config(f"rand/{seed}", k)), 1, 13 * k) == expected
    assert sorted(layer for _, (layer,) in expected) == list(range(11))


@pytest.mark.parametrize("n_layers", [1, 2, 6, 12, 24])
@pytest.mark.parametrize(
    "name", ["standard", "gu/reference", "gu/prose", "lpft", "rand/5", "fun", "reverse", "surgical/0"]
)
def test_any_number_of_layers(name: str, n_layers: int) -> None:
    state = Unfreezing(config(name, 3, n_layers))
    timeline = run(state, 1, 3 * n_layers + 10, lambda step: [float((7 * j + step) % 5) for j in range(n_layers)])
    below_top = list(range(n_layers - 1))
    woken = [layer for _, layers in timeline for layer in layers]
    n_events = {
        "standard": 0,
        "surgical/0": 0,
        "lpft": 1,
        "gu/reference": n_layers if n_layers > 1 else 0,  # with one layer nothing is frozen: no event at all
    }.get(name, n_layers - 1)
    assert [step for step, _ in timeline] == [3 * event for event in range(1, n_events + 1)]
    expected = {"standard": [], "surgical/0": [], "lpft": [*below_top, n_layers - 1]}.get(name, below_top)
    assert sorted(woken) == expected
    assert state.frozen() == (tuple(range(1, n_layers)) if name == "surgical/0" else ())


def test_fun_takes_the_largest_trace_of_each_moment() -> None:
    """Traces that change with the step, against sorting by (trace, layer) by hand."""
    rng = random.Random(1)
    tables = {step: [float(rng.randrange(4)) for _ in range(12)] for step in range(5, 60, 5)}
    frozen, expected = set(range(11)), []
    for step, table in tables.items():
        best = sorted(frozen, key=lambda layer: (-table[layer], -layer))[0]
        frozen.remove(best)
        expected.append((step, (best,)))
    assert run(Unfreezing(config("fun", 5)), 1, 100, tables.__getitem__) == expected


def test_fun_measures_ten_times_for_eleven_layers() -> None:
    state = Unfreezing(config("fun", 10))
    measured = []
    for step in range(1, 150):
        if state.needs_traces(step):
            measured.append(step)
        run(state, step, step)
    assert measured == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert state.log[9].traces == FIXED
    assert state.log[10].traces is None
    assert not any(Unfreezing(config(case, 1)).needs_traces(1) for case in [*EVENTS, *RAND] if case != "fun")


@pytest.mark.parametrize("k", INTERVALS)
@pytest.mark.parametrize("case", [*EVENTS, *RAND])
def test_resume_at_every_step_has_the_same_future(case: str, k: int) -> None:
    total = 13 * k + 2
    whole = Unfreezing(config(case, k))
    logs = [whole.log]
    for step in range(1, total + 1):
        run(whole, step, step)
        logs.append(whole.log)
    for done, log in enumerate(logs):  # `done` steps are completed; the log went through JSON, as in a checkpoint
        stored = [Event.from_json(event) for event in json.loads(json.dumps([event.to_json() for event in log]))]
        resumed = Unfreezing(config(case, k), stored)
        assert resumed.log == log
        run(resumed, done + 1, total)
        assert resumed.log == whole.log
        assert resumed.awake() == whole.awake()


@pytest.mark.parametrize("case", [*EVENTS, *RAND])
def test_replay_of_a_recorded_order(case: str) -> None:
    for total in (7, 20, 100):  # also of runs that ended early
        recorded = Unfreezing(config(case, 7))
        timeline = run(recorded, 1, total)
        if not timeline:
            continue
        order = replay_from_json(json.loads(json.dumps(recorded.order)))
        again = Unfreezing(ScheduleConfig(name="replay", n_layers=12, replay=order))
        assert again.initial == recorded.initial
        assert run(again, 1, 200) == timeline
        assert again.awake() == recorded.awake()
        assert again.last_event_step(200) == timeline[-1][0]
        assert Unfreezing(again.config, again.log).log == again.log


@pytest.mark.parametrize(
    ("case", "n_layers", "total", "expected"),
    [
        ("standard", 12, 1000, 0),
        ("surgical/2,5,11", 12, 1000, 0),
        ("schedule-3", 12, 1000, 77),
        ("gu/reference", 12, 1000, 84),
        ("gu/prose", 12, 1000, 77),
        ("lpft", 12, 1000, 7),
        ("rand/0", 12, 1000, 77),
        ("fun", 12, 1000, 77),
        ("permutation/3", 12, 1000, 77),
        ("reverse", 12, 1000, 77),
        ("gu/reference", 12, 83, 77),
        ("gu/reference", 12, 84, 84),
        ("gu/reference", 12, 6, 0),
        ("gu/reference", 1, 1000, 0),
        ("lpft", 1, 1000, 7),
        ("rand/0", 24, 1000, 161),
    ],
)
def test_last_event_step(case: str, n_layers: int, total: int, expected: int) -> None:
    assert Unfreezing(config(case, 7, n_layers)).last_event_step(total) == expected


def make(**changes: Any) -> ScheduleConfig:
    return ScheduleConfig(**{"name": "gu", "n_layers": 12, "k": 7, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "up"},
            r"search\.schedule: .* got 'up'\n  valid: standard, gu, lpft, rand, fun, reverse, permutation, "
            r"schedule-0, .*, schedule-9, surgical, replay",
        ),
        ({"n_layers": 0}, "n_layers >= 1 must hold, but got 0"),
        ({"seed": -1}, "seed: must be a whole number >= 0, but got -1"),
        ({"seed": True}, "seed: .* got True"),
        ({"gu_phase": "late"}, "gu_phase: .* got 'late'\n  valid: reference, prose"),
        ({"k": None}, r"search\.k: must be given for schedule gu, but got none"),
        ({"k": 0}, r"search\.k: .* steps >= 1, but got 0\n  valid: 1, 2, 3"),
        ({"k": 2.0}, r"search\.k: .* got 2\.0"),
        ({"k": True}, r"search\.k: .* got True"),
        ({"name": "standard"}, r"search\.k: means nothing to schedule standard, but got 7\n  next:  leave it out"),
        ({"permutation": (0,)}, r"training\.permutation: means nothing to schedule gu"),
        ({"replay": ((1, (0,)),)}, r"training\.replay: means nothing to schedule gu"),
        ({"name": "permutation"}, r"training\.permutation: must be given for schedule permutation"),
        (
            {"name": "permutation", "permutation": (0, 1), "n_layers": 4},
            r"each of the layers below the top of 4 exactly once, but got \[0, 1\]\n  valid: an order of \[0, 1, 2\]",
        ),
        ({"name": "permutation", "permutation": (0, 1, 1), "n_layers": 4}, r"but got \[0, 1, 1\]"),
        ({"name": "permutation", "permutation": (1, 2, 3), "n_layers": 4}, r"but got \[1, 2, 3\]"),
        ({"name": "permutation", "permutation": ("0", 1, 2), "n_layers": 4}, r"but got \['0', 1, 2\]"),
        ({"name": "permutation", "permutation": tuple("01"), "n_layers": 3}, r"but got \['0', '1'\]"),
        (
            {"name": "schedule-3", "n_layers": 6},
            r"search\.schedule: schedule schedule-3 is an order for 12 layers, but the backbone has 6\n"
            r"  next:  .* permutation with training\.permutation",
        ),
        ({"name": "schedule-3", "permutation": PERMUTATIONS[3]}, r"permutation: means nothing to schedule schedule-3"),
        ({"surgical": (0,)}, r"training\.surgical: means nothing to schedule gu"),
        ({"name": "surgical", "k": None}, r"training\.surgical: must be given for schedule surgical"),
        ({"name": "surgical", "surgical": (0,)}, r"search\.k: means nothing to schedule surgical"),
        (
            {"name": "surgical", "k": None, "surgical": (3, 12)},
            r"layers of the backbone's 12, each once, but got \[3, 12\]\n  valid: layers of 0\.\.11",
        ),
        ({"name": "surgical", "k": None, "surgical": (-1,)}, r"but got \[-1\]"),
        ({"name": "surgical", "k": None, "surgical": (1, 1)}, r"each once, but got \[1, 1\]"),
        ({"name": "surgical", "k": None, "surgical": ()}, r"but got \[\]"),
        ({"name": "surgical", "k": None, "surgical": ("1",)}, r"but got \['1'\]"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"5": [1]}, r"must be a list of \[step, \[layers\]\], but got {'5': \[1\]}"),
        ([[5, 1]], "must be a list of"),
        ([[5, [1], 0]], "must be a list of"),
        ([], "must hold at least one event, but got an empty log"),
        ([["5", [1]]], "must be whole numbers, but got '5'"),
        ([[5, [[1]]]], r"must be whole numbers, but got \[1\]"),
        ([[0, [1]]], "must grow from 1 on, after 0, but got 0"),
        ([[5, [1]], [5, [0]]], "must grow from 1 on, after 5, but got 5"),
        ([[5, [4]]], r"one of 0\.\.3, but got 4\n  valid: .* of 0\.\.3\n  next: "),
        ([[5, [-1]]], r"one of 0\.\.3, but got -1"),
        ([[5, [1]], [6, [1]]], "must wake once, but got layer 1 again at step 6"),
        ([[5, [1, 1]]], "must wake once, but got layer 1 again at step 5"),
        ([[5, [0, 1, 2]], [6, []]], "no event may follow once nothing is frozen, but got one at step 6"),
    ],
)
def test_bad_recorded_orders_are_refused(value: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        ScheduleConfig(name="replay", n_layers=4, replay=replay_from_json(value))
    assert caught.value.key == "training.replay"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_traces_that_are_no_numbers_diverge(bad: float) -> None:
    state = Unfreezing(config("fun", 1))
    with pytest.raises(Diverged, match=f"layer 3 has {bad}"):
        state.fire(1, [1.0, 1.0, 1.0, bad, *[1.0] * 8])
    assert state.log == ()
    assert state.awake() == {11}


@pytest.mark.parametrize(
    ("step", "traces", "message"),
    [
        (2, FIXED, "an event must be due, but none is before step 2"),
        (3, None, "traces of all layers are needed"),
        (3, FIXED[:-1], "traces must be 12, one per layer, but got 11"),
    ],
)
def test_misuse_is_refused_and_changes_nothing(step: int, traces: Sequence[float] | None, message: str) -> None:
    state = Unfreezing(config("fun", 3))
    with pytest.raises(ValueError, match=message):
        state.fire(step, traces)
    assert state.log == ()


def test_standard_errors_are_kept_in_the_log() -> None:
    event = Unfreezing(config("fun", 3)).fire(3, FIXED, [0.5] * 12)
    assert event.se == (0.5,) * 12
    assert Event.from_json(json.loads(json.dumps(event.to_json()))) == event


def test_an_event_fires_once() -> None:
    state = Unfreezing(config("gu", 3))
    state.fire(3)
    assert state.due(3) is None
    with pytest.raises(ValueError, match="none is before step 3"):
        state.fire(3)


def test_a_log_of_another_step_is_found_out() -> None:
    """Weights of one checkpoint with the log of another: lower layers would stay frozen for ever."""
    with pytest.raises(DamageError, match="event 1 of step 7 was not fired before step 9"):
        Unfreezing(config("gu", 7)).due(9)
    ahead = Unfreezing(config("gu", 7))
    run(ahead, 1, 30)
    with pytest.raises(DamageError, match="step 20 comes after event 4 of step 28"):
        ahead.due(20)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ([Event(step=7, event=1, layers=(10,))], r"the schedule gives .*'layers': \[\].*, the log holds .*\[10\]"),
        ([Event(step=7, event=2, layers=())], "the schedule gives"),
        ([Event(step=8, event=1, layers=())], "event 1 at step 8 cannot be"),
        ([Event(step=6, event=1, layers=())], "event 1 at step 6 cannot be: an event must be due"),
        ([Event(step=14, event=2, layers=(10,))], "event 2 at step 14 cannot be"),
    ],
)
def test_a_log_that_the_settings_cannot_give_is_refused(log: list[Event], message: str) -> None:
    with pytest.raises(DamageError, match=message):
        Unfreezing(config("gu", 7), log)


def good_event(**changes: Any) -> dict[str, Any]:
    return {"step": 3, "event": 1, "layers": [1], "traces": None, "se": None, **changes}


@pytest.mark.parametrize(
    "value",
    [
        {},
        good_event(step="3"),
        good_event(step=True),
        good_event(layers=None),
        good_event(layers="1"),
        good_event(traces=["1"]),
        good_event(traces=5),
        good_event(se=[None]),
    ],
)
def test_an_event_that_is_none_is_damage(value: dict[str, Any]) -> None:
    with pytest.raises(DamageError, match="is no event"):
        Event.from_json(value)
