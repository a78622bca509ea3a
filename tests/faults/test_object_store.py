"""`raysched sweep --storage s3://...` through Ray: its machine dies in the middle, another one goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from raysched.errors import DONE, RESUMABLE
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptStarted, Recorded, Takeover
from raysched.records.layout import SweepLayout
from tests.faults.conftest import Figures
from tests.object_store import Store, store  # noqa: F401 - a fixture
from tests.processes import shell, wait
from tests.runners.world import NAME, arguments, check_equal, left
from tests.training.tiny_training import Tiny

LONG_S = 400
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]


def test_a_sweep_on_an_object_store_outlives_its_machine(
    store: Store,  # noqa: F811
    tiny: Tiny,
    tmp_path: Path,
    figures: Figures,
) -> None:
    quick = {"seeds": 1, "training__steps": 100, "training__checkpoint_every_steps": 10}
    with shell(tmp_path / "folder") as one:
        code, output = one.run(*arguments(tiny, tmp_path / "storage", **quick), timeout_s=LONG_S)
        assert code == DONE, output
    undisturbed = left(SweepLayout(tmp_path / "storage", NAME))
    command = arguments(tiny, store.uri, "--max-concurrent", "1", **quick)  # type: ignore[arg-type]
    viewer = store.layout("viewer", NAME)

    def machine(name: str) -> dict[str, str]:
        return {"RAYSCHED_CACHE": str(store.folder / name)}

    with shell(tmp_path / "first", **machine("first")) as one:
        first = one.raysched(*command)
        wait(
            lambda: any(isinstance(entry, Recorded) for entry in ledgers.read(viewer.ledger)) or not first.running,
            timeout_s=LONG_S,
            every_s=0.3,
        )
        assert first.running, first.text
        os.kill(first.pid, signal.SIGSTOP)  # it shall not be done before it was looked at
        with shell(tmp_path / "second", **machine("second")) as two:
            asked = time.monotonic()
            code, output = two.run(*command)
            assert (code, f"pid {first.pid}" in output) == (RESUMABLE, True), output
            refused_s = time.monotonic() - asked
        code, output = one.run("status", NAME, "--storage", store.uri, "--json")
        assert json.loads(output)["driver"]["pid"] == first.pid
        first.kill()
    done = {entry.run_id for entry in ledgers.read(viewer.ledger) if isinstance(entry, Recorded)}
    assert 0 < len(done) < len(undisturbed)
    with shell(tmp_path / "second", **machine("second")) as two:
        code, output = two.run(*command, timeout_s=LONG_S)
        assert code == DONE, output
    entries = ledgers.read(viewer.ledger)
    assert [entry.epoch for entry in entries if isinstance(entry, Takeover)] == [1, 2]
    again = [entry.run_id for entry in entries if isinstance(entry, AttemptStarted) and entry.epoch == 2]
    assert not done & set(again)
    viewer.pull(viewer.root)
    check_equal(viewer, undisturbed)
    with shell(tmp_path / "third", **machine("third")) as three:
        code, output = three.run("status", NAME, "--storage", store.uri, "--json")
        assert (code, json.loads(output)["driver"]) == (DONE, None)
        assert all(cell["done"] == cell["seeds"] for cell in json.loads(output)["cells"])
        code, output = three.run("sync", NAME, "--storage", store.uri)  # fills a store of this machine's own
        assert code == DONE, output
    text = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("output-*.txt"))
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text
    figures(
        "machine of a sweep on an object store lost mid-way, continued on another",
        f"{len(done)} runs kept, all {len(undisturbed)} complete, bitwise equal; second driver refused, "
        f"{refused_s:.1f} s with its imports",
        "nothing lost; bitwise equal",
    )
