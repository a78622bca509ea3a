"""Published data for checks on it, where they are: `$RAYSCHED_DATA_DIR`, or `shared/data` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("RAYSCHED_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")


def needed(*names: str) -> None:
    """Skips the test, with the path that is missing."""
    for name in names:
        if not (DATA / name).exists():
            pytest.skip(f"absent: {DATA / name} (set RAYSCHED_DATA_DIR)")
