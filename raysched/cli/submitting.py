"""`submit`, and `status`, `stop`, `logs` of what was submitted."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from raysched.cli.terminal import terminal
from raysched.errors import CTRL_C, DONE, OUTSIDE_MISSING, Interrupted, StudyError

if TYPE_CHECKING:
    from raysched.service.ray_jobs import Job, JobServer

SHOWN = 10
"""Last lines of a job's output that `status` shows."""


def only(address: str | None, **of_kubernetes: object) -> None:
    """Refuse a command that names no cluster, or an option that is for another kind of cluster.

    Raises:
        StudyError: one of these.
    """
    if option := next((name for name, value in of_kubernetes.items() if value is not None), None):
        raise StudyError(
            "is for --kubernetes", key="--" + option.replace("_", "-"), hint="add --kubernetes, or leave it out"
        )
    if address is None:
        raise StudyError(
            "names the cluster, or --kubernetes does: one of them is needed",
            key="--address",
            choices=["--address http://head:8265", "--kubernetes"],
        )


def submit(
    study: str,
    address: str,
    *,
    name: str | None,
    storage: str,
    mlflow_uri: str | None,
    overrides: list[str],
    max_concurrent: int | None,
    working_dir: Path | None,
    follow: bool,
) -> int:
    """Check the study here, start its sweep there, and leave; with `follow` stay until it ends, with its exit code."""
    from raysched.service import submit as service
    from raysched.service.ray_jobs import check_address
    from raysched.study.load import load

    check_address(address)
    order = service.Order(
        asked=study,
        loaded=load(study, overrides, name=name),
        storage=storage,
        mlflow_uri=mlflow_uri,
        overrides=overrides,
        max_concurrent=max_concurrent,
        working_dir=working_dir,
    )
    service.check_order(order)
    server = _server(address)
    job, new = service.submit(server, order)
    console = terminal()
    if new:
        job = service.started(server, job)
        state = service.meaning(job, service.last_lines(server, job, SHOWN))
        console.print(f"{job.sweep}: submitted as job {job.id}, which {state}", highlight=False, markup=False)
    else:
        console.print(f"{job.sweep}: runs already as job {job.id}; nothing was sent", highlight=False, markup=False)
    for verb in ("status", "logs --follow", "stop"):
        command, _, option = verb.partition(" ")
        line = f"{command + ':':8} raysched {command} {job.sweep} --address {server.address} {option}".rstrip()
        console.print(line, highlight=False, markup=False)
    return _follow(server, job) if follow else DONE


def status(name: str | None, address: str, as_json: bool) -> None:
    """Print how the job of a sweep stands, and the last lines of its output."""
    from raysched.service import submit as service

    server = _server(address, quiet=as_json)
    job = service.pick(server.jobs(), name)
    log = service.last_lines(server, job, SHOWN)
    if as_json:
        print(json.dumps(_json(job, service.meaning(job, log), log)))  # noqa: T201
        return
    console = terminal()
    seconds = _seconds(job)
    lasts = "" if seconds is None else f" ({'after' if job.over else 'for'} {in_words(seconds)})"
    lines = [f"{job.sweep}: {service.meaning(job, log)}{lasts}", f"job:     {job.id}"]
    if job.started is not None:
        lines.append(f"started: {datetime.fromtimestamp(job.started):%Y-%m-%d %H:%M:%S}")
    lines.append(f"storage: {job.storage}")
    if log:
        lines += ["output:", *(f"  {line}" for line in log)]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def stop(name: str | None, address: str) -> int:
    """Let the driver of a submitted sweep save and leave, and wait for that; fine where it has ended already."""
    from raysched.service import submit as service

    server = _server(address)
    job = service.pick(server.jobs(), name)
    over = job.over
    if not over:
        terminal().print(f"{job.sweep}: stopping job {job.id} ...", highlight=False, markup=False)
    job = service.stop(server, job)
    state = service.meaning(job, service.last_lines(server, job, SHOWN))
    was = "had ended already: it " if over else ""
    terminal().print(f"{job.sweep}: {was}{state}", highlight=False, markup=False)
    return DONE


def logs(name: str, address: str, *, follow: bool) -> int:
    """Print what the driver of a submitted sweep has printed; with `follow` until it ends, with its exit code."""
    from raysched.service import submit as service

    server = _server(address)
    job = service.pick(server.jobs(), name)
    if follow:
        return _follow(server, job)
    sys.stdout.write("" if job.state == "PENDING" else server.logs(job.id))
    return DONE


def _server(address: str, quiet: bool = False) -> JobServer:
    from raysched.service.ray_jobs import JobServer

    server = JobServer(address)
    if server.open and not quiet:
        terminal().print(
            f"warning: {server.address} asks nobody for a token: whoever reaches it runs code there\n"
            "  next:  start the cluster with RAY_AUTH_MODE=token",
            highlight=False,
            markup=False,
        )
    return server


def _follow(server: JobServer, job: Job) -> int:
    """Show a job's output until it ends; its driver's exit code."""
    from raysched.service import submit as service

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        job = server.follow(job.id, write)
    except KeyboardInterrupt:
        raise Interrupted(
            f"no longer watching; the job {job.id} goes on",
            exit_code=CTRL_C,
            hint=f"raysched stop {job.sweep} --address {server.address} ends it",
        ) from None
    state = service.meaning(job, service.last_lines(server, job, SHOWN))
    terminal().print(f"{job.sweep}: {state}", highlight=False, markup=False)
    if job.exit_code is None:
        return OUTSIDE_MISSING if job.state == "FAILED" else DONE
    return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code


def _json(job: Job, state: str, log: list[str]) -> dict[str, object]:
    return {
        "sweep": job.sweep,
        "job": job.id,
        "state": job.state,
        "meaning": state,
        "started": job.started,
        "ended": job.ended,
        "seconds": _seconds(job),
        "exit_code": job.exit_code,
        "storage": job.storage,
        "version": job.version,
        "last_lines": log,
    }


def _seconds(job: Job) -> float | None:
    return None if job.started is None else (job.ended or time.time()) - job.started


def in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
