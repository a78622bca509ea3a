"""The shipped weights: loadable offline, complete, and made by the recipe beside them."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import adapters
import pytest
import torch
from adapters.composition import Stack
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaModel

from raysched import mini
from raysched.mini import world
from raysched.mini.facts import VERSION
from raysched.mini.text import MASK, mlm_text
from raysched.mini.tokenizer import build_tokenizer
from raysched.training import mlm, pretrain_mini

RECIPE = json.loads((mini.ASSETS / "recipe.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the recipe was run; at this size a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(RECIPE["threads"])
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_backbone_and_every_adapter_load_offline(offline: None) -> None:
    config = AutoConfig.from_pretrained(mini.backbone_path())
    assert (config.num_hidden_layers, config.hidden_size, config.hidden_dropout_prob) == (12, 64, 0.1)
    tokenizer = AutoTokenizer.from_pretrained(mini.backbone_path())
    assert tokenizer.is_fast
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    model, told = XLMRobertaModel.from_pretrained(mini.backbone_path(), output_loading_info=True)
    assert told["missing_keys"] == []
    adapters.init(model)
    row = world.qa_rows(world.SOURCE, "test", 1)[0]
    batch = tokenizer(row["question"], row["context"], return_tensors="pt")
    model.eval()
    bare = model(**batch).last_hidden_state
    for code in world.LANGUAGES:
        model.load_adapter(str(mini.adapter_path(code)), use_safetensors=True)
        stored = load_file(mini.adapter_path(code) / "adapter.safetensors")
        assert sum("adapter_down.0.weight" in name for name in stored) == 12
        assert any("invertible" in name for name in stored)
        loaded = {name.removeprefix("roberta."): tensor for name, tensor in model.named_parameters()}
        for name, tensor in stored.items():
            assert torch.equal(loaded[name.removeprefix("roberta.")], tensor)
        model.set_active_adapters(Stack(code))
        assert not torch.allclose(model(**batch).last_hidden_state, bare, atol=1e-3)


def test_the_first_steps_reproduce() -> None:
    """Losses of the first steps, to 1e-4: the data, the initialisation and the update are the recipe's."""
    n = min(4, len(RECIPE["first_losses"]))
    assert pretrain_mini.first_losses(n) == pytest.approx(RECIPE["first_losses"][:n], abs=1e-4)


def test_the_recipe_is_of_these_weights_and_of_this_world() -> None:
    assert mini.content_hash() == RECIPE["content_hash"]
    assert RECIPE["world_version"] == VERSION
    assert RECIPE["seed"] == pretrain_mini.SEED
    stages = [stage.name for stage in pretrain_mini.stages(pretrain_mini.Steps())]
    assert [part["name"] for part in RECIPE["parts"]] == [*stages, *world.LANGUAGES]
    planned = [stage.settings for stage in pretrain_mini.stages(pretrain_mini.Steps())]
    planned += [pretrain_mini.adapter_settings(pretrain_mini.Steps())] * len(world.LANGUAGES)
    for part, settings in zip(RECIPE["parts"], planned, strict=True):
        told = {**part["settings"], "betas": tuple(part["settings"]["betas"])}
        assert mlm.MlmSettings(**told) == settings


def test_the_whole_recipe_runs_and_repeats(tmp_path: Path) -> None:
    steps = pretrain_mini.Steps(primer=1, matching=1, law=1, source=1, all=1, persons=1, dropout=1, adapter=1)
    seen: list[str] = []
    for name in ("once", "twice"):
        pretrain_mini.pretrain_mini(tmp_path / name, steps=steps, progress=lambda part, _: seen.append(part))
    assert mini.hash_folder(tmp_path / "once") == mini.hash_folder(tmp_path / "twice")
    stages = [stage.name for stage in pretrain_mini.stages(steps)]
    assert seen == 2 * [*stages, *world.LANGUAGES]


