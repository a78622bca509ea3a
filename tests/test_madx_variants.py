"""MAD-X on each architecture: poolers, variants of the task adapter, full fine-tuning, adapters that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import adapters
import pytest
import torch
from adapters import DoubleSeqBnConfig, LoRAConfig, ParBnConfig, SeqBnConfig
from adapters.composition import Stack
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from raysched.errors import StudyError
from raysched.madx import TASK, MadX, check_language_adapter
from raysched.mini.tokenizer import build_tokenizer
from raysched.study.inputs import TaskAdapter
from raysched.training.random_madx import make
from tests.training.tiny_training import sha

LAYERS, WIDTH = 3, 16
LANGUAGES = ("en", "orl")
ARCHITECTURES = ("xlm-roberta", "bert", "deberta-v2")
VARIANTS = {
    "pfeiffer": TaskAdapter(reduction=4, activation="gelu"),
    "houlsby": TaskAdapter(placement="houlsby", reduction=4, activation="gelu"),
    "parallel": TaskAdapter(placement="parallel", reduction=4, activation="gelu"),
    "lora": TaskAdapter(kind="lora", rank=3, alpha=6),
}
CONFIGS = {
    "pfeiffer": SeqBnConfig(reduction_factor=4, non_linearity="gelu"),
    "houlsby": DoubleSeqBnConfig(reduction_factor=4, non_linearity="gelu"),
    "parallel": ParBnConfig(reduction_factor=4, non_linearity="gelu", mh_adapter=True, output_adapter=False),
    "lora": LoRAConfig(r=3, alpha=6),
}


class Head(nn.Module):
    """A Linear on the backbone's pooler, frozen, where there is one."""

    pooler: Tensor

    def __init__(self, hidden_size: int, pooler: Any) -> None:
        super().__init__()
        self.out = nn.Linear(hidden_size, 2)
        self.register_buffer("pooler", torch.eye(hidden_size) if pooler is None else pooler["weight"].clone())

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.out(torch.tanh(hidden[:, 0] @ self.pooler.T))
        return logits


