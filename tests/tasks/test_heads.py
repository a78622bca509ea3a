"""Heads against those of the library's own classes, on the same weights, hidden states and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForMultipleChoice,
    DebertaV2ForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForMultipleChoice,
    XLMRobertaForSequenceClassification,
)

from raysched.tasks.heads import FirstTokenHead, FrozenLinear, choice_head, class_head

WIDTH, DROPOUT = 8, 0.25
SIZES: dict[str, Any] = {
    "vocab_size": 10,
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_dropout_prob": DROPOUT,
    "num_labels": 3,
}


def pooled(m: Any, hidden: Tensor) -> Tensor:
    return m.classifier(m.dropout(m.base_model.pooler(hidden)))


def context_pooled(m: Any, hidden: Tensor) -> Tensor:
    return m.classifier(m.dropout(m.pooler(hidden)))


BERT, XLMR, DEBERTA = BertConfig(**SIZES), XLMRobertaConfig(**SIZES), DebertaV2Config(**SIZES)
LIBRARY: list[tuple[str, type[Any], Any, Callable[[Any, Tensor], Tensor], str, str]] = [
    ("nli", BertForSequenceClassification, BERT, pooled, "bert.pooler.dense", "classifier"),
    ("choice", BertForMultipleChoice, BERT, pooled, "bert.pooler.dense", "classifier"),
    (
        "nli",
        XLMRobertaForSequenceClassification,
        XLMR,
        lambda m, h: m.classifier(h),
        "classifier.dense",
        "classifier.out_proj",
    ),
    ("choice", XLMRobertaForMultipleChoice, XLMR, pooled, "roberta.pooler.dense", "classifier"),
    ("nli", DebertaV2ForSequenceClassification, DEBERTA, context_pooled, "pooler.dense", "classifier"),
    ("choice", DebertaV2ForMultipleChoice, DEBERTA, context_pooled, "pooler.dense", "classifier"),
]
FROZEN = {("nli", "bert"), ("choice", "bert"), ("choice", "xlm-roberta"), ("choice", "roberta")}


def make(task: str, model_type: str, pooler: dict[str, Tensor] | None = None) -> FirstTokenHead:
    if task == "nli":
        return class_head(WIDTH, model_type, pooler, DROPOUT, 3)
    return choice_head(WIDTH, model_type, pooler, DROPOUT)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("task", "kind", "config", "forward", "dense", "out"), LIBRARY)
def test_same_logits_as_the_library(
    task: str, kind: type[Any], config: Any, forward: Callable[..., Tensor], dense: str, out: str, training: bool
) -> None:
    torch.manual_seed(3)
    theirs = kind(config).train(training)
    state = theirs.state_dict()
    ours = make(task, config.model_type, {name: state[f"{dense}.{name}"] for name in ("weight", "bias")})
    ours.load_state_dict(
        {
            f"{mine}.{n}": state[f"{its}.{n}"]
            for mine, its in (("dense", dense), ("out", out))
            for n in ("weight", "bias")
        }
    )
    ours.train(training)
    hidden = torch.randn(5, 4, WIDTH)
    found = []
    for head in (ours, lambda h: forward(theirs, h)):
        torch.manual_seed(4)  # dropout draws the same numbers in the same order
        found.append(head(hidden))
    assert torch.equal(*found)
    assert found[0].shape == (5, 3 if task == "nli" else 1)


@pytest.mark.parametrize("task", ["nli", "choice"])
@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "roberta", "deberta-v2", "electra"])
def test_what_trains(task: str, model_type: str) -> None:
    pooler = {"weight": torch.randn(WIDTH, WIDTH), "bias": torch.randn(WIDTH)}
    head = make(task, model_type, pooler)
    frozen = (task, model_type) in FROZEN
    trains = {name for name, _ in head.named_parameters()}
    assert trains == {"out.weight", "out.bias"} | (set() if frozen else {"dense.weight", "dense.bias"})
    assert list(head.state_dict()) == ["dense.weight", "dense.bias", "out.weight", "out.bias"]
    assert isinstance(head.dense, FrozenLinear if frozen else nn.Linear)
    assert head.activation == ("gelu" if model_type == "deberta-v2" else "tanh")
    assert (head.before.p, head.dropout.p) == (0.0 if frozen or model_type == "deberta-v2" else DROPOUT, DROPOUT)
    if frozen:
        assert torch.equal(head.dense.weight, pooler["weight"])
        pooler["weight"].zero_()  # the head has its own copy
        assert head.dense.weight.any()


@pytest.mark.parametrize(("task", "model_type"), [("nli", "bert"), ("choice", "xlm-roberta"), ("nli", "xlm-roberta")])
def test_drawn_from_the_global_generator(task: str, model_type: str) -> None:
    """A checkpoint without a pooler: its place is drawn too, and comes back with the head's state."""
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(make(task, model_type).state_dict())
    for name in ("dense.weight", "out.weight"):
        assert torch.equal(made[0][name], made[1][name])
        assert not torch.equal(made[0][name], made[2][name])
        assert 0.01 < float(made[0][name].std()) < 0.03
    assert not made[0]["dense.bias"].any()
    assert not made[0]["out.bias"].any()
    again = make(task, model_type)
    again.load_state_dict(made[2])
    assert torch.equal(again.dense.weight, made[2]["dense.weight"])
