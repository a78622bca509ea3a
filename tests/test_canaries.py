"""The search for canaries finds them wherever they can be; a run that has them around it writes them nowhere."""

from __future__ import annotations

import base64
import gzip
import io
import os
import pickle
import sqlite3
import stat
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import quote

import pyarrow
import pyarrow.parquet
import pytest

from raysched.errors import DONE
from tests.canaries import Search, canary
from tests.processes import shell
from tests.runners.world import NAME, overrides
from tests.training.tiny_training import Tiny

SECRET = canary()


def archived(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("inner.zip")
        inside = io.BytesIO()
        with zipfile.ZipFile(inside, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("deep.txt", content)
        entry.size = len(inside.getvalue())
        tar.addfile(entry, io.BytesIO(inside.getvalue()))
    return packed.getvalue()


def parquet(text: str) -> bytes:
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"a": [text] * 3}), written, compression="zstd")
    return written.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        f"http://me:{quote(SECRET, safe='')}@host".encode(),
        *(base64.b64encode(f"{user}:{SECRET}@host".encode()) for user in ("me", "you", "else")),
        pickle.dumps({"environ": [SECRET]}),
        gzip.compress(f"a {SECRET} b".encode()),
        archived(SECRET.encode()),
        parquet(SECRET),
    ],
    ids=["text", "escaped", "base64-0", "base64-1", "base64-2", "pickle", "gzip", "tar", "parquet"],
)
def test_a_canary_is_found(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"nothing")
    search = Search({"token": SECRET})
    assert search.below(tmp_path) == []
    (tmp_path / "file").write_bytes(content)
    assert search.below(tmp_path)


def test_a_canary_is_found_in_names_links_and_databases(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "database")
    with database:
        database.execute("CREATE TABLE t (a TEXT)")
        database.execute("INSERT INTO t VALUES (?)", ("x" * 4090 + SECRET,))
    database.close()
    (tmp_path / SECRET).mkdir()
    (tmp_path / "link").symlink_to(f"/nowhere/{SECRET}")
    found = Search({"token": SECRET}).below(tmp_path)
    assert {line.removeprefix(f"{tmp_path}/").partition(":")[0] for line in found} >= {"database", SECRET}
    assert any(line.startswith("link ") for line in found)


def test_a_run_writes_no_secret_and_only_for_its_owner(tiny: Tiny, tmp_path: Path) -> None:
    """Whatever the umask: the shell's is that of the tests, mostly 022."""
    planted = {name: canary() for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD")}
    before = os.umask(0o022)
    try:
        with shell(tmp_path / "shell", **planted) as one:
            settings = overrides(tiny, training__steps=20, evaluation__dev_points=1)
            code, text = one.run("run", NAME, "--point", "schedule=gu", "--storage", tmp_path / "storage", *settings)
    finally:
        os.umask(before)
    assert code == DONE, text
    search = Search(planted)
    assert search.below(tmp_path) == []
    assert search.looked > 10
    assert open_to_others(tmp_path / "storage") == []


def open_to_others(storage: Path) -> list[Path]:
    """What somebody else than the owner could read or write."""
    return [path for path in [storage, *storage.rglob("*")] if stat.S_IMODE(path.lstat().st_mode) & 0o077]
