"""The report: one folder with a page, tables and figures, from whatever is recorded by now."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from raysched.records.files import make_folder, sha256_bytes, write_atomic
from raysched.reports.asked import Asked
from raysched.reports.document import Section, Table

BUILDERS = (
    ("facts", "facts"),
    ("facts", "test_sets"),
    ("scores", "scores"),
    ("paper.shapes", "shapes"),
    ("inference.claims", "claims"),
    ("spread.section", "spread"),
    ("derived.section", "oracle"),
    ("derived.section", "free_rows"),
    ("traces.section", "traces"),
    ("traces.section", "orders"),
    ("traces.proxy", "proxy"),
    ("inference.agreement", "agreement"),
    ("facts", "problems"),
)
"""Module and function of every section, in order; each is imported when a report is written."""
PAGE, TEXT, PARQUET = "report.html", "report.md", "tables.parquet"
LIST = "files.json"
"""SHA-256 of the tables and figures that the report in a folder consists of."""
_OURS = re.compile(r"(tables|figures)/[\w.-]+\.(csv|tex|md|png|pdf)")
"""Files that an earlier report may have left: no name in `files.json` reaches out of its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What lies in `folder` now; `page` and all of `files` are paths below it. `tables` are those of the report."""

    folder: Path
    page: Path
    files: tuple[Path, ...]
    tables: tuple[Table, ...]


def write_report(asked: Asked, to: Path, *, pdf: bool = True) -> Written:
    """Write the report below the folder `to`: `report.html`, `report.md`, `tables.tex`, `tables.parquet`,
    `tables/*.{csv,tex,md}` and `figures/*.{png,pdf}`; without `pdf`, PNG alone, which takes half the time.

    Works on sweeps that are half finished or running: every file is replaced as a whole. Files of an earlier report
    that are not of this one are removed, unless they were changed since. The same store gives the same bytes.

    Raises:
        StudyError: what was asked for is not there.
    """
    from raysched.reports.render.data import write_parquet

    sections = sections_of(asked)
    content = _content(asked, sections, pdf)
    tables = tuple(table for section in sections for table in section.tables)
    earlier = _earlier(asked, to)
    gone = [to / name for name, sha256 in earlier.items() if name not in content and _is(to / name, sha256)]
    for name, data in content.items():
        make_folder((to / name).parent)
        write_atomic(to / name, data)
    write_parquet(tables, to / PARQUET)
    for path in gone:
        path.unlink(missing_ok=True)
    for sweep in asked.sweeps:
        if to == sweep.layout.reports:
            sweep.layout.push(to, *gone)
    return Written(
        folder=to,
        page=to / PAGE,
        files=tuple(to / name for name in (*content, PARQUET)),
        tables=tables,
    )


def sections_of(asked: Asked) -> list[Section]:
    """All that there is to say, in order; names of tables and of pictures are names of files, each its own.

    Raises:
        StudyError: what was asked for is not there.
    """
    sections: list[Section] = []
    for module, function in BUILDERS:
        section = getattr(importlib.import_module(f"raysched.reports.{module}"), function)(asked)
        if section is not None:
            sections.append(section)
    return _named(sections)


def _named(sections: Iterable[Section]) -> list[Section]:
    tables, pictures = set[str](), set[str]()
    return [
        replace(
            section,
            tables=tuple(replace(one, name=_stem(one.name, tables)) for one in section.tables),
            pictures=tuple(replace(one, name=_stem(one.name, pictures)) for one in section.pictures),
        )
        for section in sections
    ]


def _stem(name: str, taken: set[str]) -> str:
    """A file's name without its end, of letters that every system takes; numbered where it is taken."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
    numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
    found = stem if stem not in taken else next(one for one in numbered if one not in taken)
    taken.add(found)
    return found


def _content(asked: Asked, sections: list[Section], pdf: bool) -> dict[str, bytes]:
    """Name below the folder -> content. Each figure is drawn once."""
    from raysched.reports.figures import canvas
    from raysched.reports.render import data, html, latex, markdown

    tables = [table for section in sections for table in section.tables]
    pictures: dict[str, bytes] = {}
    content: dict[str, bytes] = {}
    for picture in (picture for section in sections for picture in section.pictures):
        figure = picture.draw()
        pictures[picture.name] = content[f"figures/{picture.name}.png"] = canvas.png(figure)
        if pdf:
            content[f"figures/{picture.name}.pdf"] = canvas.pdf(figure)
    for table in tables:
        content[f"tables/{table.name}.csv"] = data.csv_text(table).encode()
        content[f"tables/{table.name}.tex"] = latex.latex(table).encode()
        content[f"tables/{table.name}.md"] = markdown.table_text(table).encode()
    content["tables.tex"] = latex.document(tables).encode()
    title, lead = _title(asked)
    files = {name: f"figures/{name}.png" for name in pictures}
    content[TEXT] = markdown.document(title, lead, sections, files).encode()
    content[PAGE] = html.document(title, lead, sections, pictures).encode()
    listed = {name: sha256_bytes(one) for name, one in sorted(content.items()) if _OURS.fullmatch(name)}
    content[LIST] = (json.dumps(listed, indent=1) + "\n").encode()
    return content


def _title(asked: Asked) -> tuple[str, list[str]]:
    """The sweeps' names; of a single one what it is for, too (of several, the facts say it)."""
    title = ", ".join(sweep.layout.name for sweep in asked.sweeps)
    only = asked.sweeps[0].study.description if len(asked.sweeps) == 1 else ""
    return title, [only] if only else []


def _earlier(asked: Asked, to: Path) -> Mapping[str, str]:
    """File -> SHA-256, of the tables and figures that the report there consists of; empty where there is none."""
    for sweep in asked.sweeps:
        if to == sweep.layout.reports:
            sweep.layout.pull(to / LIST)
    try:
        listed = json.loads((to / LIST).read_bytes())
        return {name: str(sha256) for name, sha256 in listed.items() if _OURS.fullmatch(name)}
    except (OSError, ValueError, AttributeError):  # none, or not ours: nothing is removed
        return {}


def _is(path: Path, sha256: str) -> bool:
    """Whether a file is as it was written; one that is not here was perhaps never pulled, and may go."""
    try:
        return sha256_bytes(path.read_bytes()) == sha256
    except FileNotFoundError:
        return True
    except OSError:
        return False
