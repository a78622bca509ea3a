"""Names of what a sweep has on a cluster: a readable slug and a short hash, within what the operator takes."""

from __future__ import annotations

import base64
import hashlib
import re

LONGEST = 47
"""Characters of a RayJob's name: the operator adds to it for the names of the cluster and its pods."""
HASHED = 10
"""Characters of the hash: 50 bits."""
NUMBERED = len("-999")
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""DNS-1035."""


def sweep_label(sweep: str, storage: str) -> str:
    """Of the sweep `sweep` kept in `storage`: the value of its label, and the beginning of all its objects' names.

    Two sweeps that differ in name or storage have different ones; a slash at the storage's end makes no difference.
    """
    kept = storage.rstrip("/") or storage
    digest = hashlib.sha256(f"{sweep}\0{kept}".encode()).digest()
    short = base64.b32encode(digest).decode().lower()[:HASHED]
    slug = re.sub(r"[^a-z0-9]+", "-", sweep.lower()).strip("-")
    if not slug[:1].isalpha():  # a name must begin with a letter
        slug = f"s-{slug}".rstrip("-")
    readable = slug[: LONGEST - NUMBERED - 1 - HASHED].rstrip("-")
    return f"{readable}-{short}"


def rayjob_name(sweep: str, storage: str, number: int = 1) -> str:
    """The name of a sweep's RayJob. One that has ended never runs again: the next one has the next `number`."""
    if not 1 <= number <= 999:
        raise ValueError(f"1 <= number <= 999 must hold, but got {number}")
    label = sweep_label(sweep, storage)
    return label if number == 1 else f"{label}-{number}"
