"""Inputs for machines that have none of them: a shelf and a machine in one process, each with folders of its own."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from raysched import hub, mini
from raysched.errors import RunError
from raysched.records import files
from raysched.runners import inputs
from raysched.runners.inputs import Entry, Shelf
from raysched.study.identity import Content, Resolved, RunSpec
from raysched.training.bench import Bench
from tests.hub_stub import private_hub
from tests.training.tiny_training import Tiny, execute, same

COMMIT = "a" * 40


class Counting(Shelf):
    """Remembers what was asked."""

    def __init__(self, resolved: Resolved) -> None:
        super().__init__(inputs.held(resolved))
        self.reads: Counter[str] = Counter()

    def read(self, key: str, name: str, offset: int) -> bytes:
        self.reads[f"{key} {name} {offset}"] += 1
        return super().read(key, name, offset)


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_whole", set())


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """The driver's folder; `gone` hides it from the worker."""
    folder = tmp_path / "driver"
    for name, content in {"backbone/config.json": "{}", "backbone/deep/weights.bin": "w" * 1000, "vel/a": "1"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "train.jsonl").write_text('{"id": 1}\n')
    (folder / "replay.json").write_text("{}")
    (folder / "empty.tsv").touch()
    return folder


def folder(path: Path) -> Content:
    return Content(where=f"./{path.name}", revision=files.sha256_tree(path), path=str(path))


def file(path: Path) -> Content:
    return Content(where=f"./{path.name}", revision=files.sha256_file(path), path=str(path))


MINI_ROWS = Content(where="mini", revision="0" * 64)


def resolved(away: Path, **changes: object) -> Resolved:
    values = {
        "train": file(away / "train.jsonl"),
        "dev": MINI_ROWS,
        "test": {"vel": file(away / "empty.tsv")},
        "also": {"more": {"vel": file(away / "train.jsonl")}},
        "backbone": folder(away / "backbone"),
        "language_adapters": {"vel": folder(away / "vel")},
        "replay": file(away / "replay.json"),
        "device": "cpu",
    }
    return Resolved(**values | changes)  # type: ignore[arg-type]


class Elsewhere(Counting):
    """The driver's machine keeps its files in a folder that the worker's paths do not lead to."""

    def __init__(self, away: Path, named: Resolved) -> None:
        super().__init__(named)
        self.kept = away.rename(away.with_name("kept"))
        self._held = {
            key: {name: path.replace(str(away), str(self.kept)) for name, path in named.items()}
            for key, named in self._held.items()
        }


def test_what_is_not_here_is_fetched_once_checked_and_kept(
    away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 300)
    named, cache = resolved(away), tmp_path / "cache"
    shelf = Elsewhere(away, named)
    here = inputs.localize(named, shelf, cache)
    assert here.model_dump() != named.model_dump()
    for was, now in zip(inputs._contents(named), inputs._contents(here), strict=True):
        assert (was[1].where, was[1].revision) == (now[1].where, now[1].revision)
    assert here.dev == MINI_ROWS
    assert here.backbone.path is not None
    assert files.sha256_tree(Path(here.backbone.path)) == named.backbone.revision
    assert here.train.path == here.also["more"]["vel"].path == str(cache / named.train.revision / "train.jsonl")
    assert set(shelf.reads.values()) == {1}
    assert len([one for one in shelf.reads if "weights" in one]) == 4
    inputs._whole.clear()  # another process of this machine
    assert inputs.localize(named, shelf, cache) == here
    assert set(shelf.reads.values()) == {1}
    left = [path.name for path in cache.rglob(".*")]
    assert all(name.endswith(".lock") for name in left), left


