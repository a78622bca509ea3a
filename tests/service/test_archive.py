"""A sweep in one file: deterministic, checked, and a sweep again wherever it is unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.errors import DamageError, MissingError, StoppedError, StudyError
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptStarted
from raysched.records.files import make_folder
from raysched.records.layout import SweepLayout
from raysched.records.lock import DriverLock
from raysched.reports.asked import Asked
from raysched.reports.report import write_report
from raysched.reports.sweep import read_sweep
from raysched.runners.requests import ask
from raysched.service.archive import MANIFEST, archive, verify
from raysched.service.compare import compare
from raysched.tracking.target import remember
from tests.service.kept import ONE, Kept

pytestmark = pytest.mark.usefixtures("no_fsync")


def unpack(path: Path, storage: Path) -> SweepLayout:
    """As a user does."""
    storage.mkdir()
    subprocess.run(["tar", "-xzf", str(path), "-C", str(storage)], check=True, timeout=60)
    (folder,) = storage.iterdir()
    return SweepLayout(storage, folder.name)


def report_of(layout: SweepLayout, to: Path) -> dict[str, bytes]:
    """Every file of the sweep's report, by its name."""
    written = write_report(Asked(sweeps=(read_sweep(layout),)), to)
    return {path.relative_to(to).as_posix(): path.read_bytes() for path in written.files}


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return [member.name for member in tar if member.isfile()]


@pytest.fixture
def one(kept: Kept, tmp_path: Path) -> SweepLayout:
    return kept.copy(kept.one, tmp_path / "storage")


def test_the_archive_holds_what_was_found_out_and_nothing_else(one: SweepLayout, tmp_path: Path) -> None:
    make_folder(one.features / "x")
    for path in (one.features / "x" / "rows.bin", one.uploads / "store" / "run.json", one.root / "stop"):
        make_folder(path.parent)
        path.write_text("not in an archive")
    ask(one, "stop")
    remember(one, "http://mlflow:5000")
    write_report(Asked(sweeps=(read_sweep(one),)), one.reports)
    make_folder(one.mlflow_artifacts / "run" / "artifacts").joinpath("order.json").write_text("[]")
    done = archive(one, tmp_path / "one.tar.gz")
    found = names(done.path)
    assert found[0] == f"one/{MANIFEST}"
    assert done.members == len(found) - 1
    wanted = [
        "ledger.jsonl",
        "optuna.db",
        "tracking.json",
        *("reports/report.html", "reports/report.md", "reports/tables.parquet", "reports/tables/test-sets.csv"),
        "mlflow-artifacts/run/artifacts/order.json",
    ]
    sweep = read_sweep(one)
    for run_id, record in sweep.records.items():
        attempt = f"runs/{run_id}/{record.attempt_folder}"
        segments = [f"segments/{sealed.name}" for sealed in record.segments]
        wanted += [f"runs/{run_id}/record.json"]
        wanted += [f"{attempt}/{name}" for name in (*record.files, *segments, "result.json")]
    assert {name.removeprefix("one/") for name in found[1:]} >= set(wanted)
    left_out = ("checkpoints", "one/features/", "uploads", "driver.lock", "one/stop", "request.json")
    beside = [name for name in found if not name.startswith("one/reports/")]
    assert [name for name in beside if any(part in name for part in left_out)] == []
    assert any("adapter/" in name for name in found)
    assert any("predictions/" in name for name in found)
    assert any(name.endswith("unfreeze_order.json") for name in found)


