"""A package that brings something else than it says: refused by name, before any run; never a traceback."""

from __future__ import annotations

import pytest

from raysched.errors import RunError, StudyError
from raysched.study import plugins
from raysched.study.load import load_study
from raysched.study.values import uses_k
from raysched.unfreezing.config import ScheduleConfig
from raysched.unfreezing.schedule import Unfreezing
from raysched.unfreezing.select import RULES, rule_of
from tests.plugins.conftest import Install

RULE = "from raysched.unfreezing.select import Rule\n"
SELECT = "def select(frozen, traces, rng):\n    return {}\n"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import no_such_module\n", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('no licence')\n", "cannot be loaded: RuntimeError: no licence"),
        ("", "cannot be loaded: AttributeError: module 'bad_one' has no attribute 'THING'"),
        ("THING = 5\n", r"is no schedule: it has no select \(a function"),
        ("class THING: ...\n", "must be a Rule, made, but is <class 'bad_one.THING'>"),
        (f"{RULE}THING = Rule\n", "must be a Rule, made, but is <class 'raysched.unfreezing.select.Rule'>"),
        (f"{RULE}THING = Rule(name='x', select=None)\n", "must have select: a function .*, but got None"),
        (
            f"{RULE}THING = Rule(name='x', select=tuple, initial='bottom')\n",
            "must have initial: all, top or none, but got 'bottom'",
        ),
        (f"{RULE}THING = Rule(name='x', select=tuple, needs_k=1)\n", "must have needs_k: True or False, but got 1"),
    ],
)
def test_a_schedule_that_is_none(install: Install, module: str, message: str) -> None:
    install("bad-package", {"bad_one": module}, {"raysched.schedules": {"mine": "bad_one:THING"}})
    with pytest.raises(StudyError, match=message) as caught:
        load_study("xquad-mini", ["search.schedule=[mine]"])
    assert "the schedule 'mine' of bad-package 1.0 (bad_one:THING) " in str(caught.value)
    assert (caught.value.key, caught.value.exit_code) == ("search.schedule", 2)
    assert "repair or uninstall" in str(caught.value.hint)


TASK = "from raysched.tasks.qa import QATask\n"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("THING = 5\n", "must be a class with the interface of raysched.tasks.task.Task, but is 5"),
        ("class THING: ...\n", r"is no task: it has no metrics \(a tuple of names\)"),
        (f"{TASK}class THING(QATask):\n    metrics = ()\n", r"must have metrics: a tuple of names, but got \(\)"),
        (f"{TASK}class THING(QATask):\n    metrics = 'f1'\n", "must have metrics: a tuple of names, but got 'f1'"),
        (
            f"{TASK}class THING(QATask):\n    form = 'tagging'\n",
            "must have form: one of qa, choice, nli, but got 'tagg",
        ),
        (
            f"{TASK}class THING(QATask):\n    rows_per_example = 0\n",
            "rows_per_example: a whole number from 1, but got 0",
        ),
        (f"{TASK}class THING(QATask):\n    loss = None\n", "must have loss: a method, but got None"),
    ],
)
def test_a_task_that_is_none(install: Install, module: str, message: str) -> None:
    install("bad-package", {"bad_one": module}, {"raysched.tasks": {"mine": "bad_one:THING"}})
    with pytest.raises(StudyError, match=message) as caught:
        load_study("xquad-mini", ["task=mine"])
    assert "the task 'mine' of bad-package 1.0 (bad_one:THING) " in str(caught.value)
    assert caught.value.key == "task"


def test_names_that_nobody_brings(install: Install) -> None:
    install(
        "other",
        {"good": f"{RULE}THING = Rule(name='x', select=tuple)\n"},
        {"raysched.schedules": {"mine": "good:THING"}},
    )
    with pytest.raises(
        StudyError, match=r"but got \"main\"\n(.*\n)*  valid: standard, .*, replay, mine\n.*did you mean mine"
    ):
        load_study("xquad-mini", ["search.schedule=[main]"])
    for ask in (rule_of, uses_k):
        with pytest.raises(StudyError, match="no installed package brings the schedule 'main'\n  valid: mine"):
            ask("main")
    with pytest.raises(StudyError, match=r"must be the name of a schedule, but got 'main'\n  valid: .*replay, mine"):
        ScheduleConfig(name="main", n_layers=4, k=1)


