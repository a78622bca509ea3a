"""A written report in the sweep's own MLflow run, where the page previews its tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from raysched.errors import MissingError, RayschedError
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.reports.document import Cell, Table
from raysched.reports.stats import Summary
from raysched.runners.changes import previous
from raysched.tracking import tables as logged
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.target import target

FOLDER = "report"
"""Where in the run's artifacts the report's files are; its tables are below `tables/`."""


def publish(
    layout: SweepLayout,
    folder: Path,
    files: Sequence[Path],
    tables: Sequence[Table],
    *,
    warn: Callable[[str], None],
) -> None:
    """Log a report to the sweep's MLflow run, over older files of the same names. Raises nothing.

    `files` are in `folder`, and keep their places below it. Where the store does not answer, or holds no such sweep,
    `warn` gets one line with what to do next.
    """
    try:
        _publish(layout, folder, files, tables)
    except RayschedError as error:
        uri = mask(error.what)
        hint = error.hint if isinstance(error, _NotThere) else f"raysched report {layout.named} again, once it answers"
        warn(f"the report is not in MLflow: {uri}; next: {hint}")
    except OSError as error:
        warn(f"the report is not in MLflow: {mask(str(error))}")


class _NotThere(MissingError):
    """The store holds no run of this sweep."""


def _publish(layout: SweepLayout, folder: Path, files: Sequence[Path], tables: Sequence[Table]) -> None:
    state = previous(layout)
    uri = target(layout)
    store = Store(uri, layout.name)
    store.check()
    run_id = _held(store, layout, state)
    for path in files:
        inside = path.relative_to(folder).parent.as_posix()
        store.log_file(run_id, path, FOLDER if inside == "." else f"{FOLDER}/{inside}")
    names = [f"tables/{table.name}.json" for table in tables]
    for name, table in zip(names, tables, strict=True):
        store.log_text(run_id, as_logged(table), name)
    if names:
        before = store.tag(run_id, logged.LOGGED)
        store.set_tags(run_id, {logged.LOGGED: logged.logged(names, before)})


def _held(store: Store, layout: SweepLayout, state: SweepState | None) -> str:
    """MLflow's id of the sweep's run. Raises _NotThere where there is none."""
    found = store.held(f"sweep:{layout.name}", state.uid) if state is not None else None
    if found is None:
        raise _NotThere(
            f"{mask(store.uri)} holds no run of {layout.name}",
            hint=f"raysched sync {layout.named}, then raysched report {layout.named} again",
        )
    return found


def as_logged(table: Table) -> str:
    """A table of a report as `mlflow.log_table` writes one; what is marked, or short of seeds, says so."""
    rows = [[*row.labels, *map(_text, row.cells)] for block in table.blocks for row in block]
    return logged.table((*_headers(table),), rows)


def _headers(table: Table) -> Iterator[str]:
    """A table of MLflow's has no two columns of one name."""
    seen: set[str] = set()
    for number, name in enumerate((*table.stub, *table.columns), start=1):
        unique = name if name and name not in seen else f"{name} {number}".strip()
        seen.add(unique)
        yield unique


def _text(cell: Cell) -> str:
    if cell.text or not cell.scores:
        return cell.text
    return " / ".join(_score(one, cell) for one in cell.scores)


def _score(summary: Summary | None, cell: Cell) -> str:
    if summary is None:
        return "-"
    return f"{summary} † n={summary.n}" if cell.planned is not None and summary.n < cell.planned else str(summary)
