"""`against_paper.md` and `against_paper.csv`: sweeps beside the paper's numbers, cell by cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from raysched.records.files import make_folder, write_atomic
from raysched.reports.paper import numbers as paper
from raysched.reports.paper.comparison import Comparison, Names, compare
from raysched.reports.paper.gate import Verdict
from raysched.reports.sweep import Sweep
from raysched.reports.tables import DAGGER, contender, markdown

PAGE, TABLE = "against_paper.md", "against_paper.csv"
SIGNS: dict[Verdict, str] = {"reproduced": "✓", "not reproduced": "✗", "underpowered": "?"}
SCORES = ("en", "lowest", paper.AVERAGE)
EXPLAINED = f"""Ours is the mean ± standard deviation (ddof 1) over n seeds of the point that source dev selects, the \
paper's is over 4 runs (XCOPA 5, reverse GU 2); scores are 0-100 and zero-shot.

- ✓ **reproduced**: |ours - paper| is at most the band 2·sqrt(s_p²/n_p + s_o²/n_o), and the band is no wider than the \
published gap from the best to the worst of {", ".join(paper.COMPARED)} in that column.
- ✗ **not reproduced**: |ours - paper| is more than the band.
- ? **underpowered**: nothing can be told, because the paper prints no standard deviation, fewer than two of our seeds \
are done, or the difference lies in a band that is wider than the published gap.
- `avg_target` is over the paper's target languages. `lowest_<language>` is the language that is lowest under standard \
training, whatever the method.
- **partial test set, n rows**: fewer than published were scored in a language; nothing is said about the number.
- {DAGGER}: fewer seeds than planned. -: not tested yet.
"""


def write_against_paper(sweeps: Sequence[Sweep], names: Names, to: Path, missing: Sequence[str] = ()) -> Path:
    """Write both files below the folder `to`; the path of the page. Works on half-finished sweeps.

    `missing` names sweeps of a suite that were not started yet. Raises StudyError where nothing is in the paper.
    """
    compared = compare(sweeps, names)
    found = sorted(compared.comparisons, key=_place)
    notes = list(dict.fromkeys(note for one in found for note in one.published.notes))
    judged = [one.verdict for one in found if one.verdict is not None]
    partial = sum(_is_partial(one) for one in found)
    counts = ", ".join(f"{judged.count(verdict)} {verdict}" for verdict in SIGNS)
    blind = sum(one.verdict is not None and one.published.std is None for one in found)
    left_out = [
        *(f"not in the paper: {what}" for what in compared.left_out),
        *(f"not started: {name}" for name in missing),
    ]
    parts = [
        "# Against the paper\n",
        *(_what_it_is(sweep, names) for sweep in sweeps),
        "",
        f"Of {len(found)} published numbers {len(judged) + partial} have one of ours beside them: {counts} "
        f"({blind} of these for want of a published standard deviation)"
        + (f", {partial} of partial test sets, without a verdict.\n" if partial else ".\n"),
        EXPLAINED,
        "## Overview: ours / paper\n",
        _overview(found, notes),
        *_details(found, notes),
        *(["## Notes\n", *(f"{_letter(index)}. {note}" for index, note in enumerate(notes)), ""] if notes else []),
        *(["## Left out\n", *(f"- {what}" for what in left_out), ""] if left_out else []),
    ]
    make_folder(to)
    write_atomic(to / TABLE, _csv(found))
    write_atomic(to / PAGE, "\n".join(parts))
    return to / PAGE


def _what_it_is(sweep: Sweep, names: Names) -> str:
    """Backbone and data of a sweep, with all that sets them apart from the paper's."""
    data, limits = sweep.study.data, sweep.study.evaluation
    own = names.datasets and data.train not in paper.TRAINED_ON.values()
    return (
        f"- **{sweep.layout.name}**: {sweep.study.model.backbone}, trained on {sweep.training_rows}"
        + (" (not the paper's by its name, taken for it by --paper-dataset)" if own else "")
        + (f", selected on the first {limits.dev_limit} rows of {data.dev}" if limits.dev_limit else "")
        + (f", tested on the first {limits.test_limit} rows of each language" if limits.test_limit else "")
    )


def _place(one: Comparison) -> tuple[Any, ...]:
    """Models, training sizes (the whole set first), datasets, methods and languages as the paper orders them."""
    cell = one.published.cell
    languages = ("en", *paper.TARGETS[cell.dataset])
    last = len(languages) + (cell.language == paper.AVERAGE)
    return (
        paper.MODELS.index(cell.model),
        cell.train_size if _is_subset(cell) else 0,
        list(paper.TARGETS).index(cell.dataset),
        cell.metric == "EM",
        paper.METHODS.index(cell.method),
        one.sweep,
        contender(one.point),
        languages.index(cell.language) if cell.language in languages else last,
        cell.language,
    )


