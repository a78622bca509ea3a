"""LaTeX of tables: what stands in it, what is escaped, and that pdflatex sets it without a line too wide."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Table, ranked
from raysched.reports.paper.shapes import published_tables, shapes
from raysched.reports.render.latex import document, latex
from raysched.reports.render.tex import escape, prose
from raysched.reports.scores import scores
from raysched.reports.source import Source
from raysched.reports.stats import Summary
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point
from tests.reports.conftest import MadeUp, study

WIDEST_OVERFULL_PT = 20


def cell(*means: float | None, std: float | None = 0.59, n: int = 4, **changes: Any) -> Cell:
    scores = tuple(None if mean is None else Summary(mean=mean, std=std, n=n) for mean in means)
    return Cell(scores=scores, planned=4, **changes)


def table(*rows: Row, columns: Sequence[str] = ("en",), stub: Sequence[str] = ("method",), **changes: Any) -> Table:
    values: dict[str, Any] = {"name": "some", "title": "Some", "blocks": (rows,)}
    return Table(stub=tuple(stub), columns=tuple(columns), **(values | changes))


def data(text: str) -> list[str]:
    return [line for line in text.splitlines() if "\\\\ % raysched: " in line]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (cell(81.2), "81.20$_{0.59}$"),
        (cell(81.2, std=None), "81.20"),
        (cell(81.2, mark="best"), r"\textbf{81.20}$_{0.59}$"),
        (cell(81.2, 70.119, mark="second"), r"\underline{81.20}$_{0.59}$ / 70.12$_{0.59}$"),
        (cell(54.2, n=2, text="th"), r"th 54.20$_{0.59}$$^{\dagger n=2}$"),
        (cell(54.2, 40.0, n=1, std=None), r"54.20 / 40.00$^{\dagger n=1}$"),
        (cell(None, 40.0), "- / 40.00$_{0.59}$"),
        (cell(None, None), "-"),
        (Cell(text="2 of 4"), "2 of 4"),
        (Cell(), ""),
    ],
)
def test_cells(given: Cell, said: str) -> None:
    (line,) = data(latex(table(Row(labels=("gu",), cells=(given,)))))
    assert line == f"gu & {said} \\\\ % raysched: -"


def test_the_whole_of_a_small_table() -> None:
    source = Source(sweep="s", uid="u", cell_id="c", test_set="test", language="en", metrics=("f1", "em"))
    rows = (
        Row(labels=("mini", "gu"), cells=(cell(81.2, 70.0, source=str(source), mark="best"), Cell(text="4"))),
        Row(labels=("mini", "fun"), cells=(cell(80.0, 60.0), Cell(text="4"))),
    )
    below = (Row(labels=("big", "gu"), cells=(cell(1.0, 2.0), Cell(text="4"))),)
    given = table(
        stub=("model", "method"), columns=("en", "n"), title="F1 & EM", blocks=(rows, below), notes=("100 %", "two")
    )
    assert latex(given) == "\n".join([
        "% raysched-table: some columns=2 stub=2 metrics=f1,em",
        r"\begin{table}[htbp]",
        r"\centering",
        r"\caption{F1 \& EM}",
        r"\label{tab:some}",
        r"\setlength{\tabcolsep}{4pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{@{}llrr@{}}",
        r"\toprule",
        r"model & method & en & n \\",
        r"\midrule",
        r"mini & gu & \textbf{81.20}$_{0.59}$ / 70.00$_{0.59}$ & 4 \\ % raysched: s/u/c/test/en/f1,em;-",
        r" & fun & 80.00$_{0.59}$ / 60.00$_{0.59}$ & 4 \\ % raysched: -;-",
        r"\midrule",
        r"big & gu & 1.00$_{0.59}$ / 2.00$_{0.59}$ & 4 \\ % raysched: -;-",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        r"100 \%\par",
        "two",
        r"\end{minipage}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def test_columns_of_a_group_stand_below_its_name() -> None:
    row = Row(labels=("gu",), cells=(cell(1.0), cell(2.0), cell(3.0)))
    lines = latex(table(row, columns=("XQuAD\nen", "XQuAD\nth", "n"))).splitlines()
    at = lines.index(r"\toprule")
    assert lines[at + 1 : at + 4] == [
        r" & \multicolumn{2}{c}{XQuAD} & \multicolumn{1}{c}{} \\",
        r"\cmidrule(lr){2-3}",
        r"method & en & th & n \\",
    ]


def test_a_long_name_over_narrow_cells_has_two_lines() -> None:
    row = Row(labels=("gu",), cells=(cell(81.2), cell(81.2), Cell(text="some words of text")))
    columns = ("width of the learning period", "source dev", "some words and text")
    lines = latex(table(row, columns=columns)).splitlines()
    assert lines[lines.index(r"\toprule") + 1] == (
        r"method & \begin{tabular}[b]{@{}r@{}}width of the \\ learning period\end{tabular}"
        r" & source dev & some words and text \\"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a&b%c$d#e_f{g}", r"a\&b\%c\$d\#e\_f\{g\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("[1] *", "{[}1{]} {*}"),
        ("--by a---b", "-{}-by a-{}-{}-b"),
        ("é Å ñ ç ß ø", r"\'{e} \r{A} \~{n} \c{c} \ss{} \o{}"),
        ("± † → ≤ τ", r"$\pm$ $\dagger$ $\rightarrow$ $\leq$ $\tau$"),
        ("中文", "U+4E2DU+6587"),
        ("ﬁ\x00", "U+FB01U+0000"),
        ("two\n lines", "two lines"),
    ],
)
def test_escaping(text: str, said: str) -> None:
    assert escape(text) == said
    assert escape(text).isascii()


def test_names_in_notes_may_break() -> None:
    assert prose("rajpurkar/squad_v2 3 / 4") == r"rajpurkar/\allowbreak{}squad\_\allowbreak{}v2 3 / 4"


def test_a_mark_in_a_label_hides_nothing() -> None:
    row = Row(labels=("50 % of \\\\ % raysched: x",), cells=(cell(81.2),))
    (line,) = data(latex(table(row)))
    assert line.count("\\\\ % raysched: ") == 1
    assert line.endswith("% raysched: -")


def test_a_wide_pair_is_stacked_and_a_wider_table_turned() -> None:
    row = Row(labels=("gu",), cells=tuple(cell(81.2, 70.0) for _ in range(9)))
    stacked = latex(table(row, row, columns=[f"l{n}" for n in range(9)]))
    assert r"& \begin{tabular}[t]{@{}r@{}}81.20$_{0.59}$ \\ 70.00$_{0.59}$\end{tabular} &" in stacked
    assert r"\begin{table}" in stacked
    row = Row(labels=("gu",), cells=tuple(cell(81.2) for _ in range(18)))
    turned = latex(table(row, columns=[f"l{n}" for n in range(18)]))
    assert r"\begin{sidewaystable}[p]" in turned


def test_a_long_table_goes_on_on_the_next_page() -> None:
    rows = [Row(labels=(f"gu lr={n}",), cells=(cell(float(n)),)) for n in range(100)]
    text = latex(table(*rows))
    assert text.count(r"\begin{table}") == text.count("% raysched-table: some") == 3
    assert text.count(r"\label{tab:some}") == 1
    assert text.count(r"\caption{Some (continued)}") == 2
    assert text.count("\\midrule") == 3
    assert len(data(text)) == 100


def compiled(tables: Sequence[Table], folder: Path) -> None:
    """Fails where pdflatex does, or where a box is too wide or a table too tall."""
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-recommended)")
    (folder / "tables.tex").write_text(document(tables), encoding="ascii")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=100)
    log = (folder / "tables.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(too_wide, default=0.0) <= WIDEST_OVERFULL_PT, log
    assert "Overfull \\vbox" not in log
    assert "Float too large" not in log
    assert "Missing character" not in log


def test_published_tables_compile(tmp_path: Path) -> None:
    compiled(published_tables(), tmp_path)


def test_tables_of_sweeps_compile(tmp_path: Path) -> None:
    """Of one half-finished, with a failure, and of one with long names, thirty points and fifteen languages."""
    half = MadeUp(tmp_path, study(), "half.finished_sweep")
    first, second = half.take(0, Point(schedule="gu", lr=1e-3, k=25))
    half.finish(first)
    half.fail(second)
    languages = ("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
    wide = MadeUp(
        tmp_path,
        study(lr=tuple(n * 1e-4 for n in range(1, 11)), evaluation={"languages": languages}),
        "a-name-of-sixty-characters-that-somebody-thought-was-wise-here",
    )
    for number, point in enumerate(Point(schedule="gu", lr=n * 1e-4, k=25) for n in range(1, 31)):
        for spec in wide.take(number, point):
            scores_of = {language: {"f1": 100.0 - spec.seed, "em": 9.0} for language in languages}
            wide.finish(spec, tests={spec.evaluation_ids["test"]: scores_of})
    asked = Asked(sweeps=(read_sweep(half.layout), read_sweep(wide.layout)))
    made = shapes(asked)
    assert made is not None
    compiled([*scores(asked).tables, *made.tables], tmp_path)


def test_any_text_compiles(tmp_path: Path) -> None:
    letters = "".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x250), *range(0x370, 0x400), *range(0x2010, 0x2040)]))
    pieces = [letters[start : start + 12] for start in range(0, len(letters), 12)]
    words = " ".join(pieces)
    rows = [Row(labels=(piece,), cells=(Cell(text=piece), Cell(text=f"-- {words[:80]}"))) for piece in pieces]
    starts = [Row(labels=(text,), cells=(Cell(text=text), Cell(text="x" * 30))) for text in ("[1pt]", "*", "", "--")]
    given = table(
        *rows,
        *starts,
        columns=(letters[:40], "prose"),
        title=words[:400],
        notes=(words[400:], "/".join(["hub/name"] * 40)),
    )
    compiled([given], tmp_path)


def test_marks_by_rank_stand_in_the_text() -> None:
    rows = [Row(labels=(name,), cells=(cell(mean),)) for name, mean in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    lines = data(latex(ranked(table(*rows))))
    assert [line.split(" & ")[1].split("$")[0] for line in lines] == ["1.00", r"\textbf{3.00}", r"\underline{2.00}"]
