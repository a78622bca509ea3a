"""Whether a store can work at all, said within seconds and with nothing created."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raysched.errors import MissingError
from raysched.tracking.rows import mask
from raysched.tracking.store_errors import HINT

SCHEMES = ("http://", "https://", "sqlite:///", "file://")
TIMEOUT_S = 3


def check_address(uri: str, database: Path | None) -> None:
    """Raise MissingError where nothing can be at `uri`; `database` is the file of a SQLite store.

    A server is only called, not asked anything.
    """
    if not uri.startswith(SCHEMES):
        raise MissingError(
            f"cannot track to {mask(uri)!r}",
            key="--mlflow",
            choices=[f"{scheme}..." for scheme in SCHEMES],
            hint=HINT,
        )
    if uri.startswith("http"):
        _check_server(uri)
    elif database is not None:
        _check_database(database)
    else:
        _check_folder(Path(unquote(urlsplit(uri).path)))


def _check_server(uri: str) -> None:
    parts = urlsplit(uri)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=TIMEOUT_S).close()
    except (OSError, ValueError, UnicodeError) as error:
        raise MissingError(f"no MLflow server answers at {mask(uri)}: {error}", key="--mlflow", hint=HINT) from None


def _check_database(path: Path) -> None:
    if not path.is_file() or not path.stat().st_size:
        _check_folder(path)
        return
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise MissingError(f"{path} is no SQLite database", key="--mlflow", hint=HINT)
    if not os.access(path, os.W_OK):
        raise MissingError(f"{path} cannot be written", key="--mlflow", hint=HINT)


def _check_folder(path: Path) -> None:
    there = next(folder for folder in (path.parent, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise MissingError(
            f"{path} cannot be made: {there} is no folder that can be written",
            key="--mlflow",
            hint=HINT,
        )
