"""`list`, `archive`, `diff`, `merge`: sweeps as things to keep."""

from __future__ import annotations

from pathlib import Path


def list_sweeps(storage: str, as_json: bool) -> None:
    raise NotImplementedError


def archive(name: str | None, storage: str, *, to: Path | None, delete: bool) -> int:
    raise NotImplementedError


def diff(name: str, other: str, storage: str, other_storage: str, as_json: bool) -> int:
    raise NotImplementedError


def merge(sweep: str, other: str, storage: str, other_storage: str, *, name: str, optuna_uri: str | None) -> int:
    raise NotImplementedError
