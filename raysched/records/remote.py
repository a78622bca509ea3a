"""The only door to object stores: one place below a bucket, through fsspec (s3://, gs://, ...).

Credentials come from the environment or from the machine's own identity, as the store's client library finds them
(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL_S3, ...); a URI that holds one is
refused, since URIs are shown, recorded and handed to workers.

What a sweep asks of a store: strong consistency, and a write that fails where the object exists (If-None-Match on S3
and its relatives, generation 0 on Google's). Passing errors are tried again with growing pauses.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from raysched.errors import MissingError, StoppedError
from raysched.records.files import make_folder, sync_file
from raysched.records.storage_uri import EXTRAS, canonical

FIRST_PATIENCE_S = 5.0
"""So long a store that has not answered this process yet is tried: most likely it is not there at all."""
PATIENCE_S = 30.0
"""The same once it has answered: most likely it comes back."""
LONGEST_PAUSE_S = 4.0
TRIES = 2
"""The client's own, so that one lost part does not cost a whole upload."""
AT_ONCE = 64
"""Objects that are fetched together."""

_OPTIONS: dict[str, dict[str, Any]] = {
    # The client's own patience is short: ours is the one that counts.
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}}
}
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_PERMANENT = re.compile("Credential|ParamValidation|UnknownService|InvalidRegion|ProfileNotFound|AccessDenied")

T = TypeVar("T")


class StorageMissing(MissingError, OSError):
    """The store cannot be reached, or refuses us."""


class StorageLost(StoppedError, OSError):
    """A store that has answered does so no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One object. `stamp` changes whenever its content is written anew; `modified` is by the store's own clock."""

    size: int
    stamp: str
    modified: float | None
    """Seconds since 1970."""


