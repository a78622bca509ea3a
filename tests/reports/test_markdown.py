"""Markdown that shows what was meant: read back with a parser of GitHub's dialect."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from raysched.reports.document import Cell, Picture, Row, Section, Table
from raysched.reports.render.markdown import code, document, escape, paragraph, table_text
from raysched.reports.stats import Summary

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = st.text(st.sampled_from("ab1 _*`<>[]()!\\|&;#~-+=.:{}\"'\n\t\u00e9"), max_size=24)


def shown(text: str) -> str:
    """What a reader of the rendered page sees."""
    return unescape(re.sub("<[^>]*>", "", READER.render(text))).strip()


def tags(text: str) -> set[str]:
    return set(re.findall(r"<(\w+)", READER.render(text)))


@given(NASTY)
def test_a_paragraph_shows_the_text_and_is_nothing_else(text: str) -> None:
    line = " ".join(text.split())
    assert shown(paragraph(text)) == line
    assert tags(paragraph(text)) <= {"p"}


@given(NASTY)
def test_within_a_line_text_is_text(text: str) -> None:
    line = " ".join(text.split())
    assert shown(f"- **a**: x{escape(text)}y") == f"a: x{line}y"
    assert tags(f"- **a**: x{escape(text)}y") == {"ul", "li", "strong"}


@given(NASTY.filter(lambda text: text.strip()))
def test_code_is_code(text: str) -> None:
    assert shown(f"see {code(text)}.") == f"see {' '.join(text.split())}."
    assert tags(f"see {code(text)}.") == {"p", "code"}


def table(name: str, *cells: Cell) -> Table:
    row = Row(labels=(name,), cells=cells)
    columns = tuple(f"c{at}" for at in range(len(cells)))
    return Table(name="t", title=name, stub=("x",), columns=columns, blocks=((row,),), notes=(name,))


@given(NASTY)
def test_a_cell_shows_the_text(text: str) -> None:
    line = " ".join(text.split())
    lines = READER.render(table_text(table(text, Cell(text=text)))).splitlines()
    found = [unescape(re.sub("<[^>]*>", "", one)).strip() for one in lines if one.startswith("<td")]
    assert found == [line, line]


def summary(mean: float, n: int) -> Summary:
    return Summary(mean=mean, std=1.0 if n > 1 else None, n=n)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(scores=(summary(81, 2), summary(70, 2)), planned=2), "81.00 ± 1.00 / 70.00 ± 1.00"),
        (Cell(scores=(summary(81, 2), summary(70, 2)), mark="best"), "**81.00 ± 1.00** / 70.00 ± 1.00"),
        (Cell(scores=(summary(81, 2),), mark="second", text="de"), "de <u>81.00 ± 1.00</u>"),
        (Cell(scores=(summary(81, 1),), planned=2), "81.00 † (n=1)"),
        (Cell(scores=(summary(81, 2), summary(70, 1)), planned=2), "81.00 ± 1.00 / 70.00 † (n=1)"),
        (Cell(scores=(summary(81, 2), None), planned=2), "81.00 ± 1.00 / -"),
        (Cell(scores=(None, None), planned=2), "-"),
        (Cell(), ""),
        (Cell(text="[-1, +2]"), "\\[-1, +2\\]"),
    ],
)
def test_cells(cell: Cell, text: str) -> None:
    assert table_text(table("r", cell)).splitlines()[2] == f"| r | {text} |"


@pytest.mark.parametrize(
    ("texts", "rule"),
    [
        (("4", "0.05"), "---:"),
        (("[-1.20, +3.40]", "-"), "---:"),
        (("< 0.001", "−2"), "---:"),
        (("", "4 of 5"), "---:"),
        (("gu", "4"), ":---"),
        (("3 seeds were not enough to say so",), ":---"),
    ],
)
def test_numbers_are_set_right_and_words_left(texts: tuple[str, ...], rule: str) -> None:
    rows = tuple(Row(labels=("r",), cells=(Cell(text=text),)) for text in texts)
    text = table_text(Table(name="t", title="T", stub=("x",), columns=("y",), blocks=(rows,)))
    assert text.splitlines()[1] == f"| :--- | {rule} |"


def test_tables_and_figures_are_numbered_through_the_report() -> None:
    def section(name: str) -> Section:
        one = Table(name=name, title=f"T {name}", stub=("x",), columns=(), blocks=((Row(labels=("a",), cells=()),),))
        picture = Picture(name=name, title=f"P {name}", caption="Seen.", alt=f"See {name}", draw=lambda: None)
        return Section(title=name.upper(), text=(f"About {name}.",), tables=(one,), pictures=(picture,))

    text = document("A_b", ["# lead"], [section("a"), section("b")], {"a": "figures/a.png", "b": "figures/b.png"})
    found = [
        *("# A_b", "\\# lead", "## A", "About a.", "**Table 1: T a**", "![See a](figures/a.png)"),
        *("**Figure 1: P a.** Seen.", "## B", "About b.", "**Table 2: T b**", "**Figure 2: P b.** Seen."),
    ]
    places = [text.index(part) for part in found]
    assert places == sorted(places)
    assert text.endswith("**Figure 2: P b.** Seen.\n")