def test_a_built_in_name_cannot_be_taken(install: Install) -> None:
    """Nor one that a study cannot say."""
    entry_points = {"raysched.schedules": {"gu": "bad_one:THING", "My Schedule": "bad_one:THING"}}
    install("bad-package", {"bad_one": "raise RuntimeError\n"}, entry_points)
    assert rule_of("gu") is RULES["gu"]
    assert "My Schedule" not in plugins.installed("schedule")
    load_study("xquad-mini", ["search.schedule=[gu]"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("(3,)", r"must choose among the frozen layers \[0, 1, 2\], but gave \[3\]"),  # awake
        ("(9,)", r"but gave \[9\]"),
        ("(1, 1)", r"but gave \[1, 1\]"),
        ("('1',)", r"but gave \['1'\]"),
        ("1", "failed: TypeError: 'int' object is not iterable"),
        ("frozen[7]", "failed: IndexError"),
        ("traces[0]", "failed: TypeError"),  # it did not ask for traces
    ],
)
def test_a_choice_that_cannot_be(install: Install, returned: str, message: str) -> None:
    module = RULE + SELECT.format(returned) + "THING = Rule(name='mine', select=select)\n"
    install("bad-package", {"bad_one": module}, {"raysched.schedules": {"mine": "bad_one:THING"}})
    state = Unfreezing(ScheduleConfig(name="mine", n_layers=4, k=3))
    with pytest.raises(RunError, match=message) as caught:
        state.fire(3)
    assert str(caught.value).startswith("the schedule 'mine' of bad-package 1.0 ")
    assert caught.value.cause == "code"
    assert state.log == ()
    assert state.awake() == {3}


@pytest.mark.parametrize(
    ("rule", "frozen", "events"),
    [
        ("initial='all'", (), []),
        ("initial='none'", (0, 1, 2, 3), [(3, (0,)), (6, (1,)), (9, (2,)), (12, (3,))]),
        ("order=(1, 0, 2)", (0, 1, 2), [(3, (1,)), (6, (0,)), (9, (2,))]),
        ("needs_k=False", (0, 1, 2), []),  # what is awake at the start stays so
    ],
)
def test_what_a_rule_may_say(
    install: Install, rule: str, frozen: tuple[int, ...], events: list[tuple[int, tuple[int, ...]]]
) -> None:
    module = RULE + SELECT.format("frozen[:1]") + f"THING = Rule(name='mine', select=select, {rule})\n"
    install("good-package", {"good_one": module}, {"raysched.schedules": {"mine": "good_one:THING"}})
    k = 3 if "needs_k" not in rule else None
    state = Unfreezing(ScheduleConfig(name="mine", n_layers=4, k=k))
    assert state.frozen() == frozen
    for step in range(1, 20):
        if state.due(step):
            state.fire(step)
    assert list(state.order) == events


def test_an_order_of_another_number_of_layers(install: Install) -> None:
    for order, message in (
        ("(1, 0)", "an order for 3 layers, but the backbone has 4"),
        ("(1, 1, 0)", r"got \[1, 1, 0\]"),
    ):
        module = RULE + f"THING = Rule(name='mine', select=lambda frozen, *_: tuple(frozen[:1]), order={order})\n"
        name = f"bad_{order.count(',')}"
        install(name, {name: module}, {"raysched.schedules": {f"mine{order.count(',')}": f"{name}:THING"}})
        with pytest.raises(StudyError, match=message):
            ScheduleConfig(name=f"mine{order.count(',')}", n_layers=4, k=3)
