"""What deploy/README.md and deploy/ray say: commands, options, files and links that are there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer.main
from ruamel.yaml import YAML

from raysched import __version__
from raysched.cli.app import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCUMENTS = [DEPLOY / "README.md", DEPLOY / "ray" / "README.md", ROOT / "README.md"]
PATHS = re.compile(
    r"(?<![\w./-])(?:deploy|base|overlays|components|grafana|mlflow|examples|golden|helm-values|docker|ray)/[\w./-]+"
)


def commands(path: Path) -> list[str]:
    """Lines of code that call raysched, and what stands in backquotes."""
    text = path.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ {4}(?:\w+=\S+ )*(raysched .*)$", text, re.MULTILINE) + re.findall(
        r"`(raysched [^`]+)`", text
    )
    return [line.partition(" #")[0] for line in lines]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_exists(path: Path) -> None:
    there: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = commands(path)
    assert found
    for line in found:
        words = shlex.split(line.replace("...", "").replace("[", "").replace("]", ""))
        verb = words[1] if len(words) > 1 else ""
        command = there.get(verb.rstrip(","))
        if command is None:
            assert verb.startswith("-") or "`" in line, line
            continue
        if hasattr(command, "commands"):
            continue
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        used = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert used <= known, (line, used - known)


@pytest.mark.parametrize("path", DOCUMENTS[:2], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_link_is_there(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (path.parent / target).exists(), target
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        headings = [re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in text.splitlines()]
        assert anchor in headings, anchor
    for name in PATHS.findall(text):
        places = (ROOT / name, DEPLOY / name, DEPLOY / "kustomize" / name, path.parent / name)
        assert any(place.exists() for place in places), name


def test_the_launchers_file_is_what_ray_takes() -> None:
    cluster = YAML(typ="safe").load((DEPLOY / "ray" / "cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["docker"]["image"] == f"raysched:{__version__}-cpu"
    started = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    text = (DEPLOY / "ray" / "README.md").read_text()
    for line in started:
        if "ray start" in line:
            command = line.partition("; ")[2].replace("$RAY_HEAD_IP", "HEAD")
            assert f"    {command} --block\n" in text, command
    assert "RAY_AUTH_TOKEN_PATH" in str(cluster["docker"]["run_options"])
