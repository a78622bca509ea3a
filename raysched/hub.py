"""The one door to the Hugging Face hub: names to pinned commits, pinned commits to local files.

The environment is read at each call: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`. Nothing of
a repository is ever executed: files are data (reliability.md S7).
"""

from __future__ import annotations

import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, TypeVar

from raysched.errors import MissingError, RayschedError, StudyError
from raysched.study.identity import Content

Kind = Literal["model", "dataset"]
T = TypeVar("T")

COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
TIMEOUT_S = 20.0
"""Total time of one question to the hub, retries included."""
REQUEST_TIMEOUT_S = 5.0
ATTEMPTS = 3
OFFLINE_WAYS = (
    "without the hub: --set data.folder=FOLDER for data, --set model.backbone=FOLDER for the model, "
    "or HF_HUB_OFFLINE=1 with a filled Hugging Face cache"
)
PARQUET = (
    re.compile(r"(?P<config>[^/]+)/(?P<split>[^/]+?)-\d{5}-of-(?P<shards>\d{5})(-[0-9a-f]+)?\.parquet"),
    re.compile(r"(?P<config>[^/]+)/(?P<split>[^/]+)/\d{4}\.parquet"),
)
"""How data sets lie on the hub: as uploaded, and as converted by the hub itself."""


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def cache_folder() -> Path:
    """Where downloaded repositories lie; the library's own rules."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def resolve(repo: str, kind: Kind = "model", revision: str | None = None, *, timeout_s: float = TIMEOUT_S) -> str:
    """The 40-hex commit that `revision` (default: `main`) of a repository means now; offline, in the cache.

    Raises `MissingError` where the hub cannot be reached in `timeout_s` seconds, has no such repository or revision, or
    keeps it behind a gate; `StudyError` for a name that no repository can have.
    """
    if not REPOSITORY.fullmatch(repo):
        raise StudyError(f"a name on the hub must have the form owner/name, but got {repo!r}")
    if offline():
        return _cached_commit(repo, kind, revision or "main")
    commit = _repository(repo, kind, revision, timeout_s).sha
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise MissingError(
            f"the hub at {endpoint()} gave no commit of {_named(repo, kind)}: {commit!r}", hint=OFFLINE_WAYS
        )
    return commit


def files(repo: str, kind: Kind, revision: str, *, timeout_s: float = TIMEOUT_S) -> list[str]:
    """Sorted names of the files of a repository at a 40-hex commit; offline, of those in the cache."""
    _pinned(revision)
    if offline():
        folder = snapshot_folder(repo, kind, revision)
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return sorted(sibling.rfilename for sibling in _repository(repo, kind, revision, timeout_s).siblings or ())


def snapshot(repo: str, kind: Kind, revision: str, patterns: Iterable[str]) -> Path:
    """Local folder that holds the files matching `patterns` of a repository at a 40-hex commit.

    `*` in a pattern matches `/` too. Online, every matching file is there when this returns, and nothing is fetched
    twice. Offline, the cache is believed.
    """
    patterns = list(patterns)
    wanted = [name for name in files(repo, kind, revision) if any(fnmatch(name, pattern) for pattern in patterns)]
    if not wanted:
        raise MissingError(
            f"{_named(repo, kind)} at {revision} has no file like {', '.join(patterns)}"
            + (" in the cache" if offline() else ""),
            hint=OFFLINE_WAYS,
        )
    folder = snapshot_folder(repo, kind, revision)
    if not all((folder / name).is_file() for name in wanted):
        _download(repo, kind, revision, wanted)
    return folder


def parquet_files(names: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Parquet files of a data set by (config, split), in order."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        match = next(filter(None, (pattern.fullmatch(name) for pattern in PARQUET)), None)
        if match:
            found.setdefault((match["config"], match["split"]), []).append(name)
    return found


def parquet_paths(repo: str, config: str, split: str, revision: str) -> list[str]:
    """Local files that hold one split of a data set at a 40-hex commit, in order; downloaded where they are not yet."""
    found = parquet_files(files(repo, "dataset", revision))
    names = found.get((config, split), [])
    first = PARQUET[0].fullmatch(names[0]) if names else None
    if not names or (first and len(names) != int(first["shards"])):
        raise MissingError(
            f"{_named(repo, 'dataset')} at {revision} lacks files of config {config}, split {split}",
            choices=[" ".join(pair) for pair in found],
            hint=OFFLINE_WAYS,
        )
    folder = snapshot(repo, "dataset", revision, names)
    return [str(folder / name) for name in names]


def parquet_rows(
    repo: str, config: str, split: str, revision: str, *, columns: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Rows of one split of a data set at a 40-hex commit, in file order; where it has any of `columns`, only those."""
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()  # reading what is downloaded takes no time worth a bar
    rows: list[dict[str, Any]] = []
    for path in parquet_paths(repo, config, split, revision):
        try:
            with tempfile.TemporaryDirectory() as scratch:  # a second copy of what the hub's cache holds already
                found_rows = datasets.Dataset.from_parquet(path, cache_dir=scratch, keep_in_memory=True)
                wanted = [name for name in found_rows.column_names if name in columns]
                rows += (found_rows.select_columns(wanted) if wanted else found_rows).to_list()
        except (DatasetGenerationError, OSError, ValueError) as error:
            raise StudyError(f"not a whole Parquet file: {error}", key=path, hint="delete it") from error
    return rows


