"""Workers and machines that die, freeze or are taken away, during one sweep on several nodes of a real Ray cluster."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysched.errors import DONE
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, AttemptStarted
from raysched.records.layout import SweepLayout
from tests.faults.conftest import Figures
from tests.faults.rack import Node, Rack, rack
from tests.processes import Command, Process, processes, wait
from tests.runners.world import (
    NAME,
    Left,
    arguments,
    attempts,
    check_exactly_once,
    check_no_step_twice,
    left,
    mlflow_runs,
    records,
)
from tests.training.tiny_training import Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
HANG_S = 8


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with rack(tmp_path_factory.mktemp("rack")) as one:
        yield one


def ends(layout: SweepLayout) -> list[AttemptEnded]:
    return [entry for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptEnded)]


def working(layout: SweepLayout) -> Path:
    """The newest checkpoint of any attempt."""
    found = list(layout.runs.glob("*/attempt-*/checkpoints/step-*/manifest.json"))
    return max(found, key=lambda path: path.stat().st_mtime_ns)


class Sweep:
    """A running sweep, and what is done to it."""

    def __init__(self, machines: Rack, layout: SweepLayout, command: Command) -> None:
        self.machines, self.layout, self.command = machines, layout, command

    def until(self, condition: Callable[[], object], timeout_s: float = 120) -> float:
        """Seconds until a condition that must come while the sweep runs."""
        began = time.monotonic()
        wait(lambda: not self.command.running or condition(), timeout_s)
        assert self.command.running, self.command.text
        return time.monotonic() - began

    def busy(self, node: Node) -> Process:
        """The worker of a node, once all runs that are out train: each has saved something of its own."""
        self.until(lambda: node.workers(self.machines.shell.folder))
        began = time.time_ns()
        self.until(lambda: working(self.layout).stat().st_mtime_ns > began and all(map(self.trains, self.out())))
        return node.workers(self.machines.shell.folder)[0]

    def out(self) -> list[AttemptStarted]:
        """Attempts without an end."""
        ended = {(end.run_id, end.attempt) for end in ends(self.layout)}
        return [one for one in attempts(self.layout) if (one.run_id, one.attempt) not in ended]

    def trains(self, one: AttemptStarted) -> bool:
        """It is well under way: its first checkpoint may come before its first word to the driver."""
        return max(self.layout.run(one.run_id).attempt(one.epoch, one.attempt).saved_steps(), default=0) >= 100

    def again(self, do: Callable[[], object]) -> tuple[AttemptEnded, float, float]:
        """The end that `do` brings an attempt, the seconds until it was noticed, and until its run trained again."""
        known = len(ends(self.layout))
        began = time.monotonic()
        do()
        self.until(lambda: any(end.outcome in ("lost", "stopped") for end in ends(self.layout)[known:]))
        noticed = time.monotonic() - began
        end = next(end for end in ends(self.layout)[known:] if end.outcome in ("lost", "stopped"))
        run = self.layout.run(end.run_id)
        self.until(lambda: any(e.run_id == end.run_id and e.attempt > end.attempt for e in attempts(self.layout)))
        newest = max(e.attempt for e in attempts(self.layout) if e.run_id == end.run_id)
        # Its first checkpoint of its own: training goes on.
        self.until(lambda: list(run.attempt(end.epoch, newest).checkpoints.glob("step-*/manifest.json")))
        return end, noticed, time.monotonic() - began


def test_a_bad_day_for_machines(
    machines: Rack, tiny: Tiny, tmp_path: Path, figures: Figures, undisturbed: dict[str, Left]
) -> None:
    """Nodes join and die, workers are killed, frozen and preempted; all runs complete, and nothing shows in them."""
    layout = SweepLayout(tmp_path / "storage", NAME)
    first = machines.add()
    settings = {"seeds": 40, "budget__hang_s": HANG_S, "budget__attempts": 10}
    options = arguments(tiny, layout.storage, "--address", machines.address, "--max-concurrent", "2", **settings)
    sweep = Sweep(machines, layout, machines.shell.raysched(*options))
    sweep.until(lambda: list(layout.runs.glob("*/attempt-*/checkpoints/step-*/manifest.json")))
    assert "1 at a time" in sweep.command.text

    second = machines.add()
    took = sweep.until(lambda: "2 runs at a time from here" in sweep.command.text, 30)
    figures("a node joins: used after", f"{took:.0f} s", "-")

    killed = sweep.busy(first)
    end, _, took = sweep.again(lambda: os.kill(killed.pid, signal.SIGKILL))
    assert (end.outcome, end.cause) == ("lost", "worker_lost")
    figures("worker killed: training again after", f"{took:.0f} s", "15 s")
    of_worker = took

    frozen = sweep.busy(second)
    end, noticed, _ = sweep.again(lambda: os.kill(frozen.pid, signal.SIGSTOP))
    assert (end.outcome, end.cause) == ("lost", "hang")
    assert "said nothing for" in end.message
    assert frozen.pid not in [one.pid for one in processes(machines.shell.folder)]
    figures(f"worker frozen, budget.hang_s={HANG_S}: killed after", f"{noticed:.0f} s", f"{HANG_S} s")
    assert HANG_S - 2 < noticed < HANG_S + 8

    preempted = sweep.busy(first)
    end, noticed, _ = sweep.again(lambda: os.kill(preempted.pid, signal.SIGTERM))
    assert (end.outcome, end.cause) == ("stopped", "preempted")
    saved = re.search(r"saved at step (\d+)", end.message)
    assert saved is not None
    folder = layout.run(end.run_id).attempt(end.epoch, end.attempt).checkpoints
    assert (folder / f"step-{int(saved[1])}").is_dir() or list(folder.glob(f"step-*{saved[1]}*"))
    figures("worker preempted (SIGTERM): saved after", f"{noticed:.1f} s", "-")

    third = machines.add()  # one to spare: two runs at a time
    sweep.busy(first)
    end, noticed, took = sweep.again(first.kill)
    assert (end.outcome, end.cause) == ("lost", "node_lost")
    figures("node killed, one to spare: noticed after", f"{noticed:.0f} s", "-")
    figures("node killed, one to spare: training again after", f"{took:.0f} s", "30 s")
    of_node = took

    sweep.busy(third)
    end, noticed, _ = sweep.again(third.command.process.terminate)  # as Kubernetes takes a pod away
    assert (end.outcome, end.cause) == ("stopped", "preempted")
    figures("node preempted (drained): runs saved after", f"{noticed:.0f} s", "30 s")
    assert noticed < 25

    second.kill()
    sweep.until(lambda: "no machine of the cluster has room for a run; waiting for one since 20" in sweep.command.text)
    machines.add(cpus=2)
    assert sweep.command.end(400) == DONE, sweep.command.text
    assert sweep.command.text.count("2 runs at a time from here") == 2
    assert "Traceback" not in sweep.command.text
    assert all(record.status == "finished" for record in records(layout).values())
    check_exactly_once(layout, 80, 2)
    check_no_step_twice(layout)
    there = left(layout)
    assert {run_id: there[run_id] for run_id in undisturbed} == undisturbed
    assert {run.status for run in mlflow_runs(layout)} == {"FINISHED"}
    assert of_worker < 15  # at last, so that a busy machine hides nothing else
    assert of_node < 30
