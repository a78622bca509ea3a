"""Settings that fit no run of a study on this backbone are refused at preflight, with the next step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError, StudyError
from raysched.mini.tokenizer import build_tokenizer
from raysched.runners import preflight
from raysched.runners.adapter_origin import check_origin
from raysched.study.identity import Content
from raysched.training.random_madx import make
from tests.training.tiny_training import Tiny


def check(tiny: Tiny, **settings: Any) -> None:
    study = tiny.study(**settings)
    preflight.check_fit(tiny.resolve(study), study)


def test_an_environment_that_lets_weights_run_code_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny.study()
    monkeypatch.setenv(preflight.UNSAFE, "1")
    with pytest.raises(StudyError, match="must not be set, but got 1: files of weights could run any code") as caught:
        preflight.resolve(study, device="cpu")
    assert (caught.value.key, caught.value.exit_code) == (preflight.UNSAFE, 2)
    monkeypatch.setenv(preflight.UNSAFE, "")
    preflight.resolve(study, device="cpu")


ARM = {"schedule": "gu", "lr": 1e-3, "k": 2}
LORA = {"model__task_adapter__kind": "lora"}
GRID = {"search__sampler": "grid"}


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        ({"search__schedule": ["schedule-3"]}, "search.schedule", "order for 12 layers, but the backbone has 4"),
        (
            {"search__arms": [{**ARM, "schedule": "schedule-0"}], **GRID},
            "search.schedule",
            "order for 12 layers, but the backbone has 4",
        ),
        (
            {"search__arms": [{"schedule": "surgical", "lr": 1e-3}], "training__surgical": [0, 4], **GRID},
            "training.surgical",
            r"backbone's 4, each once, but got \[0, 4\]",
        ),
        (
            {"search__arms": [{**ARM, "schedule": "permutation"}], "training__permutation": [1, 0], **GRID},
            "training.permutation",
            "below the top of 4 exactly once",
        ),
        ({"model__task_adapter__reduction": 17}, "model.task_adapter.reduction", "hidden size 16, but got 17"),
        ({"model__task_adapter__rank": 17, **LORA}, "model.task_adapter.rank", "hidden size 16, but got 17"),
    ],
)
def test_what_fits_no_run(tiny: Tiny, settings: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        check(tiny, **settings)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"search__k": ["early", "even"]},
        {"search__schedule": ["surgical"], "training__surgical": [0, 3]},
        {"model__task_adapter__reduction": 16},
        {"model__task_adapter__reduction": 17, **LORA},  # lora has a rank, and no reduction
        {"model__task_adapter__rank": 17},
        {"model__task_adapter__reduction": 17, "search__method": ["full"]},  # full fine-tuning has no adapter
    ],
)
def test_what_fits(tiny: Tiny, settings: dict[str, Any]) -> None:
    check(tiny, **settings)


@pytest.mark.parametrize("task", ["choice", "nli"])
def test_only_questions_need_room_beside_the_stride(tiny: Tiny, task: str) -> None:
    lengths = {"data__max_length": 32, "data__doc_stride": 30}
    with pytest.raises(StudyError, match="must leave room for a question beside max_length=32, but got 30"):
        check(tiny, **lengths)
    study = tiny.study(**lengths)
    other = study.model_copy(update={"task": task})
    preflight.check_fit(tiny.resolve(study), other)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "model.language_adapters"),
        ({"model__language_adapter_overrides": {"xim": "./none/xim"}}, "model.language_adapter_overrides.xim"),
    ],
)
def test_a_language_without_an_adapter_names_the_command_that_trains_one(
    tiny: Tiny, settings: dict[str, Any], key: str
) -> None:
    adapters = {"model__language_adapters": "./none/{language}"} if not settings else {}
    study = tiny.study(**settings, **adapters)
    with pytest.raises(MissingError, match="there is no folder none/") as caught:
        preflight.resolve(study, device="cpu")
    language = "xim" if settings else "vel"
    assert caught.value.key == key
    assert caught.value.hint is not None
    command = f"raysched pretrain language --backbone {study.model.backbone} --language {language} --text FILE --to"
    assert command in caught.value.hint
    assert f"--set model.language_adapter_overrides.{language}=./adapters/{language}" in caught.value.hint


def test_full_fine_tuning_needs_no_language_adapters(tiny: Tiny) -> None:
    study = tiny.study(model__language_adapters="./none/{language}", search__method=["full"])
    assert preflight.resolve(study, device="cpu").language_adapters == {}


def test_the_mini_world_has_adapters_for_its_own_languages_alone(tiny: Tiny) -> None:
    overrides = {"model__language_adapter_overrides": {"vel": "mini"}}
    assert preflight.resolve(tiny.study(**overrides), device="cpu").language_adapters["vel"].where == "mini:vel"
    study = tiny.study(**overrides)
    foreign = study.model.model_copy(update={"language_adapter_overrides": {"de": "mini"}})
    with pytest.raises(StudyError, match="the mini world has no adapter for 'de'\n  valid: vel, "):
        preflight._language_adapter(foreign, "de", None)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"layers": 3}, "it has tensors of 3 layers, the backbone has 4 layers"),
        ({"layers": 5}, "it has tensors of 5 layers, the backbone has 4 layers"),
        ({"width": 32}, "its tensors are of hidden size 32, the backbone has 16"),
    ],
)
def test_an_adapter_of_another_shape_is_refused_before_anything_runs(
    tiny: Tiny, tmp_path: Path, sizes: dict[str, int], message: str
) -> None:
    make(tmp_path, build_tokenizer(), ["xim"], **{"layers": 4, "width": 16, "heads": 2, "max_length": 64} | sizes)
    folder = tmp_path / "adapters" / "xim"
    config = folder / "adapter_config.json"
    written = json.loads(config.read_text())
    del written["hidden_size"]  # as in files of older versions
    config.write_text(json.dumps(written))
    settings = {"model__language_adapter_overrides": {"xim": str(folder)}}
    with pytest.raises(StudyError, match=rf"adapter in .*\(language xim\) does not fit this backbone: {message}"):
        check(tiny, **settings)
    (folder / "adapter.safetensors").write_bytes(b"no tensors")
    with pytest.raises(StudyError, match=r"\(language xim\) does not fit this backbone: .* cannot be read"):
        check(tiny, **settings)
    (folder / "adapter.safetensors").rename(folder / "pytorch_adapter.bin")  # opened by nobody before it is loaded
    check(tiny, **settings)


def test_an_adapter_says_which_backbone_it_was_trained_on(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "xim"
    shutil.copytree(tiny.adapter("xim"), folder)
    settings = {"model__language_adapter_overrides": {"xim": str(folder)}}
    mine = tiny.resolve(tiny.study()).backbone.revision

    def trained_on(revision: str) -> None:
        about = {"names": {"backbone": "./other"}, "settings": {"backbone": revision}}
        (folder / "training.json").write_text(json.dumps(about))
        tiny.resolved.clear()  # the folder changed

    for revision in (mine, "a" * 40):  # a commit of the hub may hold the same files
        trained_on(revision)
        check(tiny, **settings)
    trained_on("f" * 64)
    told = rf"\(language xim\) was trained on the backbone \./other \(ffffffffffff\), .*\({mine[:12]}\)"
    with pytest.raises(StudyError, match=told) as caught:
        check(tiny, **settings)
    assert caught.value.key == "model.language_adapter_overrides.xim"
    assert "raysched pretrain language --backbone" in str(caught.value.hint)


XLMR = "FacebookAI/xlm-roberta-base"


@pytest.mark.parametrize(
    ("name", "backbone", "local", "refused"),
    [
        ("xlm-roberta-base", XLMR, False, False),
        ("AdapterHub/xlm-roberta-base", XLMR, False, False),
        ("xlm-roberta-large", XLMR, False, True),
        ("bert-base-multilingual-cased", XLMR, False, True),
        ("cardiffnlp/twitter-xlm-roberta-base", XLMR, False, True),
        ("xlm-roberta-large", XLMR, True, False),  # a folder may hold anything
        ("./out/checkpoint-500", XLMR, False, False),
        ("/data/models/xlmr", XLMR, False, False),
        ("", XLMR, False, False),
        (None, XLMR, False, False),
    ],
)
def test_published_adapters_name_their_backbone(
    tmp_path: Path, name: str | None, backbone: str, local: bool, refused: bool
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"model_name": name}))
    content = Content(where=backbone, revision="b" * 40, path=str(tmp_path) if local else None)
    if not refused:
        check_origin("sw", tmp_path, content, "model.language_adapters")
        return
    with pytest.raises(StudyError, match=rf"was trained on the backbone {name}, but the study's is {backbone} \(b+\)"):
        check_origin("sw", tmp_path, content, "model.language_adapters")
