"""Averages of tensors: what they are by hand, and what the averaged model scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from raysched.errors import DamageError, MissingError, StudyError
from raysched.records.derived import candidate_steps
from raysched.records.layout import AttemptLayout
from raysched.records.record import AttemptResult, read_result
from raysched.study.identity import RunSpec
from raysched.study.space import Point
from raysched.training import averaging
from raysched.training.bench import Bench
from raysched.training.evaluate import evaluate
from tests.training.tiny_training import LANGUAGES, Tiny, execute, sha

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def runs(tiny: Tiny, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[int, AttemptLayout]:
    """Two finished seeds of a cell."""
    found = {}
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp("averaged") / "attempt-0-0"
        assert execute(bench, tiny.spec("gu", seed), folder) is not None
        found[seed] = AttemptLayout(folder)
    return found


def result(layout: AttemptLayout) -> AttemptResult:
    return read_result(layout.result)


def test_by_hand() -> None:
    states = [{"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[4.0]])}, {"a": torch.tensor([2.0, 6.0])}]
    states[1]["b"] = torch.tensor([[-4.0]])
    mean = averaging.average(states)
    assert {name: value.tolist() for name, value in mean.items()} == {"a": [1.5, 4.0], "b": [[0.0]]}
    assert mean["a"].dtype == torch.float32


def test_the_mean_is_rounded_once() -> None:
    """In float32 these three add up to 0."""
    values = (1e8, 1.0, -1e8)
    mean = averaging.average({"a": torch.tensor([value])} for value in values)
    assert mean["a"].item() == torch.tensor(1 / 3).item()


def test_equal_tensors_are_their_mean(tiny: Tiny, bench: Bench, runs: dict[int, AttemptLayout]) -> None:
    state = averaging.tensors(bench, tiny.spec("gu"), runs[0].root / "adapter")
    for n in (1, 2, 3, 5, 7):
        assert sha(averaging.average([state] * n)) == sha(state)


def other_shape(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value[:-1] for name, value in state.items()}


def other_name(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.": value for name, value in state.items()}


def broadcast(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torch would add it."""
    return {name: value[:1] for name, value in state.items()}


@pytest.mark.parametrize("change", [other_shape, other_name, broadcast, lambda _: {}])
def test_what_does_not_fit_has_no_average(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    state = {"a": torch.ones(3), "b": torch.ones(3, 2)}
    with pytest.raises(StudyError, match="names or shapes"):
        averaging.average([state, change(state)])


def test_nothing_has_no_average() -> None:
    with pytest.raises(StudyError, match="got none"):
        averaging.average([])


def test_the_saved_adapter_is_what_was_selected_and_scores_what_the_run_did(
    tiny: Tiny, bench: Bench, runs: dict[int, AttemptLayout]
) -> None:
    spec, done = tiny.spec("gu"), result(runs[0])
    folder = averaging.whole(runs[0], done.files, "adapter")
    scores = list(averaging.scored(bench, spec, averaging.tensors(bench, spec, folder)))
    assert [(one.test_set, one.language) for one in scores] == [(None, "vel"), *(("test", one) for one in LANGUAGES)]
    assert scores[0].scores == done.source_dev
    assert {one.language: one.scores for one in scores[1:]} == done.tests[spec.evaluation_ids["test"]]
    assert all(len(one.predictions) == (20 if one.test_set is None else 10) for one in scores)


def test_an_average_of_seeds_scores_as_its_tensors_put_in_by_hand_do(
    tiny: Tiny, bench: Bench, runs: dict[int, AttemptLayout]
) -> None:
    specs = {seed: tiny.spec("gu", seed) for seed in SEEDS}
    states = [averaging.tensors(bench, specs[seed], runs[seed].root / "adapter") for seed in SEEDS]
    scored = list(averaging.scored(bench, specs[0], averaging.average(states)))

    bench.start(specs[1])
    mine = bench.model.trainable()
    assert mine.keys() == states[0].keys()
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_((states[0][name] + states[1][name]) / 2)
    expected = [evaluate(bench, bench.dev, 128), *(evaluate(bench, bench.test(one), 128) for one in LANGUAGES)]
    assert [(one.scores, one.predictions) for one in scored] == [(dict(a), b) for a, b in expected]
    alone = list(averaging.scored(bench, specs[0], states[0]))
    assert [one.predictions for one in scored] != [one.predictions for one in alone]


def test_an_average_of_candidates_is_that_of_their_files(
    tiny: Tiny, bench: Bench, runs: dict[int, AttemptLayout]
) -> None:
    spec, done = tiny.spec("gu"), result(runs[0])
    steps = candidate_steps(done.files)
    assert len(steps) > 2
    folders = [averaging.whole(runs[0], done.files, f"candidates/step-{step:08d}") for step in steps]
    mean = averaging.average(averaging.tensors(bench, spec, folder) for folder in folders)
    heads = [load_file(folder / "head.safetensors") for folder in folders]
    for name in heads[0]:
        expected = torch.stack([head[name].double() for head in heads]).mean(0).float()
        torch.testing.assert_close(mean[f"head.{name}"], expected, rtol=1e-6, atol=1e-8)
    assert sha({name: mean[f"head.{name}"] for name in heads[0]}) != sha(heads[-1])


def test_files_are_compared_with_the_record_first(runs: dict[int, AttemptLayout], tmp_path: Path) -> None:
    done = result(runs[0])
    with pytest.raises(MissingError, match="kept no candidates/step-00000999"):
        averaging.whole(runs[0], done.files, "candidates/step-00000999")
    changed = {name: "0" * 64 if name.endswith("head.safetensors") else sha for name, sha in done.files.items()}
    with pytest.raises(DamageError, match=r"adapter/head.safetensors: is missing or is not what was recorded"):
        averaging.whole(runs[0], changed, "adapter")
    with pytest.raises(DamageError, match="is missing"):
        averaging.whole(AttemptLayout(tmp_path), done.files, "adapter")


def test_whole_models_are_averaged_as_well(tiny: Tiny, bench: Bench, tmp_path: Path) -> None:
    study, plain = tiny.study("standard", search__method=["full"]), tiny.spec("standard")
    spec = RunSpec.make(study, plain.resolved, Point(schedule="standard", lr=1e-3, method="full"), 0)
    assert execute(bench, spec, tmp_path / "attempt-0-0") is not None
    layout = AttemptLayout(tmp_path / "attempt-0-0")
    done = result(layout)
    state = averaging.tensors(bench, spec, averaging.whole(layout, done.files, "adapter"))
    assert any("embeddings" in name for name in state)
    scored = list(averaging.scored(bench, spec, averaging.average([state, state])))
    assert scored[0].scores == done.source_dev
    assert {one.language: one.scores for one in scored[1:]} == done.tests[spec.evaluation_ids["test"]]


def test_another_models_adapter_is_refused(tiny: Tiny, bench: Bench, runs: dict[int, AttemptLayout]) -> None:
    spec = tiny.spec("gu")
    state = averaging.tensors(bench, tiny.spec("gu", 1), runs[0].root / "adapter")
    with pytest.raises(ValueError, match="differ"):
        list(averaging.scored(bench, spec, dict(list(state.items())[1:])))
    with pytest.raises(DamageError, match="cannot be loaded"):
        averaging.tensors(bench, spec, runs[0].root / "segments")
