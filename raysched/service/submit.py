"""A sweep as a job on a cluster far away: what is sent, under which id, and what has become of it."""

from __future__ import annotations

import hashlib
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from raysched import __version__
from raysched.errors import (
    BAD_INPUT,
    CTRL_C,
    DONE,
    OUTSIDE_MISSING,
    RESUMABLE,
    SOME_RUNS_FAILED,
    TERMINATED,
    MissingError,
    StudyError,
)
from raysched.service.parcel import Parcel, parcel
from raysched.service.ray_jobs import STORAGE, STUDY, SWEEP, VERSION, Job, JobServer
from raysched.study.load import LoadedStudy, Suite
from raysched.study.messages import is_secret

STOP_WAIT_S = 60
"""A stopped driver saves within ten seconds and leaves; Ray alone would kill it after three."""
START_S = 30.0
"""So long a submission watches whether its job starts at all."""
LOOK_EVERY_S = 0.5
ENVIRONMENT = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
"""Of the job. Everybody who may ask the job server can read it: it never holds a secret."""
MEANING = {
    DONE: "done",
    SOME_RUNS_FAILED: "came to its end, but some runs failed",
    BAD_INPUT: "was refused: the study or an option is malformed there",
    OUTSIDE_MISSING: "something that it needs is not there",
    RESUMABLE: "stopped, and can be continued: submit it again",
    CTRL_C: "was interrupted; everything is saved: submit it again to continue",
    TERMINATED: "was terminated; everything is saved: submit it again to continue",
    126: "the command cannot be run there",
    127: "no `python` is on the PATH there: is this raysched's image?",
}
"""What the exit code of a driver says."""
SAVED = "everything done so far is saved"
"""What a driver prints that was stopped and had the time to save."""
OF_RAY = re.compile(r"Running entrypoint for job |\S+ \S+\tINFO job_manager\.py")
"""Lines of a job's log that its driver did not print."""
SECRET_HINT = (
    "leave the password out of the address, and put it into the environment of the cluster's head (a Secret there): "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, PGPASSWORD, AWS_SECRET_ACCESS_KEY"
)


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A sweep to be submitted: a validated study, and the options of `raysched sweep` as the cluster is to see them.

    `asked` is the study's name or path as it was typed; relative paths start from `cwd`.
    """

    asked: str
    loaded: LoadedStudy | Suite
    storage: str
    mlflow_uri: str | None = None
    overrides: Sequence[str] = ()
    max_concurrent: int | None = None
    working_dir: Path | None = None
    cwd: Path = field(default_factory=Path.cwd)

    @property
    def metadata(self) -> dict[str, str]:
        parts = self.loaded.parts if isinstance(self.loaded, Suite) else (self.loaded,)
        digest = hashlib.sha256("\0".join(part.text for part in parts).encode()).hexdigest()[:16]
        return {SWEEP: self.loaded.name, STORAGE: self.storage, STUDY: digest, VERSION: __version__}

    def entrypoint(self, sent: Parcel) -> str:
        """The command of the job, for a shell. Overrides stand in the study's file where that was sent."""
        command = ["python", "-m", "raysched", "sweep", sent.study, "--name", self.loaded.name]
        command += ["--storage", self.storage, "--address", "auto"]  # the cluster that the job runs on
        if self.mlflow_uri is not None:
            command += ["--mlflow", self.mlflow_uri]
        if self.max_concurrent is not None:
            command += ["--max-concurrent", str(self.max_concurrent)]
        if sent.study not in sent.files:
            command += [part for override in self.overrides for part in ("--set", override)]
        return f"exec {shlex.join(command)}"  # so that signals reach the driver, and no shell in between


def check_order(order: Order) -> Parcel:
    """Refuse what the cluster could not do, before it is asked; what is to be sent.

    Raises:
        StudyError: a storage that only this machine sees, a secret that everybody could read there, too large a folder.
    """
    for key, value in {"--storage": order.storage, "--mlflow": order.mlflow_uri}.items():
        if value is not None and holds_secret(value):
            raise StudyError(
                "holds a password, and everybody who may ask the cluster for its jobs could read it",
                key=key,
                hint=SECRET_HINT,
            )
        if value is not None and not _seen_from_afar(value):
            raise StudyError(
                f"must be an address that every node of the cluster sees, but {value!r} is a path on this machine",
                key=key,
                choices=["s3://bucket/folder", "gs://bucket/folder", "/a/folder/mounted/on/every/node"]
                if key == "--storage"
                else ["http://mlflow:5000", "https://mlflow.example.org"],
            )
    return parcel(order.asked, order.loaded, order.working_dir, order.cwd)


