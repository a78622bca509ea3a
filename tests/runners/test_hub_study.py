"""`xquad-xlmr` as it is shipped takes everything from the hub: tested against a local stub of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from raysched.errors import MissingError
from raysched.mini import world
from raysched.mini.tokenizer import build_tokenizer
from raysched.runners import local, preflight
from raysched.study.identity import Resolved, RunSpec
from raysched.study.load import load_study
from raysched.study.space import points
from raysched.training.random_madx import make
from tests.hub_stub import HubStub, private_hub, serve

ADAPTER = "AdapterHub/xlm-roberta-base-{}-wiki_pfeiffer"
SMALL = (
    "training.epochs=null",
    "training.steps=3",
    "training.batch_size=2",
    "search.schedule=[fun]",
    "search.lr=[1e-3]",
    "search.k=[1]",
    "evaluation.dev_points=1",
    "fisher.select.batches=1",
    "fisher.log.every_steps=0",
)
"""Fewer steps and points; no key that says where anything comes from."""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """The hub with XLM-R (small, random), its language adapters as published (.bin), SQuAD and XQuAD."""
    private_hub(monkeypatch, tmp_path / "cache")
    study = load_study("xquad-xlmr").study
    languages = study.evaluation.languages
    backbone, _ = make(tmp_path / "made", build_tokenizer(), languages, layers=2, width=16, heads=2, max_length=384)
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("model", "FacebookAI/xlm-roberta-base", contents(backbone))
        for language in languages:
            files = contents(tmp_path / "made" / "adapters" / language)
            weights = tmp_path / "adapter.safetensors"
            weights.write_bytes(files.pop("adapter.safetensors"))
            torch.save(load_file(weights), tmp_path / "pytorch_adapter.bin")
            files["pytorch_adapter.bin"] = (tmp_path / "pytorch_adapter.bin").read_bytes()
            hub.add("model", ADAPTER.format(language), files)
        rows = {split: parquet(world.qa_rows("vel", split, 6)) for split in ("train", "dev", "test")}
        squad = {"train": rows["train"], "validation": rows["dev"]}
        hub.add(
            "dataset",
            "rajpurkar/squad",
            {f"plain_text/{split}-00000-of-00001.parquet": data for split, data in squad.items()},
        )
        xquad = {f"xquad.{one}/validation-00000-of-00001.parquet": rows["test"] for one in languages}
        hub.add("dataset", "google/xquad", xquad)
        yield hub


def test_everything_comes_from_the_hub_once_and_pinned(
    stub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study("xquad-xlmr", SMALL).study
    resolved = preflight.resolve(study, device="cpu")
    revisions = {
        ("model", "FacebookAI/xlm-roberta-base"): resolved.backbone,
        ("dataset", "rajpurkar/squad"): resolved.train,
    }
    revisions |= {("model", ADAPTER.format(one)): content for one, content in resolved.language_adapters.items()}
    revisions |= {("dataset", "google/xquad"): resolved.test["th"]}
    for key, content in revisions.items():
        assert content.revision == stub.repositories[key]["refs"]["main"]
        assert content.path is None
    preflight.fetch(resolved, study)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as workers run: from here on nothing may be asked for
    asked = len(stub.requests)
    (point,) = points(study.search)
    _, result = local.run(RunSpec.make(study, resolved, point, 0), str(tmp_path / "runs"), "hub", lambda report: None)
    assert len(stub.requests) == asked
    assert result.steps == 3
    (tests,) = result.tests.values()
    assert sorted(tests) == sorted(study.evaluation.languages)


def test_a_sweep_that_goes_on_keeps_its_revisions(stub: HubStub) -> None:
    study = load_study("xquad-xlmr", SMALL).study
    first = preflight.resolve(study, device="cpu")
    stub.add("model", "FacebookAI/xlm-roberta-base", {"config.json": b"{}"})
    stub.add("dataset", "rajpurkar/squad", {"plain_text/train-00000-of-00001.parquet": b"another"})
    asked = len(stub.requests)
    again = preflight.resolve(study, device="cpu", known=Resolved.model_validate_json(first.model_dump_json()))
    assert again == first
    assert len(stub.requests) == asked


def test_pins_hold_beside_local_data(stub: HubStub, tmp_path: Path) -> None:
    rows = [{"context": row["context"], "qas": [_published(row)]} for row in world.qa_rows("vel", "train", 6)]
    (tmp_path / "squad.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    local_data = [f"data.{role}={tmp_path}/squad.json" for role in ("train", "dev")]
    study = load_study("xquad-xlmr", [*SMALL, *local_data]).study
    first = preflight.resolve(study, device="cpu")
    stub.add("dataset", "google/xquad", {"xquad.en/validation-00000-of-00001.parquet": b"another"})
    assert preflight.resolve(study, device="cpu", known=first) == first


def _published(row: dict[str, Any]) -> dict[str, Any]:
    """A row in SQuAD's own form."""
    answers = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
    return {
        "id": row["id"],
        "question": row["question"],
        "answers": [{"text": text, "answer_start": start} for text, start in answers],
    }


def test_the_one_that_is_not_there_is_named(stub: HubStub) -> None:
    del stub.repositories["model", ADAPTER.format("th")]
    with pytest.raises(MissingError, match="xlm-roberta-base-th-wiki_pfeiffer") as error:
        preflight.resolve(load_study("xquad-xlmr", SMALL).study, device="cpu")
    assert error.value.key == "model.language_adapters"
    assert "raysched pretrain language --backbone FacebookAI/xlm-roberta-base --language th" in str(error.value.hint)
