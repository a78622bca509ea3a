"""`raysched sweep` on real Ray: whole, killed, interrupted, on a cluster of pretended GPUs. One tiny world for all.

Every Ray start costs about ten seconds of two cores, so each is used for as much as it can show.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysched.errors import (
    CTRL_C,
    DONE,
    OUTSIDE_MISSING,
    RESUMABLE,
    SOME_RUNS_FAILED,
    TERMINATED,
)
from raysched.records import ledger as ledgers
from raysched.records.entries import AttemptEnded, Recorded
from raysched.records.layout import SweepLayout
from tests.processes import Command, Shell, shell, wait, workers
from tests.runners.world import (
    NAME,
    Left,
    Logged,
    arguments,
    attempts,
    check_equal,
    check_exactly_once,
    check_no_step_twice,
    left,
    mlflow_runs,
    most_at_once,
    overrides,
    records,
    segments,
)
from tests.training.tiny_training import LANGUAGES, LAYERS, Tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
RUNS, POINTS = 4, 2
QUICK_S = 15
"""A command that starts no Ray; most of it is imports, on a busy machine."""


def check_clean(one: Shell) -> None:
    """A clean end leaves no process, no private Ray folder and nothing in the temporary folder."""
    assert one.settle() == []
    assert not [folder for folder in one.ray_folders if Path(folder).exists()]
    assert list((one.folder / "tmp").iterdir()) == []


@dataclass(frozen=True)
class Whole:
    """A sweep that nothing disturbed."""

    shell: Shell
    layout: SweepLayout
    output: str
    runs: dict[str, Left]


@pytest.fixture(scope="module")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with shell(folder) as one:
        command = one.raysched(*arguments(tiny, folder / "storage", "--smoke"))
        layout = SweepLayout(folder / "storage", NAME)
        wait(lambda: segments(layout) or not command.running, 200)
        one.alive()  # remember the private Ray folder
        assert command.end() == DONE, command.text
        check_clean(one)
        yield Whole(one, layout, command.text, left(layout))


def test_an_undisturbed_sweep_ends_with_its_report(whole: Whole) -> None:
    assert len(whole.shell.ray_folders) == 1
    assert re.search(r"tiny run .*per step.*\n(standard|gu) +ok +[\d.]+ s +[\d.]+ GB", whole.output)
    assert "2 at a time" in whole.output
    assert f"{RUNS} runs are done; {RUNS} of them now." in whole.output
    report = whole.layout.reports / "report.md"
    assert f"report:  {report.with_suffix('.html')}" in whole.output
    assert f"browse:  raysched ui {NAME} --storage {whole.layout.storage}" in whole.output
    assert all(f"| {language}" in report.read_text() for language in LANGUAGES)
    check_exactly_once(whole.layout, RUNS, POINTS)
    check_no_step_twice(whole.layout)
    assert most_at_once(whole.layout) == 2


def test_the_same_command_on_a_finished_sweep_starts_nothing(whole: Whole, tiny: Tiny) -> None:
    before = whole.layout.ledger.read_bytes()
    began = time.monotonic()
    code, output = whole.shell.run(*arguments(tiny, whole.layout.storage))
    took = time.monotonic() - began
    assert code == DONE
    assert f"{RUNS} runs are done; nothing was left to do." in output
    assert "Ray" not in output
    assert took < QUICK_S
    assert whole.layout.ledger.read_bytes() == before  # nor was the sweep taken over
    check_clean(whole.shell)


def test_mlflow_shows_the_tree(whole: Whole) -> None:
    found = {run.id: run for run in mlflow_runs(whole.layout)}
    (sweep,) = [run for run in found.values() if run.level == "sweep"]
    assert sweep.parent is None
    cells = [run for run in found.values() if run.level == "cell"]
    assert {cell.parent for cell in cells} == {sweep.id}
    assert {cell.params["schedule"] for cell in cells} == {"standard", "gu"}
    assert all("k" not in cell.params for cell in cells if cell.params["schedule"] == "standard")
    for cell in cells:
        named = {
            f"{what}/{of}/{metric}"
            for what in ("mean", "std")
            for of in ("val", "test/average")
            for metric in ("f1", "em")
        }
        assert named <= cell.metrics.keys()
        assert (cell.metrics["n_seeds"], cell.metrics["n_failed"]) == (2, 0)
    runs = [run for run in found.values() if run.level == "run"]
    assert sorted((run.params["schedule"], run.params["seed"]) for run in runs) == sorted(
        (schedule, seed) for schedule in ("standard", "gu") for seed in "01"
    )
    for run in runs:
        check_logged(run, found, whole)


def check_logged(run: Logged, found: dict[str, Logged], whole: Whole) -> None:
    record = records(whole.layout)[run.tags["raysched.run_id"]]
    assert run.parent is not None
    assert found[run.parent].tags["raysched.cell"] == run.tags["raysched.cell"] == record.cell_id
    assert run.tags["schedule"] == record.params["schedule"]
    assert "unfreeze_order" in run.tags
    assert {"lr", "training.steps", "model.task_adapter.reduction"} <= run.params.keys()
    expected = {"train/loss", "val/f1", "val/em", "test/average/f1", "fisher/mean", "unfrozen_layers"}
    expected |= {f"fisher/layer_{layer:02d}" for layer in range(LAYERS)}
    expected |= {f"test/{language}/f1" for language in LANGUAGES}
    assert expected <= run.metrics.keys()
    (tests,) = record.tests.values()
    targets = [tests[language]["f1"] for language in LANGUAGES[1:]]
    assert run.metrics["test/average/f1"] == pytest.approx(sum(targets) / len(targets))
    assert {"unfreeze_order.json", "fisher_trace.csv", "predictions", "adapter"} <= run.artifacts
    provenance = [key for key in found[found[run.parent].parent or ""].tags if key.startswith("provenance.")]
    assert any("torch" in key for key in provenance), provenance


def test_three_kills_of_the_driver(whole: Whole, tiny: Tiny, tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    # The last kill falls between records: two runs are done, two are not.
    moments = [(n_records, chance.randint(0, 12), chance.uniform(0, 1)) for n_records in (0, 0, 2)]
    print(f"kill seed {seed}: (records, segments sealed since, seconds after) {moments}")
    layout = SweepLayout(tmp_path / "storage", NAME)
    with shell(tmp_path) as one:
        for epoch, (n_records, more, seconds) in enumerate(moments, start=1):
            command = one.raysched(*arguments(tiny, layout.storage))
            until(command, lambda least=n_records: len(records(layout)) >= least)
            goal = segments(layout) + more
            until(command, lambda epoch=epoch, goal=goal: attempts(layout, epoch) and segments(layout) >= goal)
            one.alive()
            time.sleep(seconds)
            assert command.running, command.text
            command.kill()  # its workers are left to themselves
            print(f"killed with {segments(layout)} segments, {len(records(layout))} records, {workers(tmp_path)} left")
        command = one.raysched(*arguments(tiny, layout.storage))
        assert command.end() == DONE, command.text
        assert [len(attempts(layout, epoch)) > 0 for epoch in (1, 2, 3)] == [True] * 3
        check_exactly_once(layout, RUNS, POINTS)
        check_no_step_twice(layout)
        check_equal(layout, whole.runs)


def until(command: Command, condition: Callable[[], object]) -> None:
    """Wait for a condition that must come while the command runs."""
    wait(lambda: not command.running or condition(), 150)
    assert command.running, command.text


def until_saved(layout: SweepLayout, command: Command, epoch: int, checkpoints: int = 2) -> None:
    """Wait until attempts of this epoch have saved something."""
    until(command, lambda: len(list(layout.runs.glob(f"*/attempt-{epoch}-*/checkpoints/*"))) >= checkpoints)


def test_a_rough_day(whole: Whole, tiny: Tiny, tmp_path: Path) -> None:
    """A second driver, workers killed and preempted, Ctrl-C, SIGTERM; the same command finishes, and nothing shows."""
    layout = SweepLayout(tmp_path / "storage", NAME)
    command_line = arguments(tiny, layout.storage)
    with shell(tmp_path) as one:
        command = one.raysched(*command_line)
        until_saved(layout, command, 1)

        began = time.monotonic()
        code, output = one.run(*command_line)
        took = time.monotonic() - began
        print(f"second driver refused after {took:.1f} s")
        assert code == RESUMABLE
        assert took < QUICK_S
        who = f"host {re.escape(socket.gethostname())}, pid {command.pid}, since 20"
        assert re.search(f"another driver runs this sweep: {who}", output)
        assert "next:  " in output

        wait(lambda: len(workers(tmp_path)) > 1)  # one may just be made anew
        killed, preempted = workers(tmp_path)[:2]
        os.kill(killed.pid, signal.SIGKILL)
        until(command, lambda: any(entry.attempt == 2 for entry in attempts(layout)))
        retried = next(entry.run_id for entry in attempts(layout) if entry.attempt == 2)
        until_saved(layout, command, 1, 3)
        os.kill(preempted.pid, signal.SIGTERM)
        until(command, lambda: any("being taken away" in entry.message for entry in attempt_ends(layout)))
        interrupt(one, command, signal.SIGINT, CTRL_C, "Ctrl-C")

        command = one.raysched(*command_line)
        until_saved(layout, command, 2)
        interrupt(one, command, signal.SIGTERM, TERMINATED, "SIGTERM")

        code, output = one.run(*command_line)
        assert code == DONE, output
        check_clean(one)
        lost = [entry for entry in attempt_ends(layout) if entry.outcome == "lost"]
        assert [(entry.run_id, entry.cause) for entry in lost] == [(retried, "worker_lost")]
        assert "worker process has died" in lost[0].message
        (taken,) = [entry for entry in attempt_ends(layout) if entry.cause == "preempted"]
        assert taken.outcome == "stopped"
        assert re.search(r"saved at step \d+: its worker", taken.message)
        assert records(layout)[retried].attempt >= 2
        check_exactly_once(layout, RUNS, POINTS)
        check_no_step_twice(layout)
        check_equal(layout, whole.runs)


def attempt_ends(layout: SweepLayout) -> list[AttemptEnded]:
    return [entry for entry in ledgers.read(layout.ledger) if isinstance(entry, AttemptEnded)]


def interrupt(one: Shell, command: Command, number: int, code: int, name: str) -> None:
    """A signal as a terminal (the whole group) or a supervisor (the driver alone) sends it."""
    one.alive()
    began = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(command.pid, number)
    else:
        os.kill(command.pid, number)
    wait(lambda: "uploading to MLflow" in command.text, 30)
    stopped = time.monotonic() - began
    assert command.end() == code, command.text
    took = time.monotonic() - began
    print(f"{name}: runs stopped after {stopped:.1f} s, ended after {took:.1f} s")
    assert took < 15
    assert f"stopped by {name}; everything done so far is saved" in command.text
    assert "next:  the same command continues the sweep" in command.text
    assert "Traceback" not in command.text
    assert one.settle() == []


@dataclass(frozen=True)
class Head:
    """A Ray cluster of the test's own."""

    shell: Shell
    address: str


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Two pretended GPUs and four CPUs, behind a token."""
    import shutil
    import tempfile

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    private = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    options = ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={private}", "--include-dashboard=false"]
    with shell(tmp_path_factory.mktemp("head"), **environment) as one:
        one.ray_folders.add(private)
        command = one.start(
            ["ray.scripts.scripts", "start", "--head", "--num-cpus=4", "--num-gpus=2", "--block", *options]
        )
        wait(lambda: "Ray runtime started" in command.text or not command.running, 60)
        assert command.running, command.text
        yield Head(one, f"127.0.0.1:{port}")
    shutil.rmtree(private, ignore_errors=True)


@pytest.mark.parametrize(("gpu", "at_once"), [(0.5, 4), (1, 2)])
def test_pretended_gpus_are_shared(head: Head, tiny: Tiny, tmp_path: Path, gpu: float, at_once: int) -> None:
    settings = {"resources__gpu": gpu, "search__schedule": ["standard"], "seeds": 4, "training__steps": 60}
    layout = SweepLayout(tmp_path / "storage", NAME)
    options = arguments(tiny, layout.storage, "--address", head.address, "--max-concurrent", "9", **settings)
    command = head.shell.raysched(*options)
    most = 0
    while command.running:
        most = max(most, len(workers(head.shell.folder)))
        time.sleep(0.2)
    assert command.end() == DONE, command.text
    assert f"{at_once} at a time" in command.text
    assert most_at_once(layout) == at_once
    assert most == at_once
    check_exactly_once(layout, 4, 1)


def test_more_gpus_than_any_node_has_are_refused(head: Head, tiny: Tiny, tmp_path: Path) -> None:
    options = arguments(tiny, tmp_path / "storage", "--address", head.address, resources__gpu=4)
    code, output = head.shell.run(*options)
    assert code == OUTSIDE_MISSING
    assert re.search(
        r"raysched: resources\.gpu: a run asks for 1 CPU, 4 GPU.*the largest node has 4 CPU, 2 GPU", output
    )
    assert "next:  ask for less" in output
    assert "Traceback" not in output
    assert not (tmp_path / "storage").exists()


def test_a_warm_worker_serves_all_runs_and_a_diverging_one_ends_nothing(head: Head, tiny: Tiny, tmp_path: Path) -> None:
    """So strong a weight decay makes the weights of the large lr alternate and grow beyond all numbers."""
    settings = {"search__lr": [0.9, 1e-2], "training__weight_decay": 30.0, "training__steps": 100, "seeds": 1}
    layout = SweepLayout(tmp_path / "storage", NAME)
    options = arguments(tiny, layout.storage, "--address", head.address, "--max-concurrent", "1", **settings)
    command = head.shell.raysched(*options)
    pids: set[int] = set()
    while command.running:
        pids |= {process.pid for process in workers(head.shell.folder)}
        time.sleep(0.2)
    assert command.end() == SOME_RUNS_FAILED, command.text
    assert "4 runs are done, 2 of them failed; 4 of them now." in command.text
    assert len(pids) == 1
    there = records(layout)
    status = {
        (record.params["schedule"], record.params["lr"]): (record.status, record.cause) for record in there.values()
    }
    assert status == {
        ("standard", 0.9): ("diverged", "nan"),
        ("gu", 0.9): ("diverged", "nan"),
        ("standard", 1e-2): ("finished", None),
        ("gu", 1e-2): ("finished", None),
    }
    assert sum(isinstance(entry, Recorded) for entry in ledgers.read(layout.ledger)) == 4
    tracked = {run.tags["raysched.run_id"]: run.status for run in mlflow_runs(layout) if run.level == "run"}
    assert tracked == {
        run_id: "FINISHED" if record.status == "finished" else "FAILED" for run_id, record in there.items()
    }
    # Cold: each run in a process of its own, without Ray.
    warm = {run_id: run for run_id, run in left(layout).items() if there[run_id].status == "finished"}
    for run_id, run in warm.items():
        point = [f"--point={key}={value}" for key, value in run.point.items()]
        cold = head.shell.run(
            "run", NAME, *point, "--seed", "0", "--storage", tmp_path / "cold", *overrides(tiny, **settings)
        )
        assert cold[0] == DONE, cold[1]
        check_cold(SweepLayout(tmp_path / "cold", f"{NAME}.run"), run_id, run)


def check_cold(layout: SweepLayout, run_id: str, warm: Left) -> None:
    from raysched.records.history import read_segments
    from raysched.records.record import read_result

    attempt = layout.run(run_id).attempt(0, 1)
    claim = read_result(attempt.result)
    assert (claim.source_dev, claim.tests, claim.steps) == (warm.source_dev, warm.tests, warm.steps)
    rows = [(row.kind, row.step, row.data) for row in read_segments(attempt.segments, claim.segments)]
    assert rows == warm.history
    assert claim.files == warm.files
