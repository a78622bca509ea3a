"""Schedules that harm their worker when they wake their first layer: a plug-in, as any package may bring one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from raysched.unfreezing.select import Rule

MIB = 1024**2
SLOW_S = 90.0


def _abort() -> None:
    os.abort()


def _host() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (512 * MIB, resource.RLIM_INFINITY))
    bytearray(1024 * MIB)


def _device() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _hog() -> None:
    """Takes memory until something outside ends it."""
    taken = []
    for _ in range(120):
        taken.append(b"\1" * 64 * MIB)
        time.sleep(0.1)


def _slow() -> None:
    time.sleep(SLOW_S)


def _rule(name: str, harm: Callable[[], None]) -> Rule:
    def select(frozen: Sequence[int], traces: Sequence[float] | None, rng: Random) -> tuple[int, ...]:
        if len(frozen) == 3:  # the first event alone
            harm()
        return tuple(frozen[-1:])

    return Rule(name=name, select=select)


ABORT, HOST, DEVICE = _rule("abort", _abort), _rule("host", _host), _rule("device", _device)
HOG, SLOW = _rule("hog", _hog), _rule("slow", _slow)


def install(site: Path) -> dict[str, str]:
    """Install them for processes that are started with the environment returned."""
    from tests.plugins.conftest import write_metadata

    site.mkdir()
    (site / "poisonous.py").write_text(Path(__file__).read_text())
    names = ("abort", "host", "device", "hog", "slow")
    write_metadata(site, "poisonous", {"raysched.schedules": {name: f"poisonous:{name.upper()}" for name in names}})
    return {"PYTHONPATH": str(site)}
