"""A sweep's files on a real S3 server over HTTP: what moves, what is kept apart, what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raysched.errors import DamageError, MissingError, StoppedError, StudyError
from raysched.records import ledger as ledgers
from raysched.records import lock, mirror
from raysched.records import remote as remotes
from raysched.records.entries import AnyEntry, Note, Recorded
from raysched.records.files import sha256_bytes
from raysched.records.history import Row, SegmentWriter, read_segments
from raysched.records.layout import SweepLayout, storage_folder, sweeps
from raysched.records.lease import Lease
from raysched.records.ledger import Ledger, LedgerReader
from raysched.records.ledger_objects import object_name
from raysched.records.record import AttemptResult, Record, read_record, read_result, write_record, write_result
from raysched.records.remote import Remote, StorageLost, StorageMissing, Stored
from raysched.records.storage_uri import canonical
from tests.object_store import Store, store  # noqa: F401 - a fixture


@pytest.fixture
def fresh(store: Store) -> Store:  # noqa: F811
    return store.fresh()


# -- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3a://bucket//a/b/", "s3://bucket/a/b"),
        ("gcs://bucket/a", "gs://bucket/a"),
    ],
)
def test_one_storage_has_one_uri(uri: str, expected: str) -> None:
    assert canonical(uri) == expected


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("s3://key:secret@bucket/a", "may hold no credentials"),
        ("s3://bucket/a?secret=x", "may hold no credentials"),
        ("s3:///a", "must be s3://bucket/folder"),
        ("s3://bucket/../a", "must be s3://bucket/folder"),
        ("s3://bucket/a*", "must be s3://bucket/folder"),
        ("s3://[bucket/a", "is no URI"),
        ("http://host/a", "cannot store a sweep under http://"),
        ("nonsense://a/b", "cannot store a sweep under nonsense://"),
    ],
)
def test_a_bad_uri_is_refused_and_no_secret_of_it_is_shown(uri: str, match: str) -> None:
    with pytest.raises(StudyError, match=match) as caught:
        SweepLayout(uri, "demo")
    assert "secret@" not in str(caught.value)
    assert "=x" not in str(caught.value)


def test_a_folder_storage_has_no_remote_and_pushes_nothing(tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path, "demo").create()
    layout.push(layout.root)
    layout.pull(layout.root)
    assert (layout.remote, layout.uri, layout.storage) == (None, str(tmp_path), tmp_path)


def test_the_working_copy_is_private(fresh: Store) -> None:
    with fresh.machine("a") as cache:
        layout = SweepLayout(fresh.uri + "/", "demo").create()
        assert layout.uri == fresh.uri
        assert layout.root.is_relative_to(cache)
        assert layout.storage == storage_folder(fresh.uri)
        assert stat.S_IMODE(layout.root.stat().st_mode) == stat.S_IMODE(layout.storage.stat().st_mode) == 0o700


# -- the store ----------------------------------------------------------------------------------------------------


def test_objects(fresh: Store, tmp_path: Path) -> None:
    remote = Remote(fresh.uri)
    assert remote.below() == {}
    assert remote.folders() == []
    remote.put("a/one", b"1")
    remote.create("a/two", b"22")
    remote.create("a/two", b"22")  # an answer that was lost: ours, and whole
    with pytest.raises(FileExistsError):
        remote.create("a/two", b"33")
    (tmp_path / "file").write_bytes(b"4444")
    remote.put_file(tmp_path / "file", "b/c/three")
    assert {key: stored.size for key, stored in remote.below().items()} == {"a/one": 1, "a/two": 2, "b/c/three": 4}
    assert remote.folders() == ["a", "b"]
    assert dict(remote.get_many(["a/one", "a/none", "a/two"])) == {"a/one": b"1", "a/two": b"22"}
    remote.get_file("b/c/three", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == b"4444"
    assert stat.S_IMODE((tmp_path / "new" / "copy").stat().st_mode) == 0o600
    with pytest.raises(FileNotFoundError):
        remote.get("a/none")
    with pytest.raises(FileNotFoundError):
        remote.get_file("a/none", tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]
    remote.delete(["a/one", "a/none"])
    assert not remote.exists("a/one")
    assert remote.exists("a/two")


@pytest.mark.parametrize("setting", ["AWS_ENDPOINT_URL_S3", "bucket"])
def test_a_store_that_is_not_there_says_so_soon(fresh: Store, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setattr(remotes, "FIRST_PATIENCE_S", 0.3)
    uri = fresh.uri
    if setting == "bucket":
        uri = "s3://no-such-bucket/x"
    else:
        import fsspec

        fsspec.filesystem("s3").clear_instance_cache()  # a client keeps its endpoint
        monkeypatch.setenv(setting, "http://user:canary@127.0.0.1:9")
    try:
        with pytest.raises(StorageMissing, match="the storage does not answer, or refuses") as caught:
            Remote(uri).put("a", b"")
    finally:
        if setting != "bucket":
            fsspec.filesystem("s3").clear_instance_cache()
    assert isinstance(caught.value, MissingError)
    assert isinstance(caught.value, OSError)
    assert "canary" not in str(caught.value)


def test_a_passing_error_is_tried_again_and_a_lasting_one_is_told(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(fresh.uri)
    remote.put("a", b"1")
    errors: Iterator[Exception] = iter([OSError(5, "slow down"), TimeoutError("late")])

    real = remote._store()
    monkeypatch.setattr(remote, "_store", lambda: real if (one := next(errors, None)) is None else _failing(one))
    assert remote.get("a") == b"1"
    monkeypatch.setattr(remotes, "PATIENCE_S", 0.2)
    monkeypatch.setattr(remote, "_store", lambda: _failing(OSError(5, "http://me:canary@host is gone")))
    with pytest.raises(StorageLost, match="is gone") as caught:
        remote.get("a")
    assert isinstance(caught.value, StoppedError)
    assert "canary" not in str(caught.value)
    monkeypatch.setattr(remote, "_store", lambda: _failing(PermissionError("Access Denied")))
    with pytest.raises(StorageLost, match="Access Denied"):
        remote.get("a")


class _failing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> object:
        raise self._error


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingError, match=r"pip install 'raysched\[gcs\]'"):
        Remote("gs://bucket/a").get("x")


# -- files --------------------------------------------------------------------------------------------------------


def test_files_move_between_two_machines(fresh: Store) -> None:
    a, b = fresh.layout("a").create(), fresh.layout("b").create()
    one = a.run("1234").attempt(1, 1).create()
    (one.predictions / "vel.parquet").write_bytes(b"rows")
    (one.root / ".hidden").write_bytes(b"half")
    a.push(one.root)
    (a.root / "request.json").write_text("1")
    a.push(a.root / "request.json")
    assert [name for _, _, attempt in b.run("1234").attempts() for name in [attempt.name]] == ["attempt-1-1"]
    b.pull(b.runs, b.root / "request.json")
    two = b.run("1234").attempt(1, 1)
    assert (two.predictions / "vel.parquet").read_bytes() == b"rows"
    assert not (two.root / ".hidden").exists()
    assert (b.root / "request.json").read_text() == "1"
    (a.root / "request.json").write_text("2")
    a.push(a.root / "request.json")
    b.pull(b.root / "request.json")
    assert (b.root / "request.json").read_text() == "2"
    (a.root / "request.json").unlink()
    a.push(a.root / "request.json")  # removed here: removed there, and where it was pulled to
    b.pull(b.root / "request.json")
    assert not (b.root / "request.json").exists()
    (b.root / "own").write_text("never stored")
    b.pull(b.root / "own", b.root)
    assert (b.root / "own").exists()


def test_what_names_other_files_is_stored_last(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = fresh.layout("a").create()
    folder = layout.run("1234").attempt(1, 1).create().checkpoint(5)
    folder.mkdir()
    for name in ("manifest.json", "a", "z"):
        (folder / name).write_text(name)
    assert layout.remote is not None
    stored: list[str] = []
    put, delete = layout.remote.put_file, layout.remote.delete
    monkeypatch.setattr(layout.remote, "put_file", lambda path, key: (put(path, key), stored.append(path.name)))
    layout.push(folder)
    assert sorted(stored[:2]) == ["a", "z"]
    assert stored[2] == "manifest.json"
    gone: list[list[str]] = []
    monkeypatch.setattr(layout.remote, "delete", lambda keys: (gone.append(keys := list(keys)), delete(keys)))
    shutil.rmtree(folder)
    layout.push(folder)
    assert [[key.rpartition("/")[2] for key in keys] for keys in gone] == [["manifest.json"], ["a", "z"]]
    assert layout.run("1234").attempt(1, 1).saved_steps() == []


def test_records_come_with_the_ledger_that_speaks_of_them(fresh: Store) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    result = AttemptResult(run_id="1234", epoch=1, attempt=1, status="finished", steps=7)
    write_result(a.run("1234").attempt(1, 1).result, result)
    assert read_result(b.run("1234").attempt(1, 1).result) == result
    with Ledger.take_over(a.ledger, host="a", pid=1) as ledger:
        for steps in (7, 8):  # tested again: the record is another one
            record = Record(
                **result.model_dump() | {"steps": steps}, cell_id="c", params={}, seed=0, attempt_folder="x"
            )
            write_record(a.run("1234").record, record)
            if steps == 8:
                assert read_record(b.run("1234").record).steps == 7
            ledger.append(Recorded(run_id="1234", status="finished"))
            ledgers.read(b.ledger)
            assert read_record(b.run("1234").record) == record
            time.sleep(0.002)  # the ledger's times tell one record from the next


def test_a_damaged_working_copy_never_wins_over_the_store(fresh: Store) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    attempt = a.run("1234").attempt(1, 1).create()
    writer = SegmentWriter(attempt.segments)
    writer.append(Row(kind="note", step=1, time_ms=1, data={"text": "x"}))
    sealed = writer.seal(0, 1)
    (attempt.predictions / "vel.parquet").write_bytes(b"rows")
    a.push(attempt.root)
    files = {"predictions/vel.parquet": sha256_bytes(b"rows")}
    result = AttemptResult(run_id="1234", epoch=1, attempt=1, status="finished", segments=(sealed,), files=files)
    write_result(attempt.result, result)
    there = b.run("1234").attempt(1, 1)
    b.pull(there.root)
    for path in (there.result, there.segments / sealed.name, there.predictions / "vel.parquet"):
        path.write_bytes(b"#" * path.stat().st_size)
    assert read_result(there.result) == result
    assert [row.data["text"] for row in read_segments(there.segments, [sealed])] == ["x"]
    assert there.has(*files.popitem())
    assert not there.has("predictions/none", "0" * 64)


@pytest.mark.parametrize("name", ["runs/../../x", "/etc/x", "runs/a\0b"])
def test_a_name_that_leaves_the_working_copy_is_refused(
    fresh: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    layout = fresh.layout("a").create()
    assert layout.remote is not None
    monkeypatch.setattr(layout.remote, "below", lambda prefix: {name: Stored(size=1, stamp="", modified=None)})
    with pytest.raises(DamageError, match="leaves the sweep's folder"):
        layout.pull(layout.runs)
    with pytest.raises(DamageError, match="leaves the sweep's folder"):
        layout.pull_records({f"../../{name}": 1})


def test_the_search_database_of_a_stale_driver_is_never_read(fresh: Store) -> None:
    def write(layout: SweepLayout, value: int) -> None:
        with closing(sqlite3.connect(layout.create().optuna)) as database, database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE IF NOT EXISTS t (x)")
            database.execute("INSERT INTO t VALUES (?)", (value,))
        layout.push(layout.optuna)

    def read(machine: str) -> list[int]:
        layout = fresh.layout(machine)
        layout.create().pull(layout.optuna)
        with closing(sqlite3.connect(layout.optuna)) as database:
            return [x for (x,) in database.execute("SELECT x FROM t ORDER BY rowid")]

    a, b = fresh.layout("a"), fresh.layout("b")
    with Ledger.take_over(a.ledger, host="a", pid=1):
        write(a, 1)
        with Ledger.take_over(b.ledger, host="b", pid=1):
            b.pull(b.optuna)
            write(b, 2)
            write(a, 3)  # woke up
            assert read("c") == [1, 2]


# -- ledger -------------------------------------------------------------------------------------------------------


def test_a_stale_driver_is_fenced_by_the_first_line_of_its_successor(fresh: Store) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    assert not a.exists()
    first = Ledger.take_over(a.ledger, host="a", pid=1)
    first.append(Note(text="mine"))
    assert a.exists()
    assert b.exists()
    second = Ledger.take_over(b.ledger, host="b", pid=1)
    assert (first.epoch, second.epoch) == (1, 2)
    with pytest.raises(StoppedError, match="taken over"):
        first.append(Note(text="late"))
    with pytest.raises(StoppedError):
        first.append(Note(text="later"))
    second.append(Note(text="theirs"))
    texts = [entry.text for entry in ledgers.read(fresh.layout("c").ledger) if isinstance(entry, Note)]
    assert texts == ["mine", "theirs"]
    assert ledgers.read(a.ledger) == ledgers.read(b.ledger)
    assert a.ledger.read_bytes() == b.ledger.read_bytes()
    assert [layout.name for layout in sweeps(fresh.uri)] == ["demo"]


def test_of_two_drivers_at_the_same_moment_one_is_refused(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    copy = mirror.of(b.ledger)
    assert copy is not None
    add = copy.ledger.add

    def late(number: int, line: bytes) -> None:
        Ledger.take_over(a.ledger, host="a", pid=1).close()  # between the other's look and its write
        add(number, line)

    monkeypatch.setattr(copy.ledger, "add", late)
    with pytest.raises(StoppedError, match="taken over"):
        Ledger.take_over(b.ledger, host="b", pid=1)
    assert [entry.kind for entry in ledgers.read(b.ledger)] == ["takeover"]


@pytest.mark.parametrize("lines", [1, 20])
def test_a_reader_gets_each_line_once_however_many_there_are(fresh: Store, lines: int) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    with Ledger.take_over(a.ledger, host="a", pid=1) as ledger:
        reader = LedgerReader(b.ledger)
        assert len(reader.new()) == 1
        for number in range(lines):
            ledger.append(Note(text=str(number)))
        assert [entry.text for entry in reader.new() if isinstance(entry, Note)] == [str(n) for n in range(lines)]
        assert reader.new() == []


@pytest.mark.parametrize("change", ["torn", "flipped", "older", "ahead", "another", "gone"])
def test_a_working_copy_is_corrected_from_the_store(fresh: Store, change: str) -> None:
    a = fresh.layout("a")
    with Ledger.take_over(a.ledger, host="a", pid=1) as ledger:
        for number in range(4):
            ledger.append(Note(text=str(number)))
    whole = a.ledger.read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = {
        "torn": whole[:-7],
        "flipped": whole[:100] + b"#" + whole[101:],
        "older": b"".join(lines[:2]),
        "ahead": whole + lines[-1],
        "another": b"".join([*lines[:-1], lines[1]]),
        "gone": b"",
    }[change]
    b = fresh.layout("b").create()
    b.ledger.write_bytes(changed)
    if change == "another":
        (b.runs / "1234").mkdir()
    assert [entry.text for entry in ledgers.read(b.ledger) if isinstance(entry, Note)] == ["0", "1", "2", "3"]
    assert b.ledger.read_bytes() == whole
    if change == "another":  # a sweep of this name that is there no more: nothing of it is taken for this one's
        assert not (b.runs / "1234").exists()
    with Ledger.take_over(b.ledger, host="b", pid=1) as second:
        assert second.epoch == 2


def test_a_deleted_sweep_leaves_nothing_in_the_working_copy(fresh: Store) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    with Ledger.take_over(a.ledger, host="a", pid=1):
        pass
    shutil.rmtree(a.root)
    a.push(a.root)
    assert sweeps(fresh.uri) == []
    b.create().ledger.write_bytes(b"")
    assert ledgers.read(b.ledger) == []
    with Ledger.take_over(b.ledger, host="b", pid=1) as ledger:
        assert ledger.epoch == 1


@pytest.mark.parametrize("content", [b"", b"#", b"00000000 {}\n", b"two\nlines\n"])
def test_a_damaged_line_in_the_store_is_refused(fresh: Store, content: bytes) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    with Ledger.take_over(a.ledger, host="a", pid=1) as ledger:
        ledger.append(Note(text="x"))
    assert a.remote is not None
    a.remote.put(object_name(1), content)
    with pytest.raises(DamageError, match=r"ledger/00000001\.jsonl: is damaged"):
        ledgers.read(b.ledger)


def test_a_store_that_is_lost_stops_the_driver_and_loses_nothing(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    a = fresh.layout("a")
    ledger = Ledger.take_over(a.ledger, host="a", pid=1)
    monkeypatch.setattr(remotes, "PATIENCE_S", 0.1)
    with monkeypatch.context() as away:
        assert a.remote is not None
        away.setattr(a.remote, "_store", lambda: _failing(OSError(5, "gone")))
        with pytest.raises(StoppedError, match="the storage does not answer"):
            ledger.append(Note(text="lost"))
    with pytest.raises(StoppedError, match="is closed after a write that failed"):
        ledger.append(Note(text="after"))
    with Ledger.take_over(a.ledger, host="a", pid=1) as again:
        again.append(Note(text="kept"))
    assert [entry.text for entry in ledgers.read(a.ledger) if isinstance(entry, Note)] == ["kept"]


def test_a_line_that_is_missing_before_later_ones_is_damage(fresh: Store) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    with Ledger.take_over(a.ledger, host="a", pid=1) as ledger:
        for text in ("x", "y"):
            ledger.append(Note(text=text))
    assert a.remote is not None
    a.remote.delete([object_name(1)])
    with pytest.raises(DamageError, match=r"ledger/00000001\.jsonl: is missing, and later lines"):
        Ledger.take_over(b.ledger, host="b", pid=1)
    assert sorted(a.remote.below("ledger")) == [object_name(0), object_name(2)]


def test_a_driver_that_comes_in_between_never_gets_the_epoch_of_another(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    new, first = LedgerReader.new, True

    def slow(reader: LedgerReader) -> list[AnyEntry]:
        nonlocal first
        entries = new(reader)
        if first:
            first = False
            Ledger.take_over(b.ledger, host="b", pid=1)
        return entries

    monkeypatch.setattr(LedgerReader, "new", slow)
    with pytest.raises(StoppedError, match="taken over"):
        Ledger.take_over(a.ledger, host="a", pid=1)
    assert [entry.epoch for entry in ledgers.read(fresh.layout("c").ledger)] == [1]


# -- lease --------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from raysched.records.layout import SweepLayout
from raysched.records.lock import driver_lock
driver_lock(SweepLayout(sys.argv[1], "demo")).acquire()
print("held", flush=True)
time.sleep(60)
"""


