"""A Ray cluster's job server, reached through the Ray Jobs API: beside `runners`, the package's only door to Ray.

Every failure is told in words: StudyError where the address is not one, MissingError where no server answers, or it
answers no.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from raysched.errors import MissingError, RayschedError, StudyError

CONNECT_S = 5.0
ANSWER_S = 60.0
"""A server that took a request is given so long: it unpacks, and asks other nodes."""
AGAIN_S = 1.0
MOST_BYTES = 100 * 1024**2
"""A larger request is refused by every job server, whatever its settings."""
ENDED = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
EXAMPLE = "http://head:8265"
TOKEN_HINT = "put the cluster's token into RAY_AUTH_TOKEN, or its file into RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
REACH_HINT = "check the address and that the head runs with its dashboard; from outside, forward its port 8265"
SWEEP, STORAGE, STUDY, VERSION = "raysched.sweep", "raysched.storage", "raysched.study", "raysched.version"
"""Metadata of our jobs. Everybody who may ask the job server can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job of raysched as its server knows it; times in seconds since 1970.

    `exit_code` is the driver's; None while it runs, and where it was stopped or never started. `study` is a digest.
    """

    id: str
    state: str
    sweep: str
    storage: str
    study: str
    version: str
    started: float | None
    ended: float | None
    exit_code: int | None
    message: str

    @property
    def over(self) -> bool:
        return self.state in ENDED


def check_address(address: str) -> str:
    """The address of a job server without its last slash. Raises StudyError for everything that cannot be one."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc:
        return address.rstrip("/")
    if "@" in parts.netloc:
        raise StudyError("must hold no password", key="--address", hint=TOKEN_HINT)
    host = (address.partition("://")[2] or address).partition("/")[0].partition(":")[0] or "head"
    what, port = f"must begin with http:// or https://, but got {address!r}", address.rpartition(":")[2]
    if parts.scheme == "ray":
        what = f"must be the cluster's job server, but {address} is where Ray's own client connects"
    if parts.scheme == "ray" or not port.isdigit():
        port = "8265"
    raise StudyError(what, key="--address", hint=f"for example --address http://{host}:{port}")


def token() -> str | None:
    """The cluster's token, from where Ray looks for it too. Raises MissingError for a file that cannot be read."""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return None
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise MissingError(f"{path} cannot be read: {why}", key="RAY_AUTH_TOKEN_PATH", hint=TOKEN_HINT) from error


