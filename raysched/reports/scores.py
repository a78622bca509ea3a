"""Tables of scores: per test set each method's selected point, and every point where there are more of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import raysched
from raysched.records.record import Record
from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Section, Table, counted, ranked
from raysched.reports.methods import Method, objective
from raysched.reports.source import AVERAGE, SOURCE_DEV, Source
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, contender, metric_name, param_names, param_text
from raysched.study.model import MAIN
from raysched.study.space import Point
from raysched.study.values import metrics

NONE_YET = "No run is finished yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Sweeps whose scores on this test set stand in one table, for they have the same columns."""

    task: str
    test_set: str
    where: str
    source: str
    languages: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def names(self) -> str:
        return " / ".join(map(metric_name, self.metrics))


def scores(asked: Asked) -> Section:
    """A table per test set with a row per method; one more per sweep that has points which no method stands for."""
    kinds: dict[_Kind, list[Sweep]] = {}
    for sweep in asked.sweeps:
        for test_set in sweep.study.test_sets:
            kinds.setdefault(_kind(sweep, test_set), []).append(sweep)
    names = _stems(kinds)
    tables = [ranked(_table(kind, sweeps, asked, names[kind])) for kind, sweeps in kinds.items() if _begun(sweeps)]
    for kind, sweeps in kinds.items():
        for sweep in sweeps:
            chosen = {one.number for one in asked.methods if one.sweep is sweep}
            if len(chosen) < len(sweep.points):
                suffix = f"-{sweep.layout.name}" if len(sweeps) > 1 else ""
                tables.append(ranked(_every_point(kind, sweep, chosen, f"{names[kind]}-points{suffix}")))
    finished = any(record.status == "finished" for sweep in asked.sweeps for record in sweep.records.values())
    return Section(title="Scores", text=() if finished else (NONE_YET,), tables=tuple(tables))


def _begun(sweeps: Iterable[Sweep]) -> bool:
    return any(sweep.points for sweep in sweeps)


def _kind(sweep: Sweep, test_set: str) -> _Kind:
    study, first = sweep.study, objective(sweep)
    asked, source = study.test_sets[test_set], study.model.source_language
    each = metrics(study.task)
    return _Kind(
        task=study.task,
        test_set=test_set,
        where=asked.test,
        source=source,
        languages=tuple(sorted(asked.languages, key=lambda language: language != source)),
        # Those of `/` in a cell: the customary first, unless another steers the sweep.
        metrics=tuple(sorted(each, key=lambda metric: metric != first)),
    )


def _stems(kinds: Iterable[_Kind]) -> dict[_Kind, str]:
    """Names of the tables, told apart by as little as does it: the test set, its task, a number."""
    found: dict[_Kind, str] = {}
    every = list(kinds)
    for kind in every:
        tasks = {other.task for other in every if other.test_set == kind.test_set}
        stem = f"scores-{kind.test_set}" if len(tasks) == 1 else f"scores-{kind.task}-{kind.test_set}"
        same = sum(name == stem or name.startswith(f"{stem}-") for name in found.values())
        found[kind] = f"{stem}-{same + 1}" if same else stem
    return found


def _table(kind: _Kind, sweeps: Sequence[Sweep], asked: Asked, name: str) -> Table:
    several = len(sweeps) > 1
    each = {sweep.layout.name: [one for one in asked.methods if one.sweep is sweep] for sweep in sweeps}
    models = list(dict.fromkeys(one.model for found in each.values() for one in found))
    stub = (*(("sweep",) if several else ()), *(("model",) if several else ()), ", ".join(asked.by) or "method")
    blocks = tuple(
        tuple(
            Row(labels=(*((one.sweep.layout.name, one.model) if several else ()), one.label), cells=_cells(kind, one))
            for one in found
        )
        for found in each.values()
        if found
    )
    model = f", backbone {models[0]}" if len(models) == 1 else ""
    chosen = any(len(found) < len(sweep.points) for sweep, found in zip(sweeps, each.values(), strict=True))
    title = f"{kind.names} on {_test_set(kind)}{model}, per {'group' if asked.by else 'method'}" + (
        ", at the point that source dev selects" if chosen else ""
    )
    return Table(name=name, title=title, stub=stub, columns=_columns(kind), blocks=blocks,
                 notes=_notes(kind, sweeps, [one for found in each.values() for one in found]))  # fmt: skip


