"""Which store a sweep is tracked in. Its address is kept in the sweep's folder, so that verbs need not be told.

Passwords are not kept: they come from the environment (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from raysched.errors import DamageError
from raysched.records.files import make_folder, read_checked, write_checked
from raysched.records.layout import SweepLayout
from raysched.tracking.mlflow_store import sqlite_uri
from raysched.tracking.rows import without_credentials

SCHEMA = 1


def target(layout: SweepLayout, given: str | None = None) -> str:
    """The address that was given, else the one the sweep is tracked at, else SQLite in its folder."""
    if given:
        return given
    layout.pull(_path(layout))
    return _kept(_path(layout)) or sqlite_uri(layout.mlflow_db)


def remember(layout: SweepLayout, uri: str) -> None:
    """The driver's choice from here on."""
    own = uri == sqlite_uri(layout.mlflow_db)  # by its place, as the folder may be moved
    value = "" if own else without_password(uri)
    path = _path(layout)
    if value != _kept(path):
        make_folder(path.parent)
        write_checked(path, {"schema_version": SCHEMA, "uri": value})
        layout.push(path)


def without_password(uri: str) -> str:
    """`uri` without its user, its password and its query."""
    if not uri.startswith(("http://", "https://")):
        return uri
    parts = urlsplit(without_credentials(uri))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _path(layout: SweepLayout) -> Path:
    return layout.root / "tracking.json"


def _kept(path: Path) -> str:
    try:
        value = read_checked(path)
    except (FileNotFoundError, DamageError):
        return ""
    return str(value.get("uri", ""))
