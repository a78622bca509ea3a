"""What a result was made with: code, packages, machine. No secrets, no network, well under a second."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "raysched",
    "torch",
    "transformers",
    "adapters",
    "ray",
    "optuna",
    "mlflow",
    "datasets",
)
GIT_TIMEOUT_S = 2


def collect(folder: Path | None = None) -> dict[str, Any]:
    """Plain JSON values; what cannot be found out is left out. `git` is of raysched's own source, or of `folder`."""
    return {
        "git": git(folder or Path(__file__).parent),
        "packages": {"python": platform.python_version(), **packages()},
        "platform": platform.platform(),
        "cpu": cpu(),
        "gpus": gpus(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads(),
        "host": socket.gethostname(),
    }


def git(folder: Path) -> dict[str, Any]:
    """Commit, and whether tracked files differ from it; empty where `folder` is not part of a repository."""
    if not _git(folder, "ls-files", "."):  # installed inside somebody else's
        return {}
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit} if changed is None else {"commit": commit, "dirty": bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpus() -> list[str]:
    """Model names, from torch where it is loaded already and from the driver's files otherwise."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return names


def threads() -> int | None:
    """CPU threads of torch where it is loaded, else what OMP_NUM_THREADS asks for."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else None