def test_the_shipped_model_fills_in_answers() -> None:
    """Masked answers of unseen facts, in the source language and in the farthest: far above the 1 in 5 of guessing."""
    tokenizer = AutoTokenizer.from_pretrained(mini.backbone_path())
    model = XLMRobertaForMaskedLM.from_pretrained(mini.backbone_path()).eval()
    for code in (world.SOURCE, world.TARGETS[-1]):
        right = 0
        rows = world.qa_rows(code, "test", 100)
        for row in rows:
            answer = row["answers"]["text"][0].split()
            question = f"{row['question']} {' '.join([MASK] * len(answer))}"
            batch = tokenizer(question, row["context"], return_tensors="pt")
            logits = model(**batch).logits[0]
            hidden = batch["input_ids"][0] == tokenizer.mask_token_id
            right += tokenizer.convert_ids_to_tokens(logits[hidden].argmax(-1).tolist()) == answer
        assert right > 50, f"{code}: {right} of {len(rows)}"


def _tiny() -> XLMRobertaForMaskedLM:
    config = pretrain_mini.backbone_config(build_tokenizer())
    config.num_hidden_layers = 2
    return mlm.new_backbone(config, seed=0)


def _rows() -> list[mlm.MaskedRow]:
    return list(pretrain_mini.tokenised(itertools.islice(mlm_text(world.SOURCE, seed=0), 16), build_tokenizer()))


def test_training_leaves_the_global_generator_alone_and_depends_on_the_seed_only() -> None:
    told = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        before = torch.random.get_rng_state()
        settings = mlm.MlmSettings(steps=3, batch_size=4, lr=1e-3, dropout=0.1, seed=7)
        told.append([step.loss for step in mlm.pretrain_backbone(_tiny(), _rows(), settings)])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert told[0] == told[1]


def test_a_language_adapter_trains_alone() -> None:
    model = _tiny()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    settings = mlm.MlmSettings(steps=2, batch_size=4, lr=1e-2)
    steps = list(mlm.train_language_adapter(model, "vel", _rows(), settings))
    assert [step.step for step in steps] == [1, 2]
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    moved = [name for name, tensor in after.items() if tensor.requires_grad and name not in before]
    assert moved
    assert all(".vel." in name for name in moved)
    assert not model.training
    assert model.roberta.encoder.layer[0].attention.self.dropout_prob == 0.1


def test_rows_may_run_out() -> None:
    settings = mlm.MlmSettings(steps=9, batch_size=10, lr=1e-3)
    assert len(list(mlm.pretrain_backbone(_tiny(), _rows(), settings))) == 2


def test_the_learning_rate_rises_then_falls() -> None:
    settings = mlm.MlmSettings(steps=10, batch_size=1, lr=1.0, final_lr=0.2, warmup_steps=2)
    assert [settings.lr_at(step) for step in (1, 2, 6, 10)] == pytest.approx([0.5, 1.0, 0.6, 0.2])


@pytest.mark.parametrize("share", [0.0, 0.15, 1.0])
def test_random_masks_tell_the_truth(share: float) -> None:
    ids = [0, *range(10, 40), 2]
    rng = random.Random(0)
    for _ in range(20):
        row = mlm.random_mask(ids, maskable=range(1, 31), mask_id=5, vocab_size=40, rng=rng, share=share)
        assert row.positions
        assert [ids[position] for position in row.positions] == row.targets
        changed = [position for position in range(len(ids)) if row.input_ids[position] != ids[position]]
        assert set(changed) <= set(row.positions)


def test_shuffled_epochs_hold_every_row_once() -> None:
    rows = _rows()
    stream = mlm.shuffled_epochs(rows, seed=1)
    epochs = [[id(next(stream)) for _ in rows] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(map(id, rows))
    assert epochs[0] != epochs[1]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="steps >= 1 and batch_size >= 1 must hold, but got 0 and 1"):
        mlm.MlmSettings(steps=0, batch_size=1, lr=1e-3)
    with pytest.raises(ValueError, match="0 <= dropout < 1 must hold"):
        mlm.MlmSettings(steps=1, batch_size=1, lr=1e-3, dropout=1.0)


@pytest.mark.parametrize("name", ["facts", "languages", "sentences", "text", "world"])
def test_the_world_needs_no_torch(name: str) -> None:
    spec = importlib.util.find_spec(f"raysched.mini.{name}")
    assert spec is not None
    assert spec.origin is not None
    assert "torch" not in Path(spec.origin).read_text(encoding="utf-8")
