"""`raysched prepare`: every input fetched into a folder once, and the sweep afterwards asks no hub."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysched import hub
from raysched.cli import preparing as command
from raysched.errors import DONE, MissingError, StudyError
from raysched.mini import world
from raysched.mini.tokenizer import build_tokenizer
from raysched.runners import local, preflight
from raysched.service.preparing import Prepared, prepare
from raysched.study.identity import RunSpec
from raysched.study.load import Suite, load, load_study
from raysched.study.space import points
from raysched.training.random_madx import make
from tests.hub_stub import HubStub, private_hub, serve
from tests.processes import shell

ADAPTER = "AdapterHub/xlm-roberta-base-{}-wiki_pfeiffer"
SMALL = (
    "training.epochs=null",
    "training.steps=2",
    "training.batch_size=2",
    "search.schedule=[standard]",
    "search.lr=[1e-3]",
    "search.k=[1]",
    "evaluation.dev_points=1",
    "evaluation.languages=[en, de]",
    "fisher.log.every_steps=0",
)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random backbone and its language adapters."""
    folder = tmp_path_factory.mktemp("made")
    make(folder, build_tokenizer(), ["en", "de"], layers=2, width=16, heads=2, max_length=384)
    return folder


@pytest.fixture
def stub(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """The hub, with what `xquad-xlmr` names for two languages; XQuAD only in the hub's own conversion."""
    private_hub(monkeypatch, tmp_path / "elsewhere")
    with serve() as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        one.add("model", "FacebookAI/xlm-roberta-base", contents(made / "backbone"))
        for language in ("en", "de"):
            one.add("model", ADAPTER.format(language), contents(made / "adapters" / language))
        rows = {split: parquet(world.qa_rows("vel", split, 6)) for split in ("train", "dev", "test")}
        squad = {"train": rows["train"], "validation": rows["dev"]}
        named = {f"plain_text/{split}-00000-of-00001.parquet": data for split, data in squad.items()}
        one.add("dataset", "rajpurkar/squad", named)
        one.add("dataset", "google/xquad", {"xquad.py": b"# a script"})
        converted = {f"xquad.{language}/validation/0000.parquet": rows["test"] for language in ("en", "de")}
        one.add("dataset", "google/xquad", converted, ref="refs/convert/parquet")
        yield one


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def prepared(to: Path, *overrides: str) -> Prepared:
    return prepare([load_study("xquad-xlmr", [*SMALL, *overrides])], to)


def test_a_prepared_study_runs_without_the_hub(stub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = prepared(tmp_path / "storage")
    assert done.cache == tmp_path / "storage" / "hub"
    assert [(one.where, one.place) for one in done.inputs] == [
        ("FacebookAI/xlm-roberta-base", "hub"),
        (ADAPTER.format("de"), "hub"),
        (ADAPTER.format("en"), "hub"),
        ("rajpurkar/squad", "hub"),
        ("google/xquad", "hub"),
    ]
    assert 0 < done.fetched <= done.size  # languages with the same rows share a file
    assert not (tmp_path / "elsewhere").exists()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    asked = len(stub.requests)
    study = load_study("xquad-xlmr", SMALL).study
    resolved = preflight.resolve(study, device="cpu")
    preflight.fetch(resolved, study)
    (point,) = points(study.search)
    _, result = local.run(RunSpec.make(study, resolved, point, 0), str(tmp_path / "runs"), "x", lambda report: None)
    assert result.steps == 2
    assert len(stub.requests) == asked


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_asks_nothing_of_the_hub(stub: HubStub, tmp_path: Path) -> None:
    prepared(tmp_path / "storage")
    offline = {"HF_HOME": str(tmp_path / "storage"), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    with shell(tmp_path / "sweep", **offline) as one:
        sets = [part for change in (*SMALL, "seeds=1", "resources.gpu=0") for part in ("--set", change)]
        code, said = one.run("sweep", "xquad-xlmr", "--name", "offline", *sets)
    assert code == DONE, said


def test_a_second_time_nothing_is_downloaded(stub: HubStub, tmp_path: Path) -> None:
    first = prepared(tmp_path / "storage")
    downloads = len(stub.downloads())
    again = prepared(tmp_path / "storage")
    assert len(stub.downloads()) == downloads
    assert (again.inputs, again.fetched) == (first.inputs, 0)


def test_what_moved_on_the_hub_is_fetched_and_taken_offline(
    stub: HubStub, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path / "storage")
    moved = stub.add("model", ADAPTER.format("de"), contents(made / "adapters" / "en") | {"README.md": b"new"})
    prepared(tmp_path / "storage")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.resolve(ADAPTER.format("de")) == moved


def test_offline_it_checks_and_says_what_lacks(stub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="rajpurkar/squad"):
        prepared(tmp_path / "storage")
    assert stub.requests == []


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ("model.backbone=owner/nothing", MissingError, "owner/nothing"),
        ("data.train=./nothing.jsonl", MissingError, "nothing.jsonl"),
        ("data.max_length=9999", StudyError, "max_length"),
    ],
)
def test_what_is_wrong_is_said(stub: HubStub, tmp_path: Path, change: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        prepared(tmp_path / "storage", change)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MissingError, match="cannot be made"):
        prepared(tmp_path / "storage")


def test_a_file_in_the_way(stub: HubStub, tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("")
    with pytest.raises(MissingError, match=r"--to: the folder .* cannot be made"):
        prepared(tmp_path / "storage")


def test_the_command_tells_sizes_and_what_to_do_next(
    stub: HubStub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.prepare("xquad-xlmr", tmp_path / "storage", SMALL) == DONE
    said = capsys.readouterr().out
    assert f"HF_HOME={tmp_path}/storage HF_HUB_OFFLINE=1" in said
    assert "language adapter de" in said
    assert "5 inputs" in said


def test_local_folders_and_the_package_need_no_hub(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private_hub(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert command.prepare("xquad-mini", None) == DONE
    assert "comes with the package" in capsys.readouterr().out


def test_a_suite_names_each_input_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    private_hub(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    file = tmp_path / "both.yaml"
    file.write_text("parts:\n  a: {extends: xquad-mini}\n  b: {extends: xquad-mini, seeds: 1}\n")
    suite = load(str(file))
    assert isinstance(suite, Suite)
    assert prepare(suite.parts).inputs == prepare(suite.parts[:1]).inputs
