"""Rows and numbers of LaTeX tables, whatever their authors did to them."""

from __future__ import annotations

import pytest

from raysched.reports.verifying.tex_numbers import Printed, flat, printed
from raysched.reports.verifying.tex_rows import PrintedRow, rows

Told = list[tuple[str | None, str | None]]


def told(found: Printed) -> Told:
    return [(one.mean and one.mean.text, one.std and one.std.text) for one in found.scores]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (r"\textbf{81.20}$_{0.59}$ / 70.01$_{0.60}$", [("81.20", "0.59"), ("70.01", "0.60")]),
        (r"\begin{tabular}[t]{@{}r@{}}81.2$_{0.6}$ \\ 70.0\end{tabular}", [("81.2", "0.6"), ("70.0", None)]),
        (r"\shortstack[r]{70.12$_{0.61}$ \\[2pt] 60.05}", [("70.12", "0.61"), ("60.05", None)]),
        (r"81.20$_{0.59}$ / -", [("81.20", "0.59"), (None, None)]),
        (r"81.2 (70.0)", [("81.2", None), ("70.0", None)]),
        (r"81.2 70.1", [("81.2", None), ("70.1", None)]),
        (r"81.2 0.6 70.1 0.5", [("81.2", "0.6"), ("70.1", "0.5")]),
        (r"$81.2 \pm 0.6$", [("81.2", "0.6")]),
        (r"$81.2\,{\pm}\,0.6$", [("81.2", "0.6")]),
        ("81.2 ± 0.6", [("81.2", "0.6")]),
        ("81.2 +- 0.6", [("81.2", "0.6")]),
        ("81.20 +/- 0.59", [("81.20", "0.59")]),
        (r"81.2 (0.6)", [("81.2", "0.6")]),
        (r"\num{81.20(59)}", [("81.20", "0.59")]),
        (r"81.20(0.59)", [("81.20", "0.59")]),
        (r"\underline{81.2} {\tiny 0.6}", [("81.2", "0.6")]),
        (r"\cellcolor{gray!20}\textbf{81.20}\,$\pm$\,0.59", [("81.20", "0.59")]),
        (r"\cellcolor[gray]{0.9} 81", [("81", None)]),
        (r"\textcolor[rgb]{0.1,0.2,0.3}{81.20}$_{0.59}$", [("81.20", "0.59")]),
        (r"\color{red!50} 81.2", [("81.2", None)]),
        (r"\multirow{2}{*}{81.2}", [("81.2", None)]),
        (r"\raisebox{0.5ex}{81.2}\rule{0pt}{2.6ex}\hspace*{-1.5em}", [("81.2", None)]),
        (r"{\fontsize{8}{9}\selectfont 81.2}", [("81.2", None)]),
        (r"\phantom{0}8.2", [("8.2", None)]),
        (r"81{,}20", [("81.20", None)]),
        (r"81,2$_{0,6}$", [("81.2", "0.6")]),
        (r"$81.2^{\dagger}_{\pm 0.6}$", [("81.2", "0.6")]),
        (r"$81.2_{.6}$", [("81.2", ".6")]),
        (r"$81.2_3$", [("81.2", "3")]),
        (r"81.2\textsubscript{0.6}", [("81.2", "0.6")]),
        (r"$81.2^{0.6}$", [("81.2", "0.6")]),
        (r"81.2\textsuperscript{2}", [("81.2", None)]),
        (r"$81.2^2$ \cite{adam2014}\tnote{1}", [("81.2", None)]),
        (r"de2 81.2\%", [("81.2", None)]),
        (r"81~", [("81", None)]),
        ("81.", [("81.", None)]),
        ("--", [(None, None)]),
        ("", [(None, None)]),
    ],
)
def test_numbers(cell: str, expected: Told) -> None:
    assert told(printed(cell, len(expected))) == expected


@pytest.mark.parametrize("cell", ["81.20$_{0.59}$", "81.2 70.1 3.3", "81.2"])
def test_another_number_of_scores_is_told(cell: str) -> None:
    with pytest.raises(ValueError, match=r"2 scores with or without std expected, but got 81\.2"):
        printed(cell, 2)