def test_the_same_sweep_gives_the_same_bytes(one: SweepLayout, tmp_path: Path) -> None:
    paths = [archive(one, tmp_path / name).path for name in ("a.tar.gz", "b.tar.gz")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600
    with tarfile.open(paths[0]) as tar:
        members = tar.getmembers()
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {
        (0, 0, "", members[0].mtime)
    }
    assert {member.mode for member in members if member.isfile()} == {0o600}
    assert {member.mode for member in members if member.isdir()} == {0o700}


def test_the_manifest_lists_every_member(one: SweepLayout, tmp_path: Path) -> None:
    path = archive(one, tmp_path / "one.tar.gz").path
    about = verify(path)
    with tarfile.open(path) as tar:
        found = {
            member.name.removeprefix("one/"): hashlib.sha256(tar.extractfile(member).read()).hexdigest()  # type: ignore[union-attr]
            for member in tar
            if member.isfile()
        }
    assert found.pop(MANIFEST)
    assert about["files"] == found
    assert (about["sweep"], about["uid"]) == ("one", read_sweep(one).state.uid)


def test_unpacked_it_is_a_sweep_again(kept: Kept, one: SweepLayout, tmp_path: Path) -> None:
    """With the first one gone: reports are the same, and nothing is left to do."""
    before = read_sweep(one)
    report = report_of(one, tmp_path / "before")
    done = archive(one, tmp_path / "one.tar.gz", delete=True)
    assert done.deleted
    assert list(one.storage.iterdir()) == []
    again = unpack(done.path, tmp_path / "elsewhere")
    after = read_sweep(again)
    assert (after.records, after.damaged, after.state) == (before.records, (), before.state)
    assert report_of(again, tmp_path / "after") == report
    assert [row.step for record in after.records.values() for row in after.history(record)]
    attempts = after.state.n_attempts
    kept.sweep(again.storage, "one", **ONE)
    assert read_sweep(again).state.n_attempts == attempts
    assert verify(done.path)["uid"] == after.state.uid


def test_an_unfinished_sweep_continues_where_it_was(kept: Kept, tmp_path: Path) -> None:
    layout = kept.begin(tmp_path / "storage", "half", 2, **ONE)
    done = [record.run_id for record in read_sweep(layout).records.values()]
    again = unpack(archive(layout, tmp_path / "half.tar.gz").path, tmp_path / "elsewhere")
    kept.sweep(again.storage, "half", **ONE)
    entries = ledgers.read(again.ledger)
    started = [entry.run_id for entry in entries if isinstance(entry, AttemptStarted) and entry.epoch == 2]
    assert len(started) == 2
    assert not set(started) & set(done)
    assert [pair.kind for pair in compare(kept.one, again).pairs] == ["equal"] * 4


def test_the_same_archive_is_made_once(one: SweepLayout, tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    assert archive(one, path).made
    before = path.stat()
    assert not archive(one, tmp_path).made  # a folder stands for SWEEP.tar.gz in it
    assert path.stat().st_ino == before.st_ino
    assert not archive(one, path, delete=True).made
    assert not one.root.exists()


@pytest.mark.parametrize("content", [b"", b"a text", gzip.compress(b"a text"), b"\x1f\x8b broken"], ids=range(4))
def test_another_file_is_left_alone(one: SweepLayout, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.tar.gz"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="is there already, and is no archive of 'one' as it is now"):
        archive(one, path, delete=True)
    assert path.read_bytes() == content
    assert one.exists()


def test_an_older_archive_of_the_sweep_is_left_alone(kept: Kept, tmp_path: Path) -> None:
    layout = kept.begin(tmp_path / "storage", "half", 1, **ONE)
    path = archive(layout, tmp_path / "half.tar.gz").path
    before = path.read_bytes()
    kept.begin(tmp_path / "storage", "half", 2, **ONE)
    with pytest.raises(StudyError, match=r"is no archive of 'half' as it is now.*(\n.*)*--to"):
        archive(layout, path, delete=True)
    assert path.read_bytes() == before
    assert layout.exists()


def test_refused_while_a_driver_runs(one: SweepLayout, tmp_path: Path) -> None:
    with DriverLock(one.lock), pytest.raises(StoppedError, match="another driver runs this sweep"):
        archive(one, tmp_path / "one.tar.gz", delete=True)
    assert not (tmp_path / "one.tar.gz").exists()
    assert one.exists()


def damage_adapter(layout: SweepLayout) -> None:
    path = next(layout.runs.glob("*/attempt-*/adapter/*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def lose_segment(layout: SweepLayout) -> None:
    record = next(iter(read_sweep(layout).records.values()))
    (layout.run(record.run_id).root / record.attempt_folder / "segments" / record.segments[0].name).unlink()


def damage_record(layout: SweepLayout) -> None:
    next(layout.runs.glob("*/record.json")).write_text("{}")


def damage_ledger(layout: SweepLayout) -> None:
    content = layout.ledger.read_bytes()
    layout.ledger.write_bytes(b"x" + content[1:])


def link(layout: SweepLayout) -> None:
    make_folder(layout.reports).joinpath("figure.png").symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [damage_adapter, lose_segment, damage_record, damage_ledger, link])
def test_a_damaged_sweep_is_neither_packed_nor_deleted(
    one: SweepLayout, tmp_path: Path, damage: Callable[[SweepLayout], None]
) -> None:
    damage(one)
    with pytest.raises(DamageError):
        archive(one, tmp_path / "one.tar.gz", delete=True)
    assert one.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]


def test_places_that_cannot_be(one: SweepLayout, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="lies in the sweep's own folder"):
        archive(one, one.reports / "one.tar.gz")
    with pytest.raises(MissingError, match="there is no such folder"):
        archive(one, tmp_path / "nowhere" / "one.tar.gz")


def changed(path: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes] | None]) -> Path:
    """The archive with every member passed through `change`; None leaves one out."""
    to = path.with_name("changed.tar.gz")
    with tarfile.open(path) as old, tarfile.open(to, "w:gz") as new:
        for member in old:
            content = old.extractfile(member)
            kept = change(member, content.read() if content else b"")
            if kept is not None:
                member.name, member.size = kept[0], len(kept[1])
                new.addfile(member, io.BytesIO(kept[1]))
    return to


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m, c: None if m.name.endswith("ledger.jsonl") else (m.name, c), "does not hold what its manifest"),
        (lambda m, c: (m.name.replace("ledger", "other"), c), "does not hold .*ledger.jsonl, other.jsonl"),
        (lambda m, c: (m.name, c + b"x" if m.name.endswith("ledger.jsonl") else c), "does not hold .*ledger.jsonl"),
        (lambda m, c: (m.name.replace("one/ledger", "../ledger"), c), "which no archive of a sweep does"),
        (lambda m, c: (m.name.replace("one/ledger", "/ledger"), c), "which no archive of a sweep does"),
        (lambda m, c: None if m.name.endswith(MANIFEST) else (m.name, c), "is no archive of a sweep"),
        (lambda m, c: (m.name.replace("one", "two"), c), "is no archive of a sweep"),
    ],
    ids=["missing", "more", "changed", "climbing", "absolute", "no manifest", "renamed"],
)
def test_what_was_changed_is_noticed(
    one: SweepLayout, tmp_path: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes] | None], match: str
) -> None:
    path = archive(one, tmp_path / "one.tar.gz").path
    assert verify(changed(path, lambda m, c: (m.name, c))) == verify(path)
    with pytest.raises(DamageError, match=match):
        verify(changed(path, change))


