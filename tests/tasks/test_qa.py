from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raysched.errors import Diverged
from raysched.study.model import Study
from raysched.tasks.features import Features
from raysched.tasks.predictions import Prediction
from raysched.tasks.qa import QATask
from tests.tasks.tiny_qa import make_row, make_tokenizer

MakeStudy = Callable[..., Study]
DATA = {"train": "mini", "dev": "mini", "test": "mini", "max_length": 24, "doc_stride": 4}


def task(study: MakeStudy, padding: str = "max", **changes: Any) -> QATask:
    data = DATA | {"qa_padding": padding} | {k: v for k, v in changes.items() if k in DATA}
    rest = {k: v for k, v in changes.items() if k not in DATA}
    return QATask(study(data=data, evaluation={"languages": ("en",)} | rest))


def oracle(features: Features) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits with a spike at the label of each window; a window without the answer stays flat and lower."""
    starts, ends = [], []
    for n, length in enumerate(features.lengths):
        start, end = np.full(length, -9.0, np.float32), np.full(length, -9.0, np.float32)
        start[features.start[n]], end[features.end[n]] = 5.0, 5.0
        starts.append(start)
        ends.append(end)
    return starts, ends


def predict(qa: QATask, rows: list[dict[str, Any]], features: Features, starts: Any, ends: Any) -> list[Prediction]:
    return qa.predict(rows, features, list(zip(starts, ends, strict=True)), "en", None)


def new_head(qa: QATask, width: int) -> torch.nn.Linear:
    head = qa.head(hidden_size=width, model_type="xlm-roberta", pooler=None, dropout=0.1)
    assert isinstance(head, torch.nn.Linear)
    return head


@pytest.mark.parametrize(("padding", "train_width"), [("max", 24), ("dynamic_masked", 24), ("dynamic_masked", 16)])
def test_batch(study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any, padding: str, train_width: int) -> None:
    qa = task(study, padding)
    chosen = [1] if train_width == 16 else [2, 0]
    train, dev = qa.features(rows, tokenizer, "train"), qa.features(rows, tokenizer, "eval")
    longest = int(train.lengths[chosen].max())
    for features, width in ((train, train_width), (dev, longest)):
        batch = qa.batch(features, chosen)
        assert {name: tuple(t.shape) for name, t in batch.items()} == {
            "input_ids": (len(chosen), width),
            "attention_mask": (len(chosen), width),
            "start_positions": (len(chosen),),
            "end_positions": (len(chosen),),
        }
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())
        for row, window in enumerate(chosen):
            length = int(features.lengths[window])
            begin = features.bounds[window]
            assert batch["input_ids"][row, :length].tolist() == features.input_ids[begin : begin + length].tolist()
            assert batch["input_ids"][row, length:].tolist() == [1] * (width - length)
            assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (width - length)
            assert batch["start_positions"][row] == features.start[window] > 0
            assert batch["end_positions"][row] == features.end[window]


def test_dynamic_width_never_exceeds_max_length(study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any) -> None:
    qa = task(study, "dynamic_masked", max_length=18)
    features = qa.features(rows, tokenizer, "train")
    assert qa.batch(features, [0])["input_ids"].shape == (1, 18)


def test_token_types_where_the_tokenizer_knows_them(study: MakeStudy, rows: list[dict[str, Any]]) -> None:
    texts = [row[name] for row in rows for name in ("context", "question")]
    tokenizer = make_tokenizer(texts, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    qa = task(study)
    batch = qa.batch(qa.features(rows[1:2], tokenizer, "train"), [0])
    # <s> What sleeps ? </s> </s> The blue cat sleeps . </s>, then padding
    assert batch["token_type_ids"][0].tolist() == [0] * 6 + [1] * 6 + [0] * 12


def test_head_is_drawn_from_the_global_generator(study: MakeStudy) -> None:
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(new_head(task(study), 64))
    assert torch.equal(made[0].weight, made[1].weight)
    assert not torch.equal(made[0].weight, made[2].weight)
    assert made[0].weight.shape == (2, 64)
    assert 0.01 < float(made[0].weight.detach().std()) < 0.03
    assert not made[0].bias.detach().any()


@pytest.mark.parametrize(
    ("given", "expected"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_logits_are_at_least_float32(study: MakeStudy, given: str, expected: str) -> None:
    dtype = getattr(torch, given)
    qa, mask = task(study), {"attention_mask": torch.ones(2, 3, dtype=torch.int64)}
    start, end = qa.groups(new_head(qa, 4).to(dtype), torch.randn(2, 3, 4, dtype=dtype), mask)
    assert start.dtype == end.dtype == getattr(torch, expected)
    assert start.shape == end.shape == (2, 3)


def test_loss_is_the_mean_of_two_cross_entropies(study: MakeStudy) -> None:
    torch.manual_seed(0)
    start, end = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    positions = [torch.tensor([1, 4, 5]), torch.tensor([2, 9, -3])]  # 5 and 9 lie beyond; -3 counts as 0
    expected = 0.0
    for logits, kept in ((start, {0: 1, 1: 4}), (end, {0: 2, 2: 0})):
        p = logits.exp() / logits.exp().sum(1, keepdim=True)
        expected += sum(-float(p[row, column].log()) for row, column in kept.items()) / len(kept) / 2
    assert float(task(study).loss([start, end], positions)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("padding", "depends"), [("max", True), ("dynamic_masked", False)])
def test_loss_depends_on_padding_only_under_max(
    study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any, padding: str, depends: bool
) -> None:
    """method.md 6.4: the paper's softmax covers padding, so its loss grows with T for the same input."""
    torch.manual_seed(0)
    qa = task(study, padding)
    batch = qa.batch(qa.features(rows, tokenizer, "eval"), [0, 1])
    head, width = new_head(qa, 16).double(), batch["input_ids"].shape[1]
    hidden = torch.randn(2, width + 40, 16, dtype=torch.float64)
    losses, gradients = [], []
    for extra in (0, 8, 40):
        padded = batch | {"attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, extra))}
        head.zero_grad()
        loss = qa.loss(qa.groups(head, hidden[:, : width + extra], padded), qa.targets(padded))
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(head.weight.grad.clone())
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if depends:
        assert losses[0] + 0.1 < losses[1] < losses[2] - 0.1
    else:
        assert losses == pytest.approx([losses[0]] * 3, abs=1e-12)
        assert torch.allclose(gradients[0], gradients[2], atol=1e-12)


@pytest.mark.parametrize(("max_length", "doc_stride"), [(16, 8), (16, 5), (24, 4)])
def test_oracle_finds_every_answer(
    study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any, max_length: int, doc_stride: int
) -> None:
    qa = task(study, max_length=max_length, doc_stride=doc_stride)
    features = qa.features(rows, tokenizer, "eval")
    predictions = predict(qa, rows, features, *oracle(features))
    assert qa.score(predictions) == {"f1": 100.0, "em": 100.0}
    first = predictions[0]
    assert (first.example_id, first.prediction, first.score, first.gold) == ("q000", "Rome", 10.0, ("Rome", "in Rome"))
    assert rows[0]["context"][first.start : first.end] == "Rome"
    assert (first.f1, first.em) == (100.0, 100.0)


def _naive(
    qa: QATask, rows: list[dict[str, Any]], features: Features, starts: Any, ends: Any
) -> list[tuple[float, str]]:
    """Every pair of every window, in plain Python."""
    found = []
    for example, row in enumerate(rows):
        best = (-np.inf, "")
        for n in np.flatnonzero(features.example == example):
            first, a = features.context_start[n], features.context_bounds[n]
            tokens = range(features.context_bounds[n + 1] - a)
            top_s = sorted(tokens, key=lambda t: (-float(starts[n][first + t]), t))[: qa.n_best]
            top_e = sorted(tokens, key=lambda t: (-float(ends[n][first + t]), t))[: qa.n_best]
            for s, e in itertools.product(top_s, top_e):
                total = float(starts[n][first + s]) + float(ends[n][first + e])
                if s <= e < s + qa.max_answer_length and total > best[0]:
                    best = (total, row["context"][features.char_start[a + s] : features.char_end[a + e]])
        found.append(best)
    return found


@pytest.mark.parametrize(("n_best", "max_answer_length"), [(20, 30), (3, 2), (1, 1), (2, 30)])
def test_decoding_equals_every_pair(
    study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any, n_best: int, max_answer_length: int
) -> None:
    qa = task(study, max_length=16, doc_stride=8, n_best=n_best, max_answer_length=max_answer_length)
    features = qa.features(rows, tokenizer, "eval")
    generator = np.random.default_rng(0)
    empty = 0
    for _ in range(20):
        # Wider than the windows, as a padded batch gives them; padding holds the highest logits of all.
        shape = (len(features), 16)
        beyond = 100.0 * (np.arange(16) >= features.lengths[:, None])
        starts, ends = (generator.normal(size=shape) + beyond for _ in range(2))
        expected = _naive(qa, rows, features, starts, ends)
        got = predict(qa, rows, features, starts, ends)
        assert [p.prediction for p in got] == [text for _, text in expected]
        assert [p.score for p in got] == pytest.approx(
            [max(score, 0.0) if text == "" else score for score, text in expected]
        )
        empty += sum(p.prediction == "" for p in got)
        for p, row in zip(got, rows, strict=True):
            assert p.prediction == ("" if p.start is None else row["context"][p.start : p.end])
    assert (empty > 0) == (n_best < 20), "few candidates must sometimes leave no allowed span"


def test_high_logits_outside_the_context_are_ignored(
    study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any
) -> None:
    qa = task(study)
    features = qa.features(rows, tokenizer, "eval")
    starts, ends = oracle(features)
    for n in range(len(features)):
        starts[n][: features.context_start[n]] = ends[n][: features.context_start[n]] = 1000.0
        starts[n][-1] = ends[n][-1] = 1000.0
    assert qa.score(predict(qa, rows, features, starts, ends))["em"] == 100.0


def test_space_that_a_token_takes_along_is_no_answer(study: MakeStudy) -> None:
    row = make_row(0, "Ada met Bob .", "Who?", "Bob")
    tokenizer = make_tokenizer([row["context"], row["question"]])
    qa = task(study)
    features = qa.features([row], tokenizer, "eval")
    wide = features.char_start.copy()
    wide[2] -= 1  # as tokenizers do that give a word its leading space
    features = Features(**{name: getattr(features, name) for name in Features.__slots__} | {"char_start": wide})
    (prediction,) = predict(qa, [row], features, *oracle(features))
    assert (prediction.prediction, prediction.start, prediction.end) == ("Bob", 8, 11)


def test_not_a_number_is_divergence(study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any) -> None:
    qa = task(study)
    features = qa.features(rows, tokenizer, "eval")
    starts, ends = oracle(features)
    ends[1][int(features.context_start[1])] = np.nan
    with pytest.raises(Diverged, match="NaN"):
        predict(qa, rows, features, starts, ends)


def test_logits_of_other_windows_are_refused(study: MakeStudy, rows: list[dict[str, Any]], tokenizer: Any) -> None:
    qa = task(study)
    features = qa.features(rows, tokenizer, "eval")
    starts, ends = oracle(features)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        predict(qa, rows, features, starts[:-1], ends[:-1])


def test_features_key_changes_with_all_that_changes_features(study: MakeStudy) -> None:
    source = {"revision": "r"}
    keys = {
        task(study).features_key(source, "train", "t"),
        task(study).features_key(source, "eval", "t"),
        task(study).features_key(source, "train", "u"),
        task(study).features_key({"revision": "s"}, "train", "t"),
        task(study, max_length=23).features_key(source, "train", "t"),
        task(study, doc_stride=3).features_key(source, "train", "t"),
    }
    assert len(keys) == 6
    assert task(study).features_key(source, "train", "t") in keys
    assert task(study, "dynamic_masked").features_key(source, "train", "t") in keys  # padding is the batch's business
