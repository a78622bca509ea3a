"""A language adapter trained on text: continued bit for bit, on every architecture, and loaded by a run's model."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from raysched import mini
from raysched.errors import DamageError, Diverged, MissingError, StudyError
from raysched.madx import MadX
from raysched.mini.tokenizer import build_tokenizer
from raysched.records.files import sha256_file, sha256_tree
from raysched.study.identity import Content
from raysched.study.inputs import LanguageAdapterConfig
from raysched.training import masked_lm, snapshots
from raysched.training.language_folder import LanguageFolder
from raysched.training.language_settings import Limits, Settings, State
from raysched.training.pretrain_language import Evaluated, LanguageTraining, Trained
from raysched.training.random_madx import make
from tests.training.test_plain_text import LINES

ARCHITECTURES = ("xlm-roberta", "bert", "deberta-v2")
CPU = torch.device("cpu")
STEPS = Limits(steps=7)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and a backbone of two layers of each architecture."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "orl.txt").write_text("\n".join(LINES))
    for name in ARCHITECTURES:
        make(folder / name, build_tokenizer(), (), layers=2, width=16, heads=2, max_length=64, architecture=name)
    return folder


def settings(world: Path, architecture: str = "xlm-roberta", **changed: Any) -> Settings:
    backbone, text = world / architecture / "backbone", world / "orl.txt"
    values: dict[str, Any] = {"lr": 1e-2, "batch_size": 8, "length": 24, "every": 3, "seed": 5} | changed
    return Settings(
        language="orl",
        backbone=Content(where=architecture, revision="0" * 64, path=str(backbone)),
        text=Content(where="orl.txt", revision=sha256_file(text), path=str(text)),
        **values,
    )


def start(chosen: Settings, folder: LanguageFolder) -> LanguageTraining:
    """As a new process does."""
    found = masked_lm.inspect(Path(str(chosen.backbone.path)))
    model, _ = masked_lm.load(found, seed=chosen.seed, device=CPU)
    text = folder.tokens(chosen, found.tokenizer, lambda n: None)
    return folder.training(chosen, found.tokenizer, text, model)


def finish(chosen: Settings, folder: LanguageFolder, training: LanguageTraining, limits: Limits = STEPS) -> None:
    text = folder.tokens(chosen, build_tokenizer(), lambda n: None)
    training.finish(folder.path, folder.about(chosen, limits, text, (), training.state))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_that_was_stopped_is_the_one_that_was_not(world: Path, tmp_path: Path, architecture: str) -> None:
    chosen = settings(world, architecture, train_head=architecture == "bert")
    whole, parts = LanguageFolder(tmp_path / "whole", "orl"), LanguageFolder(tmp_path / "parts", "orl")
    torch.manual_seed(1)
    with whole.opened(chosen):
        training = start(chosen, whole)
        events = list(training.events(STEPS))
        finish(chosen, whole, training)
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 3, 6, 7]
    assert [event.step for event in events if isinstance(event, Trained)] == list(range(1, 8))

    torch.manual_seed(2)
    with parts.opened(chosen):
        training = start(chosen, parts)  # asked to stop: saves in the middle
        assert next(event for event in training.events(STEPS) if event.step == 2)
        training.save()
        training = start(chosen, parts)  # killed: goes back to step 3, which is before its evaluation here
        assert training.state.step == 2
        assert next(event for event in training.events(STEPS) if event.step == 5)
        training = start(chosen, parts)
        assert training.state.step == 3
        seen = list(training.events(STEPS))
        assert not parts.finished(STEPS)
        finish(chosen, parts, training)
    assert [event for event in seen if event.step > 3] == [event for event in events if event.step > 3]
    assert sha256_tree(parts.path) == sha256_tree(whole.path)
    states, tensors = zip(*filter(None, map(snapshots.newest, (whole.work, parts.work))), strict=True)
    assert sha256_file(tensors[0]) == sha256_file(tensors[1])  # weights, best ones, and the optimizer's state
    assert all(state.pop("seconds") for state in states)
    assert states[0] == states[1]
    assert whole.finished(STEPS)
    assert not whole.finished(Limits(steps=8))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("train_head", [False, True])
def test_only_the_adapter_learns_and_the_best_one_is_kept(
    world: Path, tmp_path: Path, architecture: str, train_head: bool
) -> None:
    chosen, folder = settings(world, architecture, train_head=train_head), LanguageFolder(tmp_path, "orl")
    with folder.opened(chosen):
        training = start(chosen, folder)
        before = {name: value.clone() for name, value in training.model.named_parameters()}
        first, *_, last = (event for event in training.events(Limits(epochs=2)) if isinstance(event, Evaluated))
        assert last.step == 2 * training.state.per_epoch
        finish(chosen, folder, training)
    assert 0.99 * first.without_adapter < first.loss < 1.01 * first.without_adapter
    moved = {name for name, value in training.model.named_parameters() if not torch.equal(value, before[name])}
    base = training.model.base_model_prefix
    assert {name for name in moved if ".orl." not in name and name.startswith(base)} == set()
    assert any("invertible_adapters.orl" in name for name in moved)
    assert bool({name for name in moved if not name.startswith(base)}) == train_head

    about = json.loads((folder.path / "training.json").read_text())
    assert about["held_out_loss"]["best"] == min(one["held_out"] for one in about["evaluations"][1:])
    best = load_file(folder.path / "adapter.safetensors")
    found = snapshots.newest(folder.work)
    assert found is not None
    kept = load_file(found[1])
    assert best
    assert all(torch.equal(value, kept[f"best/{name}"]) for name, value in best.items())
    backbone = Path(str(chosen.backbone.path))
    assert MadX.load(backbone, {"orl": folder.path}, LanguageAdapterConfig()).languages == ("orl",)


def test_the_inverse_of_the_invertible_adapter_stands_before_the_vocabulary(world: Path, tmp_path: Path) -> None:
    folder = LanguageFolder(tmp_path, "orl")
    with folder.opened(settings(world)):
        training = start(settings(world), folder)
    seen: list[torch.Tensor] = []
    model: Any = training.model
    hidden = torch.randn(5, 16)
    model.lm_head.layer_norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        scores = model.lm_head(hidden)
        inverse = model.base_model.invertible_adapters["orl"](seen[0][None], rev=True)[0]
        assert torch.equal(
            scores, torch.nn.functional.linear(inverse, model.lm_head.decoder.weight, model.lm_head.bias)
        )
        assert not torch.equal(inverse, seen[0])


def test_hours_count_over_interruptions(world: Path, tmp_path: Path) -> None:
    chosen, folder = settings(world), LanguageFolder(tmp_path, "orl")
    limits, ticks = Limits(hours=1), itertools.count()

    def clock() -> float:
        return 1000.0 * next(ticks)

    with folder.opened(chosen):
        training = start(chosen, folder)
        assert next(event for event in training.events(limits, clock) if event.step == 2)
        training.save()
        training = start(chosen, folder)
        *_, last = training.events(limits, clock)
    assert (last.step, training.state.seconds) == (4, 4000)
    assert limits.reached(training.state) == "hours"


@pytest.mark.parametrize(
    ("limits", "step", "total", "reached"),
    [
        (Limits(epochs=2), 19, 20, None),
        (Limits(epochs=2), 20, 20, "epochs"),
        (Limits(epochs=2, steps=30), 20, 20, "epochs"),
        (Limits(steps=5), 5, 5, "steps"),
        (Limits(steps=5), 6, 5, "steps"),
        (Limits(hours=0.5), 6, 1000, "hours"),
    ],
)
def test_the_first_limit_ends_it(limits: Limits, step: int, total: int, reached: str | None) -> None:
    assert limits.total(10) == total
    assert limits.reached(State(per_epoch=10, step=step, seconds=1800)) == reached


def test_a_loss_that_is_not_finite_ends_it(world: Path, tmp_path: Path) -> None:
    chosen, folder = settings(world), LanguageFolder(tmp_path, "orl")
    with folder.opened(chosen):
        training = start(chosen, folder)
        with torch.no_grad():
            next(iter(training.parameters.values())).fill_(torch.nan)
        with pytest.raises(Diverged, match=r"not finite at step 0; a smaller --lr may help"):
            list(training.events(STEPS))


def test_damaged_snapshots(world: Path, tmp_path: Path) -> None:
    chosen, folder = settings(world), LanguageFolder(tmp_path, "orl")
    with folder.opened(chosen):
        list(start(chosen, folder).events(STEPS))
        older, newer = sorted(folder.work.glob("step-*"))
        (newer / "tensors.safetensors").write_bytes(b"half")
        assert start(chosen, folder).state.step == 6
        (older / "manifest.json").write_text("{}")
        with pytest.raises(DamageError, match="no snapshot is what was written"):
            start(chosen, folder)


def test_tokens_are_made_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, folder = settings(world), LanguageFolder(tmp_path, "orl")
    with folder.opened(chosen):
        first = folder.tokens(chosen, build_tokenizer(), lambda n: None)
        (folder.work / "text.safetensors").write_bytes(b"half")
        again = folder.tokens(chosen, build_tokenizer(), lambda n: None)
        monkeypatch.setattr("raysched.training.plain_text.tokenised", None)
        third = folder.tokens(chosen, build_tokenizer(), lambda n: None)
    for text in (again, third):
        assert text.counts() == first.counts()
        assert text.train.tolist() == first.train.tolist()


# -- backbones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "head"), [("xlm-roberta", "lm_head"), ("bert", "cls"), ("deberta-v2", "cls")])
def test_a_missing_head_is_drawn_from_the_seed_and_told(world: Path, architecture: str, head: str) -> None:
    found = masked_lm.inspect(world / architecture / "backbone")
    assert found.positions == 64
    states = []
    for seed in (0, 0, 1):
        model, missing = masked_lm.load(found, seed=seed, device=CPU)
        assert missing
        assert all(name.startswith(head) for name in missing)
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight  # type: ignore[union-attr]
        states.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_deberta_v3_checkpoint_gives_its_head(world: Path, tmp_path: Path) -> None:
    """Such checkpoints name the head's parts `lm_predictions.lm_head` and hold others of their pre-training."""
    folder = tmp_path / "backbone"
    shutil.copytree(world / "deberta-v2" / "backbone", folder)
    model: Any = AutoModelForMaskedLM.from_config(masked_lm.inspect(folder).config)
    torch.nn.init.normal_(model.cls.predictions.bias)
    names = {
        "cls.predictions.transform": "lm_predictions.lm_head",
        "cls.predictions.bias": "lm_predictions.lm_head.bias",
    }
    renamed = {"mask_predictions.dense.bias": torch.zeros(3)}
    for name, value in model.state_dict().items():
        if "decoder" not in name:
            own = next((old for old in names if name.startswith(old)), "")
            renamed[name.replace(own, names.get(own, ""))] = value.contiguous()
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    loaded, missing = masked_lm.load(masked_lm.inspect(folder), seed=0, device=CPU)
    assert missing == ()
    ids = torch.tensor([[0, 5, 9, 2]])
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)