def test_what_is_here_is_used_and_read_through_once(
    away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = resolved(away)
    shelf = Counting(named)
    assert inputs.localize(named, shelf, tmp_path / "cache") == named
    assert not shelf.reads
    monkeypatch.setattr(files, "sha256_tree", lambda path: pytest.fail("read through again"))
    assert inputs.localize(named, shelf, tmp_path / "cache") == named


def test_another_file_at_the_same_path_is_not_taken(away: Path, tmp_path: Path) -> None:
    named = resolved(away)
    shelf = Elsewhere(away, named)
    shutil.copytree(shelf.kept, away)
    (away / "train.jsonl").write_text("something else")
    here = inputs.localize(named, shelf, tmp_path / "cache")
    assert here.train.path == str(tmp_path / "cache" / named.train.revision / "train.jsonl")
    assert here.backbone == named.backbone


def test_what_was_damaged_in_the_cache_is_fetched_again(away: Path, tmp_path: Path) -> None:
    named, cache = resolved(away), tmp_path / "cache"
    shelf = Elsewhere(away, named)
    here = inputs.localize(named, shelf, cache)
    (Path(here.backbone.path or "") / "config.json").write_text("[]")
    Path(here.train.path or "").write_text("")
    inputs._whole.clear()
    assert inputs.localize(named, shelf, cache) == here
    assert files.sha256_tree(Path(here.backbone.path or "")) == named.backbone.revision


def test_inputs_of_the_package_are_taken_from_here(tmp_path: Path) -> None:
    shipped = {"mini": mini.backbone_path(), "mini:vel": mini.adapter_path("vel")}
    backbone, adapter = (
        Content(where=where, revision=files.sha256_tree(path), path=f"/elsewhere/{path.name}")
        for where, path in shipped.items()
    )
    named = Resolved(
        train=MINI_ROWS,
        dev=MINI_ROWS,
        test={"vel": MINI_ROWS},
        backbone=backbone,
        language_adapters={"vel": adapter},
        device="cpu",
    )
    here = inputs.localize(named, Shelf({}), tmp_path)
    assert here.backbone.path == str(mini.backbone_path())
    assert here.language_adapters["vel"].path == str(mini.adapter_path("vel"))


def test_files_of_the_hub_come_into_the_cache_of_this_machine(
    away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_hub(monkeypatch, tmp_path / "driver-hf")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    there = hub.snapshot_folder("owner/model", "model", COMMIT)
    there.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "unused.onnx", ".hidden"):
        (there / name).write_text(name)
    rows = hub.snapshot_folder("owner/rows", "dataset", COMMIT) / "vel"
    rows.mkdir(parents=True)
    (rows / "test-00000-of-00001.parquet").write_bytes(b"rows")
    named = resolved(
        away,
        backbone=Content(where="owner/model", revision=COMMIT),
        test={"vel": Content(where="owner/rows", revision=COMMIT)},
    )
    shelf = Counting(named)
    private_hub(monkeypatch, tmp_path / "worker-hf")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    begun = hub.snapshot_folder("owner/model", "model", COMMIT)
    begun.mkdir(parents=True)
    (begun / "config.json").write_text("conf")  # somebody's download that did not come to its end
    assert inputs.localize(named, shelf, tmp_path / "cache").backbone == named.backbone
    folder = hub.local_folder(named.backbone)
    assert folder.is_relative_to(tmp_path / "worker-hf")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        name: name for name in ("config.json", "model.safetensors")
    }
    assert hub.files("owner/rows", "dataset", COMMIT) == ["vel/test-00000-of-00001.parquet"]
    asked = sum(shelf.reads.values())
    inputs.localize(named, shelf, tmp_path / "cache")
    assert sum(shelf.reads.values()) == asked


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "", ".", "a//b", "a\\b", "a\0b", "./a"])
def test_no_name_leads_out_of_the_cache(away: Path, tmp_path: Path, name: str) -> None:
    named = resolved(away)

    class Liar(Counting):
        def listing(self, key: str) -> list[Entry]:
            return [Entry(name=name, size=1, sha256=files.sha256_bytes(b"x"))]

        def read(self, key: str, name: str, offset: int) -> bytes:
            return b"x"

    shelf = Liar(named)
    shutil.rmtree(away)
    with pytest.raises(RunError, match="is no name of a file of an input") as error:
        inputs.localize(named, shelf, tmp_path / "cache")
    assert error.value.cause == "data"
    assert not list(tmp_path.rglob("*evil*"))


def test_a_shelf_opens_nothing_but_what_was_put_on_it(away: Path) -> None:
    shelf = Shelf(inputs.held(resolved(away)))
    key = files.sha256_tree(away / "backbone")
    for asked in ((key, "../train.jsonl"), (key, "/etc/passwd"), ("0" * 64, "config.json")):
        with pytest.raises(FileNotFoundError, match="was offered"):
            shelf.read(*asked, 0)
    assert shelf.listing("0" * 64) == []


def test_what_is_wrong_is_told_by_its_cause(away: Path, tmp_path: Path) -> None:
    named = resolved(away)
    shelf = Elsewhere(away, named)
    (shelf.kept / "backbone" / "config.json").write_text('{"other": 1}')
    (tmp_path / "cache").mkdir()
    with pytest.raises(RunError, match="has changed on the driver's machine") as error:
        inputs.localize(named, shelf, tmp_path / "cache")
    assert error.value.cause == "data"
    with pytest.raises(RunError, match="does not hand it out") as error:
        inputs.localize(named, Shelf({}), tmp_path / "cache-2")
    assert error.value.cause == "data"

    class Lossy(Elsewhere):
        def read(self, key: str, name: str, offset: int) -> bytes:
            return super().read(key, name, offset)[:-1]

    lossy = Lossy.__new__(Lossy)
    lossy.__dict__.update(shelf.__dict__)
    with pytest.raises(RunError, match="did not come whole") as error:
        inputs.localize(named, lossy, tmp_path / "cache-3")
    assert error.value.cause == "storage"
    evil = resolved(shelf.kept, train=Content(where="./x", revision="../../x", path="/x"))
    with pytest.raises(RunError, match="has no revision"):
        inputs.localize(evil, shelf, tmp_path / "cache-4")


def test_of_several_processes_one_fetches(away: Path, tmp_path: Path) -> None:
    named = resolved(away)
    shelf = Elsewhere(away, named)
    threads = [threading.Thread(target=inputs.localize, args=(named, shelf, tmp_path / "cache")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(shelf.reads.values()) == {1}


def test_a_run_elsewhere_is_the_same_run(tmp_path: Path) -> None:
    """Backbone, adapters and the recorded order come from the shelf: same ids, same bits."""
    own = Tiny.make(tmp_path / "driver")
    spec = own.spec("replay")
    there = execute(own.bench(spec), spec, tmp_path / "there" / "attempt-1-1")
    local = inputs.localize(spec.resolved, Elsewhere(own.folder, spec.resolved), tmp_path / "cache")
    assert not own.folder.exists()
    assert RunSpec.make(spec.study, local, spec.point, spec.seed) == dataclasses.replace(spec, resolved=local)
    bench = Bench(spec.study, local, tmp_path / "features")
    same(there, execute(bench, spec, tmp_path / "here" / "attempt-1-1"))
