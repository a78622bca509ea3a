"""`list`, `archive`, `diff`, `merge`: what they print, their exit codes, and what they refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from raysched.errors import BAD_INPUT, DONE, OUTSIDE_MISSING, RESUMABLE, SOME_RUNS_FAILED
from raysched.records.entries import Ended
from raysched.records.layout import SweepLayout
from raysched.records.lock import DriverLock
from raysched.records.record import read_record, write_record
from raysched.runners.requests import ask
from raysched.study.space import points
from tests.cli.conftest import Raysched
from tests.reports.conftest import MadeUp, study


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Two made-up sweeps of three cells with two seeds; the second lacks a cell and has a failed run."""
    folder = tmp_path / "raysched-runs"
    one = MadeUp(folder, study(), "one")
    one.all()
    one.ledger.append(Ended(outcome="finished"))
    two = MadeUp(folder, study(("standard", "gu")), "two")
    for number, point in enumerate(points(two.study.search)):
        first, second = two.take(number, point)
        for spec in (first, second):
            two.start(spec)
        two.finish(first)
        (two.fail if point.schedule == "gu" else two.finish)(second)
    two.ledger.append(Ended(outcome="failed"))
    for sweep in (one, two):
        sweep.ledger.close()
    return folder


def test_list(raysched: Raysched, storage: Path) -> None:
    rows = {row["name"]: row for row in json.loads(raysched("list", "--json").out)}
    assert [(row["done"], row["failed"], row["runs"], row["state"]) for row in rows.values()] == [
        (6, 0, 6, "finished"),
        (3, 1, 4, "failed"),
    ]
    assert rows["one"]["what"] == "A made-up sweep."
    assert rows["one"]["started_ms"] == rows["one"]["active_ms"] == 1_000_000
    lines = raysched("list", "--storage", storage).out.splitlines()
    assert lines[0].split() == ["sweep", "runs", "done", "failed", "state", "started", "last", "activity"]
    assert [line.split()[:4] for line in lines[1:]] == [["one", "6/6", "-", "finished"], ["two", "4/4", "1", "failed"]]


def test_list_knows_who_runs_what(raysched: Raysched, storage: Path) -> None:
    layout = SweepLayout(storage, "one")
    with DriverLock(layout.lock) as held:
        ask(layout, "pause")
        (row,) = [row for row in json.loads(raysched("list", "--json").out) if row["name"] == "one"]
        assert (row["state"], row["driver"]["pid"]) == ("paused", held.pid)
        assert f"paused (host {held.host}, pid {held.pid})" in raysched("list").out
    assert "paused" not in raysched("list").out  # it had ended


def test_list_sorts_by_activity_and_names_damage(raysched: Raysched, storage: Path) -> None:
    ledger = storage / "one" / "ledger.jsonl"
    content = ledger.read_bytes()
    ledger.write_bytes(b"x" + content[1:])
    rows = json.loads(raysched("list", "--json").out)
    assert [(row["name"], row["state"], row["runs"]) for row in rows] == [
        ("one", "damaged", None),
        ("two", "failed", 4),
    ]
    assert "is damaged at byte 0" in rows[0]["problem"]
    shown = raysched("list")
    assert (shown.code, shown.err) == (DONE, "")
    assert "damaged at byte 0" in shown.out
    (storage / "empty").mkdir()
    (storage / "a file").write_text("x")
    assert len(json.loads(raysched("list", "--json").out)) == 2


def test_list_of_nothing(raysched: Raysched, tmp_path: Path) -> None:
    assert "no sweep in ./raysched-runs yet. To start one: raysched sweep xquad-mini" in raysched("list").out
    assert raysched("list", "--json").out == "[]\n"
    assert list(tmp_path.iterdir()) == []


