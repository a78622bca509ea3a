"""A disk that is all but full: what the driver does, and what a worker says of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysched.errors import RESUMABLE
from raysched.records.files import free_bytes
from raysched.runners.space import SpaceHold
from raysched.runners.worker import Worker
from tests.runners.test_worker import assignment
from tests.training.tiny_training import Tiny


def test_nothing_is_launched_on_a_full_disk_and_after_a_while_the_driver_leaves(tmp_path: Path) -> None:
    now, free = [0.0], [500]
    hold = SpaceHold(tmp_path, least=100, patience_s=300, clock=lambda: now[0], free=lambda _: free[0])
    assert hold() is None
    free[0] = 99
    assert hold() is None  # it looks once a second
    now[0] = 10
    held = hold()
    assert held is not None
    assert not held.leave
    assert not held.now
    assert f"only 99 bytes are free on the disk of {tmp_path}" in str(held.why)
    assert held.why.exit_code == RESUMABLE
    now[0], free[0] = 200, 100  # some room in between: patience starts anew
    assert hold() is None
    now[0], free[0] = 210, 0
    assert hold() is not None
    now[0] = 510
    held = hold()
    assert held is not None
    assert not held.leave
    now[0] = 511.5
    held = hold()
    assert held is not None
    assert held.leave


def test_the_free_bytes_are_those_of_the_nearest_folder(tmp_path: Path) -> None:
    assert abs(free_bytes(tmp_path / "not" / "yet") - shutil.disk_usage(tmp_path).free) < 1 << 30


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Three megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_worker_on_a_full_disk_says_where_and_how_full(tiny: Tiny, small_disk: Path) -> None:
    spec = tiny.spec("gu")
    one = assignment(small_disk, spec)
    one.layout.create()
    (small_disk / "filling").write_bytes(b"\0" * (free_bytes(small_disk) - 20_000))
    worker = Worker()
    worker.take(one)
    report = worker.advance(60)
    while report.outcome is None:
        report = worker.advance(60)
    print(report.message)
    assert (report.outcome, report.cause) == ("failed", "storage")
    assert f"bytes are free on the disk of {one.layout.root.parent.parent.parent}" in report.message
    (small_disk / "filling").unlink()
    worker.take(assignment(small_disk, spec, number=2))
    report = worker.advance(60)
    while report.outcome is None:
        report = worker.advance(60)
    assert report.outcome == "finished"
