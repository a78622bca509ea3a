"""The example plug-in, really installed: in this process, and in the command line of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysched.study import plugins
from raysched.study.identity import RunSpec
from raysched.study.space import points
from raysched.study.values import form, metrics, uses_k
from raysched.tasks.predictions import read
from raysched.tasks.registry import make_task
from raysched.training.events import FisherMeasured, Unfroze
from raysched.training.loop import TrainingRun
from raysched.unfreezing.config import ScheduleConfig
from raysched.unfreezing.schedule import Unfreezing
from raysched.unfreezing.select import RULES, known, rule_of
from tests.plugins.conftest import write_metadata
from tests.training.tiny_training import Tiny


@pytest.mark.usefixtures("example")
def test_it_is_known_by_its_names() -> None:
    assert known() == (*RULES, "least-fisher", "pairs")
    assert rule_of("least-fisher").needs_traces
    assert uses_k("pairs")
    assert (metrics("qa-contains"), form("qa-contains")) == (("contains",), "qa")
    assert plugins.origin("schedule", "pairs") == plugins.origin("task", "qa-contains") == "raysched-example 1.0"


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pairs", [(5, (9, 10)), (10, (7, 8)), (15, (5, 6)), (20, (3, 4)), (25, (1, 2)), (30, (0,))]),
        ("least-fisher", [(5 * event, (layer,)) for event, layer in enumerate([1, 3, 5, 7, 9, 10, 8, 6, 4, 2, 0], 1)]),
    ],
)
def test_its_timelines(name: str, expected: list[tuple[int, tuple[int, ...]]]) -> None:
    """No event follows once nothing is frozen; a resumed schedule has the same future; the order can be replayed."""
    traces = [9.0, 1, 8, 2, 7, 3, 6, 4, 5.5, 5, 5.2, 0]
    config = ScheduleConfig(name=name, n_layers=12, k=5)
    state = Unfreezing(config)
    measured = []
    for step in range(1, 80):
        needs = state.needs_traces(step)
        measured += [step] if needs else []
        if state.due(step):
            state.fire(step, traces if needs else None)
            state = Unfreezing(config, state.log)
    assert list(state.order) == expected
    assert measured == ([step for step, _ in expected[:-1]] if name == "least-fisher" else [])
    replayed = Unfreezing(ScheduleConfig(name="replay", n_layers=12, replay=state.order))
    for step, _ in expected:
        replayed.fire(step)
    assert replayed.order == state.order


@pytest.mark.usefixtures("example")
def test_its_schedule_trains_and_measures(tiny: Tiny) -> None:
    spec = tiny_spec(tiny, "least-fisher")
    told = list(TrainingRun(tiny.bench(spec), spec).events())
    chosen = [event for event in told if isinstance(event, FisherMeasured) and event.purpose == "select"]
    unfroze = [event.layers for event in told if isinstance(event, Unfroze)]
    assert len(chosen) == 2  # of three frozen layers, the last one is no choice
    for event, layers in zip(chosen, unfroze[1:], strict=False):
        frozen = set(range(4)) - set(event.awake)
        assert layers == (min(frozen, key=lambda layer: (event.traces[layer], layer)),)


def tiny_spec(tiny: Tiny, schedule: str, **settings: Any) -> RunSpec:
    study = tiny.study(search__schedule=[schedule], **settings)
    (point,) = points(study.search)
    return RunSpec.make(study, tiny.resolve(study), point, 0)


def test_its_version_is_part_of_a_run(
    tiny: Tiny, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: dict[str, Any] = {"task": "qa-contains", "search__objective": "source_dev/contains"}
    of_schedule, of_task = tiny_spec(tiny, "least-fisher"), tiny_spec(tiny, "gu", **task)
    labels: dict[str, Any] = {"fisher__select__labels": "exact"}
    assert of_schedule.run_id != tiny_spec(tiny, "least-fisher", **labels).run_id  # it measures, the other does not
    assert tiny_spec(tiny, "pairs").run_id == tiny_spec(tiny, "pairs", **labels).run_id
    assert RunSpec.from_json(of_task.to_json()) == of_task
    gu = tiny_spec(tiny, "gu").run_id
    (example / "raysched_example-1.0.dist-info").rename(tmp_path / "raysched_example-1.0.dist-info")
    entry_points = {
        "raysched.schedules": {"least-fisher": "raysched_example.schedules:LEAST_FISHER"},
        "raysched.tasks": {"qa-contains": "raysched_example.task:ContainsQA"},
    }
    try:
        write_metadata(example, "raysched-example", entry_points, "1.1")
        plugins.installed.cache_clear()
        assert tiny_spec(tiny, "least-fisher").run_id != of_schedule.run_id
        assert tiny_spec(tiny, "gu", **task).run_id != of_task.run_id
        assert tiny_spec(tiny, "gu").run_id == gu
    finally:
        for file in (example / "raysched_example-1.1.dist-info").iterdir():
            file.unlink()
        (example / "raysched_example-1.1.dist-info").rmdir()
        (tmp_path / "raysched_example-1.0.dist-info").rename(example / "raysched_example-1.0.dist-info")


@pytest.mark.usefixtures("example")
def test_its_task_is_made_for_a_study(tiny: Tiny) -> None:
    task = make_task(tiny.study(task="qa-contains", search__objective="source_dev/contains"))
    assert (type(task).__name__, task.metrics, task.form) == ("ContainsQA", ("contains",), "qa")


def raysched(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "raysched", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


RUN = (
    *("training.epochs=null", "training.steps=6", "training.batch_size=4", "data.train_examples=40"),
    *("evaluation.languages=[vel, orl]", "evaluation.dev_limit=20", "evaluation.test_limit=20"),
    *("evaluation.dev_points=1", "fisher.select.batches=1", "fisher.log.every_steps=0"),
    *("task=qa-contains", "search.objective=source_dev/contains"),
    *("search.schedule=[pairs]", "search.lr=[1e-3]", "search.k=[1]", "model.task_adapter.reduction=16"),
)


def test_the_command_line_runs_both(example_site: Path, tmp_path: Path) -> None:
    options = [part for setting in RUN for part in ("--set", setting)]
    done = raysched(example_site, tmp_path, "run", "xquad-mini", "--point", "schedule=pairs", *options)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.rglob("result.json")
    found = json.loads(result.read_text())
    pairs = [[step, [11 - 2 * step, 12 - 2 * step]] for step in range(1, 6)]
    assert found["unfreeze_order"] == [[0, [11]], *pairs, [6, [0]]]
    (tests,) = found["tests"].values()
    assert {language: list(scores) for language, scores in tests.items()} == {"vel": ["contains"], "orl": ["contains"]}
    scored = set()
    for path in result.parent.rglob("*.parquet"):
        origin, predictions = read(path)
        independent = sum(any(answer in one.prediction for answer in one.gold) for one in predictions)
        assert tests[origin.language]["contains"] == pytest.approx(100 * independent / len(predictions))
        scored.add(origin.language)
    assert scored == set(tests)


def test_without_the_package_its_names_are_unknown(tmp_path: Path) -> None:
    found = raysched(tmp_path, tmp_path, "plan", "xquad-mini", "--set", "search.schedule=[pairs]")
    assert found.returncode == 2
    assert "search.schedule" in found.stderr
    assert "standard, gu" in found.stderr
