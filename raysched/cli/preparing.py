"""`prepare`: what a study needs, fetched ahead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysched.cli.terminal import terminal
from raysched.errors import DONE

if TYPE_CHECKING:
    from raysched.service.preparing import Input


def prepare(study: str, to: Path | None, overrides: Sequence[str] = (), name: str | None = None) -> int:
    """Fetch every input of a study or suite into the hub cache, show each with its revision and size, and check it."""
    from raysched import hub
    from raysched.service import preparing
    from raysched.study.load import Suite, load

    loaded = load(study, overrides, name=name)
    console = terminal()

    def show(one: Input) -> None:
        place = {"mini": "comes with the package", "folder": "a path of this machine"}.get(
            one.place, megabytes(one.size)
        )
        console.print(f"{one.name:22} {one.where}  {one.revision[:12]}  {place}", highlight=False, markup=False)

    done = preparing.prepare(loaded.parts if isinstance(loaded, Suite) else (loaded,), to, show)
    lines = [f"{loaded.name}: {len(done.inputs)} inputs, {megabytes(done.size)} of the hub in {done.cache}"]
    lines[0] += " (checked; HF_HUB_OFFLINE is set)" if hub.offline() else f", {megabytes(done.fetched)} of them new"
    if done.local:
        lines.append(f"the sweep's driver must find {_listed([one.where for one in done.local])} at the same path")
    if done.size:
        lines.append(f"sweeps without the hub: HF_HOME={done.cache.parent} HF_HUB_OFFLINE=1 raysched sweep {study}")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    return DONE


def megabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _listed(places: Sequence[str], most: int = 3) -> str:
    more = len(places) - most
    return ", ".join(places[:most]) + (f" and {more} more" if more > 0 else "")
