"""The tables on tr(F) as a proxy of transfer: features per method, correlations, and what choosing by them gives."""

from __future__ import annotations

from collections.abc import Sequence

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Table, counted
from raysched.reports.methods import Method, objective
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, metric_name
from raysched.reports.traces.features import FEATURES, NAMES
from raysched.reports.traces.gathering import stem, titled, under
from raysched.reports.traces.observed import SIGNALS, SOURCE_DEV, Features, complete, signal_name
from raysched.reports.traces.signals import MIN_CELLS, Rank, Run, choose, coverage, ordered, rank, target_means


def feature_table(asked: Asked, sweep: Sweep, found: Features) -> Table:
    """Per method the mean of every feature."""
    rows = []
    for method in (one for one in asked.methods if one.sweep is sweep):
        cells = tuple(Cell(text=_spread(method, found, feature)) for feature in FEATURES)
        n = f"{len(method.records)}" if method.complete else f"{len(method.records)} of {method.planned} {DAGGER}"
        rows.append(Row(labels=(method.label, n), cells=cells))
    return Table(
        name=stem(asked, "proxy-features", sweep),
        title=under(titled(asked, sweep), "Features of tr(F) per method"),
        stub=("method", "n"),
        columns=tuple(NAMES[feature] for feature in FEATURES),
        blocks=(tuple(rows),),
        notes=(
            "Mean ± standard deviation (ddof 1) over seeds. n=: seeds in which the feature is defined, where not all.",
        ),
    )


def _spread(method: Method, found: Features, feature: str) -> str:
    values = [value for record in method.records if (value := found.of(record, feature)) is not None]
    summary = summarise(values)
    if summary is None:
        return "-"
    few = "" if summary.n == len(method.records) else f" (n={summary.n})"
    return short(summary) + few


def short(summary: Summary) -> str:
    """Three digits of the mean, two of the standard deviation, never in powers of ten where a person reads them."""
    std = "" if summary.std is None else f" ± {_digits(summary.std, 2)}"
    return _digits(summary.mean, 3) + std


def _digits(value: float, digits: int) -> str:
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def rank_table(asked: Asked, sweep: Sweep, test_set: str, runs: Sequence[Run]) -> Table:
    """Correlation of every signal with the target average."""
    ranks = {signal: rank(runs, signal) for signal in SIGNALS}
    rows = [Row(labels=(signal_name(signal),), cells=_rank_cells(found)) for signal, found in ranks.items()]
    cells = len({run.cell for run in runs})
    fewest = min((found.n_cells for found in ranks.values() if found and found.spearman_interval), default=cells)
    held = coverage(fewest)  # of the signal that has the fewest configurations
    if cells < MIN_CELLS:
        note = f"No intervals: they resample configurations, of which there are fewer than {MIN_CELLS} ({cells})."
    else:
        note = (
            f"Intervals: 2.5 and 97.5 % of 2,000 resamples of the {cells} configurations, each with all of its seeds, "
            "for seeds of a configuration are alike. They are too narrow where configurations are few: in simulations "
            f"with 2 and 4 seeds they held the truth in at least {held} % of cases instead of 95 %."
        )
    return Table(
        name=stem(asked, f"proxy-correlation-{test_set}", sweep),
        title=under(titled(asked, sweep), f"Rank correlation with the target average of {test_set}, over runs"),
        stub=("signal",),
        columns=("Spearman's rho", "interval", "Kendall's tau-b", "interval ", "runs", "configurations"),
        blocks=(tuple(rows),),
        notes=(note,),
    )


def _rank_cells(found: Rank | None) -> tuple[Cell, ...]:
    if found is None:
        return tuple(Cell(text="-") for _ in range(6))
    texts = (
        f"{found.spearman:+.2f}",
        _interval(found.spearman_interval, found.n_cells),
        f"{found.kendall:+.2f}",
        _interval(found.kendall_interval, found.n_cells),
        str(found.n_runs),
        str(found.n_cells),
    )
    return tuple(Cell(text=text) for text in texts)


def _interval(of: tuple[float, float] | None, n_cells: int) -> str:
    if of is not None:
        return f"{of[0]:+.2f} to {of[1]:+.2f}"
    return "too few cells" if n_cells < MIN_CELLS else "-"


def choice_table(asked: Asked, sweep: Sweep, test_set: str, runs: Sequence[Run]) -> Table:
    """What choosing a configuration by every signal gives."""
    whole = complete(sweep, runs)
    targets = target_means(whole)
    rows = [_choice_row(whole, SOURCE_DEV, "highest")]
    rows += [_choice_row(whole, feature, way) for feature in FEATURES for way in ("highest", "lowest")]
    ends = []
    if targets:
        best, mean = max(targets, key=lambda cell: targets[cell]), sum(targets.values()) / len(targets)
        any_one = (f"any of {len(targets)}", f"{mean:.2f}", f"{targets[best] - mean:.2f}", "50 %", "-")
        ends = [
            ("none: taken at random", "", any_one),
            ("target labels (oracle)", "", (best, f"{targets[best]:.2f}", "0.00", "100 %", "-")),
        ]
    last = tuple(Row(labels=(name, way), cells=tuple(Cell(text=one) for one in texts)) for name, way, texts in ends)
    return Table(
        name=stem(asked, f"proxy-choice-{test_set}", sweep),
        title=under(titled(asked, sweep), f"The configuration that each signal chooses, on the targets of {test_set}"),
        stub=("signal", "taken"),
        columns=("chosen configuration", "target average", "regret", "better of two", "ranked"),
        blocks=tuple(block for block in (tuple(rows), last) if block),
        notes=(
            f"{metric_name(objective(sweep))} (0-100), means over seeds; {counted(len(targets), 'configuration')} with "
            "all seeds.",
            "Regret: points less than the configuration that the target labels themselves would choose (oracle).",
            "Better of two: of all pairs of configurations at one seed, the share that the signal puts in the right "
            "order; equal signals count half. Ranked: configurations in all of whose seeds the signal is defined; "
            "with fewer than two of them there is nothing to choose.",
        ),
    )


def _choice_row(runs: Sequence[Run], signal: str, way: str) -> Row:
    found = choose(runs, signal, highest=way == "highest")
    right, n_pairs = ordered(runs, signal)
    right = right if way == "highest" else n_pairs - right
    texts = (
        *(("-", "-", "-") if found is None else (found.cell, f"{found.target:.2f}", f"{found.regret:.2f}")),
        f"{100 * right / n_pairs:.0f} % of {n_pairs}" if n_pairs else "-",
        "-" if found is None else str(found.n_ranked),
    )
    return Row(labels=(signal_name(signal), way), cells=tuple(Cell(text=text) for text in texts))
