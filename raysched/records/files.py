"""Files that are either wholly there or not there at all, private to their owner, and checked when read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysched.errors import DamageError

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_folder(path: Path) -> Path:
    """Make `path` and its missing parents, each readable by its owner alone, whatever the umask."""
    missing = []
    folder = path
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            continue  # another process made it in the meantime
        folder.chmod(FOLDER_MODE)
    return path


def create(path: Path, flags: int) -> int:
    """File descriptor of `path`, opened for writing; a file made here is 0600 whatever the umask."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def free_bytes(folder: Path) -> int:
    """What this user may still write on the disk of `folder`, which need not be there yet."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize


def sync_folder(path: Path) -> None:
    """Make the names in `path` survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write beside, fsync, rename, fsync the parent: readers see the old content or all of the new."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = create(beside, os.O_WRONLY | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """`value` with every non-finite float as "nan", "inf" or "-inf": JSON has no numbers for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def canonical(value: Any) -> str:
    """JSON with sorted keys on one line; finite floats are written so that they read back exactly."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def crc_line(value: Any) -> bytes:
    """One line: CRC-32 as 8 hex digits, a space, JSON with sorted keys, a newline."""
    body = canonical(value).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def parse_crc_line(line: bytes) -> Any:
    """The value of a line without its newline. Raises ValueError where the line is not what was written."""
    if len(line) < 10 or line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:]):
        raise ValueError("the line does not match its checksum")
    return json.loads(line[9:])


def write_checked(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object that carries the SHA-256 of its own content as `sha256`."""
    body = plain(dict(value))
    body["sha256"] = sha256_bytes(canonical(value).encode())
    write_atomic(path, json.dumps(body, sort_keys=True, indent=1, allow_nan=False) + "\n")


def read_checked(path: Path) -> dict[str, Any]:
    """The object that `write_checked` wrote. Raises DamageError, or FileNotFoundError where there is none."""
    try:
        body = json.loads(path.read_bytes())
        found = body.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamageError(
            "is not what was written (no complete JSON object with its checksum)",
            key=str(path),
        ) from error
    if not isinstance(body, dict) or sha256_bytes(canonical(body).encode()) != found:
        raise DamageError("does not match its own checksum", key=str(path))
    return body


def sync_file(path: Path) -> None:
    """Make a file's content survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_tree(folder: Path) -> str:
    """Hex SHA-256 over the relative name and content of every file below `folder`, hidden ones left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [
        (path.relative_to(folder).as_posix(), sha256_file(path))
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sha256_bytes(canonical(listed).encode())
