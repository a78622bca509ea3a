"""What a ledger's lines say: the decisions of a sweep's driver, one typed entry each."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from raysched.errors import DamageError, MissingError

SCHEMA = 1


class Entry(BaseModel):
    """What every line holds; `epoch` and `time_ms` are set when it is appended."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    epoch: int = 0
    time_ms: int = 0


class Opened(Entry):
    """The sweep's study and inputs as resolved; a later one (an extended study) replaces an earlier one."""

    kind: Literal["opened"] = "opened"
    schema_version: int = SCHEMA
    uid: str = Field(default_factory=lambda: uuid.uuid4().hex)
    study: dict[str, Any]
    resolved: dict[str, Any]
    provenance: dict[str, Any] = {}
    database: str = ""
    """The search's database, without its password; empty where it is in the sweep's folder."""


class Takeover(Entry):
    """A driver took the sweep; drivers of lower epochs may write nothing from here on."""

    kind: Literal["takeover"] = "takeover"
    host: str
    pid: int


class PointTaken(Entry):
    """Optuna trial `number` is this point; `run_ids` by seed."""

    kind: Literal["point"] = "point"
    number: int
    params: dict[str, Any]
    cell_id: str
    run_ids: dict[int, str]


class AttemptStarted(Entry):
    """Attempt `attempt` of a run, in the folder attempt-<epoch>-<attempt>."""

    kind: Literal["attempt"] = "attempt"
    run_id: str
    attempt: int


class AttemptEnded(Entry):
    kind: Literal["attempt_end"] = "attempt_end"
    run_id: str
    attempt: int
    outcome: Literal["finished", "failed", "diverged", "lost", "stopped"]
    cause: str | None = None
    message: str = ""


class Recorded(Entry):
    """The run's record.json is in place."""

    kind: Literal["recorded"] = "recorded"
    run_id: str
    status: Literal["finished", "failed", "diverged"]


class Reopened(Entry):
    """A run that had failed is to be tried again: records of its first `attempts` attempts do not count any more."""

    kind: Literal["reopened"] = "reopened"
    run_id: str
    attempts: int


class Told(Entry):
    """Optuna was told the point's end; `value` is None where it failed."""

    kind: Literal["told"] = "told"
    number: int
    state: Literal["complete", "fail"]
    value: float | None = None


class Note(Entry):
    kind: Literal["note"] = "note"
    text: str
    run_id: str | None = None


class Ended(Entry):
    """The driver leaves: every point done (finished), done but runs failed (failed), or early (stopped)."""

    kind: Literal["ended"] = "ended"
    outcome: Literal["finished", "failed", "stopped"]


AnyEntry = Annotated[
    Opened | Takeover | PointTaken | AttemptStarted | AttemptEnded | Recorded | Reopened | Told | Note | Ended,
    Field(discriminator="kind"),
]
_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)


def entry_of(value: Any, path: Path) -> AnyEntry:
    """Raises DamageError where a line is none, MissingError where a newer raysched wrote it."""
    if isinstance(value, dict) and value.get("kind") == "opened" and value.get("schema_version", 1) > SCHEMA:
        raise MissingError(
            f"was written by a newer raysched (ledger schema {value['schema_version']}, this one reads up to {SCHEMA})",
            key=str(path),
            hint="install the version that started the sweep",
        )
    try:
        return _ENTRY.validate_python(value)
    except ValidationError as error:
        raise DamageError(
            f"holds a line that is no ledger entry: {error.errors()[0]['msg']}",
            key=str(path),
        ) from error
