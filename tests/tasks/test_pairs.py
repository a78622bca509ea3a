from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysched.study.model import Study
from raysched.tasks import feature_store, pairs
from raysched.tasks.choice import ChoiceTask
from raysched.tasks.features import Features
from raysched.tasks.nli import NLITask
from raysched.tasks.pairs import PairFeatures
from tests.tasks.tiny_pairs import CHOICE, NLI, TEXTS
from tests.tasks.tiny_qa import make_tokenizer

COLUMNS = ("bounds", *PairFeatures.FLAT, *PairFeatures.SINGLE, *PairFeatures.PLAIN)
BERT = {"pair": "<s> $A </s> $B </s>", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}


def tasks(study: Callable[..., Study], max_length: int = 64) -> tuple[ChoiceTask, NLITask]:
    made = study(data={"max_length": max_length})
    return ChoiceTask(made), NLITask(made)


def words(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def same(one: PairFeatures, other: PairFeatures) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def test_choice_rows_become_two_pairs_each(study: Callable[..., Study]) -> None:
    tokenizer, (choice, _) = make_tokenizer(TEXTS), tasks(study)
    features = choice.features(CHOICE, tokenizer, "train")
    assert (len(features), features.per_example) == (2, 2)
    batch = choice.batch(features, [1, 0])
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "input_ids": (4, 16),
        "attention_mask": (4, 16),
        "labels": (2,),
    }
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert batch["labels"].tolist() == [1, 0]
    shown = [
        words(tokenizer, ids[mask == 1].tolist())
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert shown == [
        "<s> Rain . What was the effect ? </s> </s> Dry </s>",
        "<s> Rain . What was the effect ? </s> </s> The street was wet . </s>",
        "<s> Ada fell . What was the cause ? </s> </s> It was icy . </s>",
        "<s> Ada fell . What was the cause ? </s> </s> She got up . </s>",
    ]
    assert batch["input_ids"][batch["attention_mask"] == 0].unique().tolist() == [tokenizer.pad_token_id]
    assert features.lengths.tolist() == [16, 16]


def test_a_wrong_question_of_xcopa_is_asked_as_it_stands() -> None:
    """data.md: the published `question` is the prompt, even where it is not English COPA's."""
    row = CHOICE[0] | {"premise": "ฝนตก", "question": "effect"}
    assert ChoiceTask.pairs(row)[0] == ("ฝนตก What was the effect?", "It was icy.")


@pytest.mark.parametrize(("indices", "width"), [([0], 12), ([1], 10), ([1, 2], 10), ([2], 5), (np.array([2, 0]), 12)])
def test_nli_is_padded_to_the_longest_of_the_batch(study: Callable[..., Study], indices: Any, width: int) -> None:
    tokenizer, (_, nli) = make_tokenizer(TEXTS), tasks(study)
    features = nli.features(NLI, tokenizer, "eval")
    batch = nli.batch(features, indices)
    assert batch["input_ids"].shape == (len(indices), width)
    assert batch["attention_mask"].sum(1).tolist() == features.lengths[indices].tolist()
    assert batch["labels"].tolist() == [NLI[index]["label"] for index in indices]


def test_token_types_where_the_tokenizer_knows_them(study: Callable[..., Study]) -> None:
    tokenizer, (choice, nli) = make_tokenizer(TEXTS, **BERT), tasks(study)
    types = nli.batch(nli.features(NLI, tokenizer, "train"), [0, 2])["token_type_ids"]
    # <s> Ada fell on ice . </s> Ada fell . </s>, and <s> Rain </s> </s>
    assert types.tolist() == [[0] * 7 + [1] * 4, [0] * 11]
    assert choice.batch(choice.features(CHOICE, tokenizer, "train"), [0])["token_type_ids"].sum(1).tolist() == [5, 5]


@pytest.mark.parametrize("max_length", [16, 17, 18, 64])
def test_the_longer_text_is_cut_first(study: Callable[..., Study], max_length: int) -> None:
    """Token by token: of two texts that have come to the same length, the one that was shorter goes on."""
    tokenizer, (_, nli) = make_tokenizer(TEXTS), tasks(study, max_length)
    row = {"id": "0", "premise": "Ada fell on ice . " * 2, "hypothesis": "She got up . " * 3, "label": 1}
    premise, hypothesis = row["premise"].split(), row["hypothesis"].split()
    while len(premise) + len(hypothesis) + 4 > max_length:
        (hypothesis if len(hypothesis) > len(premise) else premise).pop()
    features = nli.features([row], tokenizer, "train")
    assert features.lengths[0] <= max_length
    assert words(tokenizer, features.input_ids.tolist()) == " ".join(
        ["<s>", *premise, "</s>", "</s>", *hypothesis, "</s>"]
    )


def test_chunks_change_nothing(study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, (choice, _) = make_tokenizer(TEXTS), tasks(study)
    whole = choice.features(CHOICE, tokenizer, "train")
    monkeypatch.setattr(pairs, "CHUNK", 1)
    assert same(whole, choice.features(CHOICE, tokenizer, "train"))


@pytest.mark.parametrize("rows", [CHOICE, []])
def test_stored_features_are_the_same_and_mapped(
    study: Callable[..., Study], tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    choice, _ = tasks(study)
    made = choice.features(rows, make_tokenizer(TEXTS), "train")
    choice.load_features(tmp_path, "k", lambda: made)
    again = choice.load_features(tmp_path, "k", lambda: pytest.fail("they are there"))
    assert same(again, made)
    assert len(again) == len(again.lengths) == len(rows)
    assert not again.input_ids.flags.writeable


def test_damaged_or_other_features_are_made_again(study: Callable[..., Study], tmp_path: Path) -> None:
    choice, _ = tasks(study)
    tokenizer = make_tokenizer(TEXTS)
    made, path = choice.features(CHOICE, tokenizer, "train"), tmp_path / "k.arrow"
    feature_store.store(path, "k", made)
    whole = path.read_bytes()
    at = whole.index(made.input_ids.tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert feature_store.load(path, "k", PairFeatures) is None
    assert same(choice.load_features(tmp_path, "k", lambda: dataclasses.replace(made)), made)
    assert path.read_bytes() == whole
    assert feature_store.load(path, "k", Features) is None


def test_features_key_changes_with_all_that_changes_features(study: Callable[..., Study]) -> None:
    choice, nli = tasks(study)
    shorter, _ = tasks(study, 32)
    source = {"revision": "r"}
    keys = {
        choice.features_key(source, "train", "t"),
        nli.features_key(source, "train", "t"),
        shorter.features_key(source, "train", "t"),
        choice.features_key(source, "train", "u"),
        choice.features_key({"revision": "s"}, "train", "t"),
    }
    assert len(keys) == 5
    assert choice.features_key(source, "eval", "t") in keys  # the same pairs, so the same features