def _every_point(kind: _Kind, sweep: Sweep, chosen: set[int], name: str) -> Table:
    """Only the parameters that exist are columns of the stub."""
    names = param_names(sweep.points.values())
    points = [
        Method(name=str(point), label=contender(point), sweep=sweep, number=number)
        for number, point in sweep.points.items()
    ]
    rows = tuple(
        Row(
            labels=(*(param_text(one.point, key) for key in names), "yes" if one.number in chosen else ""),
            cells=_cells(kind, one),
        )
        for one in points
    )
    return Table(
        name=name,
        title=f"{kind.names} on {_test_set(kind)}, {sweep.layout.name}: every point",
        stub=(*names, "selected"),
        columns=_columns(kind),
        blocks=(rows,),
        notes=(
            f"selected: the point that stands for its method, by {sweep.study.search.objective}.",
            *_notes(kind, [sweep], points),
        ),
    )


def _test_set(kind: _Kind) -> str:
    where = f"{kind.where} ({kind.task})"
    return where if kind.test_set == MAIN else f"{kind.test_set}, {where}"


def _columns(kind: _Kind) -> tuple[str, ...]:
    return "source dev", *kind.languages, "target average", "lowest target", "n"


def _cells(kind: _Kind, one: Method) -> tuple[Cell, ...]:
    targets = [language for language in kind.languages if language != kind.source]
    of = {
        language: [summarise(one.scores(metric, language, kind.test_set).values()) for metric in kind.metrics]
        for language in kind.languages
    }
    average = [summarise(one.averages(metric, kind.test_set).values()) for metric in kind.metrics]
    dev = [summarise(one.source_dev(metric).values()) for metric in kind.metrics]
    tested = [(first.mean, language) for language in targets if (first := of[language][0]) is not None]
    lowest = min(tested)[1] if tested else ""
    return (
        _cell(kind, one, SOURCE_DEV, dev),
        *(_cell(kind, one, language, of[language]) for language in kind.languages),
        _cell(kind, one, AVERAGE, average),
        _cell(kind, one, lowest, of[lowest], text=lowest) if lowest else Cell(scores=(None,) * len(kind.metrics)),
        Cell(text=_seeds(one)),
    )


def _cell(kind: _Kind, one: Method, language: str, found: Sequence[Summary | None], text: str = "") -> Cell:
    taken = one.sweep.state
    source = Source(
        sweep=one.sweep.layout.name,
        uid=taken.uid,
        cell_id=taken.points[one.number].cell_id,
        test_set=kind.test_set,
        language=language,
        metrics=kind.metrics,
    )
    there = any(summary is not None for summary in found)
    return Cell(scores=tuple(found), text=text, planned=one.planned, source=str(source) if there else "")


def _seeds(one: Method) -> str:
    """Such as `4`, or `2 of 4, 1 failed`."""
    n = str(len(one.records)) if one.complete else f"{len(one.records)} of {one.planned}"
    return f"{n}, {one.n_failed} failed" if one.n_failed else n


def _notes(kind: _Kind, sweeps: Sequence[Sweep], shown: Sequence[Method]) -> tuple[str, ...]:
    """What a reader needs who has this table alone."""
    targets = ", ".join(language for language in kind.languages if language != kind.source)
    first = f", by {metric_name(kind.metrics[0])}" if len(kind.metrics) > 1 else ""
    lowest = "lowest target: each row's own" if "," in targets else "lowest target: the only one"
    average = (
        f"Target average: over {targets}, for each seed by itself; {lowest}." if targets else "There is no target."
    )
    means = (
        f"Mean and standard deviation (ddof 1) over n seeds, 0-100, zero-shot. {average} Bold and underlined: best and "
        f"second of a column{first}, among methods with all seeds. {DAGGER}: fewer seeds than planned, with their n."
    )
    return (means, *(line for sweep in sweeps for line in _about(sweep, shown, several=len(sweeps) > 1)))


