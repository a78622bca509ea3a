"""The committed renders of deploy/kustomize. `python -m tests.deploy.golden` makes them anew."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
GOLDEN = DEPLOY / "golden"
KUSTOMIZE = DEPLOY / "kustomize"
TARGETS = {
    "base": KUSTOMIZE / "base",
    "dev": KUSTOMIZE / "overlays" / "dev",
    "gpu": KUSTOMIZE / "overlays" / "gpu",
    "kueue": KUSTOMIZE / "overlays" / "kueue",
    "prepare": KUSTOMIZE / "overlays" / "prepare",
    "prod": KUSTOMIZE / "overlays" / "prod",
    "grafana": DEPLOY / "grafana",
    "prometheus": KUSTOMIZE / "components" / "prometheus",
}
HEADER = "# Rendered from {path}; do not edit: `python -m tests.deploy.golden`.\n"


def kustomize() -> list[str] | None:
    """The command that renders a folder: kubectl's own kustomize or the plain one; None where there is neither."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


def render(folder: Path) -> str:
    """All objects of a folder. Raises `subprocess.CalledProcessError`."""
    command = kustomize()
    assert command is not None, "look with kustomize() first"
    return subprocess.run([*command, str(folder)], check=True, capture_output=True, text=True, timeout=60).stdout


def objects(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.load_all(text, yaml.CSafeLoader) if one is not None]


def committed(name: str) -> list[dict[str, Any]]:
    """A copy of one's own, to change at will."""
    return copy.deepcopy(_read(name))


@functools.cache
def _read(name: str) -> list[dict[str, Any]]:
    return objects((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8"))


def main() -> int:
    if kustomize() is None:
        print("neither kubectl nor kustomize is installed", file=sys.stderr)
        return 3
    for name, folder in TARGETS.items():
        header = HEADER.format(path=folder.relative_to(DEPLOY.parent))
        (GOLDEN / f"{name}.yaml").write_text(header + render(folder), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
