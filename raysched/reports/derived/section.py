"""Rows that come free of a sweep, and the oracle: what was derived beside what was selected. Nothing steers by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raysched.records.derived import Derived, candidate_steps
from raysched.records.record import Scores
from raysched.reports.asked import Asked
from raysched.reports.derived.derivations import Derivations, target_average
from raysched.reports.derived.oracle import Choices, choices, language_row, summary_row
from raysched.reports.document import Cell, Row, Section, Table
from raysched.reports.methods import Method, objective
from raysched.reports.render.markdown import code
from raysched.reports.source import AVERAGE, SOURCE_DEV, Source
from raysched.reports.stats import Summary, summarise
from raysched.reports.sweep import Sweep
from raysched.reports.tables import metric_name
from raysched.study.values import metrics

MEANING = (
    "These rows are derived: no run was trained or selected for them, and nothing was chosen by them. An average of "
    "checkpoints is the mean of the weights of a run's last kept source-dev evaluations, one model per seed. An "
    "average of seeds is the mean of the selected adapters and heads (of full fine-tuning: of the whole models) of all "
    "seeds of a cell: one model, so one number without a standard deviation. The seeds begin from different random "
    "adapters and heads, so this average mixes different initialisations and may well be worse than each of them."
)
ORACLE = (
    "True zero-shot: points and checkpoints are selected on source dev alone. An oracle looks at the labels of the "
    "targets to choose, so it is an upper bound, no result: it shows how much selection loses, and steers nothing. "
    "Gaps are oracle less zero-shot, per seed, then mean and standard deviation (ddof 1) over seeds; they cannot be "
    "negative for checkpoints, since the selected one is among those chosen from."
)


def free_rows(asked: Asked) -> Section | None:
    """Per method the plain mean over seeds beside the averages; None where no sweep has any to show or to make."""
    tables, text = [], []
    for sweep in asked.sweeps:
        known = Derivations.of(sweep, asked)
        found = [table for name in sweep.study.test_sets if (table := _free_table(asked, known, name)) is not None]
        tables += found
        if not found and any((one.complete and one.planned > 1) or _kept(one) for one in _methods(asked, sweep)):
            text.append(f"Nothing was derived yet; to do so: {_command(sweep)}.")
    if not tables and not text:
        return None
    return Section(
        title="Free rows: averaged weights", text=(*((MEANING,) if tables else ()), *text), tables=tuple(tables)
    )


def _methods(asked: Asked, sweep: Sweep) -> list[Method]:
    return [one for one in asked.methods if one.sweep is sweep]


def _kept(method: Method) -> bool:
    return any(candidate_steps(record.files) for record in method.records)


def _command(sweep: Sweep, what: str = "") -> str:
    return code(f"raysched derive {sweep.layout.name}{what}")


def _named(asked: Asked, sweep: Sweep, kind: str, test_set: str) -> tuple[str, str]:
    """Stem of a table's files, and where its scores are from."""
    several = len(asked.sweeps) > 1
    stem = f"{kind}-{sweep.layout.name}-{test_set}" if several else f"{kind}-{test_set}"
    where = sweep.study.test_sets[test_set].test
    return stem, f"{sweep.layout.name}, {where}" if several else where


def _free_table(asked: Asked, known: Derivations, test_set: str) -> Table | None:
    sweep = known.sweep
    source = sweep.study.model.source_language
    languages = sorted(sweep.study.test_sets[test_set].languages, key=lambda language: language != source)
    blocks = []
    for method in _methods(asked, sweep):
        rows = tuple(_free_rows(known, method, test_set, languages))
        blocks += [rows] if len(rows) > 1 else []
    if not blocks:
        return None
    stem, where = _named(asked, sweep, "derived", test_set)
    each = metrics(sweep.study.task)
    return Table(
        name=stem,
        title=f"Derived averages beside the selected checkpoints: {' / '.join(map(metric_name, each))} on {where}",
        stub=("method", "weights"),
        columns=("source dev", "target average", *languages),
        blocks=tuple(blocks),
        notes=("Rows of averages are derived, and are not ranked.", "Target average: without the source language."),
        metrics=each,
    )


def _free_rows(known: Derivations, method: Method, test_set: str, languages: Sequence[str]) -> Iterator[Row]:
    """The selected checkpoints first; averages only where they were derived."""
    each = metrics(method.sweep.study.task)
    wanted = (SOURCE_DEV, AVERAGE, *languages)
    yield Row(
        labels=(method.label, "selected checkpoint"),
        cells=tuple(_selected(method, test_set, place, each) for place in wanted),
    )
    averages = {record.seed: known.average(record) for record in method.records}
    there = {seed: entries for seed, entries in averages.items() if entries}
    if there:
        counts = sorted({entries[0].n for entries in there.values()})
        label = f"average of {'-'.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} checkpoints, derived"
        cells = [_derived(known, method, test_set, place, each, there, method.planned) for place in wanted]
        yield Row(labels=(method.label, label), cells=tuple(cells))
    if entries := known.over_seeds(method):
        cells = [_derived(known, method, test_set, place, each, {0: entries}, None) for place in wanted]
        yield Row(labels=(method.label, f"average of {entries[0].n} seeds, derived"), cells=tuple(cells))


