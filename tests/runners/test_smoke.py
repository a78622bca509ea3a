"""Tiny runs before the real ones: what is made of a study, that a resume is a resume, and what a failure says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from raysched.errors import MissingError, StudyError
from raysched.records.layout import SweepLayout
from raysched.records.record import read_result
from raysched.records.remote import Remote
from raysched.runners import smoke
from raysched.runners.smoke import CONTEXT_BYTES, CPU_STEPS, Part, Place, Smoked, Smoker, chosen, gpu_share, refusal
from raysched.study.model import Study
from raysched.study.space import Point
from raysched.training.checkpoint import newest_first
from tests.object_store import Store, store  # noqa: F401 - a fixture
from tests.training.tiny_training import LANGUAGES, LAYERS, SCHEDULES, Tiny

GB = 10**9


def everything(tiny: Tiny, **settings: Any) -> Study:
    """A study of all schedules; its runs are far too long for a test."""
    values: dict[str, Any] = {
        "search__schedule": [name for name in SCHEDULES if name != "gu-prose"],
        "search__method": ["adapters", "full"],
        "search__lr": [1e-2, 1e-3],
        "search__k": [500, "even"],
        "search__sampler": "grid",
        "search__arms": [{"schedule": "schedule-1", "lr": 1e-3, "k": 7, "epochs": 3}],
        "training__epochs": 4,
        "training__steps": None,
        "training__permutation": [2, 0, 1],
        "training__surgical": [0, 2],
        "training__replay": str(tiny.folder / "replay.json"),
        "data__train_examples": None,
        "evaluation__dev_limit": None,
        "evaluation__also": {"again": {"test": "mini", "languages": list(LANGUAGES[:1])}},
        "seeds": [7, 8],
        "budget__hours": 0.1,
    }
    return tiny.study(**values | settings)


@pytest.fixture(scope="module")
def processes() -> tuple[Smoker, Smoker]:
    """Who begins and who finishes; each loads what it needs once."""
    return Smoker(), Smoker()


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "gu-prose"])
def test_a_tiny_run_wakes_layers_and_goes_on_in_another_process(
    tiny: Tiny, tmp_path: Path, processes: tuple[Smoker, Smoker], schedule: str
) -> None:
    study = everything(tiny)
    resolved = tiny.resolve(study)
    point = next(point for point in chosen(study.search) if point.schedule == schedule)
    spec = smoke.tiny(study, resolved, point, tmp_path)
    assert (spec.study.training.steps, spec.seed, spec.study.data.train_examples) == (CPU_STEPS, 7, 16)
    first, second = (smoke.assignment(spec, str(tmp_path), number) for number in (1, 2))
    begun = processes[0].begin(first)
    assert begun.cause is None
    assert [path.name for path in newest_first([first.layout.checkpoints])] == [f"step-{CPU_STEPS // 2:08d}"]
    assert not first.layout.result.exists()
    done = processes[1].finish(second)
    assert done.cause is None
    result = read_result(second.layout.result)
    assert result.steps == CPU_STEPS
    assert all(set(scores) <= set(LANGUAGES) for scores in result.tests.values())
    assert len(result.tests) == 2
    woken = [layer for _, layers in result.unfreeze_order[1:] for layer in layers]
    expected: dict[str, int] = {"standard": 0, "surgical": 0, "lpft": LAYERS, "replay": 3}
    assert len(woken) == expected.get(schedule, LAYERS - 1)
    assert (len(begun.seconds), len(done.seconds)) == (CPU_STEPS // 2 + 1, CPU_STEPS - CPU_STEPS // 2)
    whole = Smoked(schedule=schedule, method="adapters", parts=(begun, done))
    assert whole.cause is None
    assert 0 < (whole.step_seconds or 0) < 10
    assert 10**7 < whole.peak_bytes < 10**11
    assert whole.share is None


def test_an_object_store_is_tried_as_well(tiny: Tiny, store: Store) -> None:  # noqa: F811
    """Begun on one machine, finished on another, and cleared from both and the store."""
    study = tiny.study()
    server = store.fresh()
    with server.machine("driver") as driver:
        layout = server.layout("driver").create()
        place = Place.beside(layout)
        spec = smoke.tiny(study, tiny.resolve(study), chosen(study.search)[0], place.here)
    for number, name in enumerate(("one", "two"), start=1):
        with server.machine(name) as machine:
            smoker, one = Smoker(), smoke.assignment(spec, place.storage, number)
            part = smoker.begin(one) if number == 1 else smoker.finish(one)
            assert part.cause is None, part.message
            place.clear_here()
            assert not list((machine / "storage").glob("*"))
    assert Remote(place.storage).below()
    with server.machine("driver"):
        place.clear()
        assert not Remote(server.uri).below()
        assert [path.name for path in (driver / "storage").iterdir()] == [layout.storage.name]


def test_a_folder_is_cleared(tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path, "demo").create()
    place = Place.beside(layout)
    assert place.here.parent == layout.root
    (place.here / "left").write_text("x")
    place.clear()
    assert [path.name for path in layout.root.iterdir()] == ["runs"]


def test_one_run_of_every_schedule_and_method(tiny: Tiny) -> None:
    found = chosen(everything(tiny).search)
    assert len(found) == len({(point.schedule, point.method) for point in found}) == 2 * 9 + 1
    assert found[-1] == Point(schedule="schedule-1", lr=1e-3, k=7, epochs=3)


def test_a_gpu_wakes_all_layers(tiny: Tiny, tmp_path: Path) -> None:
    """The memory of a run is largest then."""
    study = everything(tiny, fisher__select__preset="released", fisher__select__batches=40)
    resolved = tiny.resolve(study).model_copy(update={"device": "cuda"})
    spec = smoke.tiny(study, resolved, Point(schedule="gu", method="full", lr=1e-2, k="even"), tmp_path)
    assert spec.study.training.steps == LAYERS + smoke.SPARE_STEPS
    assert (spec.point.k, spec.point.method) == (1, "full")


def test_a_resume_that_is_none_is_found(tiny: Tiny, tmp_path: Path) -> None:
    study = tiny.study()
    spec = smoke.tiny(study, tiny.resolve(study), chosen(study.search)[0], tmp_path)
    part = Smoker().finish(smoke.assignment(spec, str(tmp_path), 2))
    assert (part.cause, part.message) == ("checkpoint", f"step {CPU_STEPS // 2} was saved, but not continued from")


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "cuda_oom"),
        (OSError(28, "No space left on device"), "storage"),
        (StudyError("does not fit"), "data"),
        (ValueError("a bug"), "code"),
    ],
    ids=["cuda_oom", "storage", "data", "code"],
)
def test_what_goes_wrong_is_told_by_its_cause(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, cause: str
) -> None:
    study = tiny.study()
    spec = smoke.tiny(study, tiny.resolve(study), chosen(study.search)[0], tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr("raysched.training.loop.TrainingRun._step", fail)
    part = Smoker().begin(smoke.assignment(spec, str(tmp_path), 1))
    assert part.cause == cause
    assert str(raised) in part.message


def smoked(cause: str | None = None, *, schedule: str = "gu", **more: Any) -> Smoked:
    return Smoked(schedule=schedule, method="adapters", parts=(Part(cause=cause, message="why", **more),))


@pytest.mark.parametrize(
    ("causes", "kind", "hint"),
    [
        ([None, "cuda_oom"], MissingError, "larger share of the GPU"),
        (["oom"], MissingError, "resources.memory_gb"),
        (["worker_lost"], MissingError, "mend the study"),
        (["storage"], MissingError, "--storage"),
        (["nan"], StudyError, "learning rate"),
        (["code", "oom"], StudyError, "mend the study"),
    ],
)
def test_a_failure_refuses_the_sweep(causes: list[str | None], kind: type[Exception], hint: str) -> None:
    found = [smoked(cause, schedule=f"s{number}") for number, cause in enumerate(causes)]
    error = refusal(found, "demo")
    assert isinstance(error, kind)
    failed = [one for one in found if one.cause]
    assert f"{len(failed)} of {len(found)} tiny runs failed, and nothing was started" in str(error)
    assert f"{failed[0].schedule} (adapters): {failed[0].cause}, why" in str(error)
    assert hint in (error.hint or "")
    assert refusal([smoked(), smoked()], "demo") is None


@pytest.mark.parametrize(
    ("peak", "device", "share"),
    [
        (70 * GB, 80 * GB, 1),
        (30 * GB, 80 * GB, 1 / 2),
        (GB, 80 * GB, 1 / 16),
        (200 * GB, 80 * GB, 1),
        (36 * GB - CONTEXT_BYTES, 80 * GB, 1 / 2),
    ],
)
def test_the_share_of_a_gpu_that_would_do(peak: int, device: int, share: float) -> None:
    assert gpu_share(peak, device) == share
    one = smoked(peak_bytes=peak, device_bytes=device)
    assert one.share == share
    assert dataclasses.replace(one, parts=()).share is None
    assert one.step_seconds is None
