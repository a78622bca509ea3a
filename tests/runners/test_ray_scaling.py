"""Machines on demand: what an autoscaler is asked for, and a sweep that waits for the first of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from raysched.errors import CTRL_C, Interrupted, StudyError
from raysched.runners import ray_cluster
from raysched.runners.ray_scaling import AUTOSCALE, Wish, most_at_a_time, wait_for_room
from tests.reports.conftest import study


def test_it_asks_for_the_runs_that_are_left_and_at_most_for_as_many_as_allowed() -> None:
    asked: list[list[dict[str, float]]] = []
    wish = Wish({"CPU": 2, "GPU": 0.5, "memory": 0}, 3, ask=lambda bundles: asked.append(bundles))
    for runs in (20, 5, 2, 2, 0):
        wish.want(runs)
    assert asked == [[{"CPU": 2, "GPU": 0.5}] * n for n in (3, 2, 0)]  # nothing is said twice


@pytest.mark.parametrize(("value", "most"), [("", None), ("1", 1), ("12", 12)])
def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch, value: str, most: int | None) -> None:
    monkeypatch.setenv(AUTOSCALE, value)
    assert most_at_a_time() == most


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(AUTOSCALE, value)
    with pytest.raises(StudyError, match=AUTOSCALE):
        most_at_a_time()


def test_it_waits_until_a_run_fits_and_says_so_once() -> None:
    slots, said, slept = iter([0, 0, 0, 2]), [], []  # type: ignore[var-annotated]
    wait_for_room(lambda: next(slots), lambda: said.append("waiting"), slept.append)
    assert (said, len(slept)) == (["waiting"], 3)


def test_ctrl_c_ends_the_wait() -> None:
    with pytest.raises(Interrupted, match="before a machine came") as caught:
        wait_for_room(lambda: 0, lambda: None, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert caught.value.exit_code == CTRL_C


SCRIPT = """
import json, logging
from raysched.runners import ray_cluster
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.cluster_utils import Cluster
from tests.reports.conftest import study

made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})


class Autoscaler(logging.Handler):
    def emit(self, record):
        if "waiting for one since" in record.getMessage():
            made.add_node(num_cpus=2)


logging.getLogger("raysched").addHandler(Autoscaler())
asked = []
try:
    with ray_cluster.cluster(made.address, study(resources={"cpu": 1, "gpu": 0}), None) as on:
        for runs in (20, 1):
            on.wish.want(runs)
            state = get_cluster_resource_state(GcsClient(address=made.address))
            asked.append([one.count for each in state.cluster_resource_constraints for one in each.resource_requests])
        print(json.dumps({"slots": on.slots, "device": on.device, "asked": asked}))
finally:
    made.shutdown()
"""


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_a_cluster_without_machines_gets_its_first() -> None:
    """In a process of its own: Ray reads how it authenticates once."""
    environment = {
        **os.environ,
        AUTOSCALE: "3",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "of-this-test-alone" * 3,
        "RAY_enable_autoscaler_v2": "1",  # as KubeRay says on a head
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"slots": 2, "device": "cpu", "asked": [[3], [1]]}


def test_without_a_number_of_gpus_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTOSCALE, "3")
    with pytest.raises(StudyError, match=r"resources\.gpu"), ray_cluster._wishing(study().resources):
        pass
