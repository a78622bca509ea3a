"""MAD-X: composition, masks, the language swap, what is refused, and what is saved."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import pytest
import torch
from adapters import SeqBnConfig, SeqBnInvConfig
from adapters.composition import AdapterCompositionBlock, BatchSplit, Fuse, Parallel, Split, Stack
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, XLMRobertaModel

from raysched.errors import MissingError, StudyError
from raysched.madx import TASK, MadX, check_composition, check_language_adapter
from raysched.mini.tokenizer import build_tokenizer
from raysched.study.inputs import LanguageAdapterConfig, TaskAdapter
from raysched.training.random_madx import make
from tests.training.tiny_training import LAYERS, WIDTH, Tiny, sha

LANGUAGES = ("en", "orl")
SETTINGS = TaskAdapter(reduction=4)
STACK = Stack("language_en", TASK)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.make(tmp_path_factory.mktemp("madx"), LANGUAGES)


def head(*, hidden_size: int, **_: Any) -> nn.Module:
    return nn.Linear(hidden_size, 2)


def load(tiny: Tiny) -> MadX:
    return MadX.load(
        tiny.folder / "backbone", {language: tiny.adapter(language) for language in LANGUAGES}, LanguageAdapterConfig()
    )


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> MadX:
    model = load(tiny)
    torch.manual_seed(0)
    model.new_task(SETTINGS, head, None)
    for parameter in model.trainable().values():  # a fresh adapter adds nothing: its last weights are almost 0
        nn.init.normal_(parameter, std=0.5)
    model.use_language("en")
    return model.eval()


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    """Token ids and mask (B,T); the second row ends with padding."""
    ids = torch.randint(5, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    ids[1, 6:] = 1
    return ids, (ids != 1).long()


@pytest.mark.parametrize(
    "setup",
    [
        None,
        Stack(TASK),
        Stack("language_en"),
        Stack(TASK, "language_en"),
        Stack("language_en", "language_orl"),
        Stack("language_en", "language_orl", TASK),
        Stack("language_en", Parallel(TASK, TASK)),
        Stack("language_en", Stack("language_orl", TASK)),
        Parallel(STACK, Stack("language_orl", TASK)),
        BatchSplit(STACK, Stack("language_orl", TASK), batch_sizes=1),
        Split("language_en", TASK, splits=[4, 5]),
        Fuse("language_en", TASK),
    ],
    ids=str,
)
def test_other_compositions_are_refused(model: MadX, batch: tuple[Tensor, Tensor], setup: Any) -> None:
    with pytest.raises(StudyError, match=r"only be composed as Stack\(language adapter, task adapter\)"):
        check_composition(setup)
    if isinstance(setup, AdapterCompositionBlock) and not isinstance(setup, Fuse):
        model.backbone.adapters_config.active_setup = setup
        try:
            with pytest.raises(StudyError, match="only be composed"):
                model(*batch)
        finally:
            model.use_language("en")


def test_the_one_composition_is_taken() -> None:
    check_composition(STACK)


def test_a_mask_of_three_dimensions_gives_the_bits_of_one_of_two(model: MadX, batch: tuple[Tensor, Tensor]) -> None:
    ids, mask = batch
    with torch.no_grad():
        for one in (mask, torch.ones_like(mask)):
            assert torch.equal(model(ids, one), model.backbone(ids, attention_mask=one).last_hidden_state)
        assert not torch.equal(model(ids, mask), model(ids, torch.ones_like(mask)))


def test_tokens_of_the_padding_do_not_matter(model: MadX, batch: tuple[Tensor, Tensor]) -> None:
    ids, mask = batch
    with torch.no_grad():
        alone = model(ids[1:, :6], mask[1:, :6])[0]
        padded = model(ids, mask)[1, :6]
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


def test_swapping_the_language_changes_the_output_and_swapping_back_restores_it(
    model: MadX, batch: tuple[Tensor, Tensor]
) -> None:
    with torch.no_grad():
        english = model(*batch)
        model.use_language("orl")
        other = model(*batch)
        model.use_language("en")
        assert not torch.allclose(english, other, atol=1e-3)
        assert torch.equal(model(*batch), english)


def test_the_language_adapter_comes_first_with_its_own_invertible_part(
    model: MadX, batch: tuple[Tensor, Tensor]
) -> None:
    """Layer by layer: the task adapter's input is the language adapter's output; embeddings go through the inverse."""
    order: list[str] = []
    layer = model.backbone.encoder.layer[0].output.adapters
    invertible = model.backbone.invertible_adapters
    modules = {"language_en": layer["language_en"], "language_orl": layer["language_orl"], TASK: layer[TASK]}
    modules |= {f"invertible {name}": module for name, module in invertible.items()}
    handles = [
        module.register_forward_hook(lambda *_, name=name: order.append(name)) for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            for language in LANGUAGES:
                model.use_language(language)
                model(*batch)
    finally:
        model.use_language("en")
        for handle in handles:
            handle.remove()
    assert order == [part for code in LANGUAGES for part in (f"invertible language_{code}", f"language_{code}", TASK)]


def test_unknown_languages_are_refused(model: MadX) -> None:
    with pytest.raises(StudyError, match=r"'vel'\n  valid: en, orl"):
        model.use_language("vel")


def test_layers_and_trained_parameters(model: MadX) -> None:
    assert (model.n_layers, model.hidden_size) == (LAYERS, WIDTH)
    assert [[tuple(one.weight.shape) for one in linears] for linears in model.measured_modules()] == [
        [(WIDTH // 4, WIDTH), (WIDTH, WIDTH // 4)]
    ] * LAYERS
    layers = model.backbone.encoder.layer
    for layer, parameters in enumerate(model.layer_parameters()):
        expected = list(layers[layer].output.adapters[TASK].parameters())
        assert list(map(id, parameters)) == list(map(id, expected))
    named = model.trainable()
    inside = [id(parameter) for parameters in model.layer_parameters() for parameter in parameters]
    assert sorted(map(id, named.values())) == sorted([*inside, *map(id, model.head.parameters())])
    # A language adapter is told from the task adapter by what it is, not by a part of its name.
    frozen = {name for name, parameter in model.named_parameters() if id(parameter) not in set(map(id, named.values()))}
    assert any("language_en" in name for name in frozen)
    assert not any(f".{TASK}." in name for name in frozen)


def test_task_state_is_a_copy_that_can_be_put_back(model: MadX) -> None:
    state = model.task_state()
    before = sha(state)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(1)
    assert sha(state) == before != sha(model.task_state())
    model.load_task_state(state)
    assert sha(model.task_state()) == before
    with pytest.raises(ValueError, match="tensors differ"):
        model.load_task_state({name: value for name, value in state.items() if name != "head.bias"})
    with pytest.raises(ValueError, match=r"head\.bias has shape \(3,\), the model \(2,\)"):
        model.load_task_state({**state, "head.bias": torch.zeros(3)})


def test_a_new_task_keeps_nothing_of_the_old_one(tiny: Tiny, batch: tuple[Tensor, Tensor]) -> None:
    used, fresh = load(tiny), load(tiny)
    torch.manual_seed(3)
    used.new_task(TaskAdapter(reduction=2, activation="gelu"), head, 0.5)
    used.use_language("orl")
    for parameter in used.trainable().values():
        parameter.requires_grad_(True)
    used.train()
    used.head(used(*batch)).sum().backward()
    states = []
    for model in (used, fresh):
        torch.manual_seed(4)
        model.new_task(SETTINGS, head, None)
        model.use_language("en")
        model.train()
        torch.manual_seed(5)
        output = model(*batch)
        states.append((sha(model.state_dict()), sha({"output": output})))
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert states[0] == states[1]


def test_a_bottleneck_needs_a_unit(model: MadX, tiny: Tiny) -> None:
    with pytest.raises(StudyError, match=r"model\.task_adapter\.reduction: .* but got 17 and 16"):
        load(tiny).new_task(TaskAdapter(reduction=WIDTH + 1), head, None)


def test_what_is_saved_is_read_by_the_library_alone(
    model: MadX, tiny: Tiny, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    files = model.save_task(tmp_path / "adapter")
    names = {"adapter_config.json", "adapter.safetensors", "head.safetensors"}
    assert names <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    plain = AutoModel.from_pretrained(tiny.folder / "backbone", add_pooling_layer=False)
    adapters.init(plain)
    language = plain.load_adapter(str(tiny.adapter("en")), use_safetensors=True)
    task = plain.load_adapter(str(tmp_path / "adapter"), use_safetensors=True)
    plain.set_active_adapters(Stack(language, task))
    plain.eval()
    ids, mask = batch
    with torch.no_grad():
        expected = model(ids, mask)
        assert torch.equal(plain(ids, attention_mask=mask).last_hidden_state, expected)
        logits = model.head(expected)
    other = load(tiny)
    other.new_task(SETTINGS, head, None)
    other.load_head(tmp_path / "adapter")
    assert torch.equal(other.head(expected), logits)


# What is refused


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Callable[[], tuple[Path, dict[str, Path]]]:
    """The backbone and the adapters, to be damaged."""

    def made() -> tuple[Path, dict[str, Path]]:
        shutil.copytree(tiny.folder / "backbone", tmp_path / "backbone")
        shutil.copytree(tiny.folder / "adapters", tmp_path / "adapters")
        return tmp_path / "backbone", {language: tmp_path / "adapters" / language for language in LANGUAGES}

    return made


Copy = Callable[[], tuple[Path, dict[str, Path]]]


@pytest.mark.parametrize(
    ("gone", "key"),
    [
        ("backbone", "model.backbone"),
        ("backbone/config.json", "model.backbone"),
        ("backbone/model.safetensors", "model.backbone"),
        ("adapters/orl", "model.language_adapters"),
        ("adapters/orl/adapter_config.json", "model.language_adapters"),
        ("adapters/orl/adapter.safetensors", "model.language_adapters"),
    ],
)
def test_what_is_missing_is_named(copy: Copy, tmp_path: Path, gone: str, key: str) -> None:
    backbone, languages = copy()
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MissingError) as caught:
        MadX.load(backbone, languages)
    assert caught.value.key == key
    assert str(path.parent) in str(caught.value)


def test_weights_with_fewer_layers_than_the_configuration_are_refused(copy: Copy) -> None:
    """The library would go on with random ones."""
    backbone, languages = copy()
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"num_hidden_layers": LAYERS + 1}))
    with pytest.raises(StudyError, match=rf"model\.backbone: the weights in .* lack encoder\.layer\.{LAYERS}\."):
        MadX.load(backbone, languages)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2"])
def test_other_encoders(tmp_path: Path, model_type: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = AutoModel.from_config(AutoConfig.for_model(model_type, vocab_size=50, **sizes))
    encoder.save_pretrained(tmp_path / "backbone")
    adapters.init(encoder)
    encoder.add_adapter("en", config=SeqBnInvConfig(reduction_factor=2))
    encoder.save_adapter(str(tmp_path / "en"), "en", use_safetensors=True)
    model = MadX.load(tmp_path / "backbone", {"en": tmp_path / "en"}, LanguageAdapterConfig())
    model.new_task(SETTINGS, head, 0.0)
    model.use_language("en")
    ids = torch.arange(5, 15).reshape(2, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    for layer in model.layer_parameters():
        for parameter in layer:
            parameter.requires_grad_(True)
    hidden = model.train()(ids, mask)
    assert hidden.shape == (2, 5, 16)
    hidden.square().sum().backward()
    assert all(parameter.grad is not None for layer in model.layer_parameters() for parameter in layer)
    assert torch.equal(model(ids, mask), hidden), "dropout 0 reaches every part of the backbone"


@pytest.mark.parametrize(("layers", "width"), [(1, 32), (2, WIDTH), (6, WIDTH)])
def test_an_adapter_of_another_backbone_is_refused(copy: Copy, tmp_path: Path, layers: int, width: int) -> None:
    backbone, languages = copy()
    make(tmp_path / "other", build_tokenizer(), ["orl"], layers=layers, width=width, heads=2, max_length=64)
    with pytest.raises(StudyError, match=r"model\.language_adapters: .*\(language orl\) does not fit") as caught:
        MadX.load(backbone, languages | {"orl": tmp_path / "other" / "adapters" / "orl"})
    assert "next:  a language adapter must be trained on this very backbone" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", '{"model_type": "no-such-model"}'),
        ("config.json", '{"model_type": "vit"}'),
        ("config.json", '{"model_type": "gpt2"}'),
        ("config.json", '{"model_type": "bert"}'),
        ("model.safetensors", "no tensors"),
    ],
)
def test_what_is_no_encoder_is_refused(copy: Copy, name: str, text: str) -> None:
    backbone, languages = copy()
    (backbone / name).write_text(text)
    with pytest.raises(StudyError) as caught:
        MadX.load(backbone, languages)
    assert caught.value.key == "model.backbone"
    assert str(backbone) in str(caught.value)


@pytest.mark.parametrize("weights", ["adapters/orl/pytorch_adapter.bin", "backbone/pytorch_model.bin"])
def test_a_pickle_that_runs_code_is_not_opened(copy: Copy, tmp_path: Path, weights: str) -> None:
    backbone, languages = copy()
    target, witness = tmp_path / weights, tmp_path / "witness"
    for path in target.parent.glob("*.safetensors"):
        path.unlink()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (witness,))

    target.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(StudyError):
        MadX.load(backbone, languages)
    assert not witness.exists()


def test_weights_of_older_formats_are_read_without_code(tiny: Tiny, copy: Copy, batch: tuple[Tensor, Tensor]) -> None:
    """`.bin` files, as most adapters of the AdapterHub are."""
    backbone, languages = copy()
    torch.save(load_file(backbone / "model.safetensors"), backbone / "pytorch_model.bin")
    (backbone / "model.safetensors").unlink()
    for folder in languages.values():
        for path in folder.glob("*.safetensors"):
            name = {"adapter": "pytorch_adapter"}.get(path.stem, path.stem)
            torch.save(load_file(path), folder / f"{name}.bin")
            path.unlink()
    assert sha(MadX.load(backbone, languages).state_dict()) == sha(load(tiny).state_dict())


# What a language adapter must be


@pytest.mark.parametrize(
    ("key", "expected", "message"),
    [
        ("reduction", {"reduction": 16}, r"expected 16 and found 2"),
        ("invertible", {"invertible": False}, r"expected False and found True"),
    ],
)
def test_language_adapters_must_be_what_the_study_says(
    tiny: Tiny, key: str, expected: dict[str, Any], message: str
) -> None:
    languages = {language: tiny.adapter(language) for language in LANGUAGES}
    with pytest.raises(StudyError, match=message) as caught:
        MadX.load(tiny.folder / "backbone", languages, LanguageAdapterConfig(**expected))
    assert caught.value.key == f"model.language_adapter_config.{key}"
    assert str(tiny.adapter("en") / "adapter_config.json") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, None),
        ({"reduction_factor": 2.0}, None),
        ({"inv_adapter": None}, "invertible"),
        ({"inv_adapter": None, "invertible_adapter": {"block_type": "nice", "reduction_factor": 2}}, None),
        ({"reduction_factor": 16}, "reduction"),
        ({"reduction_factor": {"default": 2, "3": 8}}, "reduction"),
        ({"mh_adapter": True}, "placement"),
        ({"mh_adapter": True, "output_adapter": False}, "placement"),
        ("pfeiffer", "reduction"),
        ("pfeiffer+inv[reduction_factor=2]", None),
    ],
)
def test_configurations_of_language_adapters(
    tiny: Tiny, tmp_path: Path, changes: dict[str, Any] | str, key: str | None
) -> None:
    written = json.loads((tiny.adapter("en") / "adapter_config.json").read_text())
    written["config"] = changes if isinstance(changes, str) else written["config"] | changes
    (tmp_path / "adapter_config.json").write_text(json.dumps(written))
    check_language_adapter("en", tmp_path, None)
    if key is None:
        check_language_adapter("en", tmp_path, LanguageAdapterConfig())
    else:
        with pytest.raises(StudyError) as caught:
            check_language_adapter("en", tmp_path, LanguageAdapterConfig())
        assert caught.value.key == f"model.language_adapter_config.{key}"


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"config": "no-such-name"}', '{"config": {"architecture": "lora"}}']
)
def test_malformed_configurations_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(StudyError, match=r"model\.language_adapters: .*adapter_config\.json") as caught:
        check_language_adapter("en", tmp_path, LanguageAdapterConfig())
    assert caught.value.key == "model.language_adapters"


def test_a_task_adapter_is_no_language_adapter(tiny: Tiny, tmp_path: Path) -> None:
    plain = XLMRobertaModel.from_pretrained(tiny.folder / "backbone", add_pooling_layer=False)
    adapters.init(plain)
    plain.add_adapter("task", config=SeqBnConfig(reduction_factor=2))
    plain.save_adapter(str(tmp_path), "task", use_safetensors=True)
    with pytest.raises(StudyError, match=r"language_adapter_config\.invertible"):
        check_language_adapter("en", tmp_path, LanguageAdapterConfig())
