"""The page: whatever a sweep and its study are called, it is text; nothing is fetched, and tables are tables."""

from __future__ import annotations

import struct
import zlib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Picture, Row, Section, Table
from raysched.reports.render.html import document
from raysched.reports.report import write_report
from raysched.reports.stats import Summary
from raysched.reports.sweep import read_sweep
from tests.reports.conftest import MadeUp, study

HOSTILE = '<script>alert("x")</script> <img src=http://x/y onerror=alert(1)> & "quoted" \'too\' {{ 7 * 7 }} {% raw %}'
VOID = ("meta", "img", "br")


class Page(HTMLParser):
    """Elements in order with their attributes; what is open where each stands; all the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.inside: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tuple(self.open))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def png(width: int = 1260, height: int = 560) -> bytes:
    """As much of an image as a page looks at."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def summary(mean: float, n: int = 2) -> Summary:
    return Summary(mean=mean, std=1.0 if n > 1 else None, n=n)


def section(name: str = "plain", title: str = "A title") -> Section:
    """A table with all that a cell can be, and a picture."""
    cells = [
        (Cell(scores=(summary(81), summary(70)), mark="best"), Cell(text="de", scores=(summary(60),))),
        (Cell(scores=(summary(80, 1), None), planned=2), Cell(scores=(None,))),
        (Cell(scores=(summary(79), summary(77)), mark="second"), Cell(text=f"{name} {title} " + "word " * 20)),
    ]
    rows = tuple(Row(labels=(f"{name}{at}", ""), cells=two) for at, two in enumerate(cells))
    table = Table(
        name=name,
        title=title,
        stub=("method", ""),
        columns=("MLQA\nen", "MLQA\nde"),
        blocks=(rows[:2], rows[2:]),
        notes=(title,),
    )
    picture = Picture(name=name, title=title, caption=title, alt=title, draw=lambda: None)
    return Section(
        title=title, text=("Some **words** and `code`.\n\n- one\n- two",), tables=(table,), pictures=(picture,)
    )


def page(*sections: Section, title: str = "T", lead: str = "L") -> Page:
    images = {picture.name: png() for one in sections for picture in one.pictures}
    return Page(document(title, [lead], sections, images))


def urls(found: Page) -> list[str]:
    keys = ("src", "href", "srcset", "data", "action", "poster", "background", "style")
    return [str(attributes[key]) for _, attributes in found.elements for key in keys if key in attributes]


def test_hostile_names_are_text() -> None:
    found = page(section("plain", HOSTILE), title=HOSTILE, lead=HOSTILE)
    assert found.all("script", "iframe", "object", "link", "base", "form", "svg") == []
    assert [name for _, attributes in found.elements for name in attributes if name.startswith("on")] == []
    assert found.text.count(HOSTILE) >= 7
    assert {attributes["alt"] for attributes in found.all("img")} == {HOSTILE}
    assert all(url.startswith(("#", "data:image/png;base64,")) for url in urls(found))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <b onmouseover=alert(1)>word</b>",
        "![picture](http://example.org/x.png)",
        "[link](javascript:alert(1))",
        "<http://example.org>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ],
)
def test_the_text_of_a_section_brings_in_nothing(text: str) -> None:
    found = page(Section(title="S", text=(text,)))
    assert found.all("script", "b", "img") == []
    assert [attributes for _, attributes in found.elements if "src" in attributes] == []
    assert all(url.startswith(("#", "http://example.org")) for url in urls(found))  # a link is only a link


def test_the_text_of_a_section_is_markdown() -> None:
    text = "Some **words**, `code_of_it` and *more*.\n\n- one\n- two\n\n### Below\n\nA [page](https://example.org/a)."
    found = page(Section(title="S", text=(text,)))
    tags = [tag for tag, _ in found.elements]
    assert all(tag in tags for tag in ("strong", "code", "em", "ul", "li", "h3"))
    assert "code_of_it" in found.text
    assert "https://example.org/a" in urls(found)


def test_a_table_says_what_its_cells_are() -> None:
    found = page(section("one"), section("two", "Another title"))
    assert [one["scope"] for one in found.all("th")].count("colgroup") == 2
    assert {one["scope"] for one in found.all("th")} == {"col", "row", "colgroup"}
    captions = {one["id"] for one in found.all("caption")}
    regions = [one for one in found.all("div") if one.get("role") == "region"]
    assert all(one["tabindex"] == "0" for one in regions)
    assert {one["aria-labelledby"] for one in regions if "aria-labelledby" in one} == captions
    assert len(captions) == len(found.all("table")) == 2
    assert len(found.all("tbody")) == 4
    text = " ".join(found.text.split())
    for part in ("81.00 ± 1.00 / 70.00 ± 1.00", "80.00 / - † (n=1)", "de 60.00 ± 1.00", "Table 2. Another title"):
        assert part in text
    marks = [tag for (tag, _), inside in zip(found.elements, found.inside, strict=True) if "td" in inside]
    assert (marks.count("strong"), marks.count("u")) == (2, 2)


def test_pictures_are_in_the_page_with_their_words() -> None:
    found = page(section("one", "Curves"))
    (image,) = found.all("img")
    assert (image["alt"], image["width"], image["height"]) == ("Curves", "788", "350")
    assert "Figure 1. Curves." in found.text


def test_headings_landmarks_and_links_within_the_page() -> None:
    found = page(section("one"), section("two", "Another title"))
    levels = [int(tag[1]) for tag, _ in found.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [tag for tag, _ in found.elements if tag in ("header", "nav", "main", "footer")] == [
        *("header", "nav", "main", "footer")
    ]
    assert found.all("html") == [{"lang": "en"}]
    ids = [str(attributes["id"]) for _, attributes in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {url[1:] for url in urls(found) if url.startswith("#")} <= set(ids)
    assert found.elements[[tag for tag, _ in found.elements].index("body") + 1] == (
        "a",
        {"class": "skip", "href": "#main"},
    )


def test_a_real_report_of_a_study_with_a_hostile_description(tmp_path: Path) -> None:
    sweep = MadeUp(tmp_path / "storage", study(description=HOSTILE, schedules=("standard", "gu")))
    sweep.all()
    spec = sweep.specs(next(iter(read_sweep(sweep.layout).points.values())))[1]
    sweep.fail(spec)
    record = sweep.layout.run(spec.run_id).record
    record.write_text("<b>damaged</b>")
    written = write_report(Asked(sweeps=(read_sweep(sweep.layout),)), tmp_path / "out", pdf=False)
    found = Page(written.page.read_text())
    assert found.all("script", "iframe", "object", "link", "base", "b") == []
    assert HOSTILE in found.text
    images = found.all("img")
    assert len(images) >= 5
    assert all(len(str(one["alt"])) > 40 for one in images)
    assert all(url.startswith(("#", "data:image/png;base64,")) for url in urls(found))
    (policy,) = [one["content"] for one in found.all("meta") if "http-equiv" in one]
    assert str(policy).startswith("default-src 'none'")
    assert "<script" not in (written.folder / "report.md").read_text().replace("\\<script", "")
