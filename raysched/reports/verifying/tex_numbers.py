r"""The numbers in one cell of a LaTeX table, whatever its author put around them: colours, spaces, other separators.

`\textbf{81.20}$_{0.59}$ / 70.01$_{0.60}$`, `$81.2 \pm 0.6$`, `81.2 (0.6)`, `\num{81.20(59)}` and the like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["plain", "spread", "aside", "difference", "n"]
"""On the line; a subscript, raised, or behind a ±; in parentheses; with a sign; behind `n=`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """`text` as it is printed, with a point where it has one."""

    text: str
    kind: Kind

    @property
    def value(self) -> Decimal:
        return Decimal(self.text)

    @property
    def decimals(self) -> int:
        return len(self.text.partition(".")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A mean and a standard deviation as printed; None for what is not."""

    mean: Number | None = None
    std: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What one cell holds: a score per metric, the number of seeds where it is told, and the numbers with a sign,
    which are the author's own."""

    scores: tuple[Score, ...]
    n: Number | None
    differences: tuple[Number, ...]


_SUB, _SUP, _BACK = "\ue000", "\ue001", "\ue002"
_UNPRINTED = {
    **dict.fromkeys(("cellcolor", "color", "rowcolor", "vspace", "hspace", "footnote", "cline", "cmidrule"), 1),
    **dict.fromkeys(("phantom", "hphantom", "vphantom", "ref", "label", "tnote", "cite", "citep", "citet"), 1),
    **dict.fromkeys(("textcolor", "colorbox", "raisebox", "scalebox", "parbox", "end"), 1),
    **dict.fromkeys(("begin", "multicolumn", "multirow", "fcolorbox", "resizebox", "fontsize", "rule"), 2),
}
"""Command -> how many of its arguments in braces, from the first one, are not printed. Brackets never are."""
_WORDS = {"pm": "±", "textpm": "±", "slash": "/", "textsubscript": _SUB, "textsuperscript": _SUP}
_PIECE = re.compile(
    r"\\(?P<word>[A-Za-z@]+)\*?[ \t]*|\\(?P<sign>\\(?:\*?\[[^]]*\])?|.)|(?P<special>[{}$~_^])|[^\\{}$~_^]+", re.DOTALL
)
_OPTION = re.compile(r"\s*(\[[^]]*\]|\((lr|[lr])\))")
_WORD = re.compile(rf"[\w.]+|[()/{_SUB}{_SUP}{_BACK}]")
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_SHORT = re.compile(r"\((\d+)\)")


def printed(cell: str, n_metrics: int) -> Printed:
    """The scores of so many metrics.

    Raises:
        ValueError: it holds another number of them, or something that is no number; the text says which.
    """
    found = list(_numbers(flat(cell)))
    numbers = [one for one in found if isinstance(one, Number)]
    parts: list[list[Number]] = [[]]
    for one in found:
        if isinstance(one, str):
            parts.append([])
        elif one.kind not in ("n", "difference"):
            parts[-1].append(one)
    return Printed(
        scores=_scores(parts, n_metrics),
        n=next((one for one in numbers if one.kind == "n"), None),
        differences=tuple(one for one in numbers if one.kind == "difference"),
    )


def _scores(parts: Sequence[Sequence[Number]], n_metrics: int) -> tuple[Score, ...]:
    """Parts between slashes are metrics; where their number is another, the numbers are counted."""
    if len(parts) == n_metrics and all(len(part) <= 2 for part in parts):
        return tuple(_score(part) for part in parts)
    numbers = [one for part in parts for one in part]
    if len(numbers) == n_metrics and all(one.kind in ("plain", "aside") for one in numbers):
        return tuple(Score(mean=one) for one in numbers)
    if len(numbers) == 2 * n_metrics:
        return tuple(_score(numbers[place : place + 2]) for place in range(0, len(numbers), 2))
    if not numbers:
        return (Score(),) * n_metrics
    told = ", ".join(one.text for one in numbers)
    raise ValueError(f"{n_metrics} score{'s' if n_metrics > 1 else ''} with or without std expected, but got {told}")


def _score(numbers: Sequence[Number]) -> Score:
    return Score(mean=numbers[0] if numbers else None, std=numbers[1] if len(numbers) > 1 else None)


def _numbers(text: str) -> Iterator[Number | str]:
    """Numbers, and a slash where one stands on the line. Raises ValueError for a word that begins as a number."""
    scripts: list[str] = []
    parentheses = 0
    taken = 0
    for match in _WORD.finditer(text):
        word = match[0]
        if match.start() < taken:
            continue
        if word in (_SUB, _SUP):
            scripts.append(word)
        elif word == _BACK:
            del scripts[-1:]
        elif word in "()":
            parentheses = max(0, parentheses + (1 if word == "(" else -1))
        elif word == "/":
            if not scripts and not parentheses:
                yield word
        elif _NUMBER.fullmatch(word):
            kind = _kind(text[: match.start()], scripts, parentheses)
            if scripts[-1:] != [_SUP] or kind == "n" or "." in word:  # else a footnote's
                yield Number(text=word, kind=kind)
            if (short := _SHORT.match(text, match.end())) is not None and "." in word:  # 81.20(59): the last digits
                yield Number(text=_last_digits(word, short[1]), kind="spread")
                taken = short.end()
        elif not word[0].isalpha() and re.search(r"\d", word):
            raise ValueError(f"{word!r} cannot be read as a number")


def _kind(before: str, scripts: Sequence[str], parentheses: int) -> Kind:
    """Of a number by what stands before it."""
    if re.search(r"\bn\s*=\s*$", before):
        return "n"
    if before.rstrip().endswith("±"):
        return "spread"
    if re.search(r"(^|[^\w.])[+\-−–]$", before):
        return "difference"
    return "spread" if scripts else "aside" if parentheses else "plain"


def _last_digits(number: str, digits: str) -> str:
    return str(Decimal(digits).scaleb(-len(number.partition(".")[2])))


def flat(cell: str) -> str:
    """What is printed of a cell, without commands and what only they see. Scripts stand between private letters."""
    out: list[str] = []
    groups: list[str] = []
    """What ends each open group."""
    place, script = 0, ""
    while (piece := _PIECE.match(cell, place)) is not None:
        place, text = piece.end(), piece[0]
        if piece["word"]:
            place = _behind(cell, place, piece["word"])
            sign = _WORDS.get(piece["word"], " ")
            script, text = (sign, "") if sign in (_SUB, _SUP) else ("", sign)
        elif piece["sign"]:
            text = "/" if piece["sign"][0] == "\\" else "" if piece["sign"] == "%" else " "
        elif piece["special"] == "{":
            groups.append(_BACK if script else "")
            text, script = script, ""
        elif piece["special"] == "}":
            text = groups.pop() if groups else ""
        elif piece["special"]:
            script, text = {"_": (_SUB, ""), "^": (_SUP, ""), "~": (script, " ")}.get(piece["special"], (script, ""))
        elif script and text.strip():
            text = f"{script}{text.lstrip()[0]}{_BACK}{text.lstrip()[1:]}"
            script = ""
        out.append(text)
    told = re.sub(r"\+\s*/?\s*-", "±", "".join([*out, *reversed(groups)]))
    return re.sub(r"(?<=\d),(?=\d{1,2}(?!\d))", ".", told)


def _behind(cell: str, place: int, word: str) -> int:
    """The place behind those arguments of a command that are not printed."""
    left = _UNPRINTED.get(word, 0)
    while word not in _WORDS:
        if (option := _OPTION.match(cell, place)) is not None:
            place = option.end()
        elif left and (end := _group(cell, place)) is not None:
            place, left = end, left - 1
        else:
            break
    return place


def _group(cell: str, place: int) -> int | None:
    """The place behind the braces that open at `place`; None where none do."""
    depth = 0
    for match in re.compile(r"\\.|[{}]|\S", re.DOTALL).finditer(cell, place):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end() if match[0] == "}" else None
    return None