class Remote:
    """Objects below one URI; a `key` is relative to it, with slashes. Any thread may use it."""

    def __init__(self, uri: str) -> None:
        """Raises StudyError for a malformed URI; the store is not asked."""
        self.uri = canonical(uri)
        self._scheme, _, self._base = self.uri.partition("://")
        self._client: tuple[int, Any] | None = None
        self._answered = False

    def __repr__(self) -> str:
        return f"Remote({self.uri!r})"

    # -- writing ----------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        self._call(key, lambda store: store.pipe_file(self._path(key), data))

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet. Raises FileExistsError where another's does.

        An answer that was lost on its way makes us meet our own object: the same content is taken for ours, so
        whoever calls this puts something into it that nobody else writes.
        """
        try:
            self._call(key, lambda store: store.pipe_file(self._path(key), data, mode="create"))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # another's, and deleted since
                if self.get(key) == data:
                    return
            raise

    def put_file(self, path: Path, key: str) -> None:
        self._call(key, lambda store: store.put_file(str(path), self._path(key)))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are none the less gone."""
        paths = [self._path(key) for key in keys]
        if paths:
            with contextlib.suppress(FileNotFoundError):
                self._call(paths[0], lambda store: store.rm(paths))

    def check(self) -> None:
        """Write an object, once, and delete it.

        Raises:
            MissingError: the store is not there, refuses us, or overwrites what must be written once.
        """
        if not self._writes_once(f"check-{secrets.token_hex(8)}"):
            raise StorageMissing(
                "the storage overwrites an object that must be written once, so it cannot keep two drivers apart",
                key=self.uri,
                hint="use a store with conditional writes (If-None-Match): S3, Google Cloud Storage, a recent MinIO",
            )

    def _writes_once(self, key: str) -> bool:
        try:
            self.create(key, b"1")
        except (TypeError, NotImplementedError):  # its client cannot even be asked to
            return False
        try:
            self.create(key, b"2")
        except FileExistsError:
            return True
        finally:
            self.delete([key])
        return False

    # -- reading ----------------------------------------------------------------------------------------------

    def get(self, key: str, *, patience_s: float | None = None) -> bytes:
        """Raises FileNotFoundError. With a `patience_s` of 0 the store is asked once only."""
        data: bytes = self._call(key, lambda store: store.cat_file(self._path(key)), patience_s)
        return data

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The content of those that exist, many at a time."""
        wanted = list(keys)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            found = self._call(some[0], lambda store, some=some: self._cat(store, some))  # type: ignore[misc]
            yield from found.items()

    def _cat(self, store: Any, keys: list[str]) -> dict[str, bytes]:
        answers = store.cat([self._path(key) for key in keys], on_error="return")
        found = {}
        for key in keys:
            answer = answers.get(self._path(key))
            if isinstance(answer, bytes):
                found[key] = answer
            elif isinstance(answer, Exception) and (not isinstance(answer, FileNotFoundError) or _no_bucket(answer)):
                raise answer
        return found

    def get_file(self, key: str, path: Path) -> None:
        """Fetch an object to `path`, which is wholly there or not at all. Raises FileNotFoundError."""
        make_folder(path.parent)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._call(key, lambda store: store.get_file(self._path(key), str(beside)))
            beside.chmod(0o600)
            sync_file(beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    def info(self, key: str) -> Stored | None:
        try:
            return _stored(self._call(key, lambda store: store.info(self._path(key))))
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        return self.info(key) is not None

    def below(self, prefix: str = "") -> dict[str, Stored]:
        """Every object below `prefix`, at any depth, by key."""
        try:
            found = self._call(prefix, lambda store: store.find(self._path(prefix), detail=True))
        except FileNotFoundError:
            return {}
        start, folder = len(self._base) + 1, f"{self._path(prefix)}/"
        return {
            name[start:]: _stored(value)
            for name, value in found.items()
            if value.get("type") == "file" and name.startswith(folder)
        }

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders directly below `prefix`."""
        try:
            found = self._call(prefix, lambda store: store.ls(self._path(prefix), detail=True))
        except FileNotFoundError:
            return []
        return sorted(one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory")

    # -- the store --------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}" if key else self._base

    def _store(self) -> Any:
        if self._client is None or self._client[0] != os.getpid():  # a client does not survive a fork
            self._client = (os.getpid(), self._connect())
        return self._client[1]

    def _connect(self) -> Any:
        import fsspec

        try:
            client = fsspec.filesystem(self._scheme, use_listings_cache=False, **_OPTIONS.get(self._scheme, {}))
        except ImportError as error:
            extra = EXTRAS.get(self._scheme)
            raise StorageMissing(
                f"{self._scheme}:// needs a package that is not installed ({error.name or error})",
                key="--storage",
                hint=f"pip install 'raysched[{extra}]'" if extra else f"install the fsspec client of {self._scheme}://",
            ) from error
        if self._scheme == "s3":
            client.retries = TRIES  # it would wait five times for an answer that does not come
        return client

    def _call(self, key: str, work: Callable[[Any], T], patience_s: float | None = None) -> T:
        """`work` on the store, tried again for a while where it fails in passing.

        Raises:
            FileNotFoundError, FileExistsError: as the store says.
            MissingError: it is not there, or refuses us.
            StoppedError: it answered before, and does so no more.
        """
        began, pause = time.monotonic(), 0.1
        while True:
            try:
                result = work(self._store())
                self._answered = True
                return result
            except (FileNotFoundError, FileExistsError) as error:
                if _no_bucket(error):
                    raise self._error(key, error) from error
                self._answered = True
                raise
            except (StorageMissing, TypeError, NotImplementedError):
                raise
            except Exception as error:
                permanent = isinstance(error, PermissionError) or _PERMANENT.search(f"{_code(error)} {type(error)}")
                patience = PATIENCE_S if self._answered else FIRST_PATIENCE_S
                if permanent or time.monotonic() - began + pause > (patience if patience_s is None else patience_s):
                    raise self._error(key, error) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _error(self, key: str, error: Exception) -> StorageMissing | StorageLost:
        words = " ".join(_CREDENTIALS.sub("***@", str(error)).split())[:300]
        what = f"the storage does not answer, or refuses: {type(error).__name__}: {words}"
        where = f"{self.uri}/{key}" if key else self.uri
        if self._answered:
            return StorageLost(what, key=where, hint="the same command continues once the storage is back")
        return StorageMissing(
            what,
            key=where,
            hint="check the bucket's name and, in the environment, the credentials and the endpoint",
        )


def _code(error: BaseException) -> str:
    """What the store itself called the error, where its client tells."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return ""


def _no_bucket(error: BaseException) -> bool:
    """Whether there is not even the place where the object would be."""
    return "bucket" in _code(error).lower()


def _stored(value: dict[str, Any]) -> Stored:
    modified: Any = next(
        (value[name] for name in ("LastModified", "mtime", "updated", "created") if value.get(name)), None
    )
    seconds = modified.timestamp() if hasattr(modified, "timestamp") else None
    stamp = next((value[name] for name in ("ETag", "etag", "generation") if value.get(name)), modified)
    return Stored(size=int(value.get("size") or 0), stamp=str(stamp), modified=seconds)
