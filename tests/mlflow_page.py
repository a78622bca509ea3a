"""MLflow's own page, as a person works it.

`python -m tests.mlflow_page URL PICTURE` takes a picture of the table of runs at URL, and with run ids after it one of
the compare view of these runs, with the charts of `CURVES`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tests import browser

PLUS = "M7.25 7.25V4.5"
"""How the drawing of the button that unfolds a run begins."""
CLICK_NEXT = f"""
const closed = [...document.querySelectorAll('.ag-cell button')].filter(b => b.innerHTML.includes('{PLUS}'));
if (closed.length) closed[0].click();
return closed.length;
"""
HIDE_NEXT = """
const row = [...document.querySelectorAll('.ag-row')].find(
    r => !r.dataset.put && r.querySelector('.ag-cell button svg') && !/seed=/.test(r.innerText) && r.innerText.trim());
if (!row) return false;
row.dataset.put = 1;
const eye = [...row.querySelectorAll('input, button, label')].find(b => /Hide run/.test(b.ariaLabel || b.innerText));
if (eye) eye.click();
return true;
"""
FILL = """
const box = [...document.querySelectorAll('input')].find(i => i.placeholder === 'Search metric charts');
if (!box) return false;
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(box, %s);
box.dispatchEvent(new Event('input', {bubbles: true}));
return true;
"""
CURVES = "fisher/mean|fisher/layer_00|fisher/layer_11"
NO_TOOLS = """
const style = document.createElement('style');
style.textContent = '.modebar {display: none}';
document.head.append(style);
"""
"""What lies over the upper edge of every chart, as there is no mouse that leaves it."""


def expand_all(page: browser.Page) -> None:
    """Unfold every run that has children."""
    while page.run(CLICK_NEXT):
        time.sleep(0.5)


def tidy(page: browser.Page) -> None:
    """Put away what is beside the table."""
    for label in ("Hide banner", "Close", "Toggle sidebar"):
        page.run(f"const b = document.querySelector('[aria-label=\"{label}\"]'); if (b) b.click();")
        time.sleep(1)


def compare(page: browser.Page, runs_url: str, run_ids: Sequence[str], charts: str) -> None:
    """Open the chart view of these runs, with the charts whose metric matches the pattern `charts`.

    `runs_url` is the address of an experiment's runs, without a query.
    """
    wanted = quote(f"attributes.run_id IN ({','.join(repr(one) for one in run_ids)})")
    page.open(f"{runs_url}?compareRunsMode=CHART&searchFilter={wanted}")
    page.wait("return document.body.innerText.includes('matching runs')")
    tidy(page)
    expand_all(page)
    page.wait(FILL % json.dumps(charts))
    while page.run(HIDE_NEXT):  # cells have no curves of their own
        time.sleep(0.5)


if __name__ == "__main__":
    compared = sys.argv[3:]
    with tempfile.TemporaryDirectory() as folder, browser.page(Path(folder), 1500, 815 if compared else 1150) as page:
        if compared:
            compare(page, sys.argv[1].partition("?")[0], compared, CURVES)
            page.run(NO_TOOLS)
            time.sleep(6)
        else:
            page.open(sys.argv[1])
            page.wait("return document.body.innerText.includes('Parameters')")
            tidy(page)
            expand_all(page)
            time.sleep(2)
        page.picture(Path(sys.argv[2]))
