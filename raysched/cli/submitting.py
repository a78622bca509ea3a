"""`submit`, and `status`, `stop`, `logs` of what was submitted."""

from __future__ import annotations

from pathlib import Path


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
    raise NotImplementedError


def status(name: str | None, address: str, as_json: bool) -> None:
    raise NotImplementedError


def stop(name: str | None, address: str) -> int:
    raise NotImplementedError


def logs(name: str, address: str, *, follow: bool) -> int:
    raise NotImplementedError
