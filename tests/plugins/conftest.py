"""Packages with entry points, installed into a folder of the test as an installer leaves them."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from raysched.study import plugins

EXAMPLE = Path(__file__).parent / "example_plugin"
EntryPoints = Mapping[str, Mapping[str, str]]
Install = Callable[[str, Mapping[str, str], EntryPoints], None]


def write_metadata(site: Path, name: str, entry_points: EntryPoints, version: str = "1.0") -> None:
    """The `dist-info` of a package that lies in `site`."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def install_example(site: Path) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(
        EXAMPLE / "raysched_example", site / "raysched_example", ignore=shutil.ignore_patterns("__pycache__")
    )
    write_metadata(site, project["name"], project["entry-points"], project["version"])


def forget() -> None:
    importlib.invalidate_caches()
    plugins.installed.cache_clear()
    plugins.load.cache_clear()


@pytest.fixture(scope="session")
def example_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like site-packages that holds the example."""
    site = tmp_path_factory.mktemp("site")
    install_example(site)
    return site


@pytest.fixture
def example(example_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example, installed in this process."""
    monkeypatch.syspath_prepend(example_site)
    forget()
    yield example_site
    forget()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of the given modules and entry points in this process."""
    before = set(sys.modules)

    def _install(name: str, modules: Mapping[str, str], entry_points: EntryPoints) -> None:
        site = tmp_path / "site"
        write_metadata(site, name, entry_points)
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
        forget()

    monkeypatch.syspath_prepend(tmp_path / "site")
    yield _install
    forget()
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]