def _repository(repo: str, kind: Kind, revision: str | None, timeout_s: float) -> Any:
    """What the hub says of a repository, asked up to `ATTEMPTS` times within `timeout_s` seconds."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    deadline = time.monotonic() + timeout_s
    for attempt in range(1, ATTEMPTS + 1):
        left = deadline - time.monotonic()
        timeout = min(REQUEST_TIMEOUT_S, max(left, 0.1))
        ask = lambda timeout=timeout: api.repo_info(repo, repo_type=kind, revision=revision, timeout=timeout)  # noqa: E731
        try:
            return _within(left, ask)
        except Exception as error:
            wait = 0.3 * attempt
            if attempt == ATTEMPTS or not _passing(error) or time.monotonic() + wait >= deadline:
                raise explained(error, repo, kind, revision) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _within(limit_s: float, call: Callable[[], T]) -> T:
    """`call()`, given up after `limit_s`: name look-ups and slow answers know no total limit of their own."""
    done: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def work() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=work, name="raysched-hub", daemon=True).start()
    try:
        value, error = done.get(timeout=max(limit_s, 0.0))
    except queue.Empty:
        raise TimeoutError(f"no answer in {limit_s:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def _download(repo: str, kind: Kind, revision: str, names: list[str]) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            allow_patterns=names,
            endpoint=endpoint(),
            cache_dir=cache_folder(),
            etag_timeout=REQUEST_TIMEOUT_S,
        )
    except Exception as error:
        raise explained(error, repo, kind, revision) from error
    folder = snapshot_folder(repo, kind, revision)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise MissingError(
            f"{_named(repo, kind)} at {revision} was not fetched whole: no {missing[0]}", hint=OFFLINE_WAYS
        )


def _passing(error: Exception) -> bool:
    """Is it worth asking again?"""
    import requests

    status = _status(error)
    return isinstance(error, requests.ConnectionError) if status is None else status >= 500


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def explained(error: Exception, repo: str, kind: Kind, revision: str | None) -> RayschedError:
    """The user's words for what went wrong at the hub."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError

    name, status = _named(repo, kind), _status(error)
    if isinstance(error, HFValidationError):
        return StudyError(f"{repo!r} is no name that the hub allows")
    if isinstance(error, GatedRepoError):
        return MissingError(f"{name} is gated", hint=f"ask for access at {endpoint()}/{repo} and set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return MissingError(
            f"{name} has no revision {revision!r}", hint="name a branch, a tag or a 40-hex commit of it"
        )
    if status in (401, 403, 404):
        return MissingError(
            f"{name} is not on the hub at {endpoint()}, or is private (answer {status})",
            hint=f"check the name; for a private one set HF_TOKEN; {OFFLINE_WAYS}",
        )
    if status is not None:
        return MissingError(
            f"the hub at {endpoint()} answered {status} for {name}", hint=f"try again later; {OFFLINE_WAYS}"
        )
    if isinstance(error, OSError):
        reason = str(error.args[0] if error.args else error)[:200]
        return MissingError(
            f"{name} could not be taken from the hub at {endpoint()} ({type(error).__name__}: {reason})",
            hint=OFFLINE_WAYS,
        )
    return MissingError(
        f"{name}: the hub at {endpoint()} gave an answer that cannot be read: {error}", hint=OFFLINE_WAYS
    )


def _cached_commit(repo: str, kind: Kind, revision: str) -> str:
    """Offline: the commit that the cache holds for a branch, or the only one that it holds at all."""
    folder = _cached_repository(repo, kind)
    reference = folder / "refs" / revision
    held = sorted(path.name for path in (folder / "snapshots").glob("*") if COMMIT.fullmatch(path.name))
    if COMMIT.fullmatch(revision) and revision in held:
        return revision
    if reference.resolve().is_relative_to(folder.resolve()) and reference.is_file():
        commit = reference.read_text().strip()
        if commit in held:
            return commit
    if revision == "main" and len(held) == 1:
        return held[0]
    raise MissingError(
        f"HF_HUB_OFFLINE is set, and the cache {cache_folder()} does not say which commit of {_named(repo, kind)} is "
        f"{revision!r}",
        choices=held,
        hint="fetch it once with a network, or name a local folder instead: --set data.folder=FOLDER, "
        "--set model.backbone=FOLDER",
    )


def _cached_repository(repo: str, kind: Kind) -> Path:
    return cache_folder() / f"{kind}s--{repo.replace('/', '--')}"


def snapshot_folder(repo: str, kind: Kind, revision: str) -> Path:
    """Where the cache keeps the files of a repository at a 40-hex commit, if it has any."""
    return _cached_repository(repo, kind) / "snapshots" / _pinned(revision)


def _pinned(revision: str) -> str:
    if not COMMIT.fullmatch(revision):
        raise ValueError(f"revision must be a 40-hex commit, but got {revision!r}")
    return revision


def _named(repo: str, kind: Kind) -> str:
    return f"{kind} {repo}"


MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")
"""What of a hub repository a backbone or an adapter consists of; weights as `.bin` where there are no others."""


def model_files(content: Content) -> list[str]:
    """What of a resolved backbone or adapter of the hub is ever read."""
    names = [name for name in files(content.where, "model", content.revision) if "/" not in name]
    weights = () if any(name.endswith(".safetensors") for name in names) else ("*.bin",)
    return [name for name in names if any(fnmatch(name, pattern) for pattern in (*MODEL_FILES, *weights))]


def local_folder(content: Content) -> Path:
    """The folder of a resolved backbone or adapter: its own path, or the pinned snapshot of the hub."""
    if content.path:
        return Path(content.path)
    return snapshot(content.where, "model", content.revision, model_files(content))