def test_cut_anywhere_it_is_noticed(one: SweepLayout, tmp_path: Path) -> None:
    path = archive(one, tmp_path / "one.tar.gz").path
    content = path.read_bytes()
    for size in (*range(0, len(content), len(content) // 20), len(content) - 8, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DamageError):
            verify(path)


def test_what_the_last_user_of_a_database_left_beside_it_is_taken_in(one: SweepLayout, tmp_path: Path) -> None:
    with sqlite3.connect(one.mlflow_db) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE facts (value TEXT)")
        database.commit()
        database.execute("INSERT INTO facts VALUES ('late')")
        database.commit()
        for name in ("mlflow.db", "mlflow.db-wal"):  # as kill -9 leaves them
            shutil.copy(one.root / name, tmp_path / name)
    database.close()
    for name in ("mlflow.db", "mlflow.db-wal"):
        os.replace(tmp_path / name, one.root / name)
    again = unpack(archive(one, tmp_path / "one.tar.gz").path, tmp_path / "elsewhere")
    with sqlite3.connect(again.mlflow_db) as copy:
        assert copy.execute("SELECT value FROM facts").fetchall() == [("late",)]
    copy.close()
    assert not list(again.root.glob("*-wal"))


def test_a_full_disk_leaves_nothing_behind(one: SweepLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="No space left"):
        archive(one, tmp_path / "one.tar.gz", delete=True)
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]
    assert one.exists()


def test_the_manifest_is_plain_json(one: SweepLayout, tmp_path: Path) -> None:
    path = archive(one, tmp_path / "one.tar.gz").path
    shown = subprocess.run(["tar", "-xzOf", str(path), f"one/{MANIFEST}"], capture_output=True, check=True, timeout=60)
    assert json.loads(shown.stdout) == verify(path)