def _selected(method: Method, test_set: str, place: str, each: Sequence[str]) -> Cell:
    def values(metric: str) -> Mapping[int, float]:
        if place == SOURCE_DEV:
            return method.source_dev(metric)
        return method.averages(metric, test_set) if place == AVERAGE else method.scores(metric, place, test_set)

    sweep = method.sweep
    source = Source(
        sweep=sweep.layout.name,
        uid=sweep.state.uid,
        cell_id=sweep.state.points[method.number].cell_id,
        test_set=test_set,
        language=place,
        metrics=tuple(each),
    )
    scores = tuple(summarise(values(metric).values()) for metric in each)
    return Cell(scores=scores, planned=method.planned, source=str(source) if any(scores) else "")


def _derived(
    known: Derivations,
    method: Method,
    test_set: str,
    place: str,
    each: Sequence[str],
    entries: Mapping[int, Sequence[Derived]],
    planned: int | None,
) -> Cell:
    """Over the seeds that `entries` are of."""

    def value(of: Sequence[Derived], tests: Mapping[str, Scores], metric: str) -> float | None:
        if place == SOURCE_DEV:
            return of[0].source_dev.get(metric)
        if place == AVERAGE:
            return target_average(tests, method.sweep.targets(test_set), metric)
        return tests.get(place, {}).get(metric)

    each_of = [(of, known.tests(of, method.point, test_set)) for of in entries.values()]

    def summary(metric: str) -> Summary | None:
        found = [value(of, tests, metric) for of, tests in each_of]
        return summarise(score for score in found if score is not None)

    return Cell(scores=tuple(map(summary, each)), planned=planned)


def oracle(asked: Asked) -> Section | None:
    """True zero-shot beside what the targets' labels would have chosen, and the gap; None where there is no choice."""
    tables: list[Table] = []
    text: list[str] = []
    for sweep in asked.sweeps:
        known, before = Derivations.of(sweep, asked), len(tables)
        for test_set in sweep.study.test_sets:
            found = [choices(asked, known, one, test_set) for one in _methods(asked, sweep)]
            tables += _oracle_tables(asked, sweep, test_set, [one for one in found if one.zero_shot])
        if len(tables) > before or any(_kept(one) for one in _methods(asked, sweep)):
            text += _missing(asked, sweep, known)
    if not tables and not text:
        return None
    return Section(title="True zero-shot and oracle", text=(ORACLE, *text), tables=tuple(tables))


def _oracle_tables(asked: Asked, sweep: Sweep, test_set: str, found: Sequence[Choices]) -> list[Table]:
    """The gaps of every method, and what lies behind them per language; none without any oracle."""
    if not any(one.oracles for one in found):
        return []
    stem, where = _named(asked, sweep, "oracle", test_set)
    by_language, _ = _named(asked, sweep, "oracle-languages", test_set)
    metric = metric_name(objective(sweep))
    return [
        Table(
            name=stem,
            title=f"True zero-shot and oracle: target average, {metric} on {where}",
            stub=("method", "zero-shot point", "oracle point"),
            columns=(
                *("zero-shot", "oracle: point", "gap", "oracle: checkpoint by target average", "gap"),
                *("oracle: checkpoint per language", "gap"),
            ),
            blocks=(tuple(summary_row(one) for one in found),),
            notes=("Oracles use labels of the targets: upper bounds, which are not ranked.",),
            metrics=(objective(sweep),),
        ),
        Table(
            name=by_language,
            title=f"True zero-shot and oracle by language: {metric} on {where}",
            stub=("method", "chosen by"),
            columns=sweep.targets(test_set),
            blocks=tuple(tuple(language_row(one, who) for who in one.rows) for one in found),
            metrics=(objective(sweep),),
        ),
    ]


def _missing(asked: Asked, sweep: Sweep, known: Derivations) -> Iterator[str]:
    """What it takes to see the oracle's checkpoints, where they are not all there."""
    records = [record for one in _methods(asked, sweep) for record in one.records]
    kept = [record for record in records if candidate_steps(record.files)]
    name = code(sweep.layout.name)
    if records and not kept:
        yield (
            f"The runs of {name} kept no candidates, so there is no oracle over checkpoints: candidates are kept while "
            f"a run trains; set {code('evaluation.candidates')} and sweep under another name."
        )
        return
    waiting = [record for record in kept if any(not known.choices(record, one) for one in sweep.study.test_sets)]
    waiting = [record for record in waiting if set(candidate_steps(record.files)) - {record.selected_step}]
    if waiting:
        yield (
            f"{len(waiting)} of {len(kept)} runs of {name} have candidates that were not scored on all targets yet; to "
            f"do so: {_command(sweep, ' --what oracle')}."
        )
    if kept:
        counts = sorted({len(candidate_steps(record.files)) for record in kept})
        n = "-".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
        yield (
            f"Checkpoints of {name}: the oracle chooses among the candidates that were kept, the last {n} of "
            f"{sweep.study.evaluation.dev_points} source-dev evaluations, and the selected checkpoint."
        )
