"""Differences of methods over seeds and questions: the test of both, and the bootstrap with its coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysched.reports.document import Cell, Row, Table
from raysched.reports.inference.bootstrap import Array, Crossed, Resampled, bootstrap, by_seed, crossed
from raysched.reports.inference.claims import Opponents, signed
from raysched.reports.inference.means import LEVEL, p_text
from raysched.reports.inference.questions import PER_QUESTION, Run, column_of, lined_up
from raysched.reports.methods import Method
from raysched.reports.stats import holm
from raysched.reports.tables import DAGGER, metric_name

COLUMNS = (
    "seeds",
    "questions",
    "difference",
    "95 % interval",
    "p",
    "p (Holm)",
    "verdict",
    "seeds' share of variance",
    "bootstrap",
)
Runs = Mapping[str, Mapping[int, Run]]
"""Name of a method -> seed -> its answers on one test set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One row: a method on a test set, against the reference. `test` is None where there is nothing to test."""

    test_set: str
    method: Method
    difference: float
    n_seeds: int
    n_questions: int
    test: Crossed | None
    interval: Resampled | None


def differences(
    ours: Mapping[int, Run], theirs: Mapping[int, Run], languages: Sequence[str], column: str
) -> Array | None:
    """(seeds, questions, languages): ours minus theirs in points, by seed and question.

    Of the seeds that both have in every one of the languages; None where there is none.
    """
    seeds = [
        seed
        for seed in sorted(ours.keys() & theirs.keys())
        if all(one in ours[seed] and one in theirs[seed] for one in languages)
    ]
    scores = lined_up([*(ours[seed] for seed in seeds), *(theirs[seed] for seed in seeds)], languages, column)
    return None if scores is None else scores[: len(seeds)] - scores[len(seeds) :]


def difference_table(who: Opponents, runs: Mapping[str, Runs]) -> Table | None:
    """A block per test set, with one family for Holm; None where no two runs can be compared. `runs` is by test set."""
    found = [
        one
        for test_set, of in runs.items()
        for method in who.others
        if (one := _compare(who, test_set, method, of)) is not None
    ]
    if not found:
        return None
    adjusted = dict(zip(map(id, found), holm([one.test.p if one.test else None for one in found]), strict=True))
    blocks = [
        tuple(_row(who, one, adjusted[id(one)]) for one in found if one.test_set == name)
        for name in dict.fromkeys(one.test_set for one in found)
    ]
    return Table(
        name=f"differences-questions-{who.metric}-{who.sweep.layout.name}",
        title=f"{_metric(who)} against {who.reference.label} over seeds and questions, {who.sweep.layout.name}",
        stub=("measured on", "method"),
        columns=COLUMNS,
        blocks=tuple(blocks),
        notes=_notes(who, found),
    )


def _compare(who: Opponents, test_set: str, method: Method, runs: Runs) -> _Found | None:
    targets = who.sweep.targets(test_set)
    found = differences(runs[method.name], runs[who.reference.name], targets, column_of(who.metric))
    if found is None:
        return None
    return _Found(
        test_set=test_set,
        method=method,
        difference=float(by_seed(found).mean()),
        n_seeds=found.shape[0],
        n_questions=found.shape[1],
        test=crossed(found),
        interval=bootstrap(found),
    )


def _row(who: Opponents, one: _Found, p: float | None) -> Row:
    planned = who.planned(one.method)
    texts = (
        str(one.n_seeds) if one.n_seeds == planned else f"{one.n_seeds} of {planned} {DAGGER}",
        str(one.n_questions),
        signed(one.difference),
        str(one.test.interval) if one.test else "-",
        p_text(one.test.p if one.test else None),
        p_text(p),
        _verdict(one, p),
        f"{100 * one.test.seed_share:.0f} %" if one.test else "-",
        str(one.interval or "-"),
    )
    labels = (f"targets ({one.test_set})", one.method.label)
    return Row(labels=labels, cells=tuple(Cell(text=text) for text in texts))


def _verdict(one: _Found, p: float | None) -> str:
    if p is None:
        few = one.n_seeds < 2 or one.n_questions < 2
        seeds = f"{one.n_seeds} {'seed' if one.n_seeds == 1 else 'seeds'}"
        return f"not testable with {seeds}{'' if few else ': all differ by the same'}"
    if p > LEVEL:
        return "undecided"
    return f"different ({'higher' if one.difference > 0 else 'lower'})"


def _metric(who: Opponents) -> str:
    return metric_name(who.metric if who.metric in PER_QUESTION else "em")


def _notes(who: Opponents, found: Sequence[_Found]) -> tuple[str, ...]:
    n_tests = sum(one.test is not None for one in found)
    one_seed = any(one.n_seeds == 1 and one.interval for one in found)
    short = any(one.n_seeds < who.planned(one.method) for one in found)
    notes = [
        f"Target average of method minus {who.reference.label}, in points, paired by seed and question. Interval and p "
        "count the spread between seeds and that between questions (Clark 1973, with Banerjee's t interval, 1961: its "
        f"level holds whatever their shares are). p (Holm): adjusted over the {n_tests} tests of this table.",
        "Seeds' share of variance: where it is large, more seeds narrow the interval most; where it is small, more "
        "test questions.",
        "Bootstrap: percentile interval of 95 % by name, seeds and then questions drawn anew; in parentheses how often "
        "such an interval holds the true difference in simulation, with all of the spread between seeds. Where that "
        "is far from 95 %, read the interval beside it.",
    ]
    if who.metric not in PER_QUESTION:
        notes.append(f"{metric_name(who.metric)} is no mean over questions: exact matches are compared instead.")
    if one_seed:
        notes.append("With one seed the bootstrap draws questions only, and says nothing of other seeds.")
    if short:
        notes.append(f"{DAGGER}: fewer seeds than planned.")
    return tuple(notes)
