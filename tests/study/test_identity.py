"""What is in a run's id, and what is not (decision 15)."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysched.study.identity import Content, Resolved, RunSpec
from raysched.study.load import load_study
from raysched.study.model import Study
from raysched.study.space import Point

GOOD = Path(__file__).with_name("good.yaml")


def content(revision: str) -> Content:
    return Content(where="mini", revision=revision, path=f"/somewhere/{revision}")


RESOLVED = Resolved(
    train=content("train"),
    dev=content("dev"),
    test={language: content(f"test-{language}") for language in ("vel", "orl")},
    backbone=content("backbone"),
    language_adapters={language: content(f"adapter-{language}") for language in ("vel", "orl")},
    device="cpu",
)
POINTS = {
    "standard": Point(schedule="standard", lr=1e-3),
    "gu": Point(schedule="gu", lr=1e-3, k=2),
    "fun": Point(schedule="fun", lr=1e-3, k=2),
}


def spec(*options: str, schedule: str = "standard", seed: int = 0, resolved: Resolved = RESOLVED) -> RunSpec:
    return RunSpec.make(load_study(GOOD, options).study, resolved, POINTS[schedule], seed)


@pytest.mark.parametrize(
    ("schedule", "option", "same"),
    [
        ("standard", "training.steps=11", False),
        ("standard", "training.batch_size=33", False),
        ("standard", "training.precision=bf16", False),
        ("standard", "training.threads=2", False),
        ("standard", "training.dropout=0.2", False),
        ("standard", "data.max_length=400", False),
        ("standard", "data.train_examples=10", False),
        ("standard", "model.task_adapter.reduction=8", False),
        ("standard", "evaluation.dev_limit=10", False),
        ("standard", "evaluation.dev_points=5", False),
        ("standard", "search.objective=source_dev/em", False),
        ("standard", "data.subset=first_n", True),
        ("standard", "training.gu_phase=prose", True),
        ("gu", "training.gu_phase=prose", False),
        ("standard", "training.permutation=[1, 0]", True),
        ("gu", "fisher.select.batches=3", True),
        ("fun", "fisher.select.batches=3", False),
        ("fun", "fisher.log.every_steps=3", True),
        ("fun", "training.checkpoint_every_steps=3", True),
        ("fun", "search.sampler=random", True),
        ("fun", "search.lr=[1e-3, 7e-4]", True),
        ("fun", "seeds=9", True),
        ("fun", "budget.hours=1", True),
        ("fun", "budget.hang_s=60", True),
        ("fun", "resources.cpu=3", True),
        ("fun", "tracking.log_every_steps=3", True),
        ("fun", "evaluation.candidates=0", True),
        ("fun", "evaluation.languages=[orl]", True),
        ("fun", "evaluation.test_limit=9", True),
        ("fun", "description=other", True),
    ],
)
def test_a_run_id_holds_what_changes_the_result_and_nothing_else(schedule: str, option: str, same: bool) -> None:
    one, other = spec(schedule=schedule), spec(option, schedule=schedule)
    assert (one.run_id == other.run_id) is same
    assert (one.cell_id == other.cell_id) is same


def test_orders_count_for_the_schedules_that_follow_them() -> None:
    base = ["search.schedule=[permutation, replay]", "training.replay=order.json"]
    forward, backward = (load_study(GOOD, [*base, f"training.permutation={order}"]).study for order in ([1, 0], [0, 1]))
    recorded = RESOLVED.model_copy(update={"replay": content("order")})
    rerecorded = RESOLVED.model_copy(update={"replay": content("other-order")})
    permutation, replay = Point(schedule="permutation", lr=1e-3, k=2), Point(schedule="replay", lr=1e-3)

    def run_id(study: Study, resolved: Resolved, point: Point) -> str:
        return RunSpec.make(study, resolved, point, 0).run_id

    assert run_id(forward, recorded, permutation) != run_id(backward, recorded, permutation)
    assert run_id(forward, recorded, permutation) == run_id(forward, rerecorded, permutation)
    assert run_id(forward, recorded, replay) != run_id(forward, rerecorded, replay)
    assert run_id(forward, recorded, replay) == run_id(backward, recorded, replay)


def test_seeds_share_a_cell_and_not_a_run() -> None:
    one, other = spec(seed=0), spec(seed=1)
    assert one.cell_id == other.cell_id
    assert len({one.run_id, other.run_id, one.cell_id}) == 3


@pytest.mark.parametrize("options", [["evaluation.languages=[orl]"], ["evaluation.test_limit=9"]])
def test_another_test_set_is_another_evaluation_of_the_same_run(options: list[str]) -> None:
    one, other = spec(), spec(*options)
    assert one.run_id == other.run_id
    assert one.evaluation_ids != other.evaluation_ids


@pytest.mark.parametrize(
    ("part", "same"), [("train", False), ("dev", False), ("backbone", False), ("test", True), ("device", False)]
)
def test_inputs_count_by_their_content(part: str, same: bool) -> None:
    changed = {"test": {"vel": content("x"), "orl": content("x")}, "device": "cuda"}.get(part, content("x"))
    other = spec(resolved=RESOLVED.model_copy(update={part: changed}))
    assert (other.run_id == spec().run_id) is same
    assert other.evaluation_ids != spec().evaluation_ids


def test_where_content_lies_does_not_count() -> None:
    moved = RESOLVED.model_copy(update={"train": Content(where="elsewhere", revision="train", path="/x")})
    assert spec(resolved=moved).run_id == spec().run_id


def test_a_spec_travels_as_json() -> None:
    one = spec("search.lr=[1e-3]", schedule="gu", seed=1)
    assert RunSpec.from_json(one.to_json()) == one


def test_full_fine_tuning_counts_its_language_and_no_adapter() -> None:
    """Rows of one data set with several languages have one revision."""
    point = Point(schedule="standard", lr=1e-3, method="full")

    def full(*options: str, resolved: Resolved = RESOLVED) -> RunSpec:
        return RunSpec.make(load_study(GOOD, options).study, resolved, point, 0)

    none = RESOLVED.model_copy(update={"language_adapters": {}})
    assert full().run_id == full(resolved=none).run_id != spec().run_id
    assert full("model.source_language=orl").run_id != full().run_id
    assert full("model.task_adapter.reduction=8").run_id == full().run_id
    assert full("model.source_language=orl").evaluation_ids != full().evaluation_ids
