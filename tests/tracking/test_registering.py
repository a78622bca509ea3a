"""`raysched register`: a run's adapter in the model registry, that answers in another process as it did here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysched.cli import main
from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING, MissingError
from raysched.records.layout import SweepLayout
from raysched.reports.sweep import read_sweep
from raysched.runners import preflight
from raysched.service import choosing
from raysched.service.registering import CODE, register
from raysched.study.load import load_study
from raysched.tasks.predictions import read
from raysched.tracking.mlflow_registry import Registry
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.uploader import Uploader
from raysched.training.bench import Bench
from tests.training.sweep_in_process import sweep_in_process

pytestmark = pytest.mark.timeout(180)
SETTINGS = (
    *("training.epochs=null", "training.steps=25", "training.batch_size=16", "data.train_examples=300", "seeds=[0,1]"),
    *("evaluation.languages=[vel,xim]", "evaluation.dev_limit=20", "evaluation.test_limit=20"),
    *("evaluation.dev_points=1", "search.schedule=[standard]", "search.lr=[1e-3]", "search.k=[]"),
)
ASKED = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
found = model.predict(pandas.DataFrame(json.load(open(sys.argv[3]))))
print(found.to_json(orient="records"))
"""
TASKS = {"qa": "xquad-mini", "choice": "xcopa-mini", "nli": "xnli-mini"}
Command = Callable[..., tuple[int, str, str]]


