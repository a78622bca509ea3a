"""`raysched verify` on tables that the report wrote: as they are, edited, tampered with, the store changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysched.errors import StudyError
from raysched.records.layout import SweepLayout
from raysched.reports.asked import Asked
from raysched.reports.render.latex import latex
from raysched.reports.scores import scores
from raysched.reports.sweep import Sweep, read_sweep
from raysched.reports.verifying.tex_numbers import Number
from raysched.reports.verifying.verify import Lookup, Verified, agrees, refuse_unmarked, told, verify
from raysched.study.space import Point, points
from tests.reports.conftest import MadeUp, study

FILE = "results.tex"
CELLS, SCORES = 6, 2
"""Of a row: source dev, en, de, th, target average and lowest target, each with two metrics."""


@dataclass(frozen=True)
class Written:
    """Tables of a storage's sweeps in LaTeX."""

    storage: Path
    text: str

    def lookup(self) -> Lookup:
        @cache
        def stored(name: str) -> Sweep | None:
            layout = SweepLayout(self.storage, name)
            return read_sweep(layout) if layout.exists() else None

        return stored

    def verify(self, text: str | None = None) -> Verified:
        return verify(self.text if text is None else text, FILE, self.lookup())

    def line(self, method: str) -> int:
        """Where the row of a method is."""
        return next(n for n, line in enumerate(self.text.splitlines(), 1) if line.startswith(f"{method} &"))


