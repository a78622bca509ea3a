"""The studies that come with raysched, and the schema that editors read."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from raysched.mini import world
from raysched.reports.methods import MODELS
from raysched.reports.paper import comparison
from raysched.reports.paper import numbers as paper
from raysched.study.load import Suite, diff, load, load_study, study_names, suite_parts
from raysched.study.lookup import packaged_folder
from raysched.study.model import Study
from raysched.study.schema import SCHEMA_ID, json_schema, schema_text
from raysched.study.space import Point, n_points, points
from raysched.study.values import PUBLISHED
from raysched.study.yaml_text import parse

FOLDER = packaged_folder()
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHIPPED = [name for name in FILES if not name.startswith("_")]
BASES = [name for name in FILES if name.startswith("_")]
SUITES = [name for name in SHIPPED if suite_parts(name, FOLDER)]
PARTS = [part for name in SUITES for part in suite_parts(name, FOLDER)]


def study(name: str, *options: str) -> Study:
    return load_study(FOLDER / name, options).study


def plain(name: str) -> Any:
    path = FOLDER / f"{name}.yaml"
    return parse(path.read_text(), path.name).plain()


def test_these_studies_are_shipped() -> None:
    pairs = [
        f"{task}-{model}" for task in ("xquad", "mlqa", "xcopa", "xnli") for model in ("mbert", "xlmr", "mdeberta")
    ]
    low = [f"{task}-{m}-{n}" for task in ("xquad", "xnli") for m in ("mbert", "xlmr") for n in ("1k", "5k", "10k")]
    tables = [f"paper-table{number}" for number in (1, 2, 7, 11, 12)]
    figures = [f"paper-figure{number}" for number in (2, 3, 4, 5)]
    mini = ["xquad-mini", "xquad-mini-search"]
    assert set(SHIPPED) >= {*mini, *pairs, *low, *tables, *figures, "paper-mdeberta", "budget-arms"}
    assert sorted([*tables, *figures, "paper-mdeberta", "budget-arms"]) == SUITES


def test_the_readme_counts_the_points_and_runs_of_every_study() -> None:
    found = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| (\d+) \| (\d+) \|$", (FOLDER / "README.md").read_text(), re.M)
    infos = {info.name: info for info in study_names(FOLDER)}
    assert {name: info.problem for name, info in infos.items() if info.problem} == {}
    counts = {name: (info.points, info.runs) for name, info in infos.items()}
    assert {name: (int(points), int(runs)) for name, points, runs in found} == counts
    assert len(found) == len(SHIPPED)


def test_the_examples_of_the_readme_are_studies(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 3
    for block in blocks:
        (tmp_path / "both.yaml").write_text(block)
        assert load(tmp_path / "both.yaml", cwd=tmp_path).n_runs > 0
    commands = re.findall(r"^    raysched sweep (\S+)((?:.*\\\n)*.*)$", (FOLDER / "README.md").read_text(), re.M)
    for name, line in commands:
        options = [value for key, value in itertools.pairwise(shlex.split(line)) if key == "--set"]
        assert load(FOLDER / name, options).n_runs > 0, line


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
        ("xcopa-mbert", ["search.sampler=grid"], 105, 420),
        ("xnli-xlmr-1k", ["search.sampler=grid"], 52, 208),
        ("paper-table2.squad-xlmr", [], 4, 16),
        ("paper-table2.xcopa-xlmr", [], 4, 20),
        ("paper-table11.xnli-mbert-reverse", [], 1, 2),
        ("paper-figure4.squad-xlmr", [], 14, 56),
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


def cells(part: str) -> set[tuple[str, str, str, int]]:
    """(model, method, dataset, training rows) that a part of a suite measures."""
    one = study(part)
    model = MODELS[one.model.backbone.rpartition("/")[2]]
    datasets = [comparison.DATASETS[test.test] for test in one.test_sets.values()]
    return {
        (model, "full_ft" if point.method == "full" else comparison.SCHEDULES[point.schedule], dataset, size)
        for point in points(one.search)
        for dataset in datasets
        for size in [one.data.train_examples or paper.FULL_SIZE[dataset]]
    }


@pytest.mark.parametrize(
    ("suite", "tables"),
    [
        ("paper-table1", {1}),
        ("paper-table2", {2}),
        ("paper-table2", {8, 9, 10}),
        ("paper-table7", {7}),
        ("paper-table11", {11}),
        ("paper-table12", {12}),
        ("paper-mdeberta", {13, 14, 15}),
    ],
)
def test_a_table_of_the_paper_is_planned_cell_by_cell(suite: str, tables: set[int]) -> None:
    planned = [cell for part in suite_parts(suite, FOLDER) for cell in cells(part)]
    printed = [one.cell for one in paper.published() if one.table in tables]
    assert set(planned) == {(one.model, one.method, one.dataset, one.train_size) for one in printed}
    assert len(planned) == len(set(planned)), "a cell is measured twice"


@pytest.mark.parametrize("part", [part for part in PARTS if part.startswith("paper-")])
def test_tables_are_tested_in_the_languages_that_the_paper_prints(part: str) -> None:
    """English of XCOPA is COPA's dev set, and thus no test."""
    one = study(part)
    for test_set in one.test_sets.values():
        dataset = comparison.DATASETS[test_set.test]
        assert set(test_set.languages) == {*paper.TARGETS[dataset], *([] if dataset == "XCOPA" else ["en"])}
        assert test_set.scoring == ("mlqa" if dataset == "MLQA" else "squad")
    assert len(one.seeds) == (2 if part.endswith("-reverse") else 5 if one.task == "choice" else 4)


