r"""Tables in LaTeX (booktabs), and the marks in them by which `raysched verify` finds the numbers again.

One table is one `table` environment (`sidewaystable` where it is wide; several where it is long, each with these
lines). A document that takes it up needs the packages `booktabs`, `graphicx`, `array` and `rotating`, nothing else.
What is between the lines is for LaTeX; what is parsed is this:

    % raysched-table: scores-test columns=3 stub=1 metrics=f1,em
    standard & \textbf{81.20}$_{0.59}$ / 70.12$_{0.61}$ & ... & 4 \\ % raysched: SOURCE;SOURCE;-

* The first line of each environment names the table, the number of its `columns` and of the `stub` columns before
  them, and the metrics of its scores (`-` where nothing says them).
* A row of data is one line, and no other line ends in `\\ % raysched: ` and sources. There is one source for every
  column but those of the stub, between semicolons: `str(reports.source.Source)`, or `-` for a cell that has none.
  Between the unescaped `&` of the line stand first the cells of the stub, then one per column.
* A score is a mean of two decimals, perhaps in `\textbf{...}` or `\underline{...}`, and perhaps `$_{...}$` with its
  standard deviation (ddof 1); `-` is a score that is missing. Scores of several metrics stand in the order of the
  source's metrics, with ` / ` between them, or, in a wide table, one above the other with ` \\ ` between them:
  `\begin{tabular}[t]{@{}r@{}}70.12$_{0.61}$ \\ 60.05\end{tabular}`.
* Before the scores may stand a text (a language: `th 54.20$_{1.10}$`), behind them `$^{\dagger n=2}$`: a mean over 2
  seeds, which is fewer than planned.

The mark is of the first metric, and so is on the first score alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from raysched.reports.document import DECIMALS, Cell, Row, Table
from raysched.reports.render.tex import escape, prose
from raysched.reports.render.tex_layout import GAP, PROSE, Layout, alignments, cells_of, heading, layout, parts, widths
from raysched.reports.source import Source
from raysched.reports.stats import Summary

MARKS = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
STACK = r"\begin{{tabular}}[{}]{{@{{}}{}@{{}}}}", r" \\ ", r"\end{tabular}"
PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=2.5cm]{geometry}
\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}
\usepackage{booktabs,graphicx,array,rotating}
\setlength{\belowcaptionskip}{6pt}
\setlength{\emergencystretch}{3em}
\extrafloats{200}
\begin{document}
"""


def latex(table: Table) -> str:
    """The table as its environment, or several where it is longer than a page."""
    placed = layout(table)
    return "\n".join(_environment(table, blocks, placed, at) for at, blocks in enumerate(parts(table, placed)))


def document(tables: Iterable[Table]) -> str:
    """A document that compiles by itself, with all of the tables."""
    return PREAMBLE + "\n\\clearpage\n".join(map(latex, tables)) + "\\end{document}\n"


def _environment(table: Table, blocks: Sequence[Sequence[Row]], placed: Layout, part: int) -> str:
    kind = "sidewaystable" if placed.sideways else "table"
    metrics = ",".join(_metrics(table)) or "-"
    lines = [
        f"% raysched-table: {table.name} columns={len(table.columns)} stub={len(table.stub)} metrics={metrics}",
        f"\\begin{{{kind}}}[{'p' if placed.sideways else 'htbp'}]",
        "\\centering",
        f"\\caption{{{prose(table.title)}{' (continued)' if part else ''}}}",
        *([] if part else [f"\\label{{tab:{table.name}}}"]),
        f"\\setlength{{\\tabcolsep}}{{{GAP / 2:g}pt}}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{@{{}}{''.join(alignments(table))}@{{}}}}",
        "\\toprule",
        *_header(table, placed.stacked),
        *(line for block in blocks for line in ("\\midrule", *_rows(block, placed.stacked))),
        "\\bottomrule",
        "\\end{tabular}}",
        *_notes(table.notes),
        f"\\end{{{kind}}}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _metrics(table: Table) -> list[str]:
    sources = (cell.source for cell in cells_of(table) if cell.source)
    each = [metric for source in sources for metric in Source.parse(source).metrics]
    return list(dict.fromkeys((*each, *table.metrics)))


def _header(table: Table, stacked: bool) -> list[str]:
    """Columns `MLQA\nen`, `MLQA\nth` stand below one `MLQA`. A long name over narrow cells has two lines."""
    split = [column.partition("\n")[::2] if "\n" in column else ("", column) for column in table.columns]
    headings = [heading(name, room) for (_, name), room in zip(split, widths(table, stacked), strict=True)]
    kinds = [kind if kind == "r" else "l" for kind in alignments(table)[len(table.stub) :]]
    names = [
        escape(lines[0])
        if len(lines) == 1
        else STACK[0].format("b", kind) + STACK[1].join(map(escape, lines)) + STACK[2]
        for lines, kind in zip(headings, kinds, strict=True)
    ]
    lines = [f"{' & '.join([*map(escape, table.stub), *names])} \\\\"]
    if any(group for group, _ in split):
        above, rules, place = ["" for _ in table.stub], [], len(table.stub) + 1
        for group, members in groupby(group for group, _ in split):
            n = len(list(members))
            above.append(f"\\multicolumn{{{n}}}{{c}}{{{escape(group)}}}")
            rules += [f"\\cmidrule(lr){{{place}-{place + n - 1}}}"] if group else []
            place += n
        lines = [f"{' & '.join(above)} \\\\", "".join(rules), *lines]
    return lines


def _rows(block: Sequence[Row], stacked: bool) -> Iterable[str]:
    """A label that stands above already, with all before it, is not repeated; the last one always is."""
    before: tuple[str, ...] = ()
    for row in block:
        *outer, last = row.labels or ("",)
        same = [row.labels[: place + 1] == before[: place + 1] for place in range(len(outer))]
        labels = ["" if is_same else escape(label) for label, is_same in zip(outer, same, strict=True)]
        stub = [*labels, escape(last)] if row.labels else []
        cells = " & ".join([*stub, *(_cell(cell, stacked) for cell in row.cells)])
        yield f"{cells} \\\\ % raysched: {';'.join(cell.source or '-' for cell in row.cells)}"
        if stacked and row is not block[-1]:
            yield "\\addlinespace[2pt]"
        before = row.labels


def _cell(cell: Cell, stacked: bool) -> str:
    scores = [_score(one, cell.mark if place == 0 else "") for place, one in enumerate(cell.scores)]
    if all(one is None for one in cell.scores):
        scores = scores and ["-"]
    joined = " / ".join(scores)
    if stacked and len(scores) > 1:
        joined = STACK[0].format("t", "r") + STACK[1].join(scores) + STACK[2]
    n = min((one.n for one in cell.scores if one is not None), default=0)
    short = f"$^{{\\dagger n={n}}}$" if cell.short else ""
    text = prose(cell.text) if len(cell.text) > PROSE else escape(cell.text)
    return " ".join(part for part in (text, joined + short) if part)


def _score(one: Summary | None, mark: str) -> str:
    if one is None:
        return "-"
    std = "" if one.std is None else f"$_{{{one.std:.{DECIMALS}f}}}$"
    return MARKS[mark].format(f"{one.mean:.{DECIMALS}f}") + std


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    text = "\\par\n".join(map(prose, notes))
    return ["\\par\\smallskip", "\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright", text, "\\end{minipage}"]
