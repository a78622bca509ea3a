"""`report`: the tables, statistics and figures of sweeps, and sweeps beside the paper."""

from __future__ import annotations

from pathlib import Path

from raysched.cli.looking import find_all
from raysched.errors import StudyError
from raysched.records.layout import SweepLayout, storage_folder


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
    """Write the report of each sweep, and print its path."""
    from raysched.reports.report import write_report

    layouts = find_all(names, storage)
    for layout in layouts:
        folder = layout.reports if to is None else to if len(layouts) == 1 else to / layout.name
        print(write_report(layout, folder))  # noqa: T201


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