@pytest.mark.parametrize(
    ("part", "epochs", "batch_size", "arms"),
    [
        # Table 3: epochs, lr and k as printed; rand has the k of fun
        ("squad-mbert", 5, 32, "standard 5e-4, rand 5e-4 800, gu 5e-4 800, fun 5e-4 800"),
        ("squad-xlmr", 15, 32, "standard 2e-4, rand 5e-4 100, gu 5e-4 800, fun 5e-4 100"),
        ("xcopa-mbert", 5000, 64, "standard 1e-4 epochs=500, rand 1e-5 50, gu 1e-5 50, fun 1e-5 50"),
        ("xcopa-xlmr", 5000, 64, "standard 1e-4 epochs=500, rand 1e-5 1000, gu 1e-5 1000, fun 1e-5 1000"),
        ("xnli-mbert", 15, 128, "standard 5e-4, rand 5e-4 50, gu 5e-4 800, fun 5e-4 50"),
        ("xnli-xlmr", 15, 128, "standard 5e-4, rand 5e-4 800, gu 5e-4 800, fun 5e-4 800"),
    ],
)
def test_table_2_is_at_the_settings_of_table_3(part: str, epochs: int, batch_size: int, arms: str) -> None:
    published = study(f"paper-table2.{part}")
    assert (published.training.epochs, published.training.batch_size) == (epochs, batch_size)
    wanted = []
    for arm in arms.split(", "):
        schedule, lr, *rest = arm.split()
        k = next((int(value) for value in rest if value.isdecimal()), None)
        wanted.append(Point(schedule=schedule, lr=float(lr), k=k, epochs=500 if "epochs=500" in rest else None))
    assert points(published.search) == wanted


@pytest.mark.parametrize(
    ("cell", "ks"),
    [
        # k of GU (Table 4) and of FUN (appendix F.2), with 1k, 5k and 10k examples
        ("xquad-mbert", {"gu": (10, 50, 50), "fun": (10, 50, 50)}),
        ("xquad-xlmr", {"gu": (10, 50, 50), "fun": (10, 50, 25)}),
        ("xnli-mbert", {"gu": (1, 25, 25), "fun": (10, 50, 25)}),
        ("xnli-xlmr", {"gu": (1, 25, 10), "fun": (1, 25, 10)}),
    ],
)
def test_few_examples_are_at_the_settings_of_table_4(cell: str, ks: dict[str, tuple[int, ...]]) -> None:
    for position, (size, n) in enumerate((("1k", 1000), ("5k", 5000), ("10k", 10000))):
        low = study(f"paper-table12.{cell}-{size}")
        assert (low.data.train_examples, low.data.subset) == (n, "random")
        assert low.training.epochs == (20 if low.task == "qa" else 50)
        assert {point.schedule: point.k for point in points(low.search)} == {
            "standard": None,
            **{schedule: k[position] for schedule, k in ks.items()},
        }
        assert {point.lr for point in points(low.search)} == {5e-4}
        assert set(study(f"paper-table1.{cell}-{size}").search.schedule) == {"standard", "gu"}


