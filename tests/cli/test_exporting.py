"""`export` and `evaluate`: what leaves a sweep predicts the same in the `adapters` library alone, and here again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING
from raysched.mini.tokenizer import build_tokenizer
from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.reports.sweep import read_sweep
from raysched.runners import preflight
from raysched.study.identity import RunSpec
from raysched.study.load import load_study
from raysched.study.space import Point
from raysched.tasks.predictions import read
from raysched.training import card
from raysched.training.bench import Bench
from raysched.training.export import About
from raysched.training.random_madx import make
from tests.cli.conftest import Raysched
from tests.hub_stub import private_hub, serve
from tests.training.sweep_in_process import sweep_in_process
from tests.training.tiny_training import LANGUAGES, LAYERS, WIDTH, Tiny

ARMS = {"search.schedule": [], "search.lr": [], "search.arms": [{"schedule": "gu", "lr": 1e-3, "k": "even"}]}
CASES = [
    ("xlm-roberta", "qa", {}),
    ("xlm-roberta", "choice", {"model.task_adapter.kind": "lora"}),
    ("xlm-roberta", "nli", {"model.task_adapter.placement": "parallel"}),
    ("bert", "qa", {"model.task_adapter.placement": "houlsby"}),
    ("bert", "choice", ARMS),
    ("bert", "nli", {}),
    ("deberta-v2", "nli", {}),
    ("xlm-roberta", "nli", {"search.method": ["full"]}),
]
ALONE = """
import json, sys
import torch
from adapters import AutoAdapterModel
from adapters.composition import Stack
from safetensors.torch import load_file, save_file

backbone, languages, task, batches, to, full = sys.argv[1:]
assert "raysched" not in sys.modules
torch.set_num_threads(1)
if full == "True":
    model = AutoAdapterModel.from_pretrained(task)
    name = model.load_head(task, load_as="mine", use_safetensors=True)[1]
else:
    model = AutoAdapterModel.from_pretrained(backbone)
    name = model.load_adapter(task, use_safetensors=True)
model.active_head = name
model.eval()
found = {}
with torch.inference_mode():
    for language, given in json.loads(open(batches).read()).items():
        if full != "True":
            spoken = model.load_adapter(f"{languages}/{language}", load_as=language, use_safetensors=True)
            model.set_active_adapters(Stack(spoken, name))
            model.active_head = name
        for index, batch in enumerate(given):
            outputs = model(**{key: torch.tensor(value) for key, value in batch.items()})
            groups = [outputs.start_logits, outputs.end_logits] if "start_logits" in outputs else [outputs.logits]
            found |= {f"{language}.{index}.{group}": value.contiguous() for group, value in enumerate(groups)}
