"""Sweeps and adapters whose study cannot be read here: what is missing is named, and nothing ends in a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import BAD_INPUT, StudyError
from raysched.study.space import Point
from raysched.study.stored import stored
from raysched.training.export import About
from tests.cli.conftest import Raysched
from tests.plugins.conftest import forget, install_example
from tests.reports.conftest import MadeUp, study

PLUGGED: dict[str, Any] = {
    "task": "qa-contains",
    "search": {"objective": "source_dev/contains", "arms": [{"schedule": "pairs", "lr": 1e-3, "k": 1}]},
}


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The storage of a sweep named `mine`, and `adapter` beside it, made where a package was that is not here now."""
    install_example(tmp_path / "site")
    with monkeypatch.context() as then:
        then.syspath_prepend(tmp_path / "site")
        forget()
        sweep = MadeUp(tmp_path / "st", study(schedules=("gu",), **PLUGGED), "mine")
        spec = sweep.take(0, Point(schedule="pairs", lr=1e-3, k=1))[0]
        about = About(spec=spec, sweep="mine", source_dev={}, tests={}, versions={})
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "raysched.json").write_text(json.dumps(about.to_json()))
    forget()
    yield tmp_path / "st"
    forget()


@pytest.mark.parametrize(
    "command",
    [
        ("status", "mine"),
        ("report", "mine"),
        ("report", "mine", "--against", "paper"),
        ("export", "mine", "--best", "--to", "to"),
        ("sweep", "xquad-mini", "--name", "mine"),
        ("evaluate", "adapter"),
    ],
)
def test_a_package_that_is_not_installed_here(gone: Path, raysched: Raysched, command: tuple[str, ...]) -> None:
    options = () if command[0] == "evaluate" else ("--storage", gone)
    answer = raysched(*command, *options)
    assert answer.code == BAD_INPUT, answer.err
    words = " ".join(answer.err.split())
    assert "the task 'qa-contains' and the schedule 'pairs' of this sweep come from a package that is not" in words
    assert "install the package that brings it" in words
    assert "Traceback" not in answer.err


def test_another_version() -> None:
    value = study().model_dump(mode="json")
    assert stored(value) == study()
    value["training"]["warm_up"] = 10
    with pytest.raises(StudyError, match=r"written by another version of raysched \(training.warm_up: Extra inputs"):
        stored(value)
    with pytest.raises(StudyError, match="the task 'tagging' of this sweep comes from a package that is not installed"):
        stored({**value, "task": "tagging"})
