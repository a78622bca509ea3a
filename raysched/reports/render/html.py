"""A report as one page of HTML that needs no network: style and figures are in it, and there are no scripts."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from raysched.reports.document import Section
from raysched.reports.render.markdown import LEGEND, is_number, numbers, shortfall

TEMPLATE = "page.html.j2"
SCALE = 1.6
"""Pixels of a picture to one of the page: a figure of two columns is as wide as the text."""
_WORDS = MarkdownIt("zero", {"html": False}).enable(
    ["list", "heading", "backticks", "emphasis", "escape", "entity", "newline", "link"]
)
"""All that a section's text may hold: no HTML and no pictures."""


def document(title: str, lead: Sequence[str], sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The whole page. `lead` are paragraphs of plain text; `pictures` are PNG images by name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words=_words, embedded=_embedded, size=_size, shortfall=shortfall, groups=_groups)
    environment.tests.update(numeric=is_number)
    return environment.get_template(TEMPLATE).render(
        title=title,
        lead=lead,
        legend=LEGEND,
        sections=sections,
        pictures=pictures,
        table_numbers=numbers(table.name for section in sections for table in section.tables),
        picture_numbers=numbers(picture.name for section in sections for picture in section.pictures),
    )


def _words(text: str) -> Markup:
    """A section's Markdown."""
    return Markup(_WORDS.render(text))


def _embedded(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _size(image: bytes) -> tuple[int, int]:
    """Width and height in the page's pixels: 96 to the inch and a third more, for letters as large as the text's."""
    width, height = struct.unpack(">II", image[16:24])
    return round(width / SCALE), round(height / SCALE)


def _groups(columns: Sequence[str]) -> list[tuple[str, int]]:
    """Names above the columns, with how many each: `MLQA` over `MLQA\\nen`, `MLQA\\nth`. Empty without any."""
    above = [column.partition("\n")[0] if "\n" in column else "" for column in columns]
    return [(name, len(list(members))) for name, members in groupby(above)] if any(above) else []
