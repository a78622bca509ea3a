"""Every error a user can meet, and the exit code it ends with.

RayschedError
├── StudyError          2    the input is malformed; refused before any work
├── MissingError        3    something outside is missing: a file, the hub, a GPU, a cluster, the tracking server
├── StoppedError       75    stopped and resumable: an outage, a budget, another driver holds the sweep
├── Interrupted   130 / 143  Ctrl-C or SIGTERM
├── DamageError         1    a stored file is not what was written; nothing is guessed from it
└── RunError            1    one run failed, with its cause (never ends a sweep)
    └── Diverged             its loss is not a finite number
"""

from __future__ import annotations

from collections.abc import Iterable

DONE = 0
SOME_RUNS_FAILED = 1
BAD_INPUT = 2
OUTSIDE_MISSING = 3
RESUMABLE = 75
CTRL_C = 130
TERMINATED = 143


class RayschedError(Exception):
    """An error that a user can act on: what, where, which values are valid, what to do next.

    `key` is the dotted study key, file or option at fault; `choices` the valid values; `hint` the next step.
    """

    exit_code = SOME_RUNS_FAILED

    def __init__(
        self, what: str, *, key: str | None = None, choices: Iterable[object] = (), hint: str | None = None
    ) -> None:
        self.what, self.key, self.choices, self.hint = what, key, tuple(choices), hint
        lines = [f"{key}: {what}" if key else what]
        if self.choices:
            lines.append("  valid: " + ", ".join(str(choice) for choice in self.choices))
        if hint:
            lines.append("  next:  " + hint)
        super().__init__("\n".join(lines))


class StudyError(RayschedError):
    """The input is malformed: refused before any work."""

    exit_code = BAD_INPUT


class MissingError(RayschedError):
    """Something outside this program is missing: file, hub, GPU, cluster, disk, tracking server."""

    exit_code = OUTSIDE_MISSING


class StoppedError(RayschedError):
    """Stopped early; the same command continues."""

    exit_code = RESUMABLE


class Interrupted(RayschedError):
    """Stopped by a signal; the same command continues. `exit_code` is 130 (Ctrl-C) or 143 (SIGTERM)."""

    def __init__(self, what: str, *, exit_code: int, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = exit_code


class DamageError(RayschedError):
    """A stored file does not match its checksum."""


class RunError(RayschedError):
    """One run failed. `cause` is one word of `CAUSES`."""

    CAUSES = (
        *("oom", "cuda_oom", "memory", "nan", "data", "code"),
        *("worker_lost", "node_lost", "hang", "checkpoint", "storage", "unknown"),
    )

    def __init__(self, what: str, *, cause: str, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.cause = cause


class Diverged(RunError):
    """The loss or a gradient is not finite."""

    def __init__(self, what: str) -> None:
        super().__init__(what, cause="nan")
