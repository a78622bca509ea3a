"""`retry` and `extend`: more work for a sweep that is there."""

from __future__ import annotations

from raysched.runners.options import Options


def retry(name: str | None, options: Options, *, failed: bool, runs: list[str]) -> int:
    raise NotImplementedError


def extend(name: str | None, options: Options, *, seeds: str | None, points: int | None, overrides: list[str]) -> int:
    raise NotImplementedError
