"""`report`: the tables, statistics and figures of sweeps, and sweeps beside the paper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from raysched.cli.looking import find_all
from raysched.errors import StudyError
from raysched.records.files import sha256_bytes
from raysched.records.layout import SweepLayout, storage_folder

LONGEST_NAME = 120
"""Characters of the name of a folder."""


def report(
    names: list[str],
    storage: str,
    to: Path | None,
    *,
    by: tuple[str, ...],
    reference: str,
    margin: float,
    log_to_mlflow: bool,
) -> None:
    """Write one report of the sweeps, log it to the MLflow run of each, and print where it is.

    Raises:
        StudyError: `by` names no parameter, or no sweep has the method `reference`.
        MissingError: there is no such sweep.
    """
    from raysched.reports.asked import Asked
    from raysched.reports.report import TEXT, write_report
    from raysched.reports.sweep import read_sweep
    from raysched.service.publishing import publish

    layouts = find_all(names, storage)
    asked = Asked(sweeps=tuple(map(read_sweep, layouts)), by=by, reference=reference, margin=margin)
    asked.check_reference()
    written = write_report(asked, _folder(names, layouts, storage) if to is None else to)
    if log_to_mlflow:
        for layout in layouts:
            publish(layout, written.folder, written.files, written.tables, warn=_warn)
    print(written.page)  # noqa: T201
    print(written.folder / TEXT)  # noqa: T201


def report_at_end(layout: SweepLayout, warn: Callable[[str], None]) -> Path:
    """Write the report of a sweep that just ended, log it to MLflow, and return the path of its page.

    Its figures are PNG alone; `raysched report` adds them as PDF.
    """
    from raysched.reports.asked import Asked
    from raysched.reports.report import write_report
    from raysched.reports.sweep import read_sweep
    from raysched.service.publishing import publish

    written = write_report(Asked(sweeps=(read_sweep(layout),)), layout.reports, pdf=False)
    publish(layout, written.folder, written.files, written.tables, warn=warn)
    return written.page


def _folder(names: list[str], layouts: list[SweepLayout], storage: str) -> Path:
    """The sweep's own; of several one beside them, named after the suite or after all of them."""
    if len(layouts) == 1:
        return layouts[0].reports
    name = "+".join(dict.fromkeys(names))
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9]}-{sha256_bytes(name.encode())[:8]}"
    return storage_folder(storage) / "reports" / name


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)  # noqa: T201


def report_against(
    paper: str, names: list[str], storage: str, to: Path | None, model: str | None, datasets: list[str]
) -> None:
    """Set the sweeps beside the paper in one page, and print its path.

    Raises:
        StudyError: nothing of them is in the paper.
        MissingError: there is no such sweep.
    """
    if paper != "paper":
        raise StudyError(f"must be paper, but got {paper!r}", key="--against", choices=("paper",))
    from raysched.reports.paper.against import write_against_paper
    from raysched.reports.paper.comparison import Names
    from raysched.reports.sweep import read_sweep
    from raysched.study.load import suite_parts

    known = Names.read(model, datasets)
    layouts = {layout.name: layout for layout in find_all(names, storage)}
    if to is None:
        several = len(names) > 1
        name = names[0] if names else next(iter(layouts))
        to = storage_folder(storage) / "reports" if several else SweepLayout(storage, name).reports
    waiting = [part for name in names if name not in layouts for part in suite_parts(name) if part not in layouts]
    print(write_against_paper([read_sweep(one) for one in layouts.values()], known, to, waiting))  # noqa: T201