def test_archive_and_back(raysched: Raysched, storage: Path, tmp_path: Path) -> None:
    for predictions in (storage / "one").rglob("*.parquet"):  # made-up records name none, and what none names stays
        predictions.unlink()
    assert raysched("report", "one", "--to", tmp_path / "before").code == DONE
    report = (tmp_path / "before" / "report.md").read_text()
    before = json.loads(raysched("status", "one", "--json").out)
    answer = raysched("archive", "one", "--delete")
    assert (answer.code, answer.err) == (DONE, "")
    path = tmp_path / "one.tar.gz"
    assert f"{path}: written and read back; " in answer.out
    assert "one was removed from ./raysched-runs" in answer.out
    assert f"tar -xzf {path} -C STORAGE" in answer.out
    assert not (storage / "one").exists()
    assert raysched("status", "one").code == OUTSIDE_MISSING
    (tmp_path / "other").mkdir()
    subprocess.run(["tar", "-xzf", str(path), "-C", str(tmp_path / "other")], check=True, timeout=60)
    assert json.loads(raysched("status", "one", "--storage", tmp_path / "other", "--json").out) == before
    assert raysched("report", "one", "--storage", tmp_path / "other", "--to", tmp_path / "after").code == DONE
    after = (tmp_path / "after" / "report.md").read_text()
    assert after.replace(str(tmp_path / "other"), str(storage)) == report
    assert "was there already and is the same" in raysched("archive", "--storage", tmp_path / "other").out


def test_archive_refuses(raysched: Raysched, storage: Path, tmp_path: Path) -> None:
    (tmp_path / "one.tar.gz").write_text("mine")
    answer = raysched("archive", "one", "--delete")
    assert answer.code == BAD_INPUT
    assert "one.tar.gz: is there already, and is no archive of 'one' as it is now" in answer.err
    assert "next:  give another file with --to" in answer.err
    with DriverLock(SweepLayout(storage, "one").lock):
        answer = raysched("archive", "one", "--to", "other.tar.gz")
        assert answer.code == RESUMABLE
        assert "another driver runs this sweep" in answer.err
    record = next((storage / "one" / "runs").glob("*/record.json"))
    record.write_text("{}")
    answer = raysched("archive", "one", "--to", "other.tar.gz")
    assert answer.code == SOME_RUNS_FAILED
    assert f"raysched: {record}" in answer.err
    assert (tmp_path / "one.tar.gz").read_text() == "mine"
    assert (storage / "one").is_dir()


def test_diff(raysched: Raysched, storage: Path) -> None:
    answer = raysched("diff", "one", "two")
    assert (answer.code, answer.err) == (DONE, "")
    lines = answer.out.splitlines()
    assert lines[0] == "study: 1"
    assert lines[1] == '  search.schedule: ["standard", "gu", "lpft"] -> ["standard", "gu"]'
    for line in (
        "inputs: the same",
        "runs only in one, not in two: 2",
        "  schedule=lpft lr=0.001 k=25 seed=0",
        "runs only in two, not in one: none",
        "runs of both: 4, of which 3 gave the same",
    ):
        assert line in lines
    assert any(
        line.startswith("  schedule=gu lr=0.001 k=25 seed=1 (") and "finished -> failed" in line for line in lines
    )
    value = json.loads(raysched("diff", "two", "one", "--json").out)
    assert value["sweeps"] == ["two", "one"]
    assert sorted(run["kind"] for run in value["runs"]) == ["equal", "equal", "equal", "one_finished"]


def test_diff_shows_values_of_two_storages(raysched: Raysched, storage: Path, tmp_path: Path) -> None:
    shutil.copytree(storage / "one", tmp_path / "other" / "one")
    path = next((tmp_path / "other" / "one" / "runs").glob("*/record.json"))
    record = read_record(path)
    write_record(path, record.model_copy(update={"source_dev": {"f1": 12.25, "em": record.source_dev["em"]}}))
    answer = raysched("diff", "one", "one", "--other-storage", tmp_path / "other")
    assert answer.code == DONE
    assert (
        f"({record.run_id}) gave different results:\n    source_dev/f1: {record.source_dev['f1']} -> 12.25"
        in answer.out
    )
    assert "runs of both: 6, of which 5 gave the same" in answer.out


