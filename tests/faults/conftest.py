"""Options, marks and the table of figures of the fault suite; nothing here starts anything by itself."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raysched.study.load import load_study
from tests.postgres import postgres  # noqa: F401 - a fixture
from tests.runners.world import NAME, Left, left, overrides
from tests.training.sweep_in_process import sweep_in_process
from tests.training.tiny_training import Tiny

HERE = Path(__file__).parent
KILLS = 20
"""Kills of the driver per database, unless `--kills` says otherwise."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what was measured, what came out, and what is promised."""

    name: str
    figure: str
    required: str


@dataclass
class Figures:
    """Call it with what a test measured; `make faults` ends with a table of all of them, ready for the README."""

    lines: list[Figure] = field(default_factory=list)

    def __call__(self, name: str, figure: object, required: str) -> None:
        self.lines.append(Figure(name, str(figure), required))

    def table(self) -> str:
        rows = [("fault", "measured", "required"), ("---", "---", "---")]
        rows += [(line.name, line.figure, line.required) for line in self.lines]
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)


FIGURES = pytest.StashKey[Figures]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=KILLS, help="kills of the driver, for each search database")
    group.addoption("--fault-seed", type=int, default=None, help="repeat the random choices of an earlier run")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, None)
    if figures is not None and figures.lines:
        terminalreporter.section("figures")
        terminalreporter.write_line(figures.table())


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(FIGURES, Figures())


@pytest.fixture(scope="session")
def kills(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("kills", default=KILLS))


@pytest.fixture(scope="session")
def fault_seed(pytestconfig: pytest.Config) -> int:
    """Every random choice of the suite follows from it; a test that fails shows it in its captured output."""
    given = pytestconfig.getoption("fault_seed", default=None)
    return secrets.randbits(32) if given is None else int(given)


@pytest.fixture(autouse=True)
def _say_fault_seed(request: pytest.FixtureRequest) -> None:
    if "fault_seed" in request.fixturenames:
        print(f"--fault-seed {request.getfixturevalue('fault_seed')} repeats what chance did here")


@pytest.fixture(scope="session")
def undisturbed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    """What `world.arguments` leave when nothing happens, and no Ray is there: run_id -> all that must be equal."""
    study = load_study(NAME, overrides(tiny)[1::2]).study
    return left(sweep_in_process(tmp_path_factory.mktemp("undisturbed"), NAME, study, tiny.resolve(study)))
