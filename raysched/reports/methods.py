"""What a report compares: per group of points the cell that source dev selects, over one sweep or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raysched.errors import StudyError
from raysched.records.record import Record
from raysched.reports.stats import summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import PARAMS, cell_rows, contender, merit, param_text
from raysched.study.model import MAIN
from raysched.study.space import Point

MODELS = {"bert-base-multilingual-cased": "mBERT", "xlm-roberta-base": "XLM-R", "mdeberta-v3-base": "mDeBERTa"}
"""How the paper calls its backbones, by the name of their repository or folder."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One cell that stands for a group of points. `name` tells it from all others of the report, `label` from those
    of its own sweep."""

    name: str
    label: str
    sweep: Sweep
    number: int

    @property
    def point(self) -> Point:
        return self.sweep.points[self.number]

    @property
    def model(self) -> str:
        return model_name(self.sweep)

    @property
    def planned(self) -> int:
        """Seeds that were asked for."""
        return len(self.sweep.state.points[self.number].run_ids)

    @property
    def records(self) -> list[Record]:
        """The finished runs, by seed."""
        return [record for record in self.sweep.cell(self.number) if record.status == "finished"]

    @property
    def n_failed(self) -> int:
        return len(self.sweep.cell(self.number)) - len(self.records)

    @property
    def complete(self) -> bool:
        return len(self.records) == self.planned

    def scores(self, metric: str, language: str, test_set: str = MAIN) -> dict[int, float]:
        """seed -> score (0-100) on a tested language, of the seeds that were tested on it."""
        found = {record.seed: self.sweep.tests(record, test_set).get(language, {}) for record in self.records}
        return {seed: scores[metric] for seed, scores in found.items() if metric in scores}

    def averages(self, metric: str, test_set: str = MAIN) -> dict[int, float]:
        """seed -> mean over the target languages, of the seeds that were tested on all of them."""
        targets = self.sweep.targets(test_set)
        each = [self.scores(metric, language, test_set) for language in targets]
        seeds = set.intersection(*map(set, each)) if each else set()
        means = {seed: summarise(of[seed] for of in each) for seed in sorted(seeds)}
        return {seed: summary.mean for seed, summary in means.items() if summary is not None}

    def source_dev(self, metric: str) -> dict[int, float]:
        """seed -> score of the selected checkpoint on the source language's dev set."""
        return {record.seed: record.source_dev[metric] for record in self.records if metric in record.source_dev}


def model_name(sweep: Sweep) -> str:
    """The backbone as a table calls it: the paper's name, or that of its repository or folder."""
    name = PurePath(sweep.study.model.backbone).name
    return MODELS.get(name.lower(), name)


def objective(sweep: Sweep) -> str:
    """The metric that the sweep is selected by, such as `f1`."""
    return sweep.study.search.objective.partition("/")[2]


def methods(sweeps: Sequence[Sweep], by: Sequence[str] = ()) -> list[Method]:
    """Per group the complete cell with the best source-dev mean; targets are not looked at.

    Groups are the `contender`s, or, with `by`, the values of these parameters of a point. Of several sweeps each is
    grouped by itself; names begin with what sets the sweeps apart.

    Raises:
        StudyError: `by` names no parameter of a point.
    """
    for key in by:
        if key not in PARAMS:
            raise StudyError(f"must be a searched parameter, but got {key!r}", key="--by", choices=PARAMS)
    prefixes = _prefixes(sweeps)
    found = []
    for sweep in sweeps:
        best: dict[str, tuple[tuple[bool, int, float], int]] = {}
        for row in cell_rows(sweep, objective(sweep)):
            name, value = group(row.point, by), (merit(row), row.number)
            if name not in best or value[0] > best[name][0]:
                best[name] = value
        prefix = prefixes[sweep.layout.name]
        found += [
            Method(name=f"{prefix}{label}", label=label, sweep=sweep, number=number)
            for label, (_, number) in best.items()
        ]
    return found


def group(point: Point, by: Sequence[str]) -> str:
    """Which group of a sweep's points one belongs to: its `contender`, or its values of `by`."""
    if not by:
        return contender(point)
    return " ".join(
        param_text(point, key) if key == "schedule" else f"{key}={param_text(point, key) or '-'}" for key in by
    )


def _prefixes(sweeps: Iterable[Sweep]) -> dict[str, str]:
    """Nothing for one sweep; else the model where no two sweeps share one, else the sweep's name."""
    models = {sweep.layout.name: model_name(sweep) for sweep in sweeps}
    if len(models) < 2:
        return dict.fromkeys(models, "")
    apart = len(set(models.values())) == len(models)
    return {name: f"{model if apart else name}: " for name, model in models.items()}
