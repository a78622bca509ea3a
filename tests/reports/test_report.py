"""The written report as one folder: whole, half-finished, empty, damaged, of several sweeps; what it leaves alone."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysched.errors import StudyError
from raysched.reports.asked import Asked
from raysched.reports.document import Cell, Row, Section, Table
from raysched.reports.report import BUILDERS, LIST, Written, _named, write_report
from raysched.reports.sweep import read_sweep
from raysched.study.space import Point
from tests.reports.conftest import MadeUp, study

GU = Point(schedule="gu", lr=1e-3, k=25)
MLQA = {"test": "facebook/mlqa", "languages": ("en", "de"), "scoring": "mlqa", "chinese_metric": "mlqa"}


def asked(*sweeps: MadeUp, **options: Any) -> Asked:
    return Asked(sweeps=tuple(read_sweep(one.layout) for one in sweeps), **options)


def text_of(*sweeps: MadeUp, to: Path, **options: Any) -> str:
    return (write_report(asked(*sweeps, **options), to, pdf=False).folder / "report.md").read_text()


def titles(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def names(written: Written) -> set[str]:
    return {path.relative_to(written.folder).as_posix() for path in written.files}


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeUp, Written]:
    folder = tmp_path_factory.mktemp("whole")
    sweep = MadeUp(folder / "storage", study())
    sweep.all()
    return sweep, write_report(asked(sweep), folder / "out")


def test_one_folder_with_every_format(whole: tuple[MadeUp, Written]) -> None:
    _, written = whole
    assert set(everything(written.folder)) == names(written)
    assert written.page == written.folder / "report.html"
    figures = [name.removesuffix(".png") for name in names(written) if name.endswith(".png")]
    wanted = {"report.html", "report.md", "tables.tex", "tables.parquet", LIST}
    wanted |= {f"tables/{table.name}.{kind}" for table in written.tables for kind in ("csv", "tex", "md")}
    wanted |= {f"{name}.{kind}" for name in figures for kind in ("png", "pdf")}
    assert names(written) == wanted
    assert len(figures) >= 5
    for name in figures:
        png = (written.folder / f"{name}.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", png[16:24])) > 200, name
        assert (written.folder / f"{name}.pdf").read_bytes()[:5] == b"%PDF-"
    assert sorted(set(pq.read_table(written.folder / "tables.parquet")["table"].to_pylist())) == sorted(
        table.name for table in written.tables
    )
    document = (written.folder / "tables.tex").read_text()
    assert all(f"% raysched-table: {table.name} " in document for table in written.tables)
    rows = list(csv.DictReader(io.StringIO((written.folder / "tables" / "test-sets.csv").read_text())))
    assert {row["name"] for row in rows} == {"test"}


def test_the_text_has_all_sections_and_facts(whole: tuple[MadeUp, Written]) -> None:
    _, written = whole
    text = (written.folder / "report.md").read_text()
    for part in [
        "# made-up\n\nA made-up sweep.",
        "3 complete of 3 taken so far",
        "6 finished, 0 failed, 0 not done, of 6",
        "raysched 0.1.0 abcdef012345",
        "0.50 h from the start to the last record; 1.50 h of training",
        "**records**: up to 1970-01-01 00:46:40 UTC",
        "train `c0ffeec0ffee`",
        "| test | mini | F1, EM (squad) | 3 each | c0ffeec0ffee |",
        "selected by `source_dev/f1` on mini (en, dev split)",
        "**91.00 ± 1.41**",
        "<u>81.00 ± 1.41</u>",
        "](figures/",
    ]:
        assert part in text, part
    found = titles(text)
    assert found[:2] == ["What was run", "Test sets"]
    assert len(set(found)) == len(found) >= 8
    assert "Problems" not in found
    page = written.page.read_text()
    assert [re.sub("&#39;", "'", one) for one in re.findall(r'<h2 id="section-\d+">(.*)</h2>', page)] == found


def test_the_same_store_gives_the_same_bytes(whole: tuple[MadeUp, Written], tmp_path: Path) -> None:
    sweep, written = whole
    write_report(asked(sweep), tmp_path / "again")
    assert everything(tmp_path / "again") == everything(written.folder)


def test_without_pdf_only_figures_differ(whole: tuple[MadeUp, Written], tmp_path: Path) -> None:
    """As at the end of a sweep. PDF figures of an earlier report are gone: they may show other numbers."""
    sweep, written = whole
    shutil.copytree(written.folder, tmp_path / "out")
    quick = write_report(asked(sweep), tmp_path / "out", pdf=False)
    assert names(written) - names(quick) == {name for name in names(written) if name.endswith(".pdf")}
    assert set(everything(tmp_path / "out")) == names(quick)
    assert quick.page.read_bytes() == written.page.read_bytes()


def test_what_an_earlier_report_wrote_goes_and_what_others_wrote_stays(
    made_up: Callable[..., Any], tmp_path: Path
) -> None:
    sweep, to = made_up(), tmp_path / "out"
    write_report(asked(sweep), to, pdf=False)
    listed = json.loads((to / LIST).read_text())
    victim = tmp_path / "victim.csv"
    for name, written, noted in [
        ("tables/old.csv", "old", True),
        ("tables/mended.csv", "mended by hand", False),
        ("tables/mine.tex", "mine", None),
        ("against_paper.md", "another report's", True),
        ("../victim.csv", "elsewhere", True),
    ]:
        (to / name).write_text("old" if noted else written)
        if noted is not None:
            listed[name] = "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4"  # of "old"
    (to / LIST).write_text(json.dumps(listed))
    after = names(write_report(asked(sweep), to, pdf=False))
    assert set(everything(to)) - after == {"tables/mended.csv", "tables/mine.tex", "against_paper.md"}
    assert victim.exists()
    for damage in ("[]", "{", "5"):
        (to / LIST).write_text(damage)
        assert names(write_report(asked(sweep), to, pdf=False)) == after


def test_a_late_test_set_is_not_there_yet(made_up: Callable[..., Any], tmp_path: Path) -> None:
    sweep = made_up(schedules=("gu",), evaluation={"also": {"mlqa": MLQA}})
    for spec in sweep.take(0, GU):
        record = sweep.finish(spec)
        late = spec.evaluation_ids["mlqa"]
        sweep.finish(spec, tests={key: value for key, value in record.tests.items() if key != late})
    text = text_of(sweep, to=tmp_path)
    assert "| mlqa | facebook/mlqa | F1, EM (mlqa, Chinese mlqa) | - | c0ffeec0ffee |" in text
    for spec in sweep.specs(GU).values():  # the runs are tested on it later: their records grow
        sweep.finish(spec)
    assert "| mlqa | facebook/mlqa | F1, EM (mlqa, Chinese mlqa) | 3 each |" in text_of(sweep, to=tmp_path)


def test_any_tasks_metrics_and_arms_with_settings_of_their_own(made_up: Callable[..., Any], tmp_path: Path) -> None:
    arms = [
        {"schedule": "standard", "lr": 1e-4, "epochs": 500},
        {"schedule": "standard", "lr": 1e-5, "method": "full"},
        {"schedule": "schedule-7", "lr": 1e-4, "k": "even"},
    ]
    search = {"schedule": (), "lr": (), "k": (), "arms": arms, "objective": "source_dev/accuracy"}
    sweep = made_up(task="choice", search=search)
    for number, arm in enumerate(arms):
        for spec in sweep.take(number, Point(**arm)):
            tests = {spec.evaluation_ids["test"]: {name: {"accuracy": 50.0 + number} for name in ("en", "de", "th")}}
            sweep.finish(spec, source_dev={"accuracy": 60.0 + spec.seed}, tests=tests)
    text = text_of(sweep, to=tmp_path)
    assert "| test | mini | Accuracy |" in text
    assert all(name in text for name in ("standard epochs=500", "standard full", "schedule-7 k=even"))
    assert "There is no method `standard`, so nothing of it is compared" in text


def test_half_finished_sweep(made_up: Callable[..., Any], tmp_path: Path) -> None:
    sweep = made_up(lr=(1e-3, 2e-3))
    sweep.take(0, Point(schedule="standard", lr=1e-3))
    first, second = sweep.take(1, GU)
    sweep.finish(first)
    sweep.fail(second)
    sweep.take(2, Point(schedule="gu", lr=2e-3, k=25))
    text = text_of(sweep, to=tmp_path)
    assert "0 complete of 3 taken so far" in text
    assert "1 finished, 1 failed, 4 not done, of 6" in text
    assert "80.00 / 70.00 † (n=1)" in text
    assert titles(text)[-1] == "Problems"
    assert (
        f"- diverged (nan): schedule=gu lr=0.001 k=25 seed 1, run `{second.run_id}`: loss is nan | at step 17" in text
    )


def test_empty_sweep(made_up: Callable[..., Any], tmp_path: Path) -> None:
    text = text_of(made_up(), to=tmp_path)
    assert "**records**: none yet" in text
    assert "0 complete of 0 taken so far" in text
    assert not list(tmp_path.rglob("*.png"))


def test_damage_is_named_and_left_out(made_up: Callable[..., Any], tmp_path: Path) -> None:
    sweep = made_up()
    first, second = sweep.take(0, GU)
    sweep.finish(first)
    record = sweep.finish(second)
    segment = sweep.layout.run(second.run_id).root / record.attempt_folder / "segments" / record.segments[0].name
    segment.write_bytes(segment.read_bytes()[:-1])
    first_record = sweep.layout.run(first.run_id).record
    first_record.write_text(first_record.read_text().replace("80.0", "90.0"))
    text = text_of(sweep, to=tmp_path)
    assert "1 finished, 0 failed, 1 not done, of 2" in text
    problems = text.partition("## Problems")[2]
    assert "record.json" in problems
    assert record.segments[0].name.split(".")[0].replace("_", "") in problems.replace("\\", "").replace("_", "")
    assert len(re.findall("^- unreadable, left out: ", problems, re.MULTILINE)) >= 2


def test_several_sweeps_in_one_report(tmp_path: Path) -> None:
    sweeps = [MadeUp(tmp_path, study(schedules=("standard", "gu")), name) for name in ("one", "two")]
    for sweep in sweeps:
        sweep.all()
    text = text_of(*sweeps, to=tmp_path / "out")
    assert text.startswith("# one, two\n")
    assert "**one**\n\nA made-up sweep." in text
    for name in ("one", "two"):
        assert f"| {name} | test | mini | F1, EM (squad) | 3 each |" in text
        assert f"{name}: gu" in text


def test_a_key_that_no_point_has_is_refused_before_anything_is_written(
    whole: tuple[MadeUp, Written], tmp_path: Path
) -> None:
    sweep, _ = whole
    with pytest.raises(StudyError, match="--by: must be a searched parameter, but got 'colour'"):
        write_report(asked(sweep, by=("colour",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_tables_are_names_of_files() -> None:
    def section(*names: str) -> Section:
        row = Row(labels=("a",), cells=(Cell(text="1"),))
        tables = (Table(name=one, title="T", stub=("x",), columns=("y",), blocks=((row,),)) for one in names)
        return Section(title="S", tables=tuple(tables))

    given = [section("scores-f1", "Scores F1"), section("../../etc/passwd", "?", "scores-f1-2", "!")]
    found = [table.name for one in _named(given) for table in one.tables]
    assert found == ["scores-f1", "scores-f1-2", "etc-passwd", "unnamed", "scores-f1-2-2", "unnamed-2"]


def test_every_builder_is_listed_once() -> None:
    assert len(set(BUILDERS)) == len(BUILDERS) == 13
