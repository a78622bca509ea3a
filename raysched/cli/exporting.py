"""`export` and `evaluate`: a run's adapter out of its sweep, and any saved adapter's scores."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from raysched.cli import looking
from raysched.cli.terminal import terminal
from raysched.errors import MissingError, StudyError
from raysched.records import files
from raysched.records.layout import SweepLayout, storage_folder
from raysched.reports.sweep import read_sweep
from raysched.service import choosing
from raysched.study.choices import closest
from raysched.study.load import check, load_study
from raysched.study.model import MAIN, Study
from raysched.study.overrides import apply_overrides
from raysched.study.values import form
from raysched.study.yaml_text import parse, to_yaml

TEST_SETS: dict[str, dict[str, Any]] = {
    "xquad": {"test": "google/xquad", "scoring": "squad"},
    "mlqa": {"test": "facebook/mlqa", "scoring": "mlqa"},
    "xcopa": {"test": "cambridgeltl/xcopa"},
    "xnli": {"test": "facebook/xnli"},
    "mini": {"test": "mini"},
}
"""Short names of the test sets that the studies know; anything else is a hub name or a file with {language}."""


def export(
    name: str | None, storage: str, *, best: bool, run: str | None, to: Path, push: str | None, private: bool
) -> None:
    """Write one run's adapter, head and card to the folder `to`; with `push`, to the hub as well.

    Raises:
        StudyError: not exactly one of `best` and `run`; a run that is not there; a folder that holds something else.
        MissingError: no such sweep; no run is done; the hub does not take it.
        DamageError: the run's files are not what was recorded.
    """
    if best == (run is not None):
        raise StudyError("exactly one of --best and --run must be given", key="--best", choices=["--best", "--run ID"])
    layout = find(name, storage)
    sweep = read_sweep(layout)
    record = choosing.best(sweep) if best else choosing.named(sweep, run or "")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StudyError(f"{to} is not an empty folder", key="--to", hint="name a new one")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as beside:
        made = Path(beside) / "made"
        choosing.write(sweep, record, made)
        if to.exists():
            to.rmdir()
        made.rename(to)
    console = terminal()
    console.print(f"run:     {record.run_id}, {choosing.point(record)} seed={record.seed}", highlight=False)
    console.print(f"written: {to}", highlight=False)
    console.print(f"score:   raysched evaluate {to}", highlight=False)
    if push is not None:
        from raysched import hub_upload

        console.print(f"pushed:  {hub_upload.push(to, push, private=private)}", highlight=False)


def find(name: str | None, storage: str) -> SweepLayout:
    """As `looking.find`, and what `raysched run` left is told from nothing at all."""
    try:
        return looking.find(name, storage)
    except MissingError as error:
        if name is None or not (alone := storage_folder(storage) / f"{name.removesuffix('.run')}.run").is_dir():
            raise
        raise MissingError(
            f"{alone} is what `raysched run` made: a run on its own, and no sweep to export from",
            key="SWEEP",
            choices=error.choices,
            hint=f"raysched sweep {name.removesuffix('.run')}, with the point as an arm of the search, then export",
        ) from error


def evaluate(
    adapter: Path,
    *,
    task: str | None,
    languages: str | None,
    study: str | None,
    overrides: Sequence[str],
    to: Path | None,
) -> None:
    """Score a saved adapter on test languages; with `to`, keep its predictions and scores there.

    Raises:
        MissingError: no adapter, no data, no backbone.
        StudyError: the adapter does not say what it was trained on and no study does; it does not fit.
    """
    from raysched.training.export import About

    about = About.read(adapter)
    if study is not None:
        base = load_study(study).study
    elif about is not None:
        base = about.spec.study
    else:
        what = "holds no adapter" if not adapter.is_dir() else "was not exported by raysched: nothing says its backbone"
        raise (MissingError if not adapter.is_dir() else StudyError)(
            f"{adapter} {what}", key="ADAPTER", hint="name the study it belongs to, for example --study xquad-xlmr"
        )
    chosen = _tested(base, task, languages, overrides)
    full = about is not None and about.spec.point.method == "full"
    scored = _score(adapter, chosen, about, full=full)
    table = Table(box=None, pad_edge=False)
    kept: dict[str, dict[str, dict[str, float]]] = {}
    for column in ("test set", "language", "n", *_metrics(chosen)):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as scratch:
        for name, language, scores, predictions in scored(Path(scratch)):
            cells = [f"{scores[metric]:.2f}" for metric in _metrics(chosen)]
            table.add_row(chosen.test_sets[name].test, language, str(len(predictions)), *cells)
            kept.setdefault(name, {})[language] = dict(scores)
            if to is not None:
                _keep(to, name, language, predictions, about)
    terminal().print(table)
    if to is not None:
        files.write_atomic(to / "scores.json", json.dumps(kept, indent=2) + "\n")
        terminal().print(f"written: {to}", highlight=False)


def _metrics(study: Study) -> tuple[str, ...]:
    from raysched.study.values import metrics

    return metrics(study.task)


def _tested(base: Study, task: str | None, languages: str | None, overrides: Iterable[str]) -> Study:
    """The study with other test sets: `task` is a short name, a hub name or a file."""
    values = base.model_dump(mode="json")
    evaluation = values["evaluation"]
    if task is not None:
        known = _test_set(task)
        values["data"]["test"] = known["test"]
        evaluation |= {"also": {}}
        if form(base.task) == "qa":
            evaluation |= {"scoring": known.get("scoring", "squad"), "chinese_metric": None}
    if languages is not None:
        evaluation |= {"also": {}, "languages": [one.strip() for one in languages.split(",") if one.strip()]}
    tree = apply_overrides(parse(to_yaml(values), "the adapter's study"), tuple(overrides))
    return check(tree)


def _test_set(task: str) -> dict[str, Any]:
    """What `--task` stands for. Raises StudyError for a word that is no test set."""
    from raysched import hub
    from raysched.tasks import local

    if task not in TEST_SETS and not local.is_local(task) and not hub.REPOSITORY.fullmatch(task):
        meant = closest(task, list(TEST_SETS))
        raise StudyError(
            f"must name a test set, but got {task!r}",
            key="--task",
            choices=(*TEST_SETS, "owner/name on the hub", "a file with {language} in its name"),
            hint=f"did you mean {meant}?" if meant else None,
        )
    return TEST_SETS.get(task, {"test": task})


def _score(adapter: Path, study: Study, about: Any, *, full: bool) -> Any:
    """A function of a scratch folder that yields (test set, language, scores, predictions)."""
    import torch

    from raysched.runners import preflight
    from raysched.training.bench import Bench
    from raysched.training.evaluate import evaluate as evaluate_language
    from raysched.training.export import read_head

    known = about.spec.resolved if about is not None else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    resolved = preflight.resolve_tests(study, device=device, known=known, full=adapter if full else None)
    if known is not None and not full and resolved.backbone.revision != known.backbone.revision:
        raise StudyError(
            f"{adapter} was trained on the backbone {known.backbone.where} ({known.backbone.revision[:12]}), but "
            f"{study.model.backbone} is another one ({resolved.backbone.revision[:12]})",
            key="model.backbone",
            hint="--set model.backbone=FOLDER names the right one",
        )

    def scored(cache: Path) -> Any:
        bench = Bench(study, resolved, cache)
        if full:
            bench.model.new_full(bench.task.head, None)
        else:
            bench.model.load_task(adapter, bench.task.head)
        read_head(adapter, bench.model.head)
        for name, test_set in study.test_sets.items():
            for language in test_set.languages:
                rows = bench.test(language, name)
                yield name, language, *evaluate_language(bench, rows, study.evaluation.batch_size)

    return scored


def _keep(to: Path, test_set: str, language: str, predictions: Any, about: Any) -> None:
    from raysched.tasks import predictions as parquet

    run_id = about.spec.run_id if about is not None else "unknown"
    name = f"{language}.parquet" if test_set == MAIN else f"{test_set}/{language}.parquet"
    origin = parquet.Origin(run_id=run_id, evaluation_id=None, language=language, split="test")
    parquet.write(to / "predictions" / name, predictions, origin)
