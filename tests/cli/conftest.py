"""The command line in this process, in a folder of its own, with no hub to reach."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysched.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Raysched = Callable[..., Answer]


def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def raysched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Raysched]:
    """`raysched ...`, started in `tmp_path`; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    for name in ("HF_HUB_OFFLINE", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "RAYSCHED_MLFLOW", "RAYSCHED_OPTUNA"):
        monkeypatch.setenv(name, "")  # so that what a command sets is taken back
        monkeypatch.delenv(name)
    umask = os.umask(0o022)

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["raysched", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    os.umask(umask)
