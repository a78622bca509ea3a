"""Where a printed number comes from, short enough to stand beside it: what `raysched verify` looks up."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

AVERAGE, SOURCE_DEV = "@average", "@source_dev"
"""In the place of a language: the mean over the targets, and the selected checkpoint on source dev."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One cell of a sweep, on one language (or `AVERAGE`, `SOURCE_DEV`) of a test set, in one or more metrics.

    `uid` tells two sweeps of one name apart.
    """

    sweep: str
    uid: str
    cell_id: str
    test_set: str
    language: str
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        parts = (self.sweep, self.uid, self.cell_id, self.test_set, self.language, ",".join(self.metrics))
        return "/".join(quote(part, safe="@,") for part in parts)

    @classmethod
    def parse(cls, text: str) -> Source:
        """Raises ValueError."""
        sweep, uid, cell_id, test_set, language, metrics = (unquote(part) for part in text.split("/"))
        return cls(
            sweep=sweep,
            uid=uid,
            cell_id=cell_id,
            test_set=test_set,
            language=language,
            metrics=tuple(metrics.split(",")),
        )
