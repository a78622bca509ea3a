"""Provenance: what it says, that it is quick, and that it holds no secret."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from pathlib import Path

import pytest

from raysched.tracking.provenance import collect, git


def test_what_is_collected_is_plain_quick_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary")
    started = time.monotonic()
    value = collect()
    assert time.monotonic() - started < 5
    text = json.dumps(value)
    assert "canary" not in text
    assert set(value) == {"git", "packages", "platform", "cpu", "gpus", "cores", "threads", "host"}
    assert value["packages"]["python"] == platform.python_version()
    assert {"torch", "ray", "optuna", "mlflow"} <= set(value["packages"])


def test_git_tells_commit_and_dirt(tmp_path: Path) -> None:
    assert git(tmp_path) == {}

    def run(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    run("init")
    (tmp_path / "file").write_text("1")
    run("add", "file")
    run("commit", "-m", "first")
    clean = git(tmp_path)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert git(tmp_path) == {**clean, "dirty": True}
