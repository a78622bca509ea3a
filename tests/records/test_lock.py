"""One driver per sweep, tested with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysched.errors import StoppedError
from raysched.records.lock import DriverLock, held, holder

HOLD = """
import sys, time
from pathlib import Path
from raysched.records.lock import DriverLock
DriverLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""
TRY = """
import sys
from pathlib import Path
from raysched.errors import RayschedError
from raysched.records.lock import DriverLock
try:
    DriverLock(Path(sys.argv[1])).acquire()
except RayschedError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_second_driver_is_refused_at_once_and_a_dead_ones_lock_is_free(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sweep" / "driver.lock"
    assert not held(path)
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        assert held(path)
        started = time.monotonic()
        with pytest.raises(StoppedError, match=rf"host \S+, pid {first.pid}, since \d{{4}}-"):
            DriverLock(path).acquire()
        assert time.monotonic() - started < 1
        second = subprocess.run(
            [sys.executable, "-c", TRY, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 75
        assert f"pid {first.pid}" in second.stdout
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    with DriverLock(path) as lock:
        assert holder(path) == {
            "host": lock.host,
            "pid": os.getpid(),
            "started_ms": pytest.approx(time.time() * 1000, abs=5000),
        }
    assert not held(path)


def test_release_frees_the_lock_in_the_same_process(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    with DriverLock(path), pytest.raises(StoppedError, match=f"pid {os.getpid()}"):
        DriverLock(path).acquire()
    DriverLock(path).acquire().release()


def test_a_holder_that_did_not_say_who_it_is(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    with DriverLock(path):
        path.write_text("")
        with pytest.raises(StoppedError, match="not known"):
            DriverLock(path).acquire()
