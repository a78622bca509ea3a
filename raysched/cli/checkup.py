"""`doctor`: what a sweep needs, checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from raysched.cli.terminal import terminal
from raysched.errors import DONE, OUTSIDE_MISSING, RayschedError


def doctor(storage: str, mlflow_uri: str | None, address: str | None) -> int:
    """Print one line per need; return 3 where something that was asked for is missing, else 0."""
    console = terminal()
    checks: list[tuple[str, Callable[[], str]]] = [
        ("versions", _versions),
        ("gpu", _gpu),
        ("disk", lambda: _disk(storage)),
        ("mini world", _mini),
        ("hub", _hub),
        ("tracking", lambda: _tracking(mlflow_uri, storage)),
        ("cluster", lambda: _cluster(address)),
    ]
    bad = False
    for name, check in checks:
        try:
            found = check()
            console.print(f"ok      {name}: {found}", highlight=False, markup=False)
        except RayschedError as error:
            optional = name == "hub"  # the mini world and local folders need none
            bad = bad or not optional
            console.print(f"{'note   ' if optional else 'MISSING'} {name}: {error}", highlight=False, markup=False)
    return OUTSIDE_MISSING if bad else DONE


def _versions() -> str:
    from raysched.tracking.provenance import packages

    return ", ".join(f"{name} {version}" for name, version in packages().items())


def _gpu() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "none; runs use the CPU"


def _disk(storage: str) -> str:
    from raysched.records.layout import storage_folder
    from raysched.records.remote import Remote
    from raysched.records.storage_uri import is_remote
    from raysched.runners.preflight import check_disk

    folder = storage_folder(storage)
    if is_remote(storage):
        Remote(storage).check()
    check_disk(folder)
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return f"{shutil.disk_usage(there).free / 1e9:.1f} GB free for {folder}"


def _mini() -> str:
    from raysched import mini

    return f"backbone and adapters {mini.content_hash()[:12]}"


def _hub() -> str:
    from raysched import hub

    return f"{hub.endpoint()} gives xlm-roberta-base {hub.resolve('FacebookAI/xlm-roberta-base', 'model')[:12]}"


def _tracking(uri: str | None, storage: str) -> str:
    from raysched.tracking.mlflow_store import Store

    if uri is None:
        return f"SQLite in each sweep's folder below {storage}"
    Store(uri, "raysched").check()
    return repr(Store(uri, "raysched"))


def _cluster(address: str | None) -> str:
    if address is None:
        return f"none given; a sweep starts its own on {os.cpu_count()} CPUs"
    from raysched.runners import ray_cluster

    return ray_cluster.describe(address)