save_file(found, to)
assert not [module for module in sys.modules if module.startswith("raysched")]
"""


@dataclass(frozen=True)
class Done:
    """A finished sweep of one cell with two seeds, and its inputs."""

    tiny: Tiny
    layout: SweepLayout

    @property
    def records(self) -> list[Record]:
        return list(read_sweep(self.layout).records.values())

    def spec(self, record: Record) -> RunSpec:
        sweep = read_sweep(self.layout)
        return RunSpec.make(sweep.study, sweep.resolved, Point(**record.params), record.seed)

    def tests(self, record: Record) -> dict[str, dict[str, float]]:
        return read_sweep(self.layout).tests(record)

    def predictions(self, record: Record, name: str) -> Any:
        return read(self.layout.run(record.run_id).root / record.attempt_folder / "predictions" / name)[1]


def finished(folder: Path, architecture: str, task: str, settings: dict[str, Any]) -> Done:
    make(
        folder,
        build_tokenizer(),
        LANGUAGES,
        layers=LAYERS,
        width=WIDTH,
        heads=2,
        max_length=64,
        architecture=architecture,
    )
    tiny = Tiny(folder, folder / "features")
    values: dict[str, Any] = {"seeds": 2, "search.sampler": "grid", "training.steps": 4, "evaluation.dev_points": 1}
    if task != "qa":
        values |= {"task": task, "search.objective": "source_dev/accuracy", "data.max_length": 40}
    study = tiny.study("gu", **values | settings)
    return Done(tiny, sweep_in_process(folder / "storage", "small.sweep", study, tiny.resolve(study)))


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: "-".join((case[0], case[1], *map(str, case[2].values())))
)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return finished(tmp_path_factory.mktemp("sweep"), *request.param)


@pytest.fixture(scope="module")
def qa(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return finished(
        tmp_path_factory.mktemp("qa"),
        "xlm-roberta",
        "qa",
        {"evaluation.also": {"far": {"test": "mini", "languages": ["xim"]}}},
    )


def batches(bench: Bench, language: str) -> tuple[list[np.ndarray[Any, Any]], list[dict[str, torch.Tensor]]]:
    """The very batches of an evaluation: like lengths together."""
    features, size = bench.test(language).features, bench.study.evaluation.batch_size
    order = np.argsort(features.lengths, kind="stable")
    indices = [order[start : start + size] for start in range(0, len(order), size)]
    return indices, [bench.task.batch(features, some) for some in indices]


def test_exported_and_loaded_with_adapters_alone_it_predicts_the_same(
    done: Done, raysched: Raysched, tmp_path: Path
) -> None:
    record = done.records[0]
    to = tmp_path / "exported"
    answer = raysched("export", "small.sweep", "--storage", done.layout.storage, "--run", record.run_id, "--to", to)
    assert answer.code == DONE, answer.err
    spec = done.spec(record)
    bench, languages = done.tiny.bench(spec), ("vel", "xim")
    keys = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {
        language: [{key: one[key].tolist() for key in keys if key in one} for one in batches(bench, language)[1]]
        for language in languages
    }
    (tmp_path / "batches.json").write_text(json.dumps(inputs))
    (tmp_path / "alone.py").write_text(ALONE)
    command = [tmp_path / "alone.py", done.tiny.folder / "backbone", done.tiny.folder / "adapters", to]
    command += [tmp_path / "batches.json", tmp_path / "logits", spec.point.method == "full"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, *map(str, command)], check=True, cwd=tmp_path, env=environment, capture_output=True)
    found = load_file(tmp_path / "logits")
    for language in languages:
        scored = bench.test(language)
        logits: list[Any] = [None] * len(scored.features)
        for number, some in enumerate(batches(bench, language)[0]):
            groups = [found[key].numpy() for key in sorted(found) if key.startswith(f"{language}.{number}.")]
            for row, feature in enumerate(some):
                logits[feature] = tuple(group[row] for group in groups)
        predicted = bench.task.predict(scored.rows, scored.features, logits, language, scored.rules)
        by_id = {one.example_id: one for one in predicted}
        recorded = done.predictions(record, f"{language}.parquet")
        assert [by_id[one.example_id] for one in recorded] == recorded  # scores too, bit for bit


def code_of(folder: Path) -> str:
    """The Python block of a card, and a forward pass that prints its outputs."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return f"{code}import torch\nprint(list(model(torch.tensor([[0, 5, 6, 2]] * 2)).keys()))\n"


