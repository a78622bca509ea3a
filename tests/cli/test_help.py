"""Help is quick, and looking at the command line imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

from raysched.cli.app import app
from tests.cli.conftest import Raysched

HEAVY = ("torch", "ray", "mlflow", "optuna", "transformers", "adapters", "datasets", "pandas", "matplotlib", "pyarrow")
COMMANDS = ["sweep", "plan", "run", "status", "report", "export", "evaluate", "ui", "studies", "schema", "doctor"]
COMMANDS += ["stop", "pause", "resume", "retry", "extend", "sync", "list", "archive", "diff", "merge", "submit", "logs"]
COMMANDS += ["pretrain", "derive", "power", "verify", "register", "render", "prepare"]
PROBE = """
import json, sys
sys.argv = ["raysched", *json.loads(sys.argv[1])]
from raysched.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = [name for name in {heavy!r} if name in sys.modules]
print("HEAVY", json.dumps(heavy), file=sys.stderr)
"""


def probe(folder: Path, *arguments: str) -> tuple[str, list[str]]:
    """What `raysched ...` prints in a process of its own, and which heavy packages it imported."""
    command = [sys.executable, "-c", PROBE.format(heavy=HEAVY), json.dumps(arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(done.stderr.rpartition("HEAVY ")[2])


def test_every_command_is_known() -> None:
    assert sorted(get_command(app).commands) == sorted(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "command",
    [[], *([name] for name in COMMANDS), ["pretrain", "mini"], ["pretrain", "random"], ["pretrain", "language"]],
)
def test_help_of_every_command(raysched: Raysched, command: list[str]) -> None:
    answer = raysched(*command, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: raysched {' '.join(command)}".rstrip())
    assert answer.err == ""
    if not command:
        assert all(name in answer.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("sweep", ["--name", "--storage", "--mlflow", "--address", "--set", "--max-concurrent"]),
        ("plan", ["--name", "--storage", "--set", "--step-seconds", "--json"]),
        ("run", ["--point", "--seed", "--storage", "--set"]),
        ("status", ["--storage", "--json"]),
        ("report", ["--storage", "--to"]),
        ("export", ["--best", "--run", "--to", "--push", "--private", "--storage"]),
        ("evaluate", ["--task", "--languages", "--study", "--set", "--to"]),
        ("ui", ["--storage", "--port"]),
        ("doctor", ["--storage", "--mlflow", "--address"]),
    ],
)
def test_options_that_scripts_rely_on(raysched: Raysched, command: str, options: list[str]) -> None:
    shown = raysched(command, "--help").out
    assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["sweep", "--help"],
        ["--version"],
        ["studies"],
        ["schema"],
        ["plan", "xquad-xlmr"],
        ["status", "--help"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(tmp_path: Path, arguments: list[str]) -> None:
    out, heavy = probe(tmp_path, *arguments)
    assert out
    assert heavy == []
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick(tmp_path: Path) -> None:
    """The best of three: other processes may have the machine."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        probe(tmp_path, "sweep", "--help")
        times.append(time.monotonic() - began)
    assert min(times) < 1.5


def test_version(raysched: Raysched) -> None:
    import raysched as package

    assert raysched("--version").out == f"{package.__version__}\n"
