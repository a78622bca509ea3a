"""kill -9 of the driver, again and again, on real Ray; the checker finds the sweep as if nothing had happened."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from raysched.records.layout import SweepLayout
from tests.faults.checker import Tally, check_history, tally, witness
from tests.faults.conftest import Figures
from tests.faults.violence import Violence
from tests.postgres import PASSWORD
from tests.processes import shell
from tests.runners.world import NAME, Left, arguments
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("database", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def test_random_kills(
    database: str,
    kills: int,
    fault_seed: int,
    tiny: Tiny,
    undisturbed: dict[str, Left],
    tmp_path: Path,
    figures: Figures,
    request: pytest.FixtureRequest,
) -> None:
    """As many sweeps as it takes, each two runs at a time."""
    chance = random.Random(f"{fault_seed} {database}")
    began, done, sweeps = time.monotonic(), Tally(), 0
    driver_kills = worker_kills = starts = 0
    while driver_kills < kills:
        folder = tmp_path / f"sweep-{sweeps}"
        layout = SweepLayout(folder / "storage", NAME)
        uri = None if database == "SQLite" else request.getfixturevalue("postgres").new_database()
        environment = {} if uri is None else {"RAYSCHED_OPTUNA": uri}
        with shell(folder, **environment) as one, witness(layout) as seen:
            violence = Violence(one, arguments(tiny, layout.storage), layout, chance, len(undisturbed))
            try:
                while driver_kills + violence.driver_kills < kills and violence.strike():
                    pass
                violence.finish()
                seen.look()
                found = tally(layout, [*undisturbed], uri)
                check_history(layout, undisturbed, seen=seen, optuna_uri=uri, canaries=[PASSWORD])
            finally:
                print(f"sweep {sweeps} of {database}:", *violence.story, sep="\n    ")
        done, sweeps = done + found, sweeps + 1
        driver_kills += violence.driver_kills
        worker_kills += violence.worker_kills
        starts += violence.starts
    took = time.monotonic() - began
    figures(
        f"{driver_kills} random kill -9 of the driver ({database}), {worker_kills} of workers",
        f"{done}; bitwise equal; {sweeps} sweeps, {starts} starts, {took:.0f} s",
        "0 lost, 0 duplicated, 0 left RUNNING; bitwise equal",
    )
    assert done == Tally()
