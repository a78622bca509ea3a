"""What becomes of an attempt that did not finish: another one with the same seed, or the end of its run."""

from __future__ import annotations

RETRIED = frozenset({"oom", "cuda_oom", "worker_lost", "node_lost", "hang", "checkpoint", "storage"})
"""Causes that another attempt with the same seed can overcome; data, code and divergence would only repeat."""


def again(cause: str | None, tries: int, attempts: int) -> bool:
    """Whether a run whose `tries`-th attempt ended for `cause` gets another; `attempts` is the study's budget."""
    return cause in RETRIED and tries < attempts
