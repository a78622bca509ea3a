"""How well a signal that needs no target labels tells which configuration transfers best. On plain values.

Runs come in cells (the seeds of one configuration), and seeds of a cell are alike: intervals resample whole cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from raysched.reports.stats import summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MIN_CELLS = 5
"""With fewer cells an interval by resampling them means nothing."""
REPLICATES = 2000
LEVEL = 95
"""Of the intervals, in per cent."""
COVERAGE: Mapping[int, int] = {5: 88, 8: 90, 12: 91}
"""From so many cells on: how often (per cent) the interval for Spearman's rho held the truth, in the worst of the
simulated conditions; `tests/reports/test_proxy.py` simulates it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run's signals (None where not defined), and its score on the targets (0-100); `cell` is its configuration."""

    cell: str
    seed: int
    signals: Mapping[str, float | None]
    target: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Rank correlation over runs. `low` and `high` of each are None with too few cells, or where most resamples have
    no correlation."""

    spearman: float
    kendall: float
    spearman_interval: tuple[float, float] | None
    kendall_interval: tuple[float, float] | None
    n_runs: int
    n_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What taking the highest (or lowest) mean of a signal gives.

    `target` is the mean target score of the chosen cell, `regret` what the best of all cells has more; `n_ranked` of
    them have the signal.
    """

    cell: str
    target: float
    regret: float
    n_ranked: int


def coverage(n_cells: int) -> int | None:
    """Simulated coverage (per cent) of a nominal 95 % interval with so many cells; None where none is given."""
    return next((held for cells, held in sorted(COVERAGE.items(), reverse=True) if n_cells >= cells), None)


def rank(runs: Iterable[Run], signal: str) -> Rank | None:
    """Over the runs where the signal is defined; None for fewer than three, or where signal or target is constant.

    Spearman's rho with mean ranks, and Kendall's tau-b.
    """
    import numpy as np

    known = [run for run in sorted(runs, key=lambda run: (run.cell, run.seed)) if run.signals.get(signal) is not None]
    x, y = np.array([run.signals[signal] for run in known]), np.array([run.target for run in known])
    if len(known) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    names = sorted({run.cell for run in known})
    member = np.array([[run.cell == name for run in known] for name in names], dtype=float)  # (cells, runs)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(names), [1 / len(names)] * len(names), size=REPLICATES)  # whole cells, with replacement
    whole = np.ones((1, len(names)))
    few = len(names) < MIN_CELLS
    return Rank(
        spearman=float(_spearman(x, y, whole @ member)[0]),
        kendall=float(_kendall(x, y, member, whole)[0]),
        spearman_interval=None if few else _percentiles(_spearman(x, y, draws @ member)),
        kendall_interval=None if few else _percentiles(_kendall(x, y, member, draws)),
        n_runs=len(known),
        n_cells=len(names),
    )


def _spearman(x: Array, y: Array, weights: Array) -> Array:
    """rho of every resample (R,). `x` and `y` are of the runs (n,), `weights` (R, n) say how often a run is in it."""
    rx, ry = _mean_ranks(x, weights), _mean_ranks(y, weights)
    return _ratio((weights * rx * ry).sum(1), (weights * rx * rx).sum(1), (weights * ry * ry).sum(1))


def _mean_ranks(values: Array, weights: Array) -> Array:
    """Ranks (R, n) in each resample, less their mean; equal values share the mean of theirs."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    _, first, which = np.unique(values[order], return_index=True, return_inverse=True)
    counts = np.add.reduceat(weights[:, order], first, axis=1)  # (R, unique)
    ranks = counts.cumsum(1) - counts / 2 - counts.sum(1, keepdims=True) / 2
    found: Array = np.empty_like(weights)
    found[:, order] = ranks[:, which]
    return found


def _kendall(x: Array, y: Array, member: Array, draws: Array) -> Array:
    """tau-b of every resample (R,). `member` (cells, n) tells the runs of a cell, `draws` (R, cells) how often it is
    in it."""
    import numpy as np

    pairs = np.zeros((3, len(member), len(member)))  # agreement of the pairs of two cells, and how many are not tied
    for cell, mine in enumerate(member.astype(bool)):
        in_x, in_y = np.sign(x[mine, None] - x), np.sign(y[mine, None] - y)
        pairs[:, cell] = [(signs.sum(0) * member).sum(1) for signs in (in_x * in_y, in_x * in_x, in_y * in_y)]
    both, of_x, of_y = (((draws @ one) * draws).sum(1) for one in pairs)
    return _ratio(both, of_x, of_y)


def _ratio(both: Array, in_x: Array, in_y: Array) -> Array:
    """nan where either side is constant."""
    import numpy as np

    scale = np.sqrt(in_x * in_y)
    found: Array = np.divide(both, scale, out=np.full_like(scale, np.nan), where=scale > 0)
    return found


def _percentiles(values: Array) -> tuple[float, float] | None:
    """None where most resamples have no correlation: one cell drawn again and again may be constant."""
    import numpy as np

    found = values[np.isfinite(values)]
    if len(found) < len(values) / 2:
        return None
    low, high = np.percentile(found, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def choose(runs: Sequence[Run], signal: str, *, highest: bool = True) -> Choice | None:
    """The cell that the signal's mean over seeds picks; `runs` are those of complete cells.

    A cell is ranked where the signal is defined for all of its runs. None for fewer than two ranked cells.
    """
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    means = {}
    for cell, of in cells.items():
        values = [value for run in of if (value := run.signals.get(signal)) is not None]
        if len(values) == len(of) and (summary := summarise(values)) is not None:
            means[cell] = summary.mean if highest else -summary.mean
    if len(means) < 2:
        return None
    chosen = max(sorted(means), key=lambda cell: means[cell])  # of equal ones the first by name: any would do
    targets = target_means(runs)
    return Choice(
        cell=chosen,
        target=targets[chosen],
        regret=max(targets.values()) - targets[chosen],
        n_ranked=len(means),
    )


def target_means(runs: Iterable[Run]) -> dict[str, float]:
    """cell -> mean target score over its runs."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        scores.setdefault(run.cell, []).append(run.target)
    return {cell: summary.mean for cell, of in scores.items() if (summary := summarise(of)) is not None}


def ordered(runs: Iterable[Run], signal: str) -> tuple[float, int]:
    """In how many pairs of cells, at one seed, the higher signal has the higher target; and of how many.

    Pairs with equal targets are no pairs; equal signals count half.
    """
    seeds: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        value = run.signals.get(signal)
        if value is not None:
            seeds.setdefault(run.seed, []).append((value, run.target))
    pairs = [(a, b) for of in seeds.values() for a, b in combinations(of, 2) if a[1] != b[1]]
    right = sum(0.5 if a[0] == b[0] else float((a[0] > b[0]) == (a[1] > b[1])) for a, b in pairs)
    return right, len(pairs)
