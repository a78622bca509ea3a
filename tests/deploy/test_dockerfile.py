"""The image's Dockerfile: linted, in step with the project's pins, and its installation done in a fresh folder."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from raysched import __version__
from tests.deploy.dockerfile import Dockerfile, Stage

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "docker" / "Dockerfile"
TARGETS = ("cpu", "cuda")
SECRET = re.compile(r"token|password|secret|key", re.IGNORECASE)


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return Dockerfile.read(FILE)


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    return dict(line.split("==", 1) for line in lines)


def test_hadolint() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_versions_are_those_of_the_driver(dockerfile: Dockerfile) -> None:
    image = dockerfile.stages["base"].base
    (python,) = re.findall(r"^python:(3\.\d+\.\d+)-slim-\w+$", image)  # a whole version: no tag that moves on its own
    made_on = re.search(r"Made on Python (\d+\.\d+)", (ROOT / "constraints.txt").read_text())
    assert made_on is not None
    assert python.startswith(f"{made_on[1]}.")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"ray[tune]=={pins()['ray']}" in project["dependencies"]
    for name in ("packages-cpu", "packages-cuda"):
        (install,) = (run for run in dockerfile.stages[name].all("RUN") if "pip" in run)
        assert install.count("-c /src/constraints.txt") == install.count("pip --python") == 2
    assert dockerfile.defaults("runtime")["VERSION"] == __version__
    assert f"raysched:{__version__}-cpu" in FILE.read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_without_root_and_knows_no_secret(dockerfile: Dockerfile, target: str) -> None:
    stages = dockerfile.chain(target)
    users = [user for stage in stages for user in stage.all("USER")]
    assert users[-1] == "1000:1000"
    after = [run for stage in stages[stages.index(dockerfile.stages["runtime"]) + 1 :] for run in stage.all("RUN")]
    assert after == []  # nothing is run as root once the user is another
    environment = dockerfile.environment(target)
    assert not [name for name in environment if SECRET.search(name)]
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["PATH"].startswith("/opt/venv/bin:")
    writable = ("/tmp", "/storage")
    for name in ("TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "RAYSCHED_CACHE", "HF_HOME"):
        assert environment[name].startswith(writable), name


def test_no_compiler_and_no_cache_is_in_a_target(dockerfile: Dockerfile) -> None:
    (system,) = dockerfile.stages["runtime"].all("RUN")
    (installed,) = re.findall(r"apt-get install -y --no-install-recommends ([\w -]+?) *&&", system)
    assert installed.split() == ["wget"]
    assert "rm -rf /var/lib/apt/lists/*" in system
    assert "pip uninstall -y pip" in system
    assert dockerfile.environment("cpu")["PIP_NO_CACHE_DIR"] == "1"


def test_a_login_shell_finds_the_programs(dockerfile: Dockerfile, tmp_path: Path) -> None:
    """As KubeRay starts Ray: `bash -lc`, whose /etc/profile forgets the image's PATH."""
    (system,) = dockerfile.stages["runtime"].all("RUN")
    (line,) = re.findall(r'echo "(export PATH=[^"]+)" > /etc/profile.d/raysched.sh', system)
    path = dockerfile.environment("cpu")["PATH"]
    script = f"PATH=/usr/bin:/bin\n{line.replace('${PATH}', path)}\necho $PATH"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == path


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a file of the repository out of what is sent to the builder."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = Path(name).parts
        heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        anywhere = line.removeprefix("!").startswith("**/")
        if any(fnmatch.fnmatch(one, pattern) for one in (parts if anywhere else heads)):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".env",
        "deploy/.env",
        "deploy/compose.env",
        "raysched/.env",
        "raysched/tls.key",
        "raysched/ca.pem",
        "search_spaces/auth_token",
        "raysched-runs/xquad-mini/ledger.jsonl",
        "data/train.jsonl",
        ".venv/bin/python",
        "raysched/__pycache__/api.pyc",
        "tests/conftest.py",
    ],
)
def test_secrets_and_data_stay_out_of_the_build(name: str) -> None:
    assert ignored(name)


def test_what_is_copied_is_sent_to_the_builder(dockerfile: Dockerfile) -> None:
    for stage in dockerfile.stages.values():
        for text in stage.all("COPY"):
            words = [word for word in text.split() if not word.startswith("--")]
            if "--from=" not in text:
                assert not [source for source in words[:-1] if ignored(source)], text
    more = ("deploy/mlflow/start.py", "deploy/mlflow/requirements.txt")  # of the MLflow server's image
    for name in ("raysched/mini/tokenizer.py", "raysched/mini/assets/backbone/tokenizer.json", *more):
        assert not ignored(name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_steps_of_the_cpu_target_install_a_working_raysched(dockerfile: Dockerfile, tmp_path: Path) -> None:
    began = time.monotonic()
    build = Build(dockerfile, tmp_path)
    for name in ("wheel", "packages", "packages-cpu", "code"):
        build.stage(dockerfile.stages[name])
    for text in dockerfile.stages["cpu"].all("COPY"):
        _, source, target = text.split()
        if source != target:  # stages share a folder here
            subprocess.run(["cp", "-a", f"{build.place(source)}/.", build.place(target)], check=True)
    took = time.monotonic() - began
    empty = tmp_path / "empty"
    empty.mkdir()
    programs = build.place("/opt/venv/bin")
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(empty), "TMPDIR": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("raysched", "--version").strip() == __version__
    assert "xquad-mini" in run("raysched", "studies")
    assert pins()["ray"] in run("ray", "--version")
    for module in ("s3fs", "psycopg", "ray.job_submission"):
        run("python", "-c", f"import {module}")
    assert run("python", "-c", "import raysched; print(raysched.__file__)").startswith(str(programs.parent))
    assert not (programs / "pip").exists()
    print(f"installed by the steps of the cpu target in {took:.0f} s")


class Build:
    """Runs the RUN steps of stages with the image's folders below one of this machine."""

    def __init__(self, dockerfile: Dockerfile, folder: Path) -> None:
        self.dockerfile, self.folder = dockerfile, folder
        self.tool = folder / "python"  # in place of the base image's own Python
        subprocess.run([sys.executable, "-m", "venv", self.tool], check=True)

    def place(self, path: str) -> Path:
        return self.folder / "image" / path.lstrip("/")

    def stage(self, stage: Stage) -> None:
        for one in stage.instructions:
            if one.name == "COPY" and "--from=" not in one.text:
                *sources, target = one.text.split()
                self._copy(sources, self.place(target if target.startswith("/") else f"/src/{target}"))
            elif one.name == "RUN":
                self._run(one.text, stage)

    def _copy(self, sources: list[str], target: Path) -> None:
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, target)

    def _run(self, text: str, stage: Stage) -> None:
        self.place("/src").mkdir(parents=True, exist_ok=True)
        text = self.dockerfile.expanded(text, self.dockerfile.defaults(stage.name))
        text = re.sub(r"(?<![\w.])/(src|wheels|opt)\b", lambda match: str(self.place(match[0])), text)
        environment = os.environ | {"PATH": f"{self.tool}/bin:{os.environ['PATH']}", "PIP_NO_CACHE_DIR": "1"}
        environment.pop("VIRTUAL_ENV", None)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.place("/src"),
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