@pytest.mark.parametrize("cell", ["8l.2", "81.2.0", "2e5"])
def test_what_begins_as_a_number_is_one(cell: str) -> None:
    with pytest.raises(ValueError, match="cannot be read as a number"):
        printed(cell, 1)


def test_seeds_and_differences() -> None:
    found = printed(r"th 54.20$_{1.10}$$^{\dagger n=2}$", 1)
    assert told(found) == [("54.20", "1.10")]
    assert found.n is not None
    assert found.n.text == "2"
    found = printed(r"54.2 (+1.3) $-0.2$", 1)
    assert told(found) == [("54.2", None)]
    assert [one.text for one in found.differences] == ["1.3", "0.2"]


def test_what_no_group_opened_is_passed_over() -> None:
    assert flat(r"81.2}} $_{0.6") == "81.2 \ue0000.6\ue002"


TABLE = r"""% raysched-table: scores-test columns=2 stub=1 metrics=f1
\begin{table}[t]
\caption{Scores \& more, 100\% of them & all}
\resizebox{\linewidth}{!}{%
\begin{tabular}{@{}lrr@{}}
\toprule
method & en & de \\
\midrule
standard & 1.00 & \shortstack[r]{2.00 \\ 3.00} \\ % raysched: A;B
gu & 1.00 & % a word on it
  2.00 \\[2pt]% raysched: C;D
% rand & 1.00 & 2.00 \\ % raysched: X;Y
lpft & 1.00 & 2.00\% \\ fun & 3 & 4 \\ %raysched:E;F
\cmidrule(lr){2-3} rand & \begin{tabular}[t]{@{}r@{}}1.00 \\ 2.00\end{tabular} & 3.00 \tabularnewline
  % raysched: G;H
\midrule \multicolumn{2}{l}{reverse} & 2.20 % raysched: I
\bottomrule
\end{tabular}}
\end{table}
\begin{align} a &= 1.5 \\ b &= 2.5 \\ \end{align}
% raysched: J
"""
ROWS = [
    (7, ["{@{}lrr@{}} method", "en", "de"], None),
    (9, ["standard", "1.00", r"\shortstack[r]{2.00 \\ 3.00}"], "AB"),
    (11, ["gu", "1.00", "2.00"], "CD"),
    (13, ["lpft", "1.00", r"2.00\%"], None),
    (13, ["fun", "3", "4"], "EF"),
    (14, [r"\cmidrule(lr){2-3} rand", r"\begin{tabular}[t]{@{}r@{}}1.00 \\ 2.00\end{tabular}", "3.00"], "GH"),
    (16, [r"\multicolumn{2}{l}{reverse}", "", "2.20"], "I"),
    (21, [], "J"),
]


def shape(row: PrintedRow) -> tuple[int, list[str], str | None]:
    return row.line, [" ".join(cell.split()) for cell in row.cells], "".join(row.marks) if row.marks else None


def test_rows() -> None:
    found = rows(TABLE)
    assert [shape(row) for row in found] == ROWS
    assert [row.stub for row in found] == [1] * 7 + [None]
    blocks = [row.block for row in found]
    assert len(set(blocks[1:6])) == 1
    assert len({blocks[0], blocks[1], blocks[6]}) == 3


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_ends_of_lines_of_other_systems(end: str) -> None:
    assert rows(TABLE.replace("\n", end)) == rows(TABLE)


def test_rows_that_another_file_takes_up() -> None:
    found = rows("gu & 1.0 \\\\ % raysched: A\nrand & 2.0 \\\\\nonly text \\\\\n")
    assert [shape(row) for row in found] == [(1, ["gu", "1.0"], "A"), (2, ["rand", "2.0"], None)]


def test_an_environment_that_nobody_opened() -> None:
    assert [shape(row) for row in rows("\\end{table} a & 1 \\\\ % raysched: A")] == [(1, ["a", "1"], "A")]