def unfit(folder: Path, change: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if change == "no MLM":
        config["model_type"] = "gpt2"
    elif change == "no config":
        (folder / "config.json").unlink()
        return
    elif change == "small vocabulary":
        config["vocab_size"] = 50
    elif change == "not JSON":
        (folder / "config.json").write_text("<html>")
        return
    elif change == "no mask":
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            values = json.loads((folder / name).read_text())
            values.pop("mask_token", None)
            (folder / name).write_text(json.dumps(values))
    else:
        for path in folder.glob(change):
            path.unlink()
    (folder / "config.json").write_text(json.dumps(config))


UNFIT = [
    ("no MLM", StudyError, "--backbone: must be an encoder with masked-language-model training, but .* a gpt2"),
    ("no config", MissingError, "--backbone: no config.json in the backbone's folder"),
    ("not JSON", StudyError, "--backbone: .*config.json is not that of an encoder"),
    ("*.safetensors", MissingError, "--backbone: no model.safetensors or pytorch_model.bin"),
    ("*token*", MissingError, "--backbone: no tokenizer in"),
    ("no mask", StudyError, "--backbone: the tokenizer in .* has no mask_token"),
    ("small vocabulary", StudyError, "--backbone: the tokenizer in .* has 965 tokens, but the backbone only 50"),
]


@pytest.mark.parametrize(("change", "error", "message"), UNFIT)
def test_backbones_that_do_not_fit(tmp_path: Path, change: str, error: type[Exception], message: str) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(mini.backbone_path(), folder)
    unfit(folder, change)
    with pytest.raises(error, match=message):
        masked_lm.inspect(folder)


def test_weights_of_another_encoder(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(world / "bert" / "backbone", folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layer.1." not in name}, folder / "model.safetensors")
    with pytest.raises(StudyError, match=r"--backbone: the weights in .* lack bert.encoder.layer.1"):
        masked_lm.load(masked_lm.inspect(folder), seed=0, device=CPU)


@pytest.fixture(autouse=True)
def unthreaded() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