def _about(sweep: Sweep, shown: Sequence[Method], *, several: bool) -> Iterable[str]:
    """Seeds, selection, versions and cost of one sweep."""
    study, records = sweep.study, list(sweep.records.values())
    who = f"{sweep.layout.name}: " if several else ""
    failed = [record for record in records if record.status != "finished"]
    runs = {run_id for taken in sweep.state.points.values() for run_id in taken.run_ids.values()}
    launched = len(runs & (sweep.state.attempts.keys() | sweep.records.keys()))
    yield (
        f"{who}{counted(len(study.seeds), 'seed')} per point; {counted(launched, 'run')} launched, "
        f"{len(records) - len(failed)} finished, {len(failed)} failed{_failures(failed)}. Selected on "
        f"{study.data.dev} ({study.model.source_language}, dev split) by {study.search.objective}; target languages "
        "steer nothing."
    )
    if len({one.number for one in shown if one.sweep is sweep}) < len(sweep.points):
        mine = [one for one in shown if one.sweep is sweep]
        yield f"{who}Selected points: {'; '.join(f'{one.label}: {_settings(one)}' for one in mine)}."
    yield f"{who}Trained on {sweep.training_rows}; {_versions(sweep, records)}; {_cost(sweep, records)}."


def _failures(failed: Sequence[Record]) -> str:
    """Such as ` (gu lr=0.001 k=25 seed 1: diverged, nan)`; a failed seed is in no mean."""
    told = [
        f"{Point(**record.params)} seed {record.seed}: {record.status}" + (f", {record.cause}" if record.cause else "")
        for record in sorted(failed, key=lambda record: (record.cell_id, record.seed))
    ]
    more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
    return f" ({'; '.join(told[:5])}{more})" if told else ""


def _settings(one: Method) -> str:
    """What the label does not say already."""
    told = one.label.split()
    each = [(name, param_text(one.point, name)) for name in param_names([one.point])]
    return " ".join(f"{name}={text}" for name, text in each if name not in ("schedule", "method") or text not in told)


def _versions(sweep: Sweep, records: Iterable[Record]) -> str:
    """Data by their revisions, and every version of the code that made a record."""
    data = {"train": sweep.resolved.train, "dev": sweep.resolved.dev, "backbone": sweep.resolved.backbone}
    revisions = ", ".join(f"{name} {content.revision[:12]}" for name, content in data.items())
    found = set()
    for record in records:
        git = record.provenance.get("git") or {}
        commit = (
            f" {git['commit'][:12]}{' with local changes' if git.get('dirty') else ''}" if git.get("commit") else ""
        )
        found.add(f"raysched {(record.provenance.get('packages') or {}).get('raysched', '?')}{commit}")
    return f"data {revisions}; code {', '.join(sorted(found)) or f'raysched {raysched.__version__}'}"


def _cost(sweep: Sweep, records: Iterable[Record]) -> str:
    """Hours of the accepted attempts in training, failed runs among them, times the share of a device that one had."""
    resources, on_cpu = sweep.study.resources, sweep.resolved.device == "cpu"
    share = resources.cpu if on_cpu else 1.0 if resources.gpu == "auto" else float(resources.gpu)
    hours: dict[str, float] = {}
    for record in records:
        gpus = record.provenance.get("gpus") or []
        device = "CPU-hours" if on_cpu else f"GPU-hours ({gpus[0]})" if gpus else "GPU-hours"
        hours[device] = hours.get(device, 0.0) + share * record.train_seconds / 3600
    return "training " + (", ".join(f"{value:.2f} {device}" for device, value in sorted(hours.items())) or "not begun")
