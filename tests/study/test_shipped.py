"""The studies that come with raysched, and the schema that editors read."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from raysched.mini import world
from raysched.study.load import load_study
from raysched.study.lookup import packaged_folder
from raysched.study.model import Study
from raysched.study.schema import SCHEMA_ID, json_schema, schema_text
from raysched.study.space import n_points, points
from raysched.study.yaml_text import parse

FOLDER = packaged_folder()
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def study(name: str, *options: str) -> Study:
    return load_study(FOLDER / f"{name}.yaml", options).study


def plain(name: str) -> Any:
    path = FOLDER / f"{name}.yaml"
    return parse(path.read_text(), path.name).plain()


def test_these_studies_are_shipped() -> None:
    assert SHIPPED == ["xquad-mini", "xquad-mini-search", "xquad-xlmr"]


@pytest.mark.parametrize(
    ("name", "options", "n_taken", "n_runs"),
    [
        ("xquad-xlmr", [], 24, 96),
        ("xquad-xlmr", ["search.sampler=grid"], 84, 336),
        ("xquad-xlmr", ["search.sampler=random"], 24, 96),
        ("xquad-xlmr", ["search.points=null"], 84, 336),
        ("xquad-xlmr", ["search.points=1000"], 84, 336),
        ("xquad-mini", [], 5, 20),
        ("xquad-mini-search", [], 8, 32),
        ("xquad-mini-search", ["search.sampler=grid"], 15, 60),
    ],
)
def test_points_and_runs(name: str, options: list[str], n_taken: int, n_runs: int) -> None:
    taken = study(name, *options)
    assert n_points(taken.search) == n_taken
    assert n_points(taken.search) * len(taken.seeds) == n_runs


def test_xquad_xlmr_is_the_papers_setting() -> None:
    paper = study("xquad-xlmr")
    assert paper.search.lr == (1e-4, 2e-4, 5e-4, 8e-4)
    assert paper.search.k == (25, 50, 100, 800, 1000)
    assert paper.search.schedule == ("standard", "gu", "lpft", "rand", "fun")
    assert paper.evaluation.languages == ("en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh")
    assert (paper.training.epochs, paper.training.batch_size, paper.training.lr_schedule) == (15, 32, "constant")
    assert (paper.training.max_grad_norm, paper.training.weight_decay, paper.training.precision) == (1.0, 0.0, "fp32")
    assert (paper.data.max_length, paper.data.doc_stride, paper.data.qa_padding) == (384, 128, "max")
    assert (paper.evaluation.n_best, paper.evaluation.max_answer_length) == (20, 30)
    assert (paper.model.task_adapter.reduction, paper.model.language_adapter_config.reduction) == (16, 2)
    assert (paper.fisher.select.batches, paper.fisher.log.every_steps, paper.fisher.log.labels) == (40, 100, "noise")


def test_no_two_points_do_the_same_work() -> None:
    everything = points(study("xquad-xlmr").search)
    assert len(set(everything)) == len(everything) == 84
    assert [point.k for point in everything if point.schedule == "standard"] == [None] * 4
    assert "k" not in everything[0].params()
    assert str(everything[-1]) == "schedule=fun lr=0.0008 k=1000"


@pytest.mark.parametrize("name", ["xquad-mini", "xquad-mini-search"])
def test_mini_studies_speak_the_languages_of_the_mini_world(name: str) -> None:
    mini = study(name)
    assert mini.model.source_language == world.SOURCE
    assert mini.evaluation.languages == (world.SOURCE, *world.TARGETS)


@pytest.mark.parametrize("name", SHIPPED)
def test_studies_name_their_schema_first_and_fit_it(name: str) -> None:
    first = (FOLDER / f"{name}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=study.schema.json"
    jsonschema.Draft202012Validator(json_schema()).validate(plain(name))


def test_the_published_schema_is_current() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == SCHEMA_ID
    published = (FOLDER / "study.schema.json").read_text()
    assert json.loads(published) == schema, "write it again: raysched schema > search_spaces/study.schema.json"
    assert published == schema_text()


def test_every_key_is_described() -> None:
    schema = json_schema()
    for title, model in {"Study": schema, **schema["$defs"]}.items():
        assert model["description"], title
        for key, value in model["properties"].items():
            assert "$ref" in value or value.get("description"), f"{title}.{key}"


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"seeds": [0, 1]}, True),
        ({"seeds": 0}, False),
        ({"sed": 1}, False),
        ({"search": {"lr": ["1e-3"]}}, False),
        ({"search": {"lr": [2]}}, False),
        ({"search": {"objective": "test/de/f1"}}, False),
        ({"resources": {"gpu": "auto"}}, True),
        ({"resources": {"gpu": 0.5}}, True),
        ({"resources": {"gpu": "all"}}, False),
    ],
)
def test_the_schema_agrees_with_the_model(change: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(plain("xquad-mini-search") | change) is valid


def test_the_schema_requires_keys_only_where_nothing_is_extended() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    mini = plain("xquad-mini")
    assert validator.is_valid(mini)
    del mini["data"]["train"]
    assert not validator.is_valid(mini)
    assert validator.is_valid(mini | {"extends": "other"})
