r"""Rows of LaTeX tables as their authors leave them, with the marks that `raysched report` put behind them.

The marks are told in `render/latex.py`. Rows are found whatever was done to them since: joined or broken lines, rules,
spaces, comments. Pure parsing: `tex_numbers.py` reads what stands in a cell, `verify.py` knows the sweeps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedRow:
    """One row of a table. `cells` are as they were typed, without comments; `marks` its sources, None where it has
    none; `stub` the number of labels before its columns, None where no line above the table says it.

    Rows of one `block` stand between the same rules. `line` counts from 1, and is that of the row's end.
    """

    line: int
    cells: tuple[str, ...]
    marks: tuple[str, ...] | None
    stub: int | None
    block: int


_TOKEN = re.compile(
    r"""(?P<end>\\\\\*?(?:\[[^]\n]*\])?|\\tabularnewline(?![A-Za-z]))
      | \\(?P<scope>begin|end)\s*\{(?P<name>[^{}\n]*)\}
      | (?P<rule>\\(?:top|mid|bottom|special)rule(?![A-Za-z])|\\hline(?![A-Za-z]))
      | (?P<comment>%[^\n]*) | (?P<line>\n) | (?P<open>\{) | (?P<close>\}) | (?P<amp>&)
      | \\[A-Za-z@]+ | \\. | [^\\%\n{}&]+ | .""",
    re.VERBOSE | re.DOTALL,
)
_MARK = re.compile(r"%+[ \t]*raysched:(.*)")
_TABLE = re.compile(r"%+[ \t]*raysched-table:.*?\bstub=(\d+)")
_TABULAR = re.compile(r"^$|tabular|array|tblr|longtable|supertab")
"""Environments that have rows; a file may also hold rows alone, that another takes up."""
_SPAN = re.compile(r"\s*\\multicolumn\s*\{\s*(\d{1,3})\s*\}")


def rows(text: str) -> list[PrintedRow]:
    """The rows of all tables of a file, in its order, and every mark: one that has no row is a row without cells."""
    reader = _Reader()
    reader.read(re.sub(r"\r\n?", "\n", text))
    return reader.rows


@dataclass(slots=True)
class _Frame:
    """An open environment, with the row that is being read.

    `depth` counts what is open within a cell: braces, and `nested` environments.
    """

    name: str = ""
    cells: list[str] = field(default_factory=lambda: [""])
    depth: int = 0
    nested: int = 0

    @property
    def in_row(self) -> bool:
        return len(self.cells) > 1 or (self.name != "" and _TABULAR.search(self.name) is not None)

    @property
    def blank(self) -> bool:
        return not "".join(self.cells).strip()


class _Reader:
    def __init__(self) -> None:
        self.rows: list[PrintedRow] = []
        self._frames = [_Frame()]
        self._line, self._block = 1, 0
        self._stub: int | None = None
        self._unmarked = False
        """Whether a mark that comes now, with nothing before it, belongs to the last row."""

    def read(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            self._token(token)
            self._line += token[0].count("\n")

    def _token(self, token: re.Match[str]) -> None:
        frame = self._frames[-1]
        if token["comment"]:
            self._comment(token[0])
        elif token["scope"] and not (frame.nested or (frame.in_row and token["scope"] == "begin")):
            self._environment(token["scope"], token["name"])
        elif token["rule"]:
            self._block += 1
            self._unmarked = False
        elif token["end"] and frame.depth <= 0:
            self._close(None)
        elif token["amp"] and frame.depth <= 0:
            frame.cells.append("")
        else:
            deeper = {"begin": 1, "end": -1}.get(token["scope"], 0)
            frame.nested += deeper
            frame.depth += bool(token["open"]) - bool(token["close"]) + deeper
            frame.cells[-1] += " " if token["line"] else token[0]

    def _comment(self, text: str) -> None:
        if (table := _TABLE.match(text)) is not None:
            self._stub = int(table[1])
        elif (mark := _MARK.match(text)) is not None:
            marks = tuple(part.strip() for part in mark[1].split(";"))
            if self._unmarked and self._frames[-1].blank:
                self.rows[-1] = replace(self.rows[-1], marks=marks)
                self._unmarked = False
            else:  # the last row of a table needs no end; a mark may also have lost its row
                self._close(marks)

    def _environment(self, scope: str, name: str) -> None:
        self._block += 1
        self._unmarked = False
        if scope == "begin":
            self._frames.append(_Frame(name))
        elif len(self._frames) > 1:
            self._frames.pop()
            if _TABULAR.search(name):
                self._stub = None

    def _close(self, marks: tuple[str, ...] | None) -> None:
        frame = self._frames[-1]
        cells = () if frame.blank else tuple(part for cell in frame.cells for part in _spanned(cell))
        frame.cells, frame.depth, frame.nested = [""], 0, 0
        self._unmarked = marks is None and len(cells) > 1 and _TABULAR.search(frame.name) is not None
        if self._unmarked or marks is not None:
            self.rows.append(PrintedRow(line=self._line, cells=cells, marks=marks, stub=self._stub, block=self._block))


def _spanned(cell: str) -> Sequence[str]:
    span = _SPAN.match(cell)
    return [cell] if span is None else [cell, *[""] * (int(span[1]) - 1)]
