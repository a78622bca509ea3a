"""`stop`, `pause`, `resume`: acting on a sweep that may run elsewhere."""

from __future__ import annotations

from raysched.runners.options import Options


def stop(name: str | None, storage: str) -> int:
    raise NotImplementedError


def pause(name: str | None, storage: str) -> int:
    raise NotImplementedError


def resume(name: str | None, options: Options) -> int:
    raise NotImplementedError
