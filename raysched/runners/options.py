"""Where and how a sweep is executed: what the command line says beside the study, and no result depends on."""

from __future__ import annotations

from dataclasses import dataclass

from raysched.errors import StudyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`storage` is one URI: a folder, file://, or any object store that fsspec knows (s3://, gs://)."""

    storage: str
    mlflow_uri: str | None = None
    """None: SQLite in the sweep's folder."""
    optuna_uri: str | None = None
    """None: SQLite in the sweep's folder; `journal`: a journal file there; else a database URL."""
    address: str | None = None
    """Of a Ray cluster; None: one of our own."""
    max_concurrent: int | None = None
    allow_offline_tracking: bool = False
    extend: bool = False
    """The study may have more seeds and more points than the sweep under its name."""
    retry: frozenset[str] | None = None
    """Runs that failed and are to be tried again; an empty set stands for all of them, None for none."""
    smoke: bool = False
    """First a tiny run of every schedule, with a checkpoint and a resume."""


def ray_address(value: str | None, key: str) -> str | None:
    """The address of a cluster to run on from here, unchanged. Raises StudyError, with `key`, for a job server's."""
    if value is not None and value.startswith(("http://", "https://")):
        raise StudyError(
            f"{value} is a job server, and no address of a cluster to run on from here",
            key=key,
            hint=f"raysched submit STUDY --address {value}; or, on a node of the cluster, the address auto",
        )
    return value
