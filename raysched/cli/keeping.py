"""`list`, `archive`, `diff`, `merge`: sweeps as things to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from raysched.cli.looking import find
from raysched.cli.terminal import terminal
from raysched.errors import DONE

if TYPE_CHECKING:
    from raysched.service.compare import Comparison

MOST = 20
"""Lines of one kind that `diff` shows; `--json` has them all."""


def list_sweeps(storage: str, as_json: bool) -> None:
    """Print a line for every sweep of a storage, the one that was active last first."""
    from raysched.service.listing import listed

    found = listed(storage)
    if as_json:
        print(json.dumps([asdict(one) for one in found]))  # noqa: T201
        return
    console = terminal()
    if not found:
        console.print(f"no sweep in {storage} yet. To start one: raysched sweep xquad-mini", highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("sweep", "runs done", "failed", "state", "started", "last activity", ""):
        table.add_column(column)
    for one in found:
        by = f" (host {one.driver.get('host')}, pid {one.driver.get('pid')})" if one.driver else ""
        table.add_row(
            one.name,
            "?" if one.runs is None else f"{one.done + one.failed}/{one.runs}",
            str(one.failed) if one.failed else "-",
            one.state + by,
            _at(one.started_ms),
            _at(one.active_ms),
            (one.problem or one.what).partition("\n")[0],
        )
    console.print(table, markup=False, highlight=False)


def _at(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).strftime("%Y-%m-%d %H:%M:%S") if time_ms else "-"


def archive(name: str | None, storage: str, *, to: Path | None, delete: bool) -> int:
    """Pack a sweep into one file, and say what became of it."""
    from raysched.service import archive as service

    layout = find(name, storage)
    done = service.archive(layout, to or Path(f"{layout.name}.tar.gz"), delete=delete)
    console = terminal()
    told = "was there already and is the same" if not done.made else "written and read back"
    console.print(f"{done.path}: {told}; {done.members} files, {done.size / 2**20:.1f} MiB", highlight=False)
    if done.database:
        console.print(f"not in it: the search's database {done.database}; without it the sweep cannot be continued")
    if done.deleted:
        console.print(f"{layout.name} was removed from {storage}", highlight=False)
    console.print(f"to have the sweep again: tar -xzf {done.path} -C STORAGE", highlight=False)
    return DONE


def diff(name: str, other: str, storage: str, other_storage: str, as_json: bool) -> int:
    """Print how two sweeps differ. It is a question: the answer is never a failure."""
    from raysched.service.compare import compare

    found = compare(find(name, storage), find(other, other_storage))
    if as_json:
        print(json.dumps(found.to_json()))  # noqa: T201
    else:
        _show(found, terminal())
    return DONE


def _show(found: Comparison, console: Console) -> None:
    a, b = found.names
    counts = {kind: len(found.of(kind)) for kind in ("equal", "different", "one_finished", "both_failed", "open")}
    _lines(console, "study", found.study, "the same")
    _lines(console, "inputs", found.inputs, "the same")
    for which, name, other in ((0, a, b), (1, b, a)):
        where = "in the first" if a == b and which == 0 else "in the second" if a == b else f"in {name}, not in {other}"
        _lines(console, f"runs only {where}", found.only[which], "none")
        _lines(console, f"damaged {where}", found.damaged[which])
    console.print(f"runs of both: {len(found.pairs)}, of which {counts['equal']} gave the same", highlight=False)
    for pair in found.of("different")[:MOST]:
        console.print(f"  {pair} ({pair.run_id}) gave different results:", highlight=False)
        for field, (one, two) in pair.fields.items():
            console.print(f"    {field}: {one} -> {two}", highlight=False, markup=False)
    _more(console, counts["different"])
    for pair in found.of("one_finished")[:MOST]:
        console.print(f"  {pair} ({pair.run_id}): {pair.status[0]} -> {pair.status[1]}", highlight=False)
    _more(console, counts["one_finished"])
    if counts["both_failed"]:
        console.print(f"  {counts['both_failed']} failed in both", highlight=False)
    if counts["open"]:
        console.print(f"  {counts['open']} have not finished in either", highlight=False)


def _lines(console: Console, title: str, lines: Sequence[str], none: str | None = None) -> None:
    if lines or none:
        console.print(f"{title}: {len(lines) if lines else none}", highlight=False)
    for line in lines[:MOST]:
        console.print(f"  {line}", highlight=False, markup=False)
    _more(console, len(lines))


def _more(console: Console, count: int) -> None:
    if count > MOST:
        console.print(f"  ... and {count - MOST} more; --json has them all", highlight=False)


def merge(sweep: str, other: str, storage: str, other_storage: str, *, name: str, optuna_uri: str | None) -> int:
    """Make one sweep of two in `storage`, and say what is in it and what is left to do."""
    from raysched.records.layout import SweepLayout
    from raysched.service import merge as service

    done = service.merge(find(sweep, storage), find(other, other_storage), SweepLayout(storage, name), optuna_uri)
    console = terminal()
    told = "merged" if done.made else "was merged before; nothing was changed"
    failed = f", {done.failed} failed" if done.failed else ""
    console.print(f"{name}: {told}; {done.finished} runs finished{failed}, {done.left} left to do", highlight=False)
    if done.left:
        console.print(f"to do them:      raysched resume {done.layout.named}", highlight=False)
    console.print(f"to fill MLflow:  raysched sync {done.layout.named}", highlight=False)
    return DONE