def _lease(layout: SweepLayout, **options: float) -> Lease:
    assert layout.remote is not None
    return Lease(layout.remote, **options)  # type: ignore[arg-type]


def test_a_second_driver_is_refused_at_once_and_a_killed_one_of_this_machine_makes_room(fresh: Store) -> None:
    layout = fresh.layout("a")
    assert not lock.held(layout)
    first = subprocess.Popen([sys.executable, "-c", HOLD, fresh.uri], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(StoppedError, match=rf"another driver runs this sweep: host \S+, pid {first.pid}, since \d"):
            lock.driver_lock(layout).acquire()
        assert time.monotonic() - began < 2
        assert lock.held(layout)
        assert (lock.holder(layout) or {})["pid"] == first.pid
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    assert not lock.held(layout)
    began = time.monotonic()
    with lock.driver_lock(layout) as taken:
        assert time.monotonic() - began < 2
        assert lock.held(layout)
        assert not taken.lost()
    assert not lock.held(layout)
    assert lock.holder(layout) is None
    with lock.driver_lock(layout):
        pass


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No holder is known to be of this machine."""
    monkeypatch.setattr("raysched.records.lease.alive_here", lambda holder: None)


@pytest.mark.usefixtures("elsewhere")
def test_a_lease_of_another_machine_is_kept_while_it_is_renewed_and_taken_when_it_is_not(fresh: Store) -> None:
    a, b = fresh.layout("a"), fresh.layout("b")
    renewed = _lease(a, renew_s=0.5, dead_s=2.5).acquire()
    began = time.monotonic()
    while time.monotonic() - began < 3:
        asked = time.monotonic()
        with pytest.raises(StoppedError, match="another driver runs this sweep"):
            _lease(b, dead_s=2.5).acquire()
        assert time.monotonic() - asked < 2
        time.sleep(0.5)
    renewed._leaving.set()  # its process is stopped, or its network is gone
    time.sleep(3.6)
    with _lease(b, dead_s=2.5):
        assert not renewed.lost()
        renewed.renew()  # it is back
        assert renewed.lost()
        renewed.release()
        assert lock.held(b)  # and has taken nothing from its successor


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("renews", [True, False])
def test_where_a_store_tells_no_times_the_lease_is_watched(
    fresh: Store, monkeypatch: pytest.MonkeyPatch, renews: bool
) -> None:
    monkeypatch.setattr("raysched.records.lease._age", lambda *_: None)
    a, b = fresh.layout("a"), fresh.layout("b")
    held = _lease(a, renew_s=1000).acquire()
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if renews and now[0] == 10:
            held.renew()

    assert b.remote is not None
    contender = Lease(b.remote, clock=lambda: now[0], sleep=sleep)
    if renews:
        with pytest.raises(StoppedError, match="another driver"):
            contender.acquire()
        assert now[0] == 10
    else:
        with contender:
            assert now[0] == 30
    held.release()


def test_of_two_contenders_one_wins(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _lease(fresh.layout("a")), _lease(fresh.layout("b"))
    create = b.remote.create

    def slow(key: str, data: bytes) -> None:
        if not key.endswith("probe"):
            a.acquire()  # between its look and its write
        create(key, data)

    monkeypatch.setattr(b.remote, "create", slow)
    with pytest.raises(StoppedError, match="another driver"):
        b.acquire()
    a.release()


def test_a_store_that_overwrites_is_refused(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = _lease(fresh.layout("a"))
    monkeypatch.setattr(lease.remote, "create", lease.remote.put)
    with pytest.raises(MissingError, match="cannot keep two drivers apart"):
        lease.acquire()