def head(*, hidden_size: int, pooler: Any, **_: Any) -> nn.Module:
    return Head(hidden_size, pooler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @cache
    def made(architecture: Any, pooler: bool = True) -> Path:
        to: Path = tmp_path_factory.mktemp(architecture)
        options: dict[str, Any] = {"layers": LAYERS, "width": WIDTH, "heads": 2, "max_length": 32}
        make(to, build_tokenizer(), LANGUAGES, architecture=architecture, pooler=pooler, **options)
        return to

    return made


def load(to: Path) -> MadX:
    return MadX.load(to / "backbone", {language: to / "adapters" / language for language in LANGUAGES})


@pytest.fixture(scope="module")
def warm(folder: Callable[..., Path]) -> Callable[[str], MadX]:
    """One model of each architecture for all tests: a run leaves nothing behind."""
    return cache(lambda architecture: load(folder(architecture)))


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return ids, mask


def begin(model: MadX, method: str, *, shaken: bool = False, dropout: float | None = 0.0) -> MadX:
    torch.manual_seed(0)
    if method == "full":
        model.new_full(head, dropout)
    else:
        model.new_task(VARIANTS[method], head, dropout)
        model.use_language("en")
    if shaken:
        with torch.no_grad():
            for parameter in model.trainable().values():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


# Poolers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooler", [True, False])
def test_the_pooler_is_the_checkpoint_s_or_none(
    folder: Callable[..., Path], batch: tuple[Tensor, Tensor], architecture: str, pooler: bool
) -> None:
    to = folder(architecture, pooler)
    model = load(to)
    stored = load_file(to / "backbone" / "model.safetensors")
    there = pooler and architecture != "deberta-v2"
    assert ("pooler.dense.weight" in stored) == there
    if there:
        assert model.pooler is not None
        assert {name: tuple(value.shape) for name, value in model.pooler.items()} == {
            "weight": (WIDTH, WIDTH),
            "bias": (WIDTH,),
        }
        assert all(torch.equal(value, stored[f"pooler.dense.{name}"]) for name, value in model.pooler.items())
    else:
        assert model.pooler is None, "random numbers of the library are nobody's pooler"
    assert not any("pooler" in name for name in model.state_dict())
    seen: list[Any] = []
    model.new_task(VARIANTS["lora"], lambda **given: seen.append(given) or nn.Identity(), None)
    assert seen == [{"hidden_size": WIDTH, "model_type": architecture, "pooler": model.pooler, "dropout": 0.1}]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_pooler_is_drawn_aside(folder: Callable[..., Path], architecture: str) -> None:
    stored = [load_file(folder(architecture, pooler) / "backbone" / "model.safetensors") for pooler in (True, False)]
    assert sha({name: value for name, value in stored[0].items() if "pooler" not in name}) == sha(stored[1])


def test_half_a_pooler_is_refused(folder: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    shutil.copytree(folder("bert") / "backbone", tmp_path / "backbone")
    path = tmp_path / "backbone" / "model.safetensors"
    tensors = load_file(path)
    del tensors["pooler.dense.bias"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(StudyError, match=r"lack pooler\.dense\.bias"):
        MadX.load(tmp_path / "backbone", {})


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--architecture: .*'gpt2'\n  valid: xlm-roberta, bert, deberta-v2"):
        make(tmp_path, build_tokenizer(), [], architecture="gpt2")  # type: ignore[arg-type]


# Variants on a language adapter


@contextmanager
def moved(tensors: Any) -> Iterator[None]:
    """Other values for a while."""
    before = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(0.3)
        yield
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)


def bottlenecks(encoder: Any, name: str, layer: int) -> list[nn.Parameter]:
    """A language adapter's tensors in one layer, without its invertible part at the embeddings."""
    return [tensor for part in encoder.get_adapter(name)[layer].values() for tensor in part.parameters()]


@pytest.mark.parametrize("method", VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_adapters_act_in_every_layer(
    warm: Callable[[str], MadX], batch: tuple[Tensor, Tensor], architecture: str, method: str
) -> None:
    model = begin(warm(architecture), method, shaken=True)
    with torch.no_grad():
        plain = model(*batch)
        for layer in range(LAYERS):
            for tensors in (bottlenecks(model.backbone, "language_en", layer), model.layer_parameters()[layer]):
                with moved(tensors):
                    assert not torch.allclose(model(*batch), plain, atol=1e-3)
            with moved(bottlenecks(model.backbone, "language_orl", layer)):
                assert torch.equal(model(*batch), plain)
        assert torch.equal(model(*batch), plain)
        model.use_language("orl")
        assert not torch.allclose(model(*batch), plain, atol=1e-3)


def test_beside_the_feed_forward_block_the_library_drops_the_language_adapter(
    folder: Callable[..., Path], batch: tuple[Tensor, Tensor]
) -> None:
    """Why `parallel` stands beside the attention block. Fails where the library has mended it."""
    encoder: Any = AutoModel.from_pretrained(folder("bert") / "backbone", add_pooling_layer=False)
    adapters.init(encoder)
    encoder.load_adapter(str(folder("bert") / "adapters" / "en"), load_as="en", use_safetensors=True)
    encoder.add_adapter("task", config=ParBnConfig(reduction_factor=4))
    encoder.set_active_adapters(Stack("en", "task"))
    encoder.eval()
    with torch.no_grad():
        plain = encoder(batch[0], attention_mask=batch[1]).last_hidden_state
        with moved(bottlenecks(encoder, "en", 0)):
            assert torch.equal(encoder(batch[0], attention_mask=batch[1]).last_hidden_state, plain)


@pytest.mark.parametrize("method", VARIANTS)
def test_a_fresh_adapter_is_what_the_library_makes(
    warm: Callable[[str], MadX], folder: Callable[..., Path], batch: tuple[Tensor, Tensor], method: str
) -> None:
    model = begin(warm("bert"), method)
    encoder: Any = AutoModel.from_pretrained(folder("bert") / "backbone", add_pooling_layer=False)
    adapters.init(encoder)
    torch.manual_seed(0)
    encoder.add_adapter("task", config=CONFIGS[method])
    theirs = [
        [tensor for part in encoder.get_adapter("task")[layer].values() for tensor in part.parameters()]
        for layer in range(LAYERS)
    ]
    for mine, made in zip(model.layer_parameters(), theirs, strict=True):
        assert len(mine) == len(made)
        assert all(torch.equal(a, b) for a, b in zip(mine, made, strict=True))
    # A parallel bottleneck and lora begin as nothing at all; the others as nearly nothing.
    with torch.no_grad():
        fresh = model(*batch)
        model.backbone.set_active_adapters(Stack("language_en"))
        without = model.backbone(batch[0], attention_mask=batch[1]).last_hidden_state
    assert torch.equal(fresh, without) == (method in ("parallel", "lora"))
    torch.testing.assert_close(fresh, without, atol=0.1, rtol=0)


@pytest.mark.parametrize("method", VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_saved_gives_the_same_in_the_library_alone(
    warm: Callable[[str], MadX],
    folder: Callable[..., Path],
    batch: tuple[Tensor, Tensor],
    tmp_path: Path,
    architecture: str,
    method: str,
) -> None:
    model = begin(warm(architecture), method, shaken=True)
    files = {path.name for path in model.save_task(tmp_path)}
    assert files == {"adapter_config.json", "adapter.safetensors", "head.safetensors"}
    encoder: Any = AutoModel.from_pretrained(folder(architecture) / "backbone")
    adapters.init(encoder)
    language = encoder.load_adapter(str(folder(architecture) / "adapters" / "en"), use_safetensors=True)
    task = encoder.load_adapter(str(tmp_path), load_as="saved", use_safetensors=True)
    encoder.set_active_adapters(Stack(language, task))
    encoder.eval()
    with torch.no_grad():
        assert torch.equal(encoder(batch[0], attention_mask=batch[1]).last_hidden_state, model(*batch))


@pytest.mark.parametrize("method", VARIANTS)
def test_parameters_of_a_layer_lie_in_that_layer(warm: Callable[[str], MadX], method: str) -> None:
    model = begin(warm("deberta-v2"), method)
    inside = [{id(p) for p in layer.parameters()} for layer in model.backbone.encoder.layer]
    for layer, parameters in enumerate(model.layer_parameters()):
        assert parameters
        assert {id(p) for p in parameters} <= inside[layer]
    own = {id(p) for name, p in model.backbone.named_parameters() if f".{TASK}." in name}
    assert own == {id(p) for parameters in model.layer_parameters() for p in parameters}


def test_a_bottleneck_needs_a_unit_and_lora_none(warm: Callable[[str], MadX]) -> None:
    wide = {"reduction": WIDTH + 1}
    for placement in ("pfeiffer", "houlsby", "parallel"):
        with pytest.raises(StudyError, match=r"model\.task_adapter\.reduction: .* but got 17 and 16"):
            warm("bert").new_task(TaskAdapter(placement=placement, **wide), head, None)  # type: ignore[arg-type]
    warm("bert").new_task(TaskAdapter(kind="lora", **wide), head, None)


# Full fine-tuning


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_full_runs_are_the_plain_encoder_in_every_language(
    warm: Callable[[str], MadX], folder: Callable[..., Path], batch: tuple[Tensor, Tensor], architecture: str
) -> None:
    model = begin(warm(architecture), "full")
    plain = AutoModel.from_pretrained(folder(architecture) / "backbone").eval()
    with torch.no_grad():
        expected = plain(batch[0], attention_mask=batch[1]).last_hidden_state
        for language in (*LANGUAGES, "none of them"):
            model.use_language(language)
            assert torch.equal(model(*batch), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_full_layers_are_those_of_the_encoder_and_the_rest_is_the_lowest(
    warm: Callable[[str], MadX], folder: Callable[..., Path], architecture: str
) -> None:
    model = begin(warm(architecture), "full")
    stored = load_file(folder(architecture) / "backbone" / "model.safetensors")
    expected = {
        f"layer_{name.split('.')[2]:0>2}.{name}" if name.startswith("encoder.layer.") else f"layer_00.{name}"
        for name in stored
        if "pooler" not in name
    }
    assert set(model.trainable()) == expected | {"head.out.weight", "head.out.bias", "head.pooler"}
    assert [len(layer) for layer in model.layer_parameters()][1:] == [16] * (LAYERS - 1)
    lowest = {name for name in expected if name.startswith("layer_00.") and ".layer.0." not in name}
    assert ("layer_00.encoder.rel_embeddings.weight" in lowest) == (architecture == "deberta-v2")
    assert "layer_00.embeddings.word_embeddings.weight" in lowest


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_full_run_leaves_the_next_one_the_checkpoint(
    folder: Callable[..., Path], batch: tuple[Tensor, Tensor], architecture: str
) -> None:
    used, fresh = load(folder(architecture)), load(folder(architecture))
    for method in ("full", "lora", "full", "full", "pfeiffer"):
        states = [begin(model, method, dropout=None).train() for model in (used, fresh)]
        for model in states:
            assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
        torch.manual_seed(1)
        outputs = [states[0](*batch)]
        torch.manual_seed(1)
        outputs.append(states[1](*batch))
        assert torch.equal(*outputs)
        assert sha(used.state_dict()) == sha(fresh.state_dict())
        for parameter in used.trainable().values():
            parameter.requires_grad_(True)
        used.head(used(*batch)).sum().backward()
        with torch.no_grad():
            for parameter in used.trainable().values():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad)
        fresh = load(folder(architecture))


def test_the_pooler_trains_in_full_runs_only(warm: Callable[[str], MadX]) -> None:
    model = begin(warm("bert"), "full")
    assert isinstance(model.head.pooler, nn.Parameter)
    assert model.pooler is not None
    with torch.no_grad():
        model.head.pooler.add_(1)
    begin(model, "pfeiffer")
    assert not isinstance(model.head.pooler, nn.Parameter)
    assert torch.equal(model.head.get_buffer("pooler"), model.pooler["weight"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_full_run_is_saved_as_a_backbone(
    warm: Callable[[str], MadX], batch: tuple[Tensor, Tensor], tmp_path: Path, architecture: str
) -> None:
    model = begin(warm(architecture), "full", shaken=True)
    files = {path.name for path in model.save_task(tmp_path)}
    assert files == {"config.json", "model.safetensors", "head.safetensors"}
    options = {} if architecture == "deberta-v2" else {"add_pooling_layer": False}
    plain, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True, **options)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    again = MadX.load(tmp_path, {})
    again.new_full(head, 0.0)
    again.load_head(tmp_path)
    with torch.no_grad():
        hidden = model(*batch)
        assert torch.equal(plain.eval()(batch[0], attention_mask=batch[1]).last_hidden_state, hidden)
        assert torch.equal(again.eval().head(again(*batch)), model.head(hidden))


# What does not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r"made for architecture bert \(made-up\), the backbone has xlm-roberta"),
        ({"hidden_size": 1024}, r"made for hidden size 1024 \(made-up\), the backbone has 16"),
        ({"hidden_size": 1024, "model_name": None}, r"made for hidden size 1024 \(no model named\), .* has 16"),
        ({"hidden_size": None, "model_type": None}, None),
    ],
)
def test_an_adapter_made_for_another_backbone_is_told_by_its_configuration(
    folder: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], message: str | None
) -> None:
    to = folder("xlm-roberta")
    written = json.loads((to / "adapters" / "en" / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(written | {"model_name": "made-up"} | changes))
    backbone = json.loads((to / "backbone" / "config.json").read_text())
    if message is None:
        check_language_adapter("en", tmp_path, None, backbone)
        return
    with pytest.raises(StudyError, match=rf"model\.language_adapters: .*\(language en\) does not fit .*{message}"):
        check_language_adapter("en", tmp_path, None, backbone)