def trained(folder: Path, name: str) -> SweepLayout:
    """A short sweep of two seeds, done and in MLflow."""
    objective = () if name == "xquad-mini" else ("search.objective=source_dev/accuracy",)
    study = load_study(name, [*SETTINGS, *objective]).study
    layout = sweep_in_process(folder, name, study, preflight.resolve(study, device="cpu"))
    store = Store(sqlite_uri(layout.mlflow_db), layout.name, layout.mlflow_artifacts)
    assert Uploader(layout, store, driver_alive=False).sync_once()
    return layout


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    return trained(tmp_path_factory.mktemp("storage"), "xquad-mini")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["raysched", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def asked(folder: Path, uri: str, model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a fresh process answers, that knows nothing but the address of the registry."""
    (folder / "rows.json").write_text(json.dumps(rows))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED, uri, model, str(folder / "rows.json")],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_and_recorded(layout: SweepLayout, language: str, folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """The test rows of a language, and what the best run was recorded to have predicted, by id."""
    sweep = read_sweep(layout)
    record = choosing.best(sweep)
    bench = Bench(sweep.study, sweep.resolved, folder / "features")
    path = layout.run(record.run_id).root / record.attempt_folder / "predictions" / f"{language}.parquet"
    return bench.test(language).rows, {one.example_id: one for one in read(path)[1]}


def test_the_best_adapter_answers_in_a_fresh_process(
    swept: SweepLayout, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = command("register", "--storage", swept.storage)
    assert code == DONE, err
    best = choosing.best(read_sweep(swept)).run_id
    assert best in out
    assert "xquad-mini, version 1 (registered, alias best)" in out
    uri = sqlite_uri(swept.mlflow_db)
    questions: list[dict[str, Any]] = []
    expected: list[Any] = []
    for language in ("vel", "xim"):
        rows, recorded = rows_and_recorded(swept, language, tmp_path)
        questions += [{"question": one["question"], "context": one["context"], "language": language} for one in rows]
        expected += [recorded[one["id"]] for one in rows]
    source = {**questions[0], "language": None, "unasked": 1}  # as nothing else is said, in the source language
    found = asked(tmp_path, uri, "models:/xquad-mini@best", [*questions, source])
    for answer, mine in zip(found, [*expected, expected[0]], strict=True):
        assert (answer["answer"], answer["start"], answer["end"]) == (mine.prediction, mine.start, mine.end)
        assert answer["score"] == pytest.approx(mine.score, rel=1e-4)
    assert len({answer["answer"] for answer in found}) > 1

    again = register(swept)
    assert (again.version, again.new, again.best) == ("1", False, True)
    other = next(run_id for run_id in read_sweep(swept).records if run_id != best)
    code, out, err = command("register", "xquad-mini", "--storage", swept.storage, "--run", other[:8])
    assert code == DONE, err
    assert "version 2 (registered)" in out
    client = Store(uri, swept.name, swept.mlflow_artifacts)._connected()
    assert str(client.get_registered_model("xquad-mini").aliases["best"]) == "1"
    assert len(client.search_model_versions("name = 'xquad-mini'")) == 2
    client.delete_registered_model("xquad-mini")
    assert register(swept).version == "1"
    assert len(list((swept.mlflow_artifacts / "models").iterdir())) == 2, "the model entries stayed"


def test_nothing_of_a_model_is_a_pickle_and_all_of_it_is_described(swept: SweepLayout) -> None:
    done = register(swept, name="mine")
    store = Store(sqlite_uri(swept.mlflow_db), swept.name, swept.mlflow_artifacts)
    client = store._connected()
    version = client.get_model_version("mine", done.version)
    sweep = read_sweep(swept)
    record = choosing.best(sweep)
    expected = {
        "sweep": "xquad-mini", "run_id": record.run_id, "cell": record.cell_id, "schedule": "standard", "lr": "0.001",
        "seed": str(record.seed), "task": "qa", "val/selected/f1": f"{record.source_dev['f1']:.4f}",
        "test/average/f1": f"{sweep.tests(record)['xim']['f1']:.4f}",
    }  # fmt: skip
    assert {key: version.tags[key] for key in expected} == expected
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {key: model.tags[key] for key in expected} == expected
    assert {metric.key for metric in model.metrics or []} >= {"val/selected/f1", "test/average/f1"}
    assert client.get_run(version.run_id).outputs.model_outputs[0].model_id == model.model_id
    folder = Path(model.artifact_location.removeprefix("file://"))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "registered_model_meta"]
    assert len(files) > 10  # the one left out is written by whoever loads the model
    for path in files:
        assert path.suffix in (".json", ".safetensors", ".md", ".py", ".yaml", ".txt", "") or path.name == "MLmodel"
        assert not path.read_bytes().startswith(b"\x80"), f"{path} is a pickle"
        assert path.stat().st_mode & 0o077 == 0
    described = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = described["flavors"]["python_function"]
    assert (folder / Path(flavor["model_code_path"]).name).read_text() == CODE.read_text()
    assert "python_model" not in flavor
    assert [(one["name"], one["required"]) for one in json.loads(described["signature"]["inputs"])] == [
        ("question", True), ("context", True), ("language", False),
    ]  # fmt: skip
    assert described["metadata"]["run_id"] == record.run_id
    required = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in required} >= {"raysched", "torch", "transformers", "adapters", "mlflow"}
    assert all(re.fullmatch(r"[a-z-]+==\d[\w.]*", line) for line in required)


@pytest.mark.faults
@pytest.mark.parametrize("task", ["choice", "nli"])
def test_the_other_tasks_answer_too(task: str, tmp_path: Path) -> None:
    layout = trained(tmp_path, TASKS[task])
    assert register(layout).new
    rows, recorded = rows_and_recorded(layout, "vel", tmp_path)
    texts = {"choice": ("premise", "question"), "nli": ("premise", "hypothesis")}[task]
    questions = [
        {name: row[name] for name in texts} | dict(zip(("choice1", "choice2"), row.get("choices", ()), strict=False))
        for row in rows
    ]
    found = asked(tmp_path, sqlite_uri(layout.mlflow_db), f"models:/{TASKS[task]}@best", questions)
    assert [answer["prediction"] for answer in found] == [recorded[row["id"]].prediction for row in rows]
    assert [answer["score"] for answer in found] == pytest.approx([recorded[row["id"]].score for row in rows], rel=1e-3)


def test_wrong_questions_are_explained(swept: SweepLayout, tmp_path: Path) -> None:
    from raysched.errors import StudyError
    from raysched.service.answering import Answerer

    sweep = read_sweep(swept)
    choosing.write(sweep, choosing.best(sweep), tmp_path / "adapter")
    answerer = Answerer(tmp_path / "adapter")
    good = {"question": "who", "context": "someone there"}
    assert answerer.answer([]) == []
    assert answerer.answer([good, {**good, "language": "vel"}])[0].gold == ()
    for wrong, said in (
        ({"question": "who"}, "row 1: column 'context' is missing"),
        ({"question": " ", "context": "x"}, "row 1: column 'question' is ' ', but must be text"),
        ({**good, "language": "klingon"}, r"row 1: the model has no language 'klingon'\n  valid: vel, xim"),
    ):
        with pytest.raises(StudyError, match=said):
            answerer.answer([good, wrong])
    with pytest.raises(MissingError, match="no adapter that raysched exported"):
        Answerer(tmp_path)
    about = tmp_path / "adapter" / "raysched.json"
    told = json.loads(about.read_text())
    told["resolved"]["backbone"]["revision"] = "0" * 64
    about.write_text(json.dumps(told))
    with pytest.raises(MissingError, match=r"mini \(000000000000\).*is not what this version of raysched ships"):
        Answerer(tmp_path / "adapter")


def test_what_cannot_be_registered_says_why(
    swept: SweepLayout, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, code, said in (
        (("--as", "a/b"), BAD_INPUT, "must be a name without / :"),
        (("--run", "zzz"), BAD_INPUT, "no run of xquad-mini begins with 'zzz'"),
        (("--mlflow", f"sqlite:///{tmp_path}/empty.db"), OUTSIDE_MISSING, "does not hold run"),
        (("--mlflow", "http://127.0.0.1:1"), OUTSIDE_MISSING, "no MLflow server answers"),
    ):
        found, _, err = command("register", "xquad-mini", "--storage", swept.storage, *arguments)
        assert (found, said in err) == (code, True), err
    assert (
        "raysched sync xquad-mini"
        in command("register", "xquad-mini", "--storage", swept.storage, "--mlflow", f"sqlite:///{tmp_path}/empty.db")[
            2
        ]
    )
    assert not (tmp_path / "empty.db").exists()


@pytest.mark.parametrize(
    "lost", ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_model_version"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_makes_no_second_version(
    swept: SweepLayout, lost: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.entities import LoggedModelStatus
    from mlflow.tracking import MlflowClient

    name, real = f"{lost}-{when}", getattr(MlflowClient, lost)

    def broken(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            real(*args, **kwargs)
        raise ConnectionError("http://me:canary@host is gone")

    monkeypatch.setattr(MlflowClient, lost, broken)
    store = Store(sqlite_uri(swept.mlflow_db), swept.name, swept.mlflow_artifacts)
    experiment = store.experiment_id
    for model in store._connected().search_logged_models([experiment]):
        store._connected().delete_logged_model(model.model_id)
    with pytest.raises(MissingError, match=r"http://\*\*\*@host is gone"):
        register(swept, name=name)
    monkeypatch.undo()
    done = register(swept, name=name)
    client = store._connected()
    versions = client.search_model_versions(f"name = '{name}'")
    assert [str(one.version) for one in versions] == [done.version]
    (model,) = client.search_logged_models([experiment])
    assert model.status == LoggedModelStatus.READY
    assert str(client.get_registered_model(name).aliases["best"]) == done.version
    assert Registry(store).version(name, "of nobody") is None


def test_on_a_server(swept: SweepLayout, server: str, tmp_path: Path) -> None:
    store = Store(server, swept.name)
    assert Uploader(swept, store, driver_alive=False).sync_once()
    done = register(swept, given=server)
    assert (done.uri, done.version, done.best) == (server, "1", True)
    rows, recorded = rows_and_recorded(swept, "vel", tmp_path)
    questions = [{"question": row["question"], "context": row["context"]} for row in rows[:3]]
    found = asked(tmp_path, server, "models:/xquad-mini@best", questions)
    assert [answer["answer"] for answer in found] == [recorded[row["id"]].prediction for row in rows[:3]]