def holds_secret(uri: str) -> bool:
    """Whether an address holds a password, a key of an object store, or a query that asks for one."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    keys = bool(parts.username) and parts.scheme not in ("postgresql", "http", "https")
    return bool(parts.password) or keys or any(is_secret(key) for key, _ in parse_qsl(parts.query))


def _seen_from_afar(uri: str) -> bool:
    scheme, there, rest = uri.partition("://")
    if not there:
        return uri.startswith("/")
    return rest.startswith("//") if scheme == "sqlite" else bool(rest)


def submit(server: JobServer, order: Order) -> tuple[Job, bool]:
    """The job of this sweep, and whether it is a new one: where it runs already, nothing is sent.

    A sweep whose job has ended gets another one, which continues it.

    Raises:
        StudyError: as `check_order` does; or another study runs under this name.
        MissingError: the server refuses the job.
    """
    sent = check_order(order)
    metadata = order.metadata
    with tempfile.TemporaryDirectory(prefix="raysched-submit-") as folder:
        package = sent.write(Path(folder) / "parcel.zip")
        while True:
            if (running := _running(server, metadata)) is not None:
                return running, False
            used = server.ids()
            job_id = free_id(order.loaded.name, used)
            try:
                server.submit(
                    job_id, order.entrypoint(sent), metadata=metadata, environment=ENVIRONMENT, package=package
                )
            except MissingError:
                if job_id not in server.ids():  # else somebody else took the id just now
                    raise
                continue
            return server.job(job_id), True


def _running(server: JobServer, metadata: dict[str, str]) -> Job | None:
    for job in server.jobs():
        if not job.over and job.sweep == metadata[SWEEP]:
            if (job.study, job.storage) != (metadata[STUDY], metadata[STORAGE]):
                other = "another study" if job.study != metadata[STUDY] else f"a sweep in {job.storage}"
                raise StudyError(
                    f"{other} runs there under the name {job.sweep!r} (job {job.id})",
                    key="--name",
                    hint=f"give this one another name: --name {job.sweep}-2",
                )
            return job
    return None


def free_id(name: str, used: set[str]) -> str:
    """`xquad-mini`, then `xquad-mini-2`, ...: an id is never given twice."""
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    number = 1
    while (job_id := slug if number == 1 else f"{slug}-{number}") in used:
        number += 1
    return job_id


def started(server: JobServer, job: Job, sleep: Callable[[float], None] = time.sleep) -> Job:
    """The job once it runs, or after `START_S`.

    Raises:
        MissingError: it ended before it began: no such folder, no `python`, no raysched in the image.
    """
    until = time.monotonic() + START_S
    while job.state == "PENDING" and time.monotonic() < until:
        sleep(LOOK_EVERY_S)
        job = server.job(job.id)
    if job.state == "RUNNING":  # a command that cannot be run ends at once
        sleep(2 * LOOK_EVERY_S)
        job = server.job(job.id)
    if job.state == "FAILED":
        log = last_lines(server, job, 20)
        if any(line.rstrip().endswith("No module named raysched") for line in log):
            raise MissingError(
                f"the job {job.id} cannot start: there is no raysched on the cluster",
                hint="start the cluster from raysched's image, or send the code along: --working-dir",
            )
        if job.exit_code is None or job.exit_code in (126, 127):
            lines = [line for line in job.message.splitlines() if line.strip()] or ["no reason was given"]
            what = MEANING.get(job.exit_code or 0, lines[0][:300]) if job.exit_code else lines[0][:300]
            raise MissingError(
                f"the job {job.id} cannot start: {what}", hint="look into the head's logs, and submit it again"
            )
    return job


def pick(jobs: Sequence[Job], name: str | None) -> Job:
    """The newest job of the sweep `name`, or the job of this id; without a name that of the only sweep.

    Raises:
        MissingError: no job of raysched is there, or none of this name.
        StudyError: several sweeps are there, and none was named.
    """
    if not jobs:
        raise MissingError("no sweep was submitted to this cluster", hint="raysched submit STUDY --address URL")
    return pick_named([(job.sweep, job.id, job.over, job) for job in jobs], name, "on this cluster")


def pick_named(jobs: Sequence[tuple[str, str, bool, T]], name: str | None, where: str) -> T:
    """Of (sweep, job, whether it is over, value), newest first: what runs of the sweep or job of this name, else the
    newest; without a name of the only sweep. Raises as `pick`.
    """
    choices = list(dict.fromkeys(sweep for sweep, *_ in jobs))
    named = [job for job in jobs if name in (None, job[0])] or [job for job in jobs if name == job[1]]
    if not named:
        raise MissingError(f"no job of the sweep {name!r} is {where}", key="SWEEP", choices=choices)
    if name is None and len(choices) > 1:
        raise StudyError(f"{len(choices)} sweeps are {where}: say which", choices=choices)
    return next((value for _, _, over, value in named if not over), named[0][3])


def stop(server: JobServer, job: Job, sleep: Callable[[float], None] = time.sleep) -> Job:
    """Ask the driver to save and leave, and wait until it has; a job that has ended stays as it is.

    Raises:
        MissingError: it has not ended in `STOP_WAIT_S` and some seconds.
    """
    if job.over:
        return job
    server.stop(job.id)
    until = time.monotonic() + STOP_WAIT_S + 15
    while not (job := server.job(job.id)).over:
        if time.monotonic() > until:
            raise MissingError(
                f"the job {job.id} was asked to stop, but has not ended in {STOP_WAIT_S + 15} s",
                hint="look again: raysched status --address",
            )
        sleep(LOOK_EVERY_S)
    return job


def meaning(job: Job, log: Sequence[str] = ()) -> str:
    """The state of a job in words; `log` are the last lines of its driver."""
    if job.state == "PENDING":
        return "waits to be started"
    if job.state == "RUNNING":
        return "runs"
    if job.state == "STOPPED":
        saved = any(SAVED in line for line in log)
        how = "everything is saved" if saved else "continued from its last checkpoints"
        return f"was stopped; {how}: submit it again to continue"
    if job.exit_code is None:
        return "never started" if not log else "was lost with its driver: submit it again to continue"
    if job.exit_code < 0:
        return f"its driver was killed by signal {-job.exit_code}: submit it again to continue"
    return MEANING.get(job.exit_code, f"its driver ended with exit code {job.exit_code}")


def last_lines(server: JobServer, job: Job, most: int) -> list[str]:
    """The end of what the driver printed, without what Ray adds; none before it has started."""
    if job.state == "PENDING":
        return []
    try:
        lines = server.logs(job.id).splitlines()
    except MissingError:  # its node is gone
        return []
    return [line for line in lines if line.strip() and not OF_RAY.match(line)][-most:]
