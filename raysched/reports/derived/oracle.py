"""What labels of the targets would have chosen: of a method's points, and of a run's checkpoints. An upper bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raysched.reports.asked import Asked
from raysched.reports.derived.derivations import Derivations, target_average
from raysched.reports.document import Cell, Row
from raysched.reports.methods import Method, group, objective
from raysched.reports.stats import Summary, summarise

ZERO_SHOT, POINT = "source dev (zero-shot)", "oracle: point"
BY_AVERAGE, BY_LANGUAGE = "oracle: checkpoint by target average", "oracle: checkpoint per language"

Languages = Mapping[str, float]
"""Target language -> score (0-100)."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Seed -> scores by target language, of what each way of choosing takes, in the metric that selects.

    `points` are all of the method's group with a complete cell; an oracle is empty where there is nothing to choose
    from, or its candidates were not scored.
    """

    method: Method
    zero_shot: Mapping[int, Languages]
    points: int
    best_point: Method | None
    oracles: Mapping[str, Mapping[int, Languages]] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        """The ways of choosing that there are, zero-shot first."""
        return (ZERO_SHOT, *self.oracles)

    def chosen(self, by: str) -> Mapping[int, Languages]:
        return self.zero_shot if by == ZERO_SHOT else self.oracles.get(by, {})


def choices(asked: Asked, known: Derivations, method: Method, test_set: str) -> Choices:
    """Everything that is there for one method on one test set."""
    zero_shot = _tested(method, test_set)
    best, points = _best_point(asked, method, test_set)
    oracles = {POINT: _tested(best, test_set)} if best is not None else {}
    by_average, by_language = _checkpoints(known, method, test_set)
    if by_average:
        oracles |= {BY_AVERAGE: by_average, BY_LANGUAGE: by_language}
    return Choices(method=method, zero_shot=zero_shot, points=points, best_point=best, oracles=oracles)


def _tested(method: Method, test_set: str) -> dict[int, Languages]:
    """Of the seeds that were tested on all targets."""
    metric, targets = objective(method.sweep), method.sweep.targets(test_set)
    each = {language: method.scores(metric, language, test_set) for language in targets}
    seeds = set.intersection(*map(set, each.values())) if each else set()
    return {seed: {language: each[language][seed] for language in targets} for seed in sorted(seeds)}


def _best_point(asked: Asked, method: Method, test_set: str) -> tuple[Method | None, int]:
    """Of the group's complete cells the one with the best target average; None where there are fewer than two."""
    sweep, metric = method.sweep, objective(method.sweep)
    mine = group(method.point, asked.by)
    same = [
        Method(name=str(point), label=method.label, sweep=sweep, number=number)
        for number, point in sweep.points.items()
        if group(point, asked.by) == mine
    ]
    means = {one.number: summarise(one.averages(metric, test_set).values()) for one in same if one.complete}
    complete = {one.number: one for one in same if (mean := means.get(one.number)) and mean.n == one.planned}
    if len(complete) < 2:
        return None, len(complete)
    return max(complete.values(), key=lambda one: _mean(means[one.number])), len(complete)


def _mean(summary: Summary | None) -> float:
    return float("-inf") if summary is None else summary.mean


def _checkpoints(
    known: Derivations, method: Method, test_set: str
) -> tuple[dict[int, Languages], dict[int, Languages]]:
    """Per seed the scores of the checkpoint with the best target average, and of the best one for each language."""
    metric, targets = objective(method.sweep), method.sweep.targets(test_set)
    by_average: dict[int, Languages] = {}
    by_language: dict[int, Languages] = {}
    for record in method.records:
        averages = {
            step: (average, scores)
            for step, scores in known.choices(record, test_set).items()
            if (average := target_average(scores, targets, metric)) is not None
        }
        if averages:
            _, best = max(averages.values(), key=lambda one: one[0])
            by_average[record.seed] = {language: best[language][metric] for language in targets}
            by_language[record.seed] = {
                language: max(scores[language][metric] for _, scores in averages.values()) for language in targets
            }
    return by_average, by_language


def summary_row(found: Choices) -> Row:
    """Zero-shot, then every oracle and its gap, as target averages."""
    method, best = found.method, found.best_point
    cells = [_cell(method, _averages(found.zero_shot))]
    for by in (POINT, BY_AVERAGE, BY_LANGUAGE):
        averages, plain = _averages(found.chosen(by)), _averages(found.zero_shot)
        gaps = {seed: averages[seed] - plain[seed] for seed in averages if seed in plain}
        cells += [_cell(method, averages), _cell(method, gaps)]
    return Row(labels=(method.label, str(method.point), "-" if best is None else str(best.point)), cells=tuple(cells))


def _averages(of: Mapping[int, Languages]) -> dict[int, float]:
    means = {seed: summarise(scores.values()) for seed, scores in of.items()}
    return {seed: mean.mean for seed, mean in means.items() if mean is not None}


def _cell(method: Method, by_seed: Mapping[int, float]) -> Cell:
    return Cell(scores=(summarise(by_seed.values()),), planned=method.planned)


def language_row(found: Choices, by: str) -> Row:
    """One way of choosing, by target language."""
    chosen, targets = found.chosen(by), _targets(found)
    cells = [_cell(found.method, {seed: scores[one] for seed, scores in chosen.items()}) for one in targets]
    return Row(labels=(found.method.label, by), cells=tuple(cells))


def _targets(found: Choices) -> tuple[str, ...]:
    return tuple(next(iter(found.zero_shot.values())))
