"""Canaries: secrets planted by a test, and a search for them that looks into files of every kind a sweep leaves."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import secrets
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

MOST_DEEP = 4
"""Archives within archives."""


def canary() -> str:
    """A secret that stands nowhere else, with characters that addresses and shells write in other ways."""
    return f"canary+{secrets.token_hex(16)}"


def forms(secret: str) -> list[bytes]:
    """How a secret may be written: as it is, escaped for an address, in hex, in UTF-16, and within base64."""
    raw = secret.encode()
    found = [raw, quote(secret, safe="").encode(), raw.hex().encode(), secret.encode("utf-16-le")]
    for before in range(3):  # what surrounds it shifts it; its first and last characters then look different
        coded = base64.b64encode(b"\0" * before + raw)
        found += [coded[4:-4], coded[4:-4].translate(bytes.maketrans(b"+/", b"-_"))]
    return list(dict.fromkeys(found))


class Search:
    """For all of `named` secrets at once; every find is told as `where: name`. `looked` counts what was looked into."""

    def __init__(self, named: dict[str, str]) -> None:
        self._forms = {name: forms(secret) for name, secret in named.items()}
        self.looked = 0

    def below(self, *folders: Path) -> list[str]:
        """In the names, links and contents of everything below `folders`; what vanishes meanwhile is left out."""
        found = []
        for folder in folders:
            for path in [folder, *folder.rglob("*")]:
                found += self.in_bytes(str(path), str(path).encode())
                with contextlib.suppress(OSError):
                    if path.is_symlink():
                        found += self.in_bytes(f"link {path}", str(path.readlink()).encode())
                    elif path.is_file():
                        found += self.in_bytes(str(path), path.read_bytes())
                        found += self._in_database(path)
        return found

    def in_command_lines(self) -> list[str]:
        """In the arguments of every process of this machine, as `ps` shows them."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += self.in_bytes(str(path), path.read_bytes())
        return found

    def in_bytes(self, where: str, content: bytes, depth: int = 0) -> list[str]:
        self.looked += 1
        found = [f"{where}: {name}" for name, ways in self._forms.items() if any(way in content for way in ways)]
        if depth < MOST_DEEP:
            for name, inner in _inside(content):
                found += self.in_bytes(f"{where}:{name}", inner, depth + 1)
        return found

    def _in_database(self, path: Path) -> list[str]:
        """Row by row: a long text is scattered over the pages of an SQLite file."""
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            text = "\n".join(database.iterdump())
        return self.in_bytes(f"{path}:rows", text.encode(errors="replace"))


def _inside(content: bytes) -> Iterable[tuple[str, bytes]]:
    """What a compressed file or an archive holds."""
    if content.startswith(b"\x1f\x8b"):
        with contextlib.suppress(OSError, EOFError, zlib.error):
            yield "gzip", gzip.decompress(content)
    elif content[:2] in (b"x\x01", b"x\x9c", b"x\xda"):
        with contextlib.suppress(zlib.error):
            yield "zlib", zlib.decompress(content)
    elif content.startswith(b"PK\x03\x04"):
        yield from _zip(content)
    elif content[257:262] == b"ustar":
        yield from _tar(content)
    elif content.startswith(b"PAR1"):
        yield "rows", _parquet(content)


def _zip(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for name in packed.namelist():
            yield name, packed.read(name)


def _tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        for member in packed:
            yield member.name, str(member.get_info()).encode()
            if (file := packed.extractfile(member)) is not None:
                yield member.name, file.read()


def _parquet(content: bytes) -> bytes:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(content))
    return repr((table.schema.metadata, table.to_pydict())).encode()
