"""Sweeps on disk with the paper's settings, and its own numbers as their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from raysched.reports.paper import numbers as paper
from raysched.reports.paper.numbers import AVERAGE, LOWEST, TARGETS, Cell, by_cell
from raysched.study.space import Point
from tests.reports.conftest import MadeUp, study

BACKBONES = {"mBERT": "google-bert/bert-base-multilingual-cased", "XLM-R": "FacebookAI/xlm-roberta-base"}
TESTS = {"XQuAD": "google/xquad", "MLQA": "facebook/mlqa", "XCOPA": "cambridgeltl/xcopa", "XNLI": "facebook/xnli"}
TASKS = {"XQuAD": "qa", "MLQA": "qa", "XCOPA": "choice", "XNLI": "nli"}
SCHEDULES = {"gu_rev": "reverse", "full_ft": "standard"}


def spread(n: int) -> list[float]:
    """n numbers of mean 0 and standard deviation 1 (ddof 1)."""
    values = [float(index) for index in range(n)]
    return [(value - mean(values)) / stdev(values) for value in values]


def published(model: str, method: str, dataset: str, metric: str, size: int) -> dict[str, float]:
    """language -> a mean that makes every published number of the column true, as far as they agree."""
    whole = Cell(model=model, method=method, dataset=dataset, language=AVERAGE, metric=metric, train_size=size)
    means = {one.language: number.mean for one, number in by_cell().items() if replace(one, language=AVERAGE) == whole}
    for name in [name for name in means if name.startswith(LOWEST)]:
        means[name.removeprefix(LOWEST)] = means[name]
    unknown = [language for language in TARGETS[dataset] if language not in means]
    rest = len(TARGETS[dataset]) * means[AVERAGE] - sum(means.get(language, 0.0) for language in TARGETS[dataset])
    return {"en": 50.0} | means | {language: rest / len(unknown) for language in unknown}


def deviation(model: str, method: str, dataset: str, metric: str, size: int) -> float:
    cell = Cell(model=model, method=method, dataset=dataset, language=AVERAGE, metric=metric, train_size=size)
    return by_cell()[cell].std or 1.0


def _point(method: str) -> Point:
    schedule = SCHEDULES.get(method, method)
    k = None if schedule == "standard" else 50
    return Point(schedule=schedule, lr=1e-4, k=k, method="full" if method == "full_ft" else "adapters")


def paper_sweep(
    storage: Path,
    name: str,
    *,
    model: str,
    datasets: Sequence[str],
    methods: Sequence[str] = paper.COMPARED,
    train_examples: int | None = None,
    points: Sequence[Point] = (),
    shift: float = 0.0,
    **changes: Any,
) -> MadeUp:
    """A whole sweep whose runs score what the paper printed, plus `shift`: mean, deviation and number of runs.

    The first dataset is the main test set, the others are in `evaluation.also`; `points` come beside those of the
    methods, with the scores of standard training.
    """
    main, *others = datasets
    metrics = {"f1": "F1", "em": "EM"} if TASKS[main] == "qa" else {"accuracy": "Accuracy"}
    chosen = {_point(method): method for method in methods}
    chosen |= dict.fromkeys(points, "standard")
    english = [] if main == "XCOPA" else ["en"]
    values: dict[str, Any] = {
        "task": TASKS[main],
        "data": {"train": paper.TRAINED_ON[main], "dev": "a/b", "test": TESTS[main], "train_examples": train_examples},
        "model": {"backbone": BACKBONES[model], "language_adapters": "mini", "source_language": "en"},
        "seeds": tuple(range(5 if main == "XCOPA" else 4)),
        "search": {
            "schedule": (), "lr": (), "k": (), "objective": f"source_dev/{next(iter(metrics))}",
            "arms": [point.params() for point in chosen],
        },
        "evaluation": {
            "languages": (*english, *TARGETS[main]),
            "also": {one.lower(): {"test": TESTS[one], "languages": ("en", *TARGETS[one])} for one in others},
        },
    }  # fmt: skip
    sweep = MadeUp(storage, study(**(values | changes)), name, sizes=paper.TEST_ROWS[main])
    for number, (point, method) in enumerate(chosen.items()):
        for spec, z in zip(sweep.take(number, point), spread(len(sweep.study.seeds)), strict=True):
            tests: dict[str, dict[str, dict[str, float]]] = {}
            for test_set, dataset in zip(sweep.study.test_sets, datasets, strict=True):
                size = train_examples or paper.FULL_SIZE[dataset]
                languages = tests.setdefault(spec.evaluation_ids[test_set], {})
                for key, metric in metrics.items():
                    about = (model, method, dataset, metric, size)
                    if metric == "EM" and (method == "full_ft" or train_examples):
                        continue  # not printed
                    means, std = published(*about), deviation(*about)
                    for language in ("en", *TARGETS[dataset]):
                        languages.setdefault(language, {})[key] = means[language] + shift + std * z
            dev = next(iter(tests.values()))["en"]
            sweep.finish(spec, source_dev=dev, tests=tests)
    return sweep
