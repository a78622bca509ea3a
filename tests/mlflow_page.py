"""MLflow's table of runs, as a person works it. `python -m tests.mlflow_page URL PICTURE` takes a picture of it."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests import browser

PLUS = "M7.25 7.25V4.5"
"""How the drawing of the button that unfolds a run begins."""
CLICK_NEXT = f"""
const closed = [...document.querySelectorAll('.ag-cell button')].filter(b => b.innerHTML.includes('{PLUS}'));
if (closed.length) closed[0].click();
return closed.length;
"""


def expand_all(page: browser.Page) -> None:
    """Unfold every run that has children."""
    while page.run(CLICK_NEXT):
        time.sleep(0.5)


def tidy(page: browser.Page) -> None:
    """Put away what is beside the table."""
    for label in ("Hide banner", "Close", "Toggle sidebar"):
        page.run(f"const b = document.querySelector('[aria-label=\"{label}\"]'); if (b) b.click();")
        time.sleep(1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, browser.page(Path(folder), 1500, 1150) as page:
        page.open(sys.argv[1])
        page.wait("return document.body.innerText.includes('Parameters')")
        tidy(page)
        expand_all(page)
        time.sleep(2)
        page.picture(Path(sys.argv[2]))
