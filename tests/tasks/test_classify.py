"""Groups, loss, predictions and scores of choice and nli."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysched.errors import Diverged
from raysched.study.model import Study
from raysched.tasks.choice import ChoiceTask
from raysched.tasks.classify import PairTask
from raysched.tasks.nli import NLITask
from raysched.tasks.predictions import Origin, read, write
from raysched.tasks.registry import make_task, task_class
from tests.tasks.tiny_pairs import CHOICE, NLI, TEXTS
from tests.tasks.tiny_qa import make_tokenizer

MakeStudy = Callable[..., Study]


class Fixed(nn.Module):
    """The first values of the first token, as they are."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden[:, 0, : self.n]


@pytest.mark.parametrize(("name", "kind"), [("choice", ChoiceTask), ("nli", NLITask)])
def test_a_study_names_them(study: MakeStudy, name: str, kind: type[PairTask]) -> None:
    made = study()
    objective = made.search.model_copy(update={"objective": "source_dev/accuracy"})
    assert type(make_task(made.model_copy(update={"task": name, "search": objective}))) is kind
    assert (task_class(name).form, task_class(name).metrics) == (name, ("accuracy",))


@pytest.mark.parametrize(
    ("given", "expected"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_one_group_of_an_example_s_logits(study: MakeStudy, given: str, expected: str) -> None:
    hidden = torch.arange(6 * 2 * 4, dtype=getattr(torch, given)).view(6, 2, 4)
    (choice,) = ChoiceTask(study()).groups(Fixed(1), hidden, {})
    (nli,) = NLITask(study()).groups(Fixed(3), hidden, {})
    assert choice.dtype == nli.dtype == getattr(torch, expected)
    assert choice.tolist() == [[0, 8], [16, 24], [32, 40]]  # the two choices of an example stand one after the other
    assert nli.tolist() == [[8 * row, 8 * row + 1, 8 * row + 2] for row in range(6)]


def test_loss_is_the_mean_cross_entropy(study: MakeStudy) -> None:
    nli, logits = NLITask(study()), torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]], dtype=torch.float64)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -float(p[0, 2].log() + p[1, 1].log()) / 2
    assert float(nli.loss([logits], nli.targets({"labels": torch.tensor([2, 1])}))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "rows", "logits", "named", "scores", "accuracy"),
    [
        (ChoiceTask, CHOICE, [[2.0, -1.0], [0.5, 0.25]], ["choice1", "choice1"], [2.0, 0.5], 50.0),
        (ChoiceTask, CHOICE, [[1.0, 1.0], [0.0, 3.0]], ["choice1", "choice2"], [1.0, 3.0], 100.0),  # first of equals
        (
            NLITask,
            NLI,
            [[0.0, 0.0, 1.0], [-3.0, -2.0, -1.0], [0.0, -np.inf, -1.0]],
            ["contradiction", "contradiction", "entailment"],
            [1.0, -1.0, 0.0],
            100 / 3,
        ),
    ],
)
def test_predictions(
    study: MakeStudy,
    tmp_path: Path,
    kind: type[PairTask],
    rows: list[dict[str, object]],
    logits: list[list[float]],
    named: list[str],
    scores: list[float],
    accuracy: float,
) -> None:
    task = kind(study())
    features = task.features(rows, make_tokenizer(TEXTS), "eval")
    found = task.predict(rows, features, [(np.array(one, np.float32),) for one in logits], "en", None)
    assert [p.prediction for p in found] == named
    assert [p.score for p in found] == scores
    assert [p.gold for p in found] == [(task.labels[int(str(row["label"]))],) for row in rows]
    assert [p.em for p in found] == [100.0 * (p.prediction in p.gold) for p in found]
    assert {(p.start, p.end, p.f1) for p in found} == {(None, None, None)}
    assert task.score(found) == pytest.approx({"accuracy": accuracy})
    origin = Origin(run_id="r", evaluation_id=None, language="en", split="dev")
    write(tmp_path / "p", found, origin)
    assert read(tmp_path / "p") == (origin, found)


def test_not_a_number_is_divergence(study: MakeStudy) -> None:
    task = ChoiceTask(study())
    features = task.features(CHOICE, make_tokenizer(TEXTS), "eval")
    logits = [(np.array([0.0, 1.0]),), (np.array([np.nan, 1.0]),)]
    with pytest.raises(Diverged, match="NaN"):
        task.predict(CHOICE, features, logits, "en", None)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        task.predict(CHOICE, features, logits[:1], "en", None)
    assert dataclasses.asdict(task.predict(CHOICE[:1], features, logits[:1], "en", None)[0])["em"] == 0.0