def _is_subset(cell: paper.Cell) -> bool:
    return cell.train_size < paper.FULL_SIZE[cell.dataset]


def _overview(found: Iterable[Comparison], notes: Sequence[str]) -> str:
    """In the shape of Table 2: a line per model and method, English, lowest and average of each dataset as columns."""
    columns: dict[tuple[str, str, str], None] = {}
    lines: dict[tuple[str, str, str], dict[tuple[str, str, str], str]] = {}
    for one in found:
        cell = one.published.cell
        lowest = cell.language.startswith(paper.LOWEST)
        if not lowest and cell.language not in SCORES:
            continue
        column = cell.dataset, cell.metric, "lowest" if lowest else cell.language
        columns[column] = None
        language = f"{cell.language.removeprefix(paper.LOWEST)} " if lowest else ""
        sign = f" {SIGNS[one.verdict]}" if one.verdict else f" ({one.partial} rows)" if _is_partial(one) else ""
        arm, origin = contender(one.point), f"{one.sweep}, {one.test_set}"
        keys = [(cell.model, _rows(one), name) for name in (cell.method, arm, f"{arm} ({origin})")]
        # Of two arms of one method the second one gets a line of its own.
        line = lines.setdefault(next(key for key in keys if column not in lines.get(key, {})), {})
        line[column] = f"{language}{_mean(one)} / {one.published.mean:.2f}{_marks(one, notes)}{sign}"
    order = sorted(
        columns, key=lambda name: (list(paper.TARGETS).index(name[0]), name[1] == "EM", SCORES.index(name[2]))
    )
    titles = [f"{dataset} {metric} {language}" for dataset, metric, language in order]
    table = [[*names, *(line.get(column, "") for column in order)] for names, line in lines.items()]
    return markdown(["model", "training rows", "method", *titles], table, left=3)


def _details(found: Iterable[Comparison], notes: Sequence[str]) -> Iterable[str]:
    """A table per model, training size, dataset and metric, with every number of the paper."""
    tables: dict[str, list[list[str]]] = {}
    for one in found:
        cell, published = one.published.cell, one.published
        title = f"## {cell.model}, {cell.dataset}, {cell.metric}, {_rows(one)} training rows\n"
        tables.setdefault(title, []).append(
            [
                contender(one.point),
                cell.language,
                _mean(one, with_std=True),
                str(one.ours.n) if one.ours else "0",
                f"{published.summary}{_marks(one, notes)}",
                _number(one.difference, sign="+"),
                _number(one.band),
                _verdict(one),
                f"Table {published.table}",
                f"{one.sweep}, {one.test_set}: {one.point}",
            ]
        )
    header = ["method", "score", "ours", "n", "paper", "difference", "band", "verdict", "printed in", "our point"]
    for title, lines in tables.items():
        yield title
        yield markdown(header, lines, left=2)


def _marks(one: Comparison, notes: Sequence[str]) -> str:
    return "".join(f" [{_letter(notes.index(note))}]" for note in one.published.notes)


def _rows(one: Comparison) -> str:
    return str(one.published.cell.train_size) if _is_subset(one.published.cell) else "all"


def _is_partial(one: Comparison) -> bool:
    return one.ours is not None and one.partial is not None


def _verdict(one: Comparison) -> str:
    if _is_partial(one):
        return f"partial test set, {one.partial} rows"
    return f"{SIGNS[one.verdict]} {one.verdict}" if one.verdict else "-"


def _mean(one: Comparison, *, with_std: bool = False) -> str:
    if one.ours is None:
        return "-" if one.asked else "not in this study"
    text = str(one.ours) if with_std else f"{one.ours.mean:.2f}"
    return text if one.ours.n == one.planned else f"{text} {DAGGER}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}z.2f}"


def _letter(index: int) -> str:
    return chr(ord("a") + index)


def _csv(found: Iterable[Comparison]) -> str:
    """One line per number; floats read back exactly, what is not known is empty."""
    out = io.StringIO()
    lines = [
        {
            "sweep": one.sweep,
            "test_set": one.test_set,
            "point": str(one.point),
            "model": one.published.cell.model,
            "method": one.published.cell.method,
            "dataset": one.published.cell.dataset,
            "train_size": one.published.cell.train_size,
            "metric": one.published.cell.metric,
            "language": one.published.cell.language,
            "ours_mean": one.ours.mean if one.ours else None,
            "ours_std": one.ours.std if one.ours else None,
            "ours_n": one.ours.n if one.ours else 0,
            "seeds_planned": one.planned,
            "paper_table": one.published.table,
            "paper_mean": one.published.mean,
            "paper_std": one.published.std,
            "paper_n": one.published.n,
            "difference": one.difference,
            "band": one.band,
            "gap": one.gap,
            "verdict": one.verdict,
            "partial_test_rows": one.partial,
            "notes": "; ".join(one.published.notes),
        }
        for one in found
    ]
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
