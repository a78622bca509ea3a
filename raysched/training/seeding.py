"""Named random streams: every random choice says which stream it draws from (design, decision 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

STREAMS = ("init", "data", "dropout", "schedule", "fisher", "subset")


def stream(seed: int, name: str, *keys: int) -> int:
    """The 63-bit seed of stream `name` of a run's `seed`, at a position given by `keys` (an epoch, a step).

    Streams are derived by hashing, so one never depends on how much another has drawn.

    Raises:
        ValueError: `name` is not one of `STREAMS`.
    """
    if name not in STREAMS:
        raise ValueError(f"no random stream {name!r}; there are: {', '.join(STREAMS)}")
    text = ":".join(["raysched", str(seed), name, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int) -> torch.Generator:
    """A private CPU generator."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def global_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator for just this block: for library code that draws from nothing else
    (initialisation, dropout). The generator is afterwards as it was before."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
