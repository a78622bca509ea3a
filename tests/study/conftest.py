from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = Path(__file__).with_name("good.yaml").read_text()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study below the folder of the test; the whole of a good one unless `text` says otherwise."""

    def _write(text: str | bytes = GOOD, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write
