"""How a table lies on a page of LaTeX: upright or turned, on how many pages, with which columns; estimated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from raysched.reports.document import Cell, Row, Table
from raysched.reports.render.tex import width

PORTRAIT, SIDEWAYS = (450.0, 620.0), (640.0, 430.0)
"""Width and height in points that a table may have, of A4 and letter paper with customary margins."""
LEGIBLE = 0.62
"""Of the size of the text; a table that would be smaller is turned, or its scores are set one above the other."""
LINE, GAP = 12.5, 8.0
"""Points from line to line, and between columns."""
PROSE = 45
"""Characters from which a cell of text is set in lines of `PARAGRAPH` points."""
PARAGRAPH = 190.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a table lies on its page. `scale` is what remains of its natural size."""

    sideways: bool
    stacked: bool
    scale: float

    @property
    def page(self) -> tuple[float, float]:
        return SIDEWAYS if self.sideways else PORTRAIT

    def height(self, row: Row) -> float:
        """Points of a row on the page."""
        lines = 2.2 if self.stacked else 1.0
        texts = (width(cell.text) for cell in row.cells if len(cell.text) > PROSE)
        return self.scale * LINE * max(lines, *(math.ceil(1.2 * text / PARAGRAPH) for text in texts), 1.0)


def layout(table: Table) -> Layout:
    """The first that is legible: upright, upright with stacked scores, turned, turned with stacked scores."""
    several = any(len(cell.scores) > 1 for cell in cells_of(table))
    layouts = [
        Layout(sideways=sideways, stacked=stacked, scale=min(1.0, page[0] / _table_width(table, stacked)))
        for sideways, page in ((False, PORTRAIT), (True, SIDEWAYS))
        for stacked in ((False, True) if several else (False,))
    ]
    legible = (one for one in layouts if one.scale >= LEGIBLE)
    return next(legible, max(layouts, key=lambda one: one.scale))


def parts(table: Table, placed: Layout) -> list[list[list[Row]]]:
    """Blocks of rows, page by page: as many rows as there is room for beside header, title and notes."""
    page_width, page_height = placed.page
    around = sum(math.ceil(width(text) / page_width) for text in (table.title, *table.notes)) + 7
    room = max(page_height - LINE * around, page_height / 3)
    pages: list[list[list[Row]]] = [[]]
    used = 0.0
    for block in table.blocks:
        pages[-1].append([])
        for row in block:
            used += placed.height(row)
            if used > room and any(pages[-1]):
                used = placed.height(row)
                pages.append([[]])
            pages[-1][-1].append(row)
    return [[block for block in page if block] for page in pages]


def alignments(table: Table) -> list[str]:
    """Alignments: labels and texts left, scores and short texts (numbers, signs) right, prose in paragraphs."""
    kinds = []
    for place in range(len(table.columns)):
        cells = [row.cells[place] for block in table.blocks for row in block]
        texts = [cell.text for cell in cells if not cell.scores]
        if _is_prose(texts):
            kinds.append(f">{{\\raggedright\\arraybackslash}}p{{{PARAGRAPH:g}pt}}")
        else:
            kinds.append("l" if any(len(text) > 12 for text in texts) else "r")
    return ["l"] * len(table.stub) + kinds


def _is_prose(texts: Iterable[str]) -> bool:
    return any(len(text) > PROSE for text in texts)


def cells_of(table: Table) -> Iterable[Cell]:
    return (cell for block in table.blocks for row in block for cell in row.cells)


def heading(name: str, room: float) -> list[str]:
    """The words of a column's name in one line, or in two where the column needs no such width."""
    words = name.split()
    if len(words) < 2 or width(name) <= max(1.4 * room, 40.0):
        return [name]
    breaks = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    return list(min(breaks, key=lambda lines: max(map(width, lines))))


def widths(table: Table, stacked: bool) -> list[float]:
    """Points that the cells of each column need, without its name."""
    found = []
    for place in range(len(table.columns)):
        cells = [row.cells[place] for block in table.blocks for row in block]
        is_prose = _is_prose(cell.text for cell in cells if not cell.scores)
        found.append(PARAGRAPH if is_prose else max((_cell_width(cell, stacked) for cell in cells), default=0.0))
    return found


def _table_width(table: Table, stacked: bool) -> float:
    """Natural width in points."""
    rows = [row for block in table.blocks for row in block]
    stub = [max(map(width, (name, *(row.labels[at] for row in rows)))) for at, name in enumerate(table.stub)]
    names = [column.rpartition("\n")[2] for column in table.columns]
    columns = [
        max(room, *map(width, heading(name, room))) for name, room in zip(names, widths(table, stacked), strict=True)
    ]
    return max(1.0, sum(stub) + sum(columns) + GAP * (len(stub) + len(columns)))


def _cell_width(cell: Cell, stacked: bool) -> float:
    parts = [
        5.0 if one is None else width(f"{one.mean:.2f}") + (0 if one.std is None else 0.7 * width(f"{one.std:.2f}") + 1)
        for one in cell.scores
    ]
    scores = max(parts, default=0.0) if stacked else sum(parts) + 8.5 * max(0, len(parts) - 1)
    return scores + width(cell.text) + (18.0 if cell.short else 0.0) + (3.0 if cell.text and parts else 0.0)
