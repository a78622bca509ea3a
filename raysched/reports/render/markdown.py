"""A report in Markdown (GitHub's tables), and the words that it shares with the page in HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from raysched.reports.document import Cell, Picture, Section, Table
from raysched.reports.tables import DAGGER

LEGEND = (
    "Scores are 0-100, as mean ± standard deviation (ddof 1) over seeds. In every block of a table the best mean of a "
    f"column is bold, the second best underlined. {DAGGER}: fewer seeds than planned, with their number n; such a mean "
    "is never marked. -: not there yet."
)
"""How every table of scores is read."""
_SPECIAL = re.compile(r"([\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])|&(?=[#\w]))")
_LINE_START = re.compile(r"^(?:(\d+)(?=[.)](?:\s|$))|(?=[-+](?:\s|$)|[#>=]))")
_NUMBER = re.compile(r"[\[(]?[-+−<>≤≥±≈]?\s?\d.{0,24}|[-–]?")
"""What begins as a number, and is no sentence."""
_MARKED = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}


def escape(text: str) -> str:
    """Plain text, of whoever, as Markdown that shows just that, within a line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def paragraph(text: str) -> str:
    """Plain text as a paragraph: nor does its beginning make a list, a heading or a quote of it."""
    return _LINE_START.sub(lambda found: f"{found[1] or ''}\\", escape(text))


def code(text: str) -> str:
    """Plain text as a span of code."""
    line = " ".join(text.split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def shortfall(cell: Cell) -> str:
    """`† (n=1)` where seeds are missing."""
    n = min((one.n for one in cell.scores if one is not None), default=0)
    return f"{DAGGER} (n={n})" if cell.short else ""


def document(title: str, lead: Sequence[str], sections: Sequence[Section], files: Mapping[str, str]) -> str:
    """The whole report. `lead` are paragraphs of plain text; `files` says where each picture lies, by its name."""
    tables = numbers(table.name for section in sections for table in section.tables)
    pictures = numbers(picture.name for section in sections for picture in section.pictures)
    parts = [f"# {escape(title)}", *map(paragraph, lead), LEGEND]
    for section in sections:
        parts += [f"## {escape(section.title)}", *section.text]
        parts += [_table(table, tables[table.name]) for table in section.tables]
        parts += [_picture(one, pictures[one.name], files[one.name]) for one in section.pictures]
    return "\n\n".join(parts) + "\n"


def numbers(names: Iterable[str]) -> dict[str, int]:
    """The number of each table or picture of a report, by its name."""
    return {name: number for number, name in enumerate(names, start=1)}


def is_number(table: Table, column: int) -> bool:
    """Whether a column holds scores and other numbers only: it is set to the right."""
    cells = [row.cells[column] for block in table.blocks for row in block]
    return all(cell.scores or _NUMBER.fullmatch(cell.text) for cell in cells)


def table_text(table: Table) -> str:
    """The lines of a table alone; blocks follow one another."""
    rules = [":---"] * len(table.stub)
    rules += ["---:" if is_number(table, column) else ":---" for column in range(len(table.columns))]
    rows = [[*map(escape, row.labels), *map(_cell, row.cells)] for block in table.blocks for row in block]
    lines = [[*map(escape, (*table.stub, *table.columns))], rules, *rows]
    return "".join(f"| {' | '.join(text.replace('|', '&#124;') for text in line)} |\n" for line in lines)


def _cell(cell: Cell) -> str:
    """Such as `**81.00 ± 1.41** / 70.00 ± 1.41`, `80.00 † (n=1)`, `de 70.00`, `-`. The mark is of the first score."""
    scores = ["-" if one is None else str(one) for one in cell.scores]
    if scores:
        scores[0] = _MARKED[cell.mark].format(scores[0])
    joined = " / ".join(scores) if any(cell.scores) else "-" if scores else ""
    return " ".join(part for part in (escape(cell.text), joined, shortfall(cell)) if part)


def _table(table: Table, number: int) -> str:
    parts = [f"**Table {number}: {escape(table.title)}**", table_text(table).rstrip("\n"), *map(paragraph, table.notes)]
    return "\n\n".join(parts)


def _picture(picture: Picture, number: int, file: str) -> str:
    title = f"**Figure {number}: {escape(picture.title)}.** {escape(picture.caption)}"
    return f"![{escape(picture.alt)}]({file})\n\n{title}"