class JobServer:
    """The job server at an address. Making one asks it for its version, so that every reason to refuse is told now.

    `version` is the cluster's Ray; `open` says that it asks nobody for a token.
    """

    def __init__(self, address: str) -> None:
        self.address = check_address(address)
        secret = token()
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        with self._told():
            self.version = self._ask_version()
            self.open = self._is_open()
            self._client = self._connect()

    def jobs(self) -> list[Job]:
        """The jobs of raysched, the newest first."""
        with self._told():
            found = [_job(details) for details in self._client.list_jobs() if SWEEP in (details.metadata or {})]
        return sorted(found, key=lambda job: job.started or float("inf"), reverse=True)

    def ids(self) -> set[str]:
        """The submission ids of all jobs, whoever's they are: none can be given again."""
        with self._told():
            return {details.submission_id for details in self._client.list_jobs() if details.submission_id}

    def job(self, job_id: str) -> Job:
        with self._told():
            return _job(self._client.get_job_info(job_id))

    def submit(
        self,
        job_id: str,
        entrypoint: str,
        *,
        metadata: Mapping[str, str],
        environment: Mapping[str, str],
        package: Path | None,
    ) -> None:
        """Start a job; `package` is a zip that becomes its working folder. A used `job_id` raises MissingError."""
        runtime_env: dict[str, Any] = {"env_vars": dict(environment)}
        if package is not None:
            runtime_env["working_dir"] = str(package)
        with self._told():
            self._client.submit_job(
                submission_id=job_id, entrypoint=entrypoint, metadata=dict(metadata), runtime_env=runtime_env
            )

    def stop(self, job_id: str) -> None:
        """SIGTERM to the job's driver; it is not waited for. A job that has ended stays as it is."""
        with self._told():
            self._client.stop_job(job_id)

    def logs(self, job_id: str) -> str:
        """All that the job's driver has printed."""
        with self._told():
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, write: Callable[[str], None]) -> Job:
        """`write` all that the job's driver prints, from its beginning to its end; the job as it ended."""
        seen = 0
        while True:
            with self._told():
                seen = asyncio.run(self._tail(job_id, seen, write))
            job = self.job(job_id)
            if job.over:
                write(self.logs(job_id)[seen:])  # what came between the last look at its output and its end
                return job
            time.sleep(AGAIN_S)  # the server let go of us, and the job goes on

    async def _tail(self, job_id: str, seen: int, write: Callable[[str], None]) -> int:
        """Write what comes after the first `seen` characters until the server hangs up; how many there were."""
        came = 0
        with contextlib.suppress(RuntimeError):  # hung up at the wrong moment: the caller asks again
            async for text in self._client.tail_job_logs(job_id):
                write(text[max(0, seen - came) :])
                came += len(text)
        return max(seen, came)

    def _ask_version(self) -> str:
        answer = requests.get(
            f"{self.address}/api/version", headers=self._headers, timeout=(CONNECT_S, CONNECT_S), verify=_verify()
        )
        if answer.status_code in (401, 403):
            raise _refused(self.address, answer.status_code)
        try:
            return str(answer.json()["ray_version"])
        except (ValueError, KeyError, TypeError):
            raise MissingError(
                f"{self.address} answers, but is not the job server of a Ray cluster (HTTP {answer.status_code})",
                key="--address",
                hint=f"give the address of the head's dashboard, for example {EXAMPLE}",
            ) from None

    def _is_open(self) -> bool:
        answer = requests.get(
            f"{self.address}/api/authentication_mode", timeout=(CONNECT_S, CONNECT_S), verify=_verify()
        )
        return answer.status_code == 200 and '"token"' not in answer.text

    def _connect(self) -> Any:
        import ray  # noqa: F401  (heavy)
        from ray.job_submission import JobSubmissionClient

        for talks in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(talks).setLevel(logging.ERROR)

        class Client(JobSubmissionClient):
            def _do_request(self, *arguments: Any, **options: Any) -> Any:
                """With time limits, which Ray's own lacks."""
                return super()._do_request(*arguments, **({"timeout": (CONNECT_S, ANSWER_S)} | options))

        with _without("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # they would hold, and not the address given
            return Client(self.address, headers=dict(self._headers), verify=_verify())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever the server, the network or Ray's client raise into an error in words.

        Ray's client raises RuntimeError with the server's traceback in it for almost everything.
        """
        try:
            yield
        except RayschedError:
            raise
        except requests.exceptions.SSLError as error:
            raise MissingError(
                f"{self.address}: its certificate is not trusted here",
                key="--address",
                hint="name the file of your authority in REQUESTS_CA_BUNDLE",
            ) from error
        except requests.exceptions.Timeout as error:
            raise MissingError(
                f"no answer from {self.address} within {CONNECT_S:g} s", key="--address", hint=REACH_HINT
            ) from error
        except (requests.RequestException, OSError) as error:
            raise MissingError(f"nothing answers at {self.address}", key="--address", hint=REACH_HINT) from error
        except Exception as error:  # Ray's and aiohttp's
            raise _explained(self.address, str(error), getattr(error, "status", None)) from error


def _explained(address: str, text: str, status: int | None) -> MissingError:
    """Why the server said no, from the text of Ray's client."""
    for number, beginning in {401: "Authentication required", 403: "Authentication failed"}.items():
        if status == number or text.startswith(beginning):
            return _refused(address, number)
    if "status code 413" in text:
        return MissingError(
            f"{address} takes at most {MOST_BYTES // 1024**2} MiB with a job",
            key="--working-dir",
            hint="send less, and put the rest into the cluster's image or storage",
        )
    if status == 404 or "status code 404" in text:
        return MissingError(f"{address} knows no such job", hint="raysched status --address lists those of raysched")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = lines[0] if lines else "it gave no reason"
    if len(lines) > 1 and "Traceback" in text:  # the server's own: only its last line says what happened
        reason = f"{reason.partition(': Traceback')[0]}: {lines[-1]}"
    return MissingError(f"{address} could not do that: {reason[:300]}", key="--address", hint=REACH_HINT)


def _refused(address: str, status: int) -> MissingError:
    what = "asks for a token, and there is none here" if status == 401 else "does not accept the token that is here"
    return MissingError(f"{address} {what} (HTTP {status})", key="--address", hint=TOKEN_HINT)


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=details.submission_id or details.job_id or "",
        state=str(getattr(details.status, "value", details.status)),
        sweep=metadata.get(SWEEP, ""),
        storage=metadata.get(STORAGE, ""),
        study=metadata.get(STUDY, ""),
        version=metadata.get(VERSION, ""),
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def _verify() -> str | bool:
    return os.environ.get("REQUESTS_CA_BUNDLE") or True


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
