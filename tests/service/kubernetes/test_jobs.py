"""Sweeps as RayJobs: the real client library against a double of a cluster whose operator plays what it is told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from raysched.errors import MissingError, StudyError
from raysched.service.kubernetes import client, jobs, watching
from raysched.service.kubernetes.again import resume
from raysched.service.kubernetes.client import Cluster
from raysched.service.kubernetes.options import ClusterOptions
from raysched.service.kubernetes.state import RayJob, told
from raysched.service.submit import Order
from tests.cli.conftest import closed_port
from tests.service.kubernetes.api import status
from tests.service.kubernetes.orders import order
from tests.service.kubernetes.simulated import Attempt, Operator, until

HOLD = Attempt("hold", ("0/4 runs done",))


OPTIONS = ClusterOptions()


def submitted(door: Cluster, one: Order | None = None, options: ClusterOptions = OPTIONS) -> RayJob:
    job, new = jobs.submit(door, one or order(), options)
    assert new
    return job


def running(door: Cluster, one: Order | None = None, options: ClusterOptions = OPTIONS) -> RayJob:
    job = submitted(door, one, options)
    watching.started(door, job, lambda _: None)
    found = watching.look(door, job.name)
    assert found is not None
    return found


def followed(door: Cluster, job: RayJob) -> tuple[RayJob | None, list[str], list[str]]:
    """How it ended, what its driver printed, and what was said meanwhile."""
    printed: list[str] = []
    said: list[str] = []
    return watching.follow(door, job, printed.append, said.append), [line.rstrip("\n") for line in printed], said


def test_a_sweep_is_tried_first_and_then_sent(cluster: Operator, door: Cluster) -> None:
    said: list[str] = []
    job = submitted(door)
    state = watching.started(door, job, said.append)
    assert str(state) == "runs"
    assert said == [
        "waits for KubeRay's operator to take it up",
        "its cluster is being made",
        "its cluster is up, and its driver is being started",
    ]
    sent = [asked for verb, resource, asked, _ in cluster.requests if (verb, resource) == ("create", "rayjobs")]
    assert [one.get("dryRun") for one in sent] == ["All", None]
    assert {one["fieldValidation"] for one in sent} == {"Strict"}
    end, printed, _ = followed(door, job)
    assert printed == ["0/4 runs done", "4/4 runs done"]
    assert end is not None
    assert told(end).exit_code == end.exit_code == 0


def test_a_sweep_that_is_under_way_is_not_sent_again(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    first = running(door)
    again, new = jobs.submit(door, order(), OPTIONS)
    assert (again.name, new) == (first.name, False)
    for other, rule in (
        (order(overrides=["seeds=2"]), r"another study runs there under the name 'xquad-mini' \(RayJob xquad-mini-"),
        (order(storage="/storage/other"), "a sweep in /storage/sweeps runs there"),
    ):
        with pytest.raises(StudyError, match=rule) as caught:
            jobs.submit(door, other, OPTIONS)
        assert "--name xquad-mini-2" in str(caught.value)
    assert len(cluster.rayjobs) == 1
    assert submitted(door, order(name="other", overrides=["seeds=2"])).sweep == "other"


def test_an_ended_sweep_gets_another_rayjob(cluster: Operator, door: Cluster, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: xquad-mini\nseeds: 2\n")
    cluster.plays = [Attempt(75), HOLD]
    options = ClusterOptions(backoff_limit=0)
    first = submitted(door, order("mine.yaml"), options)
    followed(door, first)
    second = submitted(door, order("mine.yaml"), options)
    assert second.name == f"{first.name}-2"
    until(lambda: list(cluster.rayjobs) == [second.name])
    assert list(cluster.configmaps) == [f"{second.name}-study"]
    owner = cluster.configmaps[f"{second.name}-study"]["metadata"]["ownerReferences"]
    assert owner == [{"apiVersion": "ray.io/v1", "kind": "RayJob", "name": second.name, "uid": second.uid}]
    assert cluster.stopped == []


def test_two_who_submit_at_once(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    made: list[tuple[RayJob, bool]] = []
    threads = [threading.Thread(target=lambda: made.append(jobs.submit(door, order(), OPTIONS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(new for _, new in made) == [False, False, False, True]
    assert len(cluster.rayjobs) == 1


def test_a_submission_that_breaks_off_leaves_nothing_or_is_completed(
    cluster: Operator, door: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("extends: xquad-mini\nseeds: 2\n")
    cluster.plays = [HOLD]
    tries = {"count": 0}
    real = cluster.create

    def create(resource: str, body: Any, dry_run: bool) -> Any:
        if resource == "configmaps" and not dry_run and not tries["count"]:
            tries["count"] += 1
            return status(500, "InternalError", "etcdserver: request timed out")
        return real(resource, body, dry_run)

    cluster.create = create  # type: ignore[method-assign]
    with pytest.raises(MissingError, match=r"could not create configmaps .*etcdserver"):
        jobs.submit(door, order("mine.yaml"), OPTIONS)
    until(lambda: all("deletionTimestamp" in one["metadata"] for one in cluster.rayjobs.values()))
    job = submitted(door, order("mine.yaml"))
    cluster.configmaps.clear()  # as where the first one was killed between its two requests
    assert jobs.submit(door, order("mine.yaml"), OPTIONS)[1] is False
    assert list(cluster.configmaps) == [f"{job.name}-study"]


def test_what_the_study_cannot_have_is_refused_before_the_cluster_is_asked(cluster: Operator, door: Cluster) -> None:
    with pytest.raises(StudyError, match="--storage"):
        jobs.submit(door, order(storage="/elsewhere"), OPTIONS)
    assert [verb for verb, *_ in cluster.requests] == ["list"]


def test_a_lost_watch_goes_on(cluster: Operator, door: Cluster) -> None:
    cluster.cut_watches, cluster.gone_watches = 1, 1
    said: list[str] = []
    assert str(watching.started(door, submitted(door), said.append)) == "runs"
    assert said[0] == "waits for KubeRay's operator to take it up"
    assert said[-1] == "its cluster is up, and its driver is being started"
    assert (cluster.cut_watches, cluster.gone_watches) == (0, 0)


def test_a_cluster_that_stays_away_is_given_up(
    cluster: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = (tmp_path / "kubeconfig").read_text().replace("127.0.0.1:", f"127.0.0.1:{closed_port()}/")
    (tmp_path / "dead").write_text(dead)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "dead"))
    slept: list[float] = []
    door = Cluster("raysched", sleep=slept.append, clock=iter(range(0, 10_000, 50)).__next__)
    with pytest.raises(MissingError, match="no cluster answers"):
        list(door.watch("a"))
    assert len(slept) > 2


def test_a_watch_ends_in_time(cluster: Operator, door: Cluster) -> None:
    cluster.answers = False
    job = submitted(door)
    cluster.pods["p"] = {
        "metadata": {"name": "p", "labels": {"ray.io/cluster": "c"}, "creationTimestamp": ""},
        "status": {"phase": "Pending"},
    }
    states = list(door.watch(job.name, door.clock() + 0.5))
    assert len(states) == 2
    assert door.pods("ray.io/cluster=c")[0].waits == ""


def test_a_log_is_followed_across_lost_connections(cluster: Operator, door: Cluster) -> None:
    lines = tuple(f"{number}/9 runs done" for number in range(9))
    cluster.plays = [Attempt(log=lines)]
    cluster.cut_logs = [0, 3, 4, 4, 6]
    end, printed, _ = followed(door, submitted(door))
    assert tuple(printed) == lines
    assert end is not None
    assert end.over


def test_a_lost_cluster_is_made_anew_and_the_sweep_goes_on(cluster: Operator, door: Cluster) -> None:
    lost = Attempt("AppFailed", ("1/4 runs done",), "Job supervisor actor died: its node is dead")
    cluster.plays = [lost, Attempt(log=("1/4 runs done", "4/4 runs done"))]
    job = submitted(door, options=ClusterOptions(backoff_limit=2))
    end, printed, said = followed(door, job)
    assert printed[-1] == "4/4 runs done"
    assert any("attempt 2 of 3" in words for words in said)
    assert end is not None
    assert (end.failed, end.exit_code, cluster.clusters) == (1, 0, 2)


def test_kueue_preempts_and_starts_again(cluster: Operator, door: Cluster) -> None:
    cluster.kueue = True
    cluster.plays = [Attempt("hold"), Attempt("preempt", ()), Attempt()]
    cluster.plays.pop(0)
    job = submitted(door, options=ClusterOptions(queue="team"))
    assert cluster.job()["spec"]["suspend"] is True
    said: list[str] = []
    watching.started(door, job, said.append)
    end, printed, more = followed(door, job)
    words = "\n".join((*said, *more))
    assert "waits in the queue team for Kueue to start it" in words
    assert printed == ["0/4 runs done", "4/4 runs done"]
    assert end is not None
    assert end.exit_code == 0
    for act in (jobs.pause, resume):
        cluster.job()["status"]["jobDeploymentStatus"] = "Suspended"
        cluster.job()["spec"]["suspend"] = True
        found = watching.look(door, job.name)
        assert found is not None
        with pytest.raises(StudyError, match="in the queue team: Kueue decides"):
            act(door, found)


def test_pause_takes_the_cluster_and_resume_makes_another(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    job = running(door)
    assert resume(door, job) == (job, False)
    paused = jobs.pause(door, job)
    assert told(paused).exit_code == 75
    assert "raysched resume xquad-mini --kubernetes" in str(told(paused).next)
    assert cluster.pods == {}
    assert cluster.stopped == []  # KubeRay does not ask a driver that it suspends
    end, _, _ = followed(door, paused)
    assert end is not None
    assert end.deployment == "Suspended"
    again, new = jobs.submit(door, order(), OPTIONS)
    assert (again.deployment, new) == ("Suspended", False)
    cluster.plays = [Attempt()]
    now, new = resume(door, paused)
    assert not new
    end, _, _ = followed(door, now)
    assert end is not None
    assert end.exit_code == 0
    with pytest.raises(StudyError, match="there is nothing to pause"):
        jobs.pause(door, end)


def test_a_rayjob_that_cannot_be_suspended(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    running(door)
    cluster.job()["spec"]["shutdownAfterJobFinishes"] = False
    with pytest.raises(StudyError, match="cannot be suspended"):
        jobs.pause(door, jobs.jobs(door)[0])


def test_resume_of_an_ended_sweep_submits_it_again_with_its_files(
    cluster: Operator, door: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("extends: xquad-mini\nseeds: 2\n")
    cluster.plays = [Attempt("DeadlineExceeded"), HOLD]
    first = submitted(door, order("mine.yaml"))
    end, _, _ = followed(door, first)
    assert end is not None
    assert told(end).exit_code == 75
    files = cluster.configmaps[f"{first.name}-study"]["data"]
    second, new = resume(door, end)
    assert new
    assert second.name == f"{first.name}-2"
    assert (second.study, second.storage, second.label) == (first.study, first.storage, first.label)
    until(lambda: list(cluster.rayjobs) == [second.name])
    assert {name: one["data"] for name, one in cluster.configmaps.items()} == {f"{second.name}-study": files}
    spec = str(cluster.job()["spec"])
    assert f"{second.name}-study" in spec
    assert f"'{first.name}-study'" not in spec
    assert jobs.submit(door, order("mine.yaml"), OPTIONS)[1] is False


def test_stop_asks_the_driver_and_waits_for_the_pods(cluster: Operator, door: Cluster) -> None:
    cluster.plays, cluster.linger = [HOLD], 3
    job = running(door)
    assert jobs.stop(door, job)
    assert cluster.stopped == [job.name]
    assert (cluster.rayjobs, cluster.pods) == ({}, {})
    deleted = [body for verb, _, _, body in cluster.requests if verb == "delete"]
    assert deleted == [{"propagationPolicy": "Background", "preconditions": {"uid": job.uid}}]
    cluster.plays = [Attempt()]
    end, _, _ = followed(door, submitted(door))
    assert end is not None
    assert not jobs.stop(door, end)


def test_what_no_operator_lets_go_is_told(cluster: Operator, door: Cluster) -> None:
    cluster.answers = False
    job = submitted(door)
    times = iter((0.0, *(10_000.0 for _ in range(50))))
    door.clock = times.__next__
    with pytest.raises(MissingError, match=r"was deleted, but is not gone after 120 s\n.*KubeRay's operator"):
        jobs.stop(door, job)


def test_a_sweep_that_somebody_deletes_meanwhile(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    job = running(door)
    deleter = threading.Thread(target=lambda: jobs.stop(Cluster("raysched"), job))
    printed: list[str] = []
    began = threading.Event()

    def write(line: str) -> None:
        printed.append(line)
        if not began.is_set():
            began.set()
            deleter.start()

    assert watching.follow(door, job, write, printed.append) is None
    deleter.join(30)
    assert printed[0] == "0/4 runs done\n"
    assert watching.DELETED.exit_code == 75


def test_a_submission_waits_for_one_that_is_being_deleted(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    first = running(door)
    cluster.answers = False
    door.delete(first.name, first.uid)
    later = threading.Timer(0.3, cluster.answer)
    later.start()
    second = submitted(door)
    later.join()
    assert cluster.stopped == [first.name]
    assert second.uid != first.uid


def test_a_cluster_that_does_not_come_up_is_told_with_its_reason(
    cluster: Operator, door: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "START_S", 0.5)
    why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    cluster.plays = [Attempt("stuck", waits=why)]
    job = submitted(door)
    state = watching.started(door, job, lambda _: None)
    assert "its cluster is being made" in str(state)
    assert f"Unschedulable: {why}" in str(state)
    assert state.exit_code is None


def test_the_rayjob_that_is_meant(cluster: Operator, door: Cluster) -> None:
    cluster.plays = [HOLD]
    with pytest.raises(MissingError, match="no sweep was submitted to the namespace raysched"):
        jobs.pick(jobs.jobs(door), None, "raysched")
    one = running(door)
    two = submitted(door, order(name="other"))
    found = jobs.jobs(door)
    assert jobs.pick(found, "other", "raysched").name == two.name
    assert jobs.pick(found, one.name, "raysched").name == one.name
    with pytest.raises(StudyError, match=r"2 sweeps are in the namespace raysched: say which\n.*other"):
        jobs.pick(found, None, "raysched")
    with pytest.raises(MissingError, match=r"no job of the sweep 'third' is in the namespace raysched\n  valid:"):
        jobs.pick(found, "third", "raysched")


def test_nothing_but_the_door_knows_the_library() -> None:
    package = Path(client.__file__).parents[2]
    knows = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import kubernetes", "from kubernetes"))
    ]
    assert set(knows) == {"service/kubernetes/client.py"}
