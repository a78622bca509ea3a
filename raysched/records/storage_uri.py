"""Where sweeps are kept by default, and the address of an object store, checked without asking it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from raysched.errors import StudyError

DEFAULT_STORAGE = "./raysched-runs"
EXTRAS = {"s3": "s3", "gs": "gcs"}
"""Scheme -> the extra of this package that brings its client."""
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_OTHERS = frozenset({"abfs", "abfss", "az", "oss", "oci", "obs", "tos"})
"""Further schemes of fsspec that have buckets; whether one has conditional writes is seen when a sweep starts."""
_PATH = re.compile(r"[A-Za-z0-9._=+/-]*")


def is_remote(storage: str) -> bool:
    """Whether a storage's URI names an object store, and no folder."""
    scheme, found, _ = storage.partition("://")
    return bool(found) and scheme != "file"


def canonical(uri: str) -> str:
    """`uri` as every machine writes it: no slash at its end, one name for each scheme.

    Raises:
        StudyError: it holds credentials or a query, names no bucket, or is no store that can be written.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StudyError(f"is no URI: {error}", key="--storage") from error
    scheme = _ALIASES.get(parts.scheme, parts.scheme)
    if scheme not in EXTRAS and scheme not in _OTHERS:
        raise StudyError(
            f"cannot store a sweep under {scheme}://",
            key="--storage",
            choices=(
                "a local or mounted folder",
                "file:///absolute/folder",
                "s3://bucket/folder",
                "gs://bucket/folder",
            ),
        )
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        raise StudyError(
            f"{scheme}://{parts.hostname or ''}/...: a storage's URI may hold no credentials and no options",
            key="--storage",
            hint="give them in the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3)",
        )
    path = "/".join(part for part in parts.path.split("/") if part)
    if not parts.netloc or not _PATH.fullmatch(path) or ".." in path.split("/"):
        raise StudyError(
            f"must be {scheme}://bucket/folder with letters, digits and . _ = + - in its names, but got {uri[:200]!r}",
            key="--storage",
        )
    return f"{scheme}://{parts.netloc}" + (f"/{path}" if path else "")