def written(storage: Path, *names: str) -> Written:
    asked = [Asked(sweeps=(read_sweep(SweepLayout(storage, name)),)) for name in names]
    return Written(storage, "\n".join(latex(table) for one in asked for table in scores(one).tables))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Three methods with two seeds, of which `lpft` lacks one; another sweep with no standard deviation to print."""
    storage = tmp_path_factory.mktemp("storage")
    bed = MadeUp(storage, study())
    for number, point in enumerate(points(bed.study.search)):
        for spec in bed.take(number, point)[: 1 if point.schedule == "lpft" else 2]:
            bed.finish(spec)
    MadeUp(storage, study(seeds=(0,), schedules=("gu",)), "alone").all()
    return written(storage, "made-up", "alone")


def whats(found: Verified, *, wrong: bool = True) -> list[str]:
    return [one.what for one in found.findings if one.wrong == wrong]


def test_what_the_report_wrote_matches(finished: Written) -> None:
    found = finished.verify()
    assert found.findings == ()
    assert (found.n_rows, found.unmarked) == (4, ())
    means, stds = 4 * CELLS * SCORES, 2 * CELLS * SCORES
    assert found.n_numbers == means + stds + CELLS  # and the n of lpft's
    assert told([found]).startswith(f"{found.n_numbers} numbers in 4 marked rows compared with the store: all match")


NUMBER = re.compile(r"\d+\.\d\d|(?<=n=)\d")


def digits(text: str) -> list[int]:
    """Places of all digits of numbers with a source; the last column of the table, n, has none."""
    found = []
    for row in re.finditer(r"^(.*) \\\\ % raysched: ", text, re.MULTILINE):
        last = row.start() + row[1].rindex("&")
        for number in NUMBER.finditer(text, row.start(), last):
            found += [place for place in range(*number.span()) if text[place].isdigit()]
    return found


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_digit_that_is_changed_is_found(finished: Written, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(digits(finished.text)))
    digit = data.draw(st.sampled_from([one for one in "0123456789" if one != finished.text[place]]))
    found = finished.verify(finished.text[:place] + digit + finished.text[place + 1 :])
    (finding,) = [one for one in found.findings if one.wrong]
    assert finding.line == finished.text.count("\n", 0, place) + 1
    assert "printed" in finding.what


def test_a_mismatch_says_everything(finished: Written) -> None:
    line = finished.line("gu")
    gu = r"gu & \textbf{81.00}$_{1.41}$ / 71.00"
    assert gu in finished.text
    found = finished.verify(finished.text.replace(gu, gu.replace("71.00", "71.01")))
    where = "column 2 (made-up, schedule=gu lr=0.001 k=25, source dev)"
    what = "EM: 71.01 printed, 71.00 stored (n = 2 of 2 seeds)"
    assert [str(one) for one in found.findings] == [f"{FILE}:{line}: {where}, {what}"]
    assert "1 mismatch" in told([found])
    found = finished.verify(finished.text.replace(gu, gu.replace("1.41", "1.5")))
    assert whats(found) == [f"{where}, F1 std: 1.5 printed, 1.41 stored (n = 2 of 2 seeds)"]


EDITS: dict[str, Callable[[str], str]] = {
    "one decimal": lambda text: re.sub(r"(\d\.\d)\d", r"\1", text),
    "no decimals": lambda text: re.sub(r"(\d+)\.\d\d", r"\1", text),
    "no std": lambda text: re.sub(r"\$_\{[\d.]+\}\$", "", text),
    "plus-minus": lambda text: re.sub(r"\$_\{([\d.]+)\}\$", r" $\\pm$ \1", text),
    "std in parentheses": lambda text: re.sub(r"\$_\{([\d.]+)\}\$", r"\\,(\1)", text),
    "spaces": lambda text: re.sub(r" & ", "   &\t~", text).replace("% raysched: ", "%raysched:  "),
    "colours": lambda text: re.sub(r"& (?=\S*\d\.)", r"& \\cellcolor{blue!20}\\color[rgb]{0.1,0.2,0.3} ", text),
    "windows": lambda text: text.replace("\n", "\r\n"),
    "comments": lambda text: text.replace("\\midrule", "% 12.34 & 56.78 \\\\ % raysched: a/b\n\\midrule"),
    "broken lines": lambda text: re.sub(r" & (?=\S*\d\.)", "\n  & ", text),
    "marks below": lambda text: text.replace(" \\\\ % raysched: ", " \\\\[1pt]\n  % raysched: "),
    "joined with a rule": lambda text: text.replace("\\midrule\n", "\\midrule \\rowcolor{gray!10} "),
    "no end of a row": lambda text: text.replace(" \\\\ % raysched: ", " % raysched: "),
    "only rows": lambda text: "\n".join(line for line in text.splitlines() if "% raysched: " in line),
    "decimal comma": lambda text: re.sub(r"(\d+)\.(\d\d)", r"\1{,}\2", text),
    "no line above": lambda text: re.sub(r"% raysched-table.*", "", text),
    "bars": lambda text: text.replace("\\textbf{", "\\mathbf{").replace("$_{", "${}_{"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_authors_do_to_a_table_confuses_nothing(finished: Written, name: str) -> None:
    text = EDITS[name](finished.text)
    assert text != finished.text
    found = finished.verify(text)
    assert found.findings == ()
    assert found.n_rows == 4
    assert found.n_numbers == finished.verify().n_numbers - (2 * CELLS * SCORES if name == "no std" else 0)
    found = finished.verify(re.sub(r"(?<!\d)50(?=[.{/ $}])", "51", text))
    assert whats(found)


def test_a_column_that_was_taken_out(finished: Written) -> None:
    """With its mark: fine. Without: told."""
    rows = finished.text.splitlines()
    place = finished.line("gu") - 1
    cells, marks = rows[place].split(" \\\\ % raysched: ")
    without = " & ".join(part for column, part in enumerate(cells.split(" & ")) if column != 3)
    fewer = ";".join(part for column, part in enumerate(marks.split(";")) if column != 2)
    rows[place] = f"{without} \\\\ % raysched: {fewer}"
    found = finished.verify("\n".join(rows))
    assert found.findings == ()
    assert found.n_numbers == finished.verify().n_numbers - 2 * SCORES
    rows[place] = f"{without} \\\\ % raysched: {marks}"
    assert whats(finished.verify("\n".join(rows))) == [
        "holds 7 cells, but its mark is of 7 columns behind 1 of labels: take out the mark of a column that is gone, "
        "put - for a column of your own"
    ]


def test_rows_without_a_mark_are_told_and_fail_nothing(finished: Written) -> None:
    own = "\\midrule\nTheirs & 71.2 & 63.1 \\\\\n"
    found = finished.verify(finished.text.replace("\\bottomrule\n", f"{own}\\bottomrule\n", 1))
    assert found.findings == ()
    assert len(found.unmarked) == 1
    assert found.n_rows == 4


@pytest.mark.parametrize(
    ("text", "part"),
    [("", "no row carries a mark of raysched"), ("a & 1.0 \\\\\nb & 2.0 \\\\", "raysched, of 2 with numbers")],
)
def test_files_without_any_mark_are_refused(finished: Written, text: str, part: str) -> None:
    found = finished.verify(text)
    with pytest.raises(StudyError, match=part) as refused:
        refuse_unmarked([found, finished.verify("")])
    assert refused.value.key == f"{FILE}, {FILE}"
    assert "tables/*.tex" in str(refused.value.hint)
    refuse_unmarked([found, finished.verify()])


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (r"% raysched: \S+", "% raysched: what", "but its mark is of 1 columns"),
        (r"% raysched: [^;]+;", "% raysched: what;", "the mark 'what' names no source"),
        (r"(% raysched: )made-up/", r"\1gone/", "from the sweep 'gone', which is not there"),
        (r"(% raysched: made-up/\w+)/\w+", r"\1/00", "has no cell 00 any more"),
        (r"(% raysched: made-up/\w+/\w+)/test", r"\1/mlqa", "has no test set 'mlqa' any more"),
        (r"(% raysched: made-up)/\w+", r"\1/00", "from another sweep 'made-up' than the one that is there now"),
        (r"(% raysched: \S+?)f1,em", r"\1f1", "source dev): 1 score with or without std expected"),
        (r"(% raysched: \S+?)f1,em", r"\1f1,accuracy", "Accuracy: 61.00 printed, nothing stored"),
        (r"(?=1.41.\$ /)", "8l.", "cannot be read as a number"),
        (r"(?= / \S+ & \S+ / \S+ & \S+ / \S+ &)", " 7 8 9", "2 scores with or without std expected, but got"),
        (r"^standard.*(?=% rays)", "", "holds 0 cells"),
    ],
)
def test_what_is_wrong_with_a_row(finished: Written, old: str, new: str, part: str) -> None:
    text = re.sub(old, new, finished.text, count=1, flags=re.MULTILINE)
    assert text != finished.text
    found = whats(finished.verify(text))
    assert any(part in what for what in found), found


def test_a_sweep_that_is_gone_is_told_once_for_a_row(finished: Written, tmp_path: Path) -> None:
    found = Written(tmp_path, finished.text).verify()
    assert len(found.findings) == 4
    assert found.n_numbers == 0


def test_bold_that_is_not_the_best_any_more(finished: Written) -> None:
    text = finished.text.replace(r"\underline{40.00}", r"\textbf{40.00}", 1)
    assert text != finished.text
    found = finished.verify(text)
    assert whats(found) == []
    assert whats(found, wrong=False) == [
        "column 5 (made-up, schedule=standard lr=0.001, th): bold, but the best of its column is 50.00"
    ]


def test_a_score_that_is_not_printed(finished: Written) -> None:
    text = re.sub(r"(?<=gu & )\S+ / \S+", "--", finished.text, count=1)
    found = finished.verify(text)
    assert whats(found) == []
    assert [what.rpartition(": ")[2] for what in whats(found, wrong=False)] == [
        "81.00 ± 1.41 is stored and not printed",
        "71.00 ± 1.41 is stored and not printed",
    ]


# -- the store changed -------------------------------------------------------------------------------------------------


@pytest.fixture
def changing(tmp_path: Path) -> tuple[MadeUp, Written]:
    """One finished seed of two."""
    bed = MadeUp(tmp_path, study(schedules=("gu",)))
    bed.finish(bed.take(0, Point(schedule="gu", lr=1e-3, k=25))[0])
    return bed, written(tmp_path, "made-up")


def test_a_seed_that_finished_since(changing: tuple[MadeUp, Written]) -> None:
    bed, table = changing
    assert table.verify().findings == ()
    (_, spec) = bed.specs(Point(schedule="gu", lr=1e-3, k=25)).values()
    bed.finish(spec)
    found = whats(table.verify())
    assert (
        "column 2 (made-up, schedule=gu lr=0.001 k=25, source dev), F1: 80.00 printed, 81.00 stored (n = 2 of 2 seeds)"
        in found
    )
    assert "column 2 (made-up, schedule=gu lr=0.001 k=25, source dev): n = 1 printed, 2 stored" in found


def test_a_mean_over_fewer_seeds_that_does_not_say_so(changing: tuple[MadeUp, Written]) -> None:
    _, table = changing
    found = table.verify(re.sub(r"\$\^\{\\dagger n=1\}\$", "", table.text))
    assert whats(found) == []
    assert whats(found, wrong=False)[0].endswith("a mean over 1 of 2 seeds, and does not say so")
    assert len(found.findings) == CELLS


def test_another_sweep_of_the_same_name(changing: tuple[MadeUp, Written]) -> None:
    bed, table = changing
    shutil.rmtree(bed.layout.root)
    MadeUp(table.storage, study(schedules=("gu",))).all()
    (what,) = whats(table.verify())
    assert what == "its numbers are from another sweep 'made-up' than the one that is there now"


@pytest.mark.parametrize(
    ("printed", "stored", "same"),
    [
        ("81.20", 81.2, True),
        ("81.20", 81.2049, True),
        ("81.20", 81.2051, False),
        ("81.20", 81.205, True),
        ("81.21", 81.205, True),
        ("81.2", 81.25, True),
        ("81.3", 81.25, True),
        ("81.3", 81.246, True),  # from 81.25
        ("81.3", 81.244, False),
        ("81", 81.4999, True),
        ("82", 81.4999, True),  # from 81.50
        ("82", 81.49, False),
        ("81.2000", 81.2, True),
        ("81.2000", 81.20004, True),
        ("81.2000", 81.20006, False),
        (".59", 0.5949, True),
    ],
)
def test_rounding(printed: str, stored: float, same: bool) -> None:
    assert agrees(Number(text=printed, kind="plain"), stored) is same