def test_merge(raysched: Raysched, storage: Path) -> None:
    answer = raysched("merge", "two", "one", "--name", "both")
    assert (answer.code, answer.err) == (DONE, "")
    assert "both: merged; 6 runs finished, 0 left to do" in answer.out
    assert "raysched sync both\n" in answer.out
    assert "raysched resume" not in answer.out
    value = json.loads(raysched("status", "both", "--json").out)
    assert (value["state"], sum(cell["done"] for cell in value["cells"])) == ("finished", 6)
    assert "was merged before; nothing was changed" in raysched("merge", "two", "one", "--name", "both").out
    assert raysched("diff", "one", "both").out.splitlines()[0] == "study: the same"


def test_merge_says_what_is_left(raysched: Raysched, storage: Path, tmp_path: Path) -> None:
    three = MadeUp(storage, study(("standard",), seeds=(0, 1, 2)), "three")
    three.ledger.close()
    answer = raysched("merge", "one", "three", "--name", "both", "--storage", storage)
    assert "both: merged; 6 runs finished, 3 left to do" in answer.out
    assert "raysched resume both\n" in answer.out
    answer = raysched("merge", "one", "three", "--name", "both", "--storage", tmp_path / "none")
    assert answer.code == OUTSIDE_MISSING


def test_merge_refuses(raysched: Raysched, storage: Path) -> None:
    other = MadeUp(storage, study(training={"steps": 300}), "other")
    other.ledger.close()
    answer = raysched("merge", "one", "other", "--name", "both")
    assert answer.code == BAD_INPUT
    assert "are of different studies" in answer.err
    assert "training.steps: 200 -> 300" in answer.err
    path = next((storage / "two" / "runs").glob("*/record.json"))
    while read_record(path).status != "finished":
        path = next(one for one in (storage / "two" / "runs").glob("*/record.json") if one != path)
    write_record(path, read_record(path).model_copy(update={"source_dev": {"f1": 1.0, "em": 1.0}}))
    answer = raysched("merge", "one", "two", "--name", "both")
    assert answer.code == BAD_INPUT
    assert "1 runs finished in both with different results" in answer.err
    assert sorted(path.name for path in storage.iterdir()) == ["one", "other", "two"]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["archive", "none"], OUTSIDE_MISSING, "SWEEP: there is no sweep 'none'"),
        (["archive", "../x"], BAD_INPUT, "must match"),
        (["archive"], BAD_INPUT, "holds 2 sweeps: say which"),
        (["archive", "one", "--to", "none/one.tar.gz"], OUTSIDE_MISSING, "there is no such folder"),
        (["archive", "one", "--to", "raysched-runs/one/x.tar.gz"], BAD_INPUT, "lies in the sweep's own folder"),
        (["diff", "one", "none"], OUTSIDE_MISSING, "SWEEP: there is no sweep 'none'"),
        (["diff", "one", "a/b"], BAD_INPUT, "must match"),
        (["diff", "one", "two", "--other-storage", "nowhere"], OUTSIDE_MISSING, "there is no sweep 'two' in nowhere"),
        (["merge", "one", "none", "--name", "x"], OUTSIDE_MISSING, "there is no sweep 'none'"),
        (["merge", "one", "two", "--name", "../x"], BAD_INPUT, "must match"),
        (["merge", "one", "two", "--name", "two"], BAD_INPUT, "--name: is one of the two"),
        (["merge", "one", "one", "--name", "x"], BAD_INPUT, "OTHER: is the sweep 'one' itself"),
        (["list", "--storage", "http://x/y"], BAD_INPUT, "--storage"),
    ],
)
def test_what_is_not_there(raysched: Raysched, storage: Path, arguments: list[str], code: int, part: str) -> None:
    answer = raysched(*arguments)
    assert answer.code == code, answer
    assert part in answer.err
    assert "Traceback" not in answer.err
    assert sorted(path.name for path in storage.iterdir()) == ["one", "two"]
