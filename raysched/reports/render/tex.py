"""Any text as LaTeX that pdflatex sets, with no package and in pure ASCII; and about how wide it is."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "†": r"$\dagger$", "·": r"$\cdot$", "×": r"$\times$", "−": r"$-$", "≤": r"$\leq$", "≥": r"$\geq$",
    "≈": r"$\approx$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "∞": r"$\infty$", "²": r"$^2$", "√": r"$\surd$",
    "Δ": r"$\Delta$", "α": r"$\alpha$", "β": r"$\beta$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$",
    "µ": r"$\mu$", "μ": r"$\mu$", "°": r"$^\circ$", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''",
    "…": r"\ldots{}", "✓": r"$\surd$", "✗": r"$\times$", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}",
    "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "đ": "d", "Đ": "D",
    "\u00a0": "~", "\u2009": r"\,",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c",
}  # fmt: skip
_HYPHENS = re.compile("(?<=-)(?=-)")
"""Between two, which would be set as one dash."""
_BREAKS = re.compile(r"((?<=\w)(?:[/.=:,]|\\_)(?=\w)|U\+[0-9A-F]{4,6})")


def escape(text: str) -> str:
    """One line. A letter that no usual font of pdflatex has becomes its code point, such as `U+4E2D`."""
    parts = _HYPHENS.split(unicodedata.normalize("NFC", " ".join(text.split())))
    return "{}".join("".join(map(_letter, part)) for part in parts)


def prose(text: str) -> str:
    """As `escape`, for a paragraph: names of files and of settings may break."""
    return _BREAKS.sub(r"\1\\allowbreak{}", escape(text))


def _letter(letter: str) -> str:
    if letter in _SIGNS:
        return _SIGNS[letter]
    if " " <= letter <= "~":
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    base, marks = parts[0], parts[1:]
    if not (base.isascii() and base.isprintable()) or not all(map(unicodedata.combining, marks)):
        return f"U+{ord(letter):04X}"
    accent = next((_ACCENTS[mark] for mark in marks if mark in _ACCENTS), "")
    return f"\\{accent}{{{base}}}" if accent else base


def width(text: str) -> float:
    """Points at a size of 10, within some tenths."""
    return sum(6.9 if letter.isupper() or letter in "mw†±" else 2.8 if letter in " .,;:ilj/'|()" else 5.0
               for letter in text)  # fmt: skip