def test_figures_measure_tr_f_as_the_paper_did() -> None:
    for suite in ("paper-figure3", "paper-figure4"):
        for part in suite_parts(suite, FOLDER):
            log = study(part).fisher.log
            assert (log.batches, log.every_steps) == (40, 50 if "xcopa" in part else 100)
    orders = {"gu", "reverse", "standard", "fun", *PUBLISHED}
    for part in suite_parts("paper-figure4", FOLDER):
        assert {point.schedule for point in points(study(part).search)} == orders


def test_mlqa_is_a_second_test_of_the_training_on_squad() -> None:
    alone, both = study("mlqa-xlmr"), study("paper-table2.squad-xlmr")
    assert alone.test_sets["test"] == both.test_sets["mlqa"]
    changed = {line.split(":")[0] for line in diff(alone, study("xquad-xlmr"))}
    assert changed == {"description", "data.test", "evaluation.languages", "evaluation.scoring"}


def test_a_language_whose_adapter_nobody_published_has_one_of_the_users() -> None:
    own = study("xcopa-mbert").model.language_adapter_overrides
    assert own == {one: f"./language-adapters/bert-base-multilingual-cased/{one}" for one in ("it", "ta", "th")}
    assert study("xcopa-mdeberta").model.language_adapters == "./language-adapters/mdeberta-v3-base/{language}"


@pytest.mark.parametrize("name", ["_mbert", "_mdeberta"])
def test_the_shown_command_writes_where_the_base_looks(name: str) -> None:
    """`pretrain language` writes to a folder named like the language, below the given one."""
    text = (FOLDER / f"{name}.yaml").read_text()
    (command,) = re.findall(r"^#   (raysched pretrain language (?:.*\\\n#)?.*)$", text, re.M)
    words = shlex.split(command.replace("\\\n#", " "))
    given = dict(itertools.pairwise(words))
    model, language = plain(name)["model"], given["--language"]
    own = model.get("language_adapter_overrides", {}).get(language, model["language_adapters"])
    assert f"{given['--to']}/{language}" == own.format(language=language)
    assert given["--backbone"] == model["backbone"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_written_text_is_read_back_to_the_same_values(name: str) -> None:
    loaded = load(FOLDER / name)
    for one in loaded.parts if isinstance(loaded, Suite) else (loaded,):
        assert parse(one.text, "text").plain() == one.study.model_dump(mode="json"), one.name


@pytest.mark.parametrize("name", SHIPPED)
def test_studies_name_their_schema_first_and_fit_it(name: str) -> None:
    first = (FOLDER / f"{name}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=study.schema.json"
    jsonschema.Draft202012Validator(json_schema()).validate(plain(name))


@pytest.mark.parametrize("name", BASES)
def test_bases_say_that_they_are_and_hold_keys_of_a_study(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# A base: ")
    jsonschema.Draft202012Validator(json_schema()).validate({"extends": "another", **plain(name)})


def test_the_published_schema_is_current() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == SCHEMA_ID
    published = (FOLDER / "study.schema.json").read_text()
    assert json.loads(published) == schema, "write it again: raysched schema > search_spaces/study.schema.json"
    assert published == schema_text()


def test_every_key_is_described() -> None:
    schema = json_schema()
    for title, model in schema["$defs"].items():
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
    assert validator.is_valid(mini | {"extends": ["other", "_base"]})
    assert not validator.is_valid({"parts": {"one": mini}})


@pytest.mark.parametrize(
    ("suite", "valid"),
    [
        ({"parts": {"one": {"extends": "xquad-mini"}}}, True),
        ({"description": "x", "parts": {"one": {"extends": ["a", "b"], "seeds": 3}}}, True),
        ({"parts": {}}, False),
        ({"parts": {"A": {"extends": "xquad-mini"}}}, False),
        ({"parts": {"one": {"extends": "xquad-mini", "seed": 3}}}, False),
        ({"parts": {"one": {"extends": "xquad-mini"}}, "seeds": 3}, False),
    ],
)
def test_the_schema_of_suites(suite: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(suite) is valid
