"""The paper's published numbers (`results.csv`), and what is odd about some of them (`audit.csv`)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from raysched.reports.stats import Summary

AVERAGE = "avg_target"
LOWEST = "lowest_"
"""Before the language that is lowest under standard training (not under the cell's own method)."""
MODELS = ("mBERT", "XLM-R", "mDeBERTa")
COMPARED = ("standard", "rand", "gu", "fun")
"""Methods that the paper sets beside each other on adapters; reverse GU and full fine-tuning have no std."""
METHODS = (*COMPARED, "gu_rev", "full_ft")
TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "MLQA": ("ar", "de", "es", "hi", "vi", "zh"),
        "XQuAD": ("ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh"),
        "XCOPA": ("et", "ht", "it", "id", "qu", "sw", "zh", "ta", "th", "tr", "vi"),
        "XNLI": ("ar", "de", "el", "es", "hi", "ru", "sw", "th", "tr", "vi", "zh"),
    }
)
"""By dataset, the languages of its averages."""
FULL_SIZE: Mapping[str, int] = MappingProxyType({"MLQA": 87599, "XQuAD": 87599, "XCOPA": 400, "XNLI": 392702})
"""By dataset, the rows of its whole training set."""
TRAINED_ON: Mapping[str, str] = MappingProxyType(
    {
        "MLQA": "rajpurkar/squad",
        "XQuAD": "rajpurkar/squad",
        "XCOPA": "aps/super_glue",
        "XNLI": "nyu-mll/multi_nli",
    }
)
"""By dataset, the hub name of its training set."""
_MLQA = {"en": 11590, "ar": 5335, "de": 4517, "es": 5253, "hi": 4918, "vi": 5495, "zh": 5137}
TEST_ROWS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "MLQA": _MLQA,
        "XQuAD": dict.fromkeys(("en", *TARGETS["XQuAD"]), 1190),
        "XCOPA": {"en": 100, **dict.fromkeys(TARGETS["XCOPA"], 500)},
        "XNLI": dict.fromkeys(("en", *TARGETS["XNLI"]), 5010),
    }
)
"""By dataset and language, the published test rows; of English XCOPA the validation rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one number is of. `language` may be `AVERAGE`, or start with `LOWEST`."""

    model: str
    method: str
    dataset: str
    language: str
    metric: str
    train_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One printed number (0-100). `std` is None where none was printed; `notes` say what is odd about it."""

    table: int
    cell: Cell
    mean: float
    std: float | None
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        """Runs behind the mean: 4, of XCOPA 5 (only they give its multiples of 0.04), of reverse GU 2."""
        return 2 if self.cell.method == "gu_rev" else 5 if self.cell.dataset == "XCOPA" else 4

    @property
    def summary(self) -> Summary:
        return Summary(mean=self.mean, std=self.std, n=self.n)


@cache
def published() -> tuple[Published, ...]:
    """All 732 numbers, in the order of the file; a number that stands in two tables stands here twice."""
    audit = _lines("audit.csv")
    found = []
    for line in _lines("results.csv"):
        notes = tuple(finding["note"] for finding in audit if _concerns(finding, line))
        names = {name: line[name] for name in ("model", "method", "dataset", "language", "metric")}
        found.append(
            Published(
                table=int(line["table"]),
                cell=Cell(**names, train_size=int(line["train_size"])),
                mean=float(line["mean"]),
                std=float(line["std"]) if line["std"] else None,
                notes=notes,
            )
        )
    return tuple(found)


@cache
def by_cell() -> Mapping[Cell, Published]:
    """Each number once: of equal ones the first with a standard deviation."""
    once: dict[Cell, Published] = {}
    for number in published():
        there = once.get(number.cell)
        if there is None or (there.std is None and number.std is not None):
            once[number.cell] = number
    return MappingProxyType(once)


@cache
def gap(cell: Cell) -> float | None:
    """The published distance from the best to the worst of the `COMPARED` methods, all else equal.

    None where fewer than two of them were published.
    """
    means = [
        number.mean
        for other, number in by_cell().items()
        if other.method in COMPARED and _column(other) == _column(cell)
    ]
    return max(means) - min(means) if len(means) > 1 else None


def _column(cell: Cell) -> tuple[str, str, str, str, int]:
    return cell.model, cell.dataset, cell.language, cell.metric, cell.train_size


def _concerns(finding: Mapping[str, str], line: Mapping[str, str]) -> bool:
    return all(value in ("*", line[name]) for name, value in finding.items() if name != "note")


def _lines(name: str) -> list[dict[str, str]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
