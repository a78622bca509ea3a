"""`submit --kubernetes`, and `status`, `logs`, `stop`, `pause`, `resume` of what was submitted so."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysched.cli.submitting import SHOWN, in_words
from raysched.cli.terminal import terminal
from raysched.errors import CTRL_C, DONE, RESUMABLE, Interrupted, StudyError

if TYPE_CHECKING:
    from raysched.service.kubernetes.client import Cluster
    from raysched.service.kubernetes.options import ClusterOptions
    from raysched.service.kubernetes.state import RayJob, Told
    from raysched.service.submit import Order

NAMESPACE = "raysched"


@dataclass(frozen=True, slots=True)
class Where:
    """A namespace of a cluster, as the command line names it."""

    namespace: str = NAMESPACE
    context: str | None = None

    @property
    def options(self) -> str:
        """What names it again."""
        words = "--kubernetes" + (f" --namespace {self.namespace}" if self.namespace != NAMESPACE else "")
        return words + (f" --context {self.context}" if self.context is not None else "")


def where(kubernetes: bool, namespace: str | None, context: str | None, address: str | None = None) -> Where | None:
    """What `--kubernetes` and the options beside it say; None without it.

    Raises:
        StudyError: two clusters are named, or a part of none.
    """
    if kubernetes and address is not None:
        raise StudyError("names another cluster than --kubernetes does", key="--address", hint="give one of them")
    if not kubernetes:
        for option, value in {"--namespace": namespace, "--context": context}.items():
            if value is not None:
                raise StudyError("is for --kubernetes", key=option, hint="add --kubernetes, or leave it out")
        return None
    return Where(namespace or NAMESPACE, context)


def submit(
    study: str,
    context: str | None,
    cluster: dict[str, Any],
    *,
    name: str | None,
    storage: str | None,
    mlflow_uri: str | None,
    overrides: list[str],
    max_concurrent: int | None,
    working_dir: Path | None,
    follow: bool,
) -> int:
    """Check the study here, start its sweep there, and leave; with `follow` stay until it ends, with its exit code."""
    from raysched.cli.cluster_verbs import build
    from raysched.service.kubernetes.options import SWEEPS
    from raysched.service.kubernetes.rayjob import manifests
    from raysched.service.submit import Order
    from raysched.study.load import load

    order = Order(
        asked=study,
        loaded=load(study, overrides, name=name),
        storage=storage or SWEEPS,
        overrides=overrides,
        max_concurrent=max_concurrent,
        working_dir=working_dir,
    )
    options = build(cluster, order.loaded, order.storage, mlflow_uri)
    manifests(order, options)  # so that a mistake is told before any cluster is asked
    return _submit(order, options, Where(options.namespace, context), follow=follow)


def _submit(order: Order, options: ClusterOptions, place: Where, *, follow: bool) -> int:
    from raysched.service.kubernetes import jobs, watching

    with _cluster(place) as cluster:
        job, new = jobs.submit(cluster, order, options)
        if new:
            _print(f"{job.sweep}: submitted as RayJob {job.name} in the namespace {place.namespace}")
            state = watching.started(cluster, job, _say(job))
            _print(f"{job.sweep}: {state}")
            if state.exit_code not in (None, DONE):
                return _next(state)
        else:
            state, _ = watching.summary(cluster, job, SHOWN)
            _print(f"{job.sweep}: is there already as RayJob {job.name}: it {state}; nothing was sent")
        for verb in ("status", "logs --follow", "stop"):
            command, _, option = verb.partition(" ")
            _print(f"{command + ':':8} raysched {command} {job.sweep} {place.options} {option}".rstrip())
        return _follow(cluster, job, place) if follow else DONE


def status(name: str | None, place: Where, as_json: bool) -> None:
    """Print how the RayJob of a sweep stands, why it waits, and the last lines of its output."""
    from raysched.service.kubernetes import watching

    with _picked(name, place) as (cluster, job):
        state, log = watching.summary(cluster, job, SHOWN)
    if as_json:
        print(json.dumps(watching.as_json(job, state, log)))  # noqa: T201
        return
    seconds = None if job.started is None else (job.ended or time.time()) - job.started
    lasts = "" if seconds is None else f" ({'after' if job.over else 'for'} {in_words(seconds)})"
    lines = [f"{job.sweep}: {state}{lasts}"]
    lines += [] if state.next is None else [f"  next:  {state.next}"]
    lines.append(f"RayJob:  {job.name} in {place.namespace}")
    if job.started is not None:
        lines.append(f"started: {datetime.fromtimestamp(job.started):%Y-%m-%d %H:%M:%S}")
    lines.append(f"storage: {job.storage}")
    _print(*lines, *(["output:", *(f"  {line}" for line in log)] if log else []))


def logs(name: str, place: Where, *, follow: bool) -> int:
    """Print what the driver of a sweep has printed; with `follow` until it ends, with its exit code."""
    from raysched.service.kubernetes import watching

    with _picked(name, place) as (cluster, job):
        if follow:
            return _follow(cluster, job, place)
        pod = watching.submitter(cluster, job)
        for line in [] if pod is None else cluster.log(pod.name):
            sys.stdout.write(f"{line}\n")
        return DONE


def stop(name: str | None, place: Where) -> int:
    """Delete the RayJob of a sweep, so that its driver is asked to save, and wait until its cluster is gone."""
    from raysched.service.kubernetes import jobs, watching

    with _picked(name, place) as (cluster, job):
        if not job.over:
            _print(f"{job.sweep}: stopping RayJob {job.name}; its driver is asked to save ...")
        if not jobs.stop(cluster, job):
            state, _ = watching.summary(cluster, job, SHOWN)
            _print(f"{job.sweep}: had ended already: it {state}")
        else:
            _print(f"{job.sweep}: was stopped, and its cluster is gone: submit it again to continue")
        return DONE


def pause(name: str | None, place: Where) -> int:
    """Take the cluster of a sweep away until `raysched resume`."""
    from raysched.service.kubernetes import jobs
    from raysched.service.kubernetes.state import told

    with _picked(name, place) as (cluster, job):
        state = told(jobs.pause(cluster, job))
        _print(f"{job.sweep}: {state}")
        return DONE if state.exit_code == RESUMABLE else _next(state)


def resume(name: str | None, place: Where) -> int:
    """End a pause; a sweep that has ended is submitted again, as it was."""
    from raysched.service.kubernetes import again, watching
    from raysched.service.kubernetes.state import told

    with _picked(name, place) as (cluster, job):
        now, new = again.resume(cluster, job)
        if new:
            _print(f"{job.sweep}: submitted again as RayJob {now.name}, which continues it")
        elif not job.suspend:
            _print(f"{job.sweep}: nothing to resume: it {told(now)}")
            return DONE
        state = watching.started(cluster, now, _say(job))
        _print(f"{job.sweep}: {state}")
        return DONE if state.exit_code is None else _next(state)


@contextlib.contextmanager
def _cluster(place: Where) -> Iterator[Cluster]:
    from raysched.service.kubernetes.client import Cluster

    cluster = Cluster(place.namespace, place.context)
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def _picked(name: str | None, place: Where) -> Iterator[tuple[Cluster, RayJob]]:
    from raysched.service.kubernetes import jobs

    with _cluster(place) as cluster:
        yield cluster, jobs.pick(jobs.jobs(cluster), name, place.namespace)


def _follow(cluster: Cluster, job: RayJob, place: Where) -> int:
    """Show a driver's output until it ends; the exit code that this means."""
    from raysched.service.kubernetes import watching

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        now = watching.follow(cluster, job, write, _say(job))
    except KeyboardInterrupt:
        raise Interrupted(
            f"no longer watching; the RayJob {job.name} goes on",
            exit_code=CTRL_C,
            hint=f"raysched stop {job.sweep} {place.options} ends it",
        ) from None
    state = watching.DELETED if now is None else watching.summary(cluster, now, SHOWN)[0]
    _print(f"{job.sweep}: {state}")
    return _next(state)


def _say(job: RayJob) -> Callable[[str], None]:
    return lambda words: _print(f"{job.sweep}: {words}")


def _next(state: Told) -> int:
    if state.next is not None:
        _print(f"  next:  {state.next}")
    return DONE if state.exit_code is None else state.exit_code


def _print(*lines: str) -> None:
    console = terminal()
    for line in lines:
        console.print(line, highlight=False, markup=False)