def test_the_code_of_a_card_runs_elsewhere(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    assert export(raysched, qa, tmp_path / "to").code == DONE
    command = [sys.executable, "-c", code_of(tmp_path / "to")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, cwd=tmp_path / "to", env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "['start_logits', 'end_logits']"


def test_what_a_card_tells(
    done: Done, raysched: Raysched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(raysched, done, tmp_path / "to").code == DONE
    text, study = (tmp_path / "to" / "README.md").read_text(), read_sweep(done.layout).study
    assert "| length | 4 steps |" in text
    assert f"| learning rate | {done.records[0].params['lr']:g}, constant |" in text
    assert ("| answers of test (mini) | scored as by squad |" in text) == (study.task == "qa")
    kind = study.model.task_adapter.kind if study.uses_adapters else None
    assert ("rank 8" in text, "reduction " in text) == (kind == "lora", kind == "bottleneck")
    monkeypatch.chdir(tmp_path / "to")
    exec(code_of(tmp_path / "to"), {})
    assert "logits" in capfd.readouterr().out


def test_a_card_of_what_raysched_ships(
    raysched: Raysched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`mini` is no name that the library knows, and one language's adapter may lie elsewhere."""
    settings = ["training.epochs=null", "training.steps=2", "data.train_examples=20", "evaluation.languages=[vel]"]
    settings += ["evaluation.dev_limit=4", "evaluation.test_limit=4", "evaluation.dev_points=1", "seeds=1"]
    settings += ["search.schedule=[standard]", "search.lr=[1e-3]", "search.k=[]"]
    study = load_study("xquad-mini", settings).study
    layout = sweep_in_process(tmp_path, "mini", study, preflight.resolve(study, device="cpu"))
    assert raysched("export", "mini", "--storage", tmp_path, "--best", "--to", "to").code == DONE
    monkeypatch.chdir(tmp_path / "to")
    exec(code_of(tmp_path / "to"), {})
    assert "logits" in capfd.readouterr().out
    sweep = read_sweep(layout)
    overrides = {study.model.source_language: "me/adapter"}
    own = study.model_copy(update={"model": study.model.model_copy(update={"language_adapter_overrides": overrides})})
    (record,) = sweep.records.values()
    spec = RunSpec.make(own, sweep.resolved, Point(**record.params), 0)
    written = card.text(About(spec=spec, sweep="mini", source_dev={}, tests={}, versions={}), [])
    assert f'model.load_adapter("me/adapter", load_as="{study.model.source_language}", use_safetensors=True)' in written
    assert "from raysched.mini import backbone_path\n" in written


def test_evaluate_gives_the_recorded_scores_again(done: Done, raysched: Raysched, tmp_path: Path) -> None:
    record = done.records[1]
    to, out = tmp_path / "exported", tmp_path / "scores"
    options = ("--storage", done.layout.storage, "--run", record.run_id[:10], "--to", to)
    assert raysched("export", "small.sweep", *options).code == DONE
    answer = raysched("evaluate", to, "--to", out)
    assert answer.code == DONE, answer.err
    assert json.loads((out / "scores.json").read_text()) == {"test": done.tests(record)}
    for language in LANGUAGES:
        assert read(out / "predictions" / f"{language}.parquet")[1] == done.predictions(record, f"{language}.parquet")


def export(raysched: Raysched, done: Done, to: Path, *options: str | Path) -> Any:
    return raysched("export", "small.sweep", "--storage", done.layout.storage, "--to", to, *(options or ("--best",)))


def test_the_best_is_chosen_on_source_dev(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    best = max(qa.records, key=lambda record: (record.source_dev["f1"], -record.seed))
    answer = export(raysched, qa, tmp_path / "best")
    assert best.run_id in answer.out
    about = json.loads((tmp_path / "best" / "raysched.json").read_text())
    assert (about["run_id"], about["seed"]) == (best.run_id, best.seed)


def test_what_is_in_the_folder(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    assert export(raysched, qa, tmp_path / "best").code == DONE
    names = {path.name for path in (tmp_path / "best").iterdir()}
    assert names >= {
        "adapter_config.json",
        "adapter.safetensors",
        "head_config.json",
        "model_head.safetensors",
        "raysched.json",
        "README.md",
    }
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]
    text = (tmp_path / "best" / "README.md").read_text()
    for language in LANGUAGES:
        scores = [qa.tests(record)[language]["f1"] for record in qa.records]
        assert re.search(rf"\| {language} \| {sum(scores) / 2:.2f} \|.*" + rf"{scores[0]:.2f}", text)
    assert "schedule=gu" in text
    assert "ddof 1) over 2 seeds" in text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_other_languages_and_test_sets(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    assert export(raysched, qa, tmp_path / "best").code == DONE
    answer = raysched("evaluate", tmp_path / "best", "--to", tmp_path / "all")
    assert answer.code == DONE, answer.err
    assert {path.name for path in (tmp_path / "all" / "predictions" / "far").iterdir()} == {"xim.parquet"}
    answer = raysched(
        "evaluate", tmp_path / "best", "--task", "mini", "--languages", "orl,vel", "--to", tmp_path / "two"
    )
    assert answer.code == DONE, answer.err
    two, everything = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("two", "all"))
    assert two == {"test": {language: everything["test"][language] for language in ("orl", "vel")}}


def test_an_adapter_that_somebody_else_saved(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    assert export(raysched, qa, tmp_path / "best").code == DONE
    (tmp_path / "best" / "raysched.json").unlink()
    answer = raysched("evaluate", tmp_path / "best")
    assert answer.code == BAD_INPUT
    assert "--study" in answer.err
    study = tmp_path / "mine.yaml"
    study.write_text(
        f"extends: xquad-mini\nmodel: {{backbone: {qa.tiny.folder}/backbone, "
        f"language_adapters: '{qa.tiny.folder}/adapters/{{language}}'}}\n"
    )
    answer = raysched("evaluate", tmp_path / "best", "--study", study, "--languages", "vel")
    assert answer.code == DONE, answer.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--best", "--run", "0"), BAD_INPUT, "exactly one of --best and --run"),
        (("--run", "zzz"), BAD_INPUT, "no run of small.sweep begin"),
        (("--best", "--push", "noname"), BAD_INPUT, "owner/name"),
    ],
)
def test_bad_input(
    qa: Done, raysched: Raysched, tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    answer = export(raysched, qa, tmp_path / "to", *options)
    assert answer.code == code
    assert words in answer.err
    assert "Traceback" not in answer.err


def test_a_task_that_is_none(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    assert export(raysched, qa, tmp_path / "best").code == DONE
    answer = raysched("evaluate", tmp_path / "best", "--task", "xqad")
    assert answer.code == BAD_INPUT
    assert "--task: must name a test set, but got 'xqad'" in answer.err
    assert "valid: xquad, mlqa, xcopa, xnli, mini, owner/name on the hub" in answer.err
    assert "did you mean xquad?" in answer.err


@pytest.mark.parametrize("name", ["xquad-mini", "xquad-mini.run"])
def test_a_single_run_is_no_sweep(raysched: Raysched, tmp_path: Path, name: str) -> None:
    (tmp_path / "st" / "xquad-mini.run" / "runs").mkdir(parents=True)
    answer = raysched("export", name, "--storage", "st", "--best", "--to", "to")
    assert answer.code == OUTSIDE_MISSING
    assert "xquad-mini.run is what `raysched run` made: a run on its own" in answer.err
    assert "next:  raysched sweep xquad-mini" in answer.err


def test_nothing_is_overwritten_and_damage_is_refused(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    assert export(raysched, qa, tmp_path / "full").code == BAD_INPUT
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious"
    answer = raysched("evaluate", tmp_path / "nothing")
    assert answer.code == OUTSIDE_MISSING
    assert export(raysched, qa, tmp_path / "best").code == DONE
    answer = raysched("evaluate", tmp_path / "best", "--languages", "klingon")
    assert answer.code == BAD_INPUT
    assert "klingon" in answer.err


def test_an_adapter_of_another_width_or_task(qa: Done, raysched: Raysched, tmp_path: Path) -> None:
    assert export(raysched, qa, tmp_path / "best").code == DONE
    answer = raysched(
        "evaluate", tmp_path / "best", "--set", "model.backbone=mini", "--set", "model.language_adapters=mini"
    )
    assert answer.code == BAD_INPUT
    assert "was trained on the backbone" in answer.err
    about = tmp_path / "best" / "raysched.json"
    kept = about.read_text()
    about.unlink()
    answer = raysched("evaluate", tmp_path / "best", "--study", "xquad-mini", "--languages", "vel")
    assert answer.code == BAD_INPUT
    assert "made for hidden_size 16, the backbone has 64" in answer.err
    about.write_text(kept)
    head = load_file(tmp_path / "best" / "model_head.safetensors")
    save_file(
        {key: value[:1].contiguous() for key, value in head.items()}, tmp_path / "best" / "model_head.safetensors"
    )
    answer = raysched("evaluate", tmp_path / "best")
    assert answer.code == BAD_INPUT
    assert "layers of shapes" in answer.err


def test_pushed_to_the_hub(qa: Done, raysched: Raysched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as stub:
        private_hub(monkeypatch, tmp_path / "hf")
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", stub.url)  # read when the library is imported
        monkeypatch.setenv("HF_TOKEN", "hf_canary")
        answer = export(raysched, qa, tmp_path / "best", "--best", "--push", "me/adapter", "--private")
        assert answer.code == DONE, answer.err
        assert stub.created == {"me/adapter": True}
        there = stub.repositories["model", "me/adapter"]
        files = there["commits"][there["refs"]["main"]]
        assert files["README.md"] == (tmp_path / "best" / "README.md").read_bytes()
        assert files["adapter.safetensors"] == (tmp_path / "best" / "adapter.safetensors").read_bytes()
        assert not any(b"hf_canary" in content for content in files.values())
        stub.refuse_writing = True
        answer = export(raysched, qa, tmp_path / "again", "--best", "--push", "you/adapter")
        assert answer.code == OUTSIDE_MISSING
        assert "HF_TOKEN" in answer.err
        assert (tmp_path / "again" / "README.md").is_file()
