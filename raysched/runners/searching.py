"""Which search database a sweep has: chosen at its start, kept in its ledger, and opened here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from raysched.errors import StudyError
from raysched.records.entries import AnyEntry, Opened
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.runners.options import Options
from raysched.study.search import Search
from raysched.study.stored import stored

if TYPE_CHECKING:  # importing Optuna takes a second
    from raysched.search.database import Address
    from raysched.search.optuna_study import OptunaStudy

JOURNAL = "journal"


def own_file(layout: SweepLayout, options: Options) -> Path | None:
    """The database's file in the sweep's folder; None where it is somewhere else."""
    if options.optuna_uri is None:
        return layout.optuna
    return layout.root / "optuna.journal" if options.optuna_uri == JOURNAL else None


def address(layout: SweepLayout, options: Options) -> Address:
    """Raises StudyError for a malformed URL."""
    from raysched.search.database import Address

    file = own_file(layout, options)
    if file is None:
        assert options.optuna_uri is not None
        return Address(options.optuna_uri)
    return Address(f"journal://{quote(str(file))}" if options.optuna_uri == JOURNAL else file)


def database(layout: SweepLayout, options: Options) -> str:
    """What the ledger keeps of it: no user, no password; nothing for the SQLite file in the sweep's folder."""
    if options.optuna_uri in (None, JOURNAL):
        return options.optuna_uri or ""
    return address(layout, options).place


def refuse_other_database(layout: SweepLayout, state: SweepState | None, options: Options) -> None:
    """A search's memory is in one place: continued in another one, it would propose everything again.

    Raises:
        StudyError: the sweep was started with another database, or the address is malformed.
    """
    now = database(layout, options)
    before = state.opened.database if state is not None and state.opened is not None else now
    if before != now:
        way = {"": "leave --optuna (and RAYSCHED_OPTUNA) out", JOURNAL: "continue it with --optuna journal"}
        raise StudyError(
            f"the search of {layout.name!r} is kept in {_shown(before)}, but {_shown(now)} was given",
            key="--optuna",
            hint=way.get(before, f"continue it with RAYSCHED_OPTUNA set to that database ({before})"),
        )


def _shown(place: str) -> str:
    return {"": "optuna.db in the sweep's folder", JOURNAL: "optuna.journal in the sweep's folder"}.get(place, place)


def open_search(layout: SweepLayout, options: Options, search: Search, entries: Iterable[AnyEntry]) -> OptunaStudy:
    """The sweep's own study in its database; a sweep that has grown takes along what it knew before.

    Raises:
        StoppedError: the database does not answer.
        MissingError: it cannot be opened.
        DamageError: it is no database, or not this sweep's.
    """
    from raysched.search.optuna_study import OptunaStudy, study_name

    file = own_file(layout, options)
    if file is not None:
        layout.pull(file)
    opened = [entry for entry in entries if isinstance(entry, Opened)]
    uid = opened[0].uid
    return OptunaStudy(
        address(layout, options).url,
        study_name(layout.name, search, uid),
        search,
        earlier=[study_name(layout.name, before, uid) for before in _searches(reversed(opened))],
        saved=(lambda: layout.push(file)) if file is not None else (lambda: None),
    )


def _searches(opened: Iterable[Opened]) -> Iterator[Search]:
    for entry in opened:
        yield stored(entry.study).search
