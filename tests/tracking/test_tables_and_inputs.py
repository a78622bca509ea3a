"""Tables and data sets of a run: what MLflow's page shows beside its metrics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError
from raysched.records.files import canonical
from raysched.records.record import read_record
from raysched.service.choosing import verified
from raysched.study.identity import Resolved
from raysched.study.model import Study
from raysched.tracking import tables
from raysched.tracking.data_inputs import DataInput, data_inputs
from raysched.tracking.mlflow_registry import Packed, Registry, _tracked_at
from raysched.tracking.mlflow_store import Store, sqlite_uri
from raysched.tracking.moved import follow
from raysched.tracking.uploader import Uploader
from tests.tracking.disk_sweep import RESOLVED, STUDY

RUN0 = "run:" + "a" * 16


def study_with(**contents: Any) -> tuple[Study, Resolved]:
    study = Study.model_validate_json(canonical(STUDY))
    return study, Resolved.model_validate_json(canonical(RESOLVED | contents))


def test_a_table_is_what_mlflow_itself_writes(disk: Any, store: Store, tmp_path: Path) -> None:
    disk.point()
    disk.whole_run(0)
    assert Uploader(disk.layout, store).sync_once()
    client, experiment = store._open()
    (run,) = client.search_runs([experiment], f"tags.`raysched.key` = '{RUN0}'")
    with _tracked_at(store.uri):  # load_table heeds MLflow's own setting
        scores = client.load_table(experiment, "tables/scores.json", run_ids=[run.info.run_id])
        order = client.load_table(experiment, "tables/unfreeze_order.json", run_ids=[run.info.run_id])
    assert scores.to_dict("records") == [
        {"test set": "main", "language": "en", "role": "source", "f1": 90, "em": 90},
        {"test set": "main", "language": "de", "role": "target", "f1": 60, "em": 60},
        {"test set": "main", "language": "th", "role": "target", "f1": 20, "em": 20},
    ]
    assert order.to_dict("records") == [
        {"event": 0, "step": 0, "woken": "", "awake": "", "layers awake": 0},
        {"event": 1, "step": 1, "woken": "1", "awake": "1", "layers awake": 1},
        {"event": 2, "step": 2, "woken": "0 2", "awake": "0 1 2", "layers awake": 3},
    ]
    named = {(one.dataset.name, one.tags[0].value, one.dataset.digest) for one in run.inputs.dataset_inputs}
    assert named == {(f"mini {context}", context, "0" * 36) for context in ("train", "dev", "test")}


def test_a_run_that_failed_has_no_tables(disk: Any) -> None:
    disk.point()
    disk.finish(0, disk.attempt(0), [], status="failed")
    record = read_record(disk.layout.run("a" * 16).record)
    assert tables.order(record) is None
    assert tables.scores(record, {"test": "x"}, "en") is None


def test_tables_of_before_stay_named() -> None:
    first = tables.logged(["a.json", "b.json"])
    assert json.loads(tables.logged(["b.json", "c.json"], first)) == [
        {"path": name, "type": "table"} for name in ("a.json", "b.json", "c.json")
    ]
    assert tables.logged(["a.json"], "not JSON") == tables.logged(["a.json"])


def test_data_of_the_hub_of_files_and_by_language() -> None:
    commit = "c" * 40
    hub = {"where": "google/xquad", "revision": commit}
    local = {"where": "./{language}.json", "path": "/data/x.json"}
    tests = {language: {**local, "revision": language * 32} for language in ("en", "de", "th")}
    found = data_inputs(
        *study_with(train={"where": "https://me:canary@host/x", "revision": "1" * 64}, dev=hub, test=tests)
    )
    assert found[0].name == "https://***@host/x train"
    assert "canary" not in repr(found)
    assert found[1] == DataInput(
        name="google/xquad dev",
        digest="c" * 36,
        source_type="hugging_face",
        source=json.dumps({"path": "google/xquad", "revision": commit}),
        context="dev",
    )
    assert [one.name for one in found[2:]] == ["./en.json test", "./de.json test", "./th.json test"]
    assert {one.source_type for one in found[2:]} == {"local"}
    per_language = {language: {"where": "mini", "revision": language * 32} for language in ("en", "de", "th")}
    assert [one.name for one in data_inputs(*study_with(test=per_language))[2:]] == [
        "mini test en", "mini test de", "mini test th",
    ]  # fmt: skip


def test_data_sets_are_named_once_and_again_where_they_grew(
    disk: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    real = Store.log_inputs
    monkeypatch.setattr(
        Store, "log_inputs", lambda self, run_id, inputs: (told.append(len(inputs)), real(self, run_id, inputs))
    )
    disk.point()
    disk.whole_run(0)
    uploader = Uploader(disk.layout, store)
    for _ in range(2):
        assert uploader.sync_once()
    assert told == [3]
    disk.extend(2)  # the run is looked at again, and nothing new is there to name
    assert uploader.sync_once()
    assert told == [3]


def test_a_registered_model_moves_with_its_sweep(disk: Any, store: Store, tmp_path: Path) -> None:
    disk.point()
    disk.whole_run(0)
    uploader = Uploader(disk.layout, store)
    assert uploader.sync_once()
    run_id = store.held(RUN0, uploader._tree.ledger.uid)
    assert run_id is not None
    code = tmp_path / "model.py"
    code.write_text(
        "import mlflow, pandas as pd\n"
        "class Echo(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, model_input: pd.DataFrame, params=None):\n"
        "        return model_input\n"
        "mlflow.models.set_model(Echo())\n"
    )
    packed = Packed(
        name="adapter-a",
        mark="mark",
        run_id=run_id,
        code=code,
        adapter=verified(disk.layout, read_record(disk.layout.run("a" * 16).record)),
        inputs=(("question", "string", True),),
        outputs=(("answer", "string", True),),
        example={"question": "who"},
        requirements=["mlflow"],
        tags={"a": "1"},
        scores=(),
    )
    assert Registry(store).register("demo", packed) == "1"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(disk.layout.root, elsewhere)
    moved = Store(sqlite_uri(elsewhere / "mlflow.db"), "demo")
    follow(elsewhere / "mlflow.db", elsewhere / "mlflow-artifacts")
    client = moved._connected()
    version = client.get_model_version("demo", "1")
    place = client.get_model_version_download_uri("demo", "1")
    assert place.startswith((elsewhere / "mlflow-artifacts").as_uri())
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert (Path(model.artifact_location.removeprefix("file://")) / "MLmodel").is_file()
    with pytest.raises(MissingError, match="MLflow"):
        Registry(moved).point("nobody", "best", "1")
