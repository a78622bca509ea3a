"""kill -9 while a database is being made for the first time: the next process makes it, or goes on with it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from raysched.search.optuna_study import OptunaStudy
from raysched.tracking.mlflow_store import Store, sqlite_uri
from tests.faults.conftest import Figures
from tests.runners.bed import study

KILLS = 8
STARTED = "import sys, pathlib; path = pathlib.Path(sys.argv[1]); print('making', flush=True)"
CHILD = {
    "mlflow.db": "from raysched.tracking.mlflow_store import Store, sqlite_uri; import mlflow.tracking\n"
    f"{STARTED}; Store(sqlite_uri(path), 'half').experiment_id",
    "optuna.db": "from raysched.search.optuna_study import OptunaStudy; from tests.runners.bed import study\n"
    f"{STARTED}; OptunaStudy(path, 'half', study().search)",
}
TAKES_S = {"mlflow.db": 8.0, "optuna.db": 1.5}
"""So long it takes to make one, about."""


def use_mlflow(path: Path) -> None:
    store = Store(sqlite_uri(path), "half")
    assert store.experiment_id == store.experiment_id


def use_optuna(path: Path) -> None:
    with closing(OptunaStudy(path, "half", study().search)) as search:
        asked = search.ask()
        assert asked is not None
        search.tell(asked.number, 1.0)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "use"), [("mlflow.db", use_mlflow), ("optuna.db", use_optuna)])
def test_a_database_half_made(
    name: str, use: Callable[[Path], None], tmp_path: Path, fault_seed: int, figures: Figures
) -> None:
    chance = random.Random(f"{fault_seed} {name}")
    killed = 0
    for n in range(KILLS):
        path = tmp_path / str(n) / name
        path.parent.mkdir()
        command = [sys.executable, "-c", CHILD[name], str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"making\n"
            seconds = chance.uniform(0, TAKES_S[name])
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
        print(f"{name} {n}: killed after {seconds:.2f} s")
        use(path)
        assert [other.name for other in path.parent.glob(f"*{name}*") if other.name != name] == []
    figures(f"kill -9 while {name} is being made, {killed} times", "whole afterwards", "whole afterwards")
